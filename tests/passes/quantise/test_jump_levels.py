"""What levels stand for where a function jumps: a value seen there, on the same side."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from snnc.coding import CodeBook
from snnc.passes.quantise.jump_levels import values_of_levels

Array = npt.NDArray[Any]
SIGNED, UNSIGNED = CodeBook(4, 4, signed=True), CodeBook(4, 4)
STEP = np.float32(0.1)
RANDOM = np.random.default_rng(0)


def levels_of(
    book: CodeBook, seen: Array, function: Callable[[Array], Array], step: np.float32 = STEP
) -> dict[int, float]:
    """Return the levels that stand for another value, by code."""
    found = values_of_levels(
        book, step, np.asarray(seen, np.float32), lambda x: function(x).astype(np.float64)[None]
    )
    codes = np.arange(book.smallest, book.largest + 1)
    assert found.dtype == np.float32 and found.shape == codes.shape
    own = codes.astype(np.float32) * step
    return {
        int(code): float(value) for code, value in zip(codes[found != own], found[found != own], strict=True)
    }


def test_what_is_always_positive_is_positive_where_its_code_is_zero() -> None:
    seen = np.exp(-RANDOM.uniform(0, 20, 200))
    assert list(moved := levels_of(UNSIGNED, seen, np.sign)) == [0]
    assert 0 < moved[0] < STEP / 2


def test_a_few_zeros_among_what_is_positive_make_no_difference() -> None:
    seen = np.concatenate([np.zeros(3), np.exp(-RANDOM.uniform(0, 20, 200))])
    assert levels_of(UNSIGNED, seen, np.sign)[0] > 0


def test_zeros_of_a_relu_stay_zero() -> None:
    seen = np.maximum(RANDOM.standard_normal(400), 0)
    assert not levels_of(UNSIGNED, seen, np.sign)


@pytest.mark.parametrize("high", [0.98, 1.02], ids=["below", "above"])
@pytest.mark.parametrize("closed", [False, True])
def test_what_is_held_at_an_end_stays_on_its_side(high: float, closed: bool) -> None:
    """The levels of a code lie below and above the end of a Clip, at which most of its values are."""
    step = np.float32(high / 10)
    seen = np.clip(RANDOM.standard_normal(2000), -1, 1).astype(np.float32)

    def function(x: Array) -> Array:
        return np.where(x >= 1 if closed else x > 1, x, 0)

    moved = levels_of(SIGNED, seen, function, step)
    codes = SIGNED.nearest(seen.astype(np.float64) / step)
    read = np.array([moved.get(int(code), code * step) for code in codes], np.float32)
    off = np.count_nonzero((function(read) == 0) != (function(seen) == 0))
    # Those between the end and the next break point cannot be told from it, by this code.
    between = np.count_nonzero((seen < 1) & (codes == codes.max()))
    assert off <= (between if closed else 0)


@pytest.mark.parametrize("function", [np.sinh, np.tanh, lambda x: np.where(x > 0, x, 0.1 * x), np.exp])
def test_continuous_functions_keep_their_levels(function: Callable[[Array], Array]) -> None:
    """Those at the ends may move, since half of what they code is all that was seen."""
    seen = RANDOM.uniform(-1.5, 1.5, 3000)
    moved = levels_of(SIGNED, seen, function)
    assert set(moved) <= {-15, 15}
    assert all(0 < 1.5 - abs(value) < STEP / 2 for value in moved.values())


def test_a_level_in_the_middle_of_a_jump_stays() -> None:
    """Half of its values are on either side: nothing is better than the level."""
    assert not levels_of(SIGNED, RANDOM.uniform(-1.5, 1.5, 3000), np.sign)


def test_nothing_is_said_of_levels_where_nothing_was_seen() -> None:
    assert not levels_of(SIGNED, np.zeros(0), np.sign)
    moved = levels_of(SIGNED, np.full(50, 0.52), lambda x: np.where(x > 0.51, 5, x))
    assert list(moved) == [5] and moved[5] == np.float32(0.52)


def test_a_level_without_a_value_stands_for_one_that_has_one() -> None:
    with np.errstate(divide="ignore"):
        moved = levels_of(UNSIGNED, np.full(9, 0.01), lambda x: np.where(x > 0.05, x, np.log(x)))
    assert moved == {0: np.float32(0.01)}


def test_one_sample_beside_a_jump_proves_nothing() -> None:
    assert not levels_of(SIGNED, np.array([-1.5, 0.02, 1.5]), np.sign)


def test_the_order_of_samples_makes_no_difference() -> None:
    seen = np.exp(-RANDOM.uniform(0, 20, 200)).astype(np.float32)
    assert levels_of(UNSIGNED, seen, np.sign) == levels_of(UNSIGNED, seen[::-1], np.sign)
