"""Exact arrays against numpy."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from snnc.passes.analysis import as_exact, exact, same, through_layout, uniform_along
from snnc.passes.analysis.exact import collapse, floats, rounded_quotients, shift_factors

QUICK = settings(max_examples=60, deadline=None, derandomize=True, database=None)
shapes = hnp.array_shapes(min_dims=1, max_dims=4, min_side=1, max_side=4)


@st.composite
def broadcastable(draw: st.DrawFn, values: int = 3) -> tuple[np.ndarray[Any, Any], tuple[int, ...]]:
    """An array of few different numbers, and a shape it broadcasts to."""
    shape = draw(shapes)
    own = tuple(size if draw(st.booleans()) else 1 for size in shape)
    labels = draw(hnp.arrays(np.int64, own, elements=st.integers(0, values - 1)))
    return labels, shape


@QUICK
@given(broadcastable())
def test_collapse_is_the_smallest_array_that_broadcasts_to_the_same(
    drawn: tuple[np.ndarray[Any, Any], tuple[int, ...]],
) -> None:
    array, shape = drawn
    full = np.broadcast_to(array, shape)
    small = collapse(full)
    assert small.ndim == full.ndim
    assert np.array_equal(np.broadcast_to(small, shape), full)
    for axis, size in enumerate(small.shape):
        varies = bool(np.any(full != full.take([0], axis=axis)))
        assert size == (shape[axis] if varies else 1)
        assert uniform_along(small, axis) != varies


@QUICK
@given(hnp.arrays(np.float32, shapes, elements=st.floats(-1e6, 1e6, width=32)), st.integers(0, 2))
def test_as_exact_keeps_every_bit(array: np.ndarray[Any, Any], extra: int) -> None:
    result = as_exact(array, array.ndim + extra)
    assert result.ndim == array.ndim + extra
    assert all(isinstance(item, Fraction) for item in result.reshape(-1))
    full = np.broadcast_to(result, (1,) * extra + array.shape)
    assert all(item == Fraction(float(x)) for item, x in zip(full.flat, array.flat, strict=True))


def test_as_exact_of_large_integers_and_rationals() -> None:
    huge = 2**62 + 1
    assert as_exact(np.array([huge]))[0] == huge  # float64 would lose the last bit
    assert as_exact(np.array([[Fraction(1, 3)]], dtype=object))[0, 0] == Fraction(1, 3)
    assert as_exact(np.float32(0.1), 3).shape == (1, 1, 1)
    assert as_exact(np.float32(0.1)).shape == ()
    assert exact(Fraction(1, 3), 2).shape == (1, 1)


def test_same_broadcasts() -> None:
    assert same(exact(1, 2), as_exact(np.ones((2, 3))))
    assert not same(exact(1, 1), as_exact(np.array([1.0, 1.0 + 2**-52])))


def _transposed(array: Any) -> Any:
    return np.transpose(array)


def _reversed(array: Any) -> Any:
    return array[..., ::-1]


def _flattened(array: Any) -> Any:
    return array.reshape(array.shape[0], -1)


def _merged(array: Any) -> Any:
    return array.reshape(-1)


def _first(array: Any) -> Any:
    return array[:, :1] if array.ndim > 1 else array[:1]


def _rolled(array: Any) -> Any:
    return np.roll(array, 1, axis=0)


def _widened(array: Any) -> Any:
    return np.broadcast_to(array[None], (3, *array.shape))


def _taken(array: Any) -> Any:
    return np.take(array, [0, 0, -1], axis=array.ndim - 1)


def _scalar(array: Any) -> Any:
    return np.take(array, 0, axis=0)


@pytest.mark.parametrize(
    "layout",
    [_transposed, _reversed, _flattened, _merged, _first, _rolled, _widened, _taken, _scalar],
    ids=lambda function: function.__name__.strip("_"),
)
@QUICK
@given(broadcastable())
def test_through_layout_moves_like_numpy(
    layout: Any, drawn: tuple[np.ndarray[Any, Any], tuple[int, ...]]
) -> None:
    labels, shape = drawn
    table = np.array([Fraction(1, 3), Fraction(2), Fraction(-5, 7)], dtype=object)
    array = np.asarray(table[labels], dtype=object).reshape(labels.shape)
    moved = through_layout(array, shape, layout)
    expected = layout(np.broadcast_to(array, shape))
    assert moved.dtype == object and moved.ndim == np.ndim(expected)
    assert np.array_equal(np.broadcast_to(moved, np.shape(expected)), expected)
    # It stays small: one entry along every axis on which nothing depends.
    assert moved.shape == collapse(np.asarray(expected, dtype=object)).shape


def test_through_layout_of_integers_keeps_their_type() -> None:
    moved = through_layout(np.array([[3], [2**40]]), (2, 5), lambda array: array.T)
    assert moved.dtype == np.int64 and moved.tolist() == [[3, 2**40]]


@pytest.mark.parametrize("kind", [np.float32, np.float64, object])
def test_quotients_near_a_tie_are_divided_exactly(kind: Any) -> None:
    """Ties, and divisors that float64 cannot tell from one."""
    numbers = np.array([0.5, 1.5, -0.5, 0.15, 7.0], np.float32)
    for divisor in (Fraction(1), 1 + Fraction(1, 2**60), 1 - Fraction(1, 2**60), Fraction(3, 10)):
        step = np.array([divisor], dtype=object)
        expected = [(Fraction(float(n)) / divisor + Fraction(1, 2)) // 1 for n in numbers]
        given = as_exact(numbers) if kind is object else numbers.astype(kind)
        found = rounded_quotients(given, step, Fraction(1, 2))
        assert found is not None
        assert found.tolist() == expected


@QUICK
@given(hnp.arrays(np.float64, shapes, elements=st.floats(allow_nan=False, allow_infinity=False)))
def test_the_floats_of_exact_numbers_are_those_they_were_made_from(array: np.ndarray[Any, Any]) -> None:
    made = as_exact(array)
    for view in (made, made.T, made[..., :1], made.reshape(-1)):
        copied = np.array(view, dtype=object)  # of which nobody knows where it comes from
        known, found = floats(view), floats(copied)
        assert known[1] and found[1] and np.array_equal(known[0], found[0])
        assert not np.signbit(known[0][known[0] == 0]).any()


def test_floats_of_an_array_that_is_gone_are_not_those_of_the_next() -> None:
    for number in range(300):
        # What was converted is remembered for 2,048 arrays; these go at once.
        made = as_exact(np.arange(number, number + 9000, dtype=np.float64))
        assert floats(made)[0][0] == number


@QUICK
@given(
    hnp.arrays(np.int64, 5, elements=st.integers(-12, 12)),
    hnp.arrays(np.int64, 5, elements=st.integers(-12, 12)),
    st.sampled_from([1.0, 3.0, 0.1]),
    st.sampled_from([1.0, 3.0, 0.1]),
)
def test_steps_a_power_of_two_apart_are_multiples_of_the_finer(
    one: np.ndarray[Any, Any], two: np.ndarray[Any, Any], left: float, right: float
) -> None:
    coarse, fine = np.ldexp(left, one), np.ldexp(right, two)
    found = shift_factors(coarse, fine)
    assert (found is None) == (left != right)
    if found is not None:
        step, factors = found
        assert np.array_equal(step * factors[0], coarse) and np.array_equal(step * factors[1], fine)
        assert (np.minimum(*np.broadcast_arrays(*factors)) == 1).all()
