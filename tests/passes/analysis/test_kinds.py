"""Kinds of sums, products and quotients: what has no integer form says why, the rest keeps its range."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from snnc.coding import CodeBook
from snnc.passes.analysis import (
    Coded,
    Constant,
    Fixed,
    FloatValue,
    IntegerWeight,
    Kind,
    Membrane,
    Merged,
    Quotient,
    gains,
    products,
    sums,
)
from snnc.passes.analysis.exact import NotFiniteError, exact

BOOK = CodeBook(3, 3)


def steps(shape: tuple[int, ...], *numbers: float) -> Any:
    """Exact numbers, repeated or one for each place."""
    array = np.array([Fraction(number) for number in numbers], dtype=object)
    return np.broadcast_to(array, shape).copy() if array.size == 1 else array.reshape(shape)


def membrane(
    step: Any = None, bias: Any = None, low: int = -5, high: int = 9, rank: int = 2, host: bool = False
) -> Membrane:
    form = (1,) * rank
    return Membrane(
        exact(1, rank) if step is None else step,
        exact(0, rank) if bias is None else bias,
        np.full(form, low, np.int64),
        np.full(form, high, np.int64),
        host,
    )


def coded(*numbers: float, rank: int = 2, axis: int = 1) -> Coded:
    form = [1] * rank
    form[axis] = len(numbers) or 1
    return Coded(BOOK, steps(tuple(form), *(numbers or (1,))))


def constant(*numbers: float) -> Constant:
    return Constant(np.array(numbers, np.float32))


def weight(shape: tuple[int, ...] = (4, 3), numerator: Any = None, denominator: Any = None) -> IntegerWeight:
    form = (1,) * len(shape)
    return IntegerWeight(
        np.ones(shape, np.int8),
        exact(1, len(form)) if numerator is None else numerator,
        exact(1, len(form)) if denominator is None else denominator,
    )


TWO_ROWS, TWO_COLUMNS = steps((2, 1), 1, 2), steps((1, 2), 1, 2)
MINUS, ZERO = exact(-1, 2), exact(0, 2)
FLOAT = FloatValue("none")
HOST = membrane(host=True)
QUOTIENT = Quotient(membrane())
FOUR = (1, 4, 6, 6)
WINDOW = {"kernel_shape": [2, 2]}
NORM = {"axes": [1], "epsilon": 0, "fraction_bits": 4}


def pool(kind: Kind, **attrs: Any) -> Kind:
    return sums.average_pool(kind, FOUR, (1, 4, 5, 5), {**WINDOW, **attrs})


def image(step: Any = None, bias: Any = None) -> Membrane:
    return membrane(step, bias, rank=4)


ROW_STEPS = steps((1, 1, 2, 1), 1, 2)

REFUSED = {
    "maximum of a float": (
        lambda: gains.largest(FLOAT, [1], keep=True),
        "a maximum of a value without a code",
    ),
    "maximum on the host": (
        lambda: gains.largest(HOST, [1], keep=True),
        "a maximum of a value without a code",
    ),
    "two axes": (lambda: gains.largest(membrane(), [0, 1], keep=True), "over other than one axis"),
    "an axis that goes": (lambda: gains.largest(membrane(), [1], keep=False), "over other than one axis"),
    "maximum across steps": (
        lambda: gains.largest(membrane(TWO_COLUMNS), [1], keep=True),
        "step or bias changes",
    ),
    "maximum across biases": (
        lambda: gains.largest(membrane(bias=TWO_COLUMNS), [1], keep=True),
        "step or bias changes",
    ),
    "maximum turned": (lambda: gains.largest(membrane(MINUS), [1], keep=True), "with a negative step"),
    "mask of a float": (lambda: gains.masked(FLOAT, 1), "a mask on a value without a code"),
    "mask on the host": (lambda: gains.masked(HOST, 1), "a mask on a value without a code"),
    "mask across steps": (lambda: gains.masked(membrane(TWO_COLUMNS), 1), "a mask over an axis along which"),
    "mask turned": (lambda: gains.masked(membrane(MINUS), 1), "or with a negative step"),
    "quotient of a float": (
        lambda: gains.floor_quotient(FLOAT, membrane(), 4, None),
        "a quotient of values without a code",
    ),
    "quotient by the host": (
        lambda: gains.floor_quotient(membrane(), HOST, 4, None),
        "a quotient of values without a code",
    ),
    "quotient with a bias": (
        lambda: gains.floor_quotient(membrane(bias=exact(1, 2)), membrane(low=0), 4, None),
        "with a bias",
    ),
    "quotient by a bias": (
        lambda: gains.floor_quotient(membrane(), membrane(bias=exact(1, 2), low=0), 4, None),
        "with a bias",
    ),
    "quotient turned": (
        lambda: gains.floor_quotient(membrane(MINUS), membrane(low=0), 4, None),
        "with a negative step",
    ),
    "quotient by what may be negative": (
        lambda: gains.floor_quotient(membrane(), membrane(low=-1), 4, None),
        "only sums of what never is can divide",
    ),
    "large quotient": (
        lambda: gains.floor_quotient(membrane(high=2**28), membrane(low=0), 4, None),
        "may leave 32 bits",
    ),
    "normalisation of a float": (lambda: gains.normalise(FLOAT, (1, 4), NORM), "of a value without a code"),
    "normalisation on the host": (lambda: gains.normalise(HOST, (1, 4), NORM), "of a value without a code"),
    "normalisation across steps": (
        lambda: gains.normalise(membrane(TWO_COLUMNS), (1, 2), NORM),
        "that is not on one grid",
    ),
    "normalisation turned": (lambda: gains.normalise(membrane(MINUS), (1, 4), NORM), "not on one grid"),
    "biased normalisation": (
        lambda: gains.normalise(membrane(bias=exact(1, 2)), (1, 4), NORM),
        "not on one grid",
    ),
    "large normalisation": (
        lambda: gains.normalise(membrane(high=2**20), (1, 2**11), NORM),
        "sums of squares leave 62 bits",
    ),
    "long normalisation": (
        lambda: gains.normalise(membrane(low=0, high=1), (1, 2**22), NORM),
        "sums of squares leave 62 bits",
    ),
    "negative quotient": (
        lambda: sums.scale(QUOTIENT, constant(-1), divide=False),
        "times a negative constant",
    ),
    "constants": (lambda: sums.add(constant(1), constant(2), 1), "that was not folded"),
    "minus a quotient": (lambda: sums.add(constant(1), QUOTIENT, -1), "a sum with a quotient"),
    "sum with a quotient": (lambda: sums.add(QUOTIENT, membrane(), 1), "a sum with a quotient"),
    "constant and float": (lambda: sums.add(FLOAT, constant(1), 1), "a constant added to a value without"),
    "float and constant": (lambda: sums.add(constant(1), FLOAT, 1), "a constant added to a value without"),
    "sum with a float": (lambda: sums.add(membrane(), FLOAT, 1), "a sum with a value that carries no code"),
    "sum with the host": (lambda: sums.add(membrane(), HOST, 1), "that was not rounded to 32 bits"),
    "sum across steps": (
        lambda: sums.add(membrane(), membrane(exact(2, 2)), 1),
        "a sum of two membranes with different steps",
    ),
    "two run-time values": (
        lambda: sums.scale(membrane(), membrane(), divide=False),
        "a product of two run-time",
    ),
    "division by a value": (
        lambda: sums.scale(coded(), coded(), divide=True),
        "a division by a run-time value",
    ),
    "reciprocal": (lambda: sums.scale(constant(1), coded(), divide=True), "a division by a run-time value"),
    "division by zero": (lambda: sums.scale(coded(), constant(0), divide=True), "a division by zero"),
    "scaled float": (lambda: sums.scale(FLOAT, constant(2), divide=False), "a scaled value without a code"),
    "mean of a float": (
        lambda: sums.reduce(FLOAT, (1, 4), [1], True, mean=True),
        "a mean of a value without",
    ),
    "mean across steps": (
        lambda: sums.reduce(membrane(TWO_COLUMNS), (1, 2), [1], True, mean=True),
        "along which the step changes",
    ),
    "pool of a float": (lambda: pool(FLOAT), "an average pool of a value without a code"),
    "pool across steps": (lambda: pool(image(ROW_STEPS)), "over positions with different steps"),
    "pool across biases": (lambda: pool(image(bias=ROW_STEPS)), "over positions with different steps"),
    "pool of parts": (lambda: pool(image(), ceil_mode=1), "with ceil_mode or auto_pad"),
    "pool that pads itself": (lambda: pool(image(), auto_pad="SAME_UPPER"), "with ceil_mode or auto_pad"),
    "pool with gaps": (lambda: pool(image(), dilations=[2, 2]), "with dilations"),
    "pool of a bias and padding": (
        lambda: pool(image(bias=exact(1, 4)), pads=[1] * 4, count_include_pad=1),
        "beside a biased membrane",
    ),
    "maximum of codes across steps": (lambda: sums.max_pool(coded(1, 2, rank=4, axis=2)), "different steps"),
    "maximum across rows": (lambda: sums.max_pool(image(ROW_STEPS)), "over positions with different steps"),
    "turned maximum": (lambda: sums.max_pool(image(exact(-1, 4))), "over a membrane with a negative step"),
    "maximum of a constant": (lambda: sums.max_pool(constant(1)), "a maximum of values without a code"),
    "constant on no grid": (
        lambda: sums.round_to(constant(1, 2), steps((1, 2), 1, 0), 2),
        "a channel that is always zero",
    ),
    "far constant": (
        lambda: sums.round_to(constant(3e38, 1), steps((1, 2), 3, 5), 2),
        "too large for the grid",
    ),
    "far constant of one grid": (
        lambda: sums.round_to(constant(3e38), exact(1, 2), 2),
        "too large for the grid",
    ),
    "rounded float": (lambda: sums.round_to(FLOAT, exact(1, 2), 2), "a rounded value without a membrane"),
    "rounded to a third": (
        lambda: sums.round_to(membrane(), exact(3, 2), 2),
        "by other than one power of two",
    ),
    "rounded finer": (
        lambda: sums.round_to(membrane(), exact(Fraction(1, 2), 2), 2),
        "by other than one power of two",
    ),
    "rounded unlike": (
        lambda: sums.round_to(membrane(), steps((1, 2), 2, 4), 2),
        "by other than one power of two",
    ),
    "rounded turned": (lambda: sums.round_to(membrane(MINUS), exact(-2, 2), 2), "with a negative step"),
    "table of rows": (
        lambda: sums.table(membrane(TWO_ROWS), 0, 1),
        "a table whose step changes from row to row",
    ),
    "joined floats": (
        lambda: sums.concat([coded(), FLOAT], [(1, 1), (1, 1)], 1),
        "with a value that carries no code",
    ),
    "joined with the host": (
        lambda: sums.concat([coded(), HOST], [(1, 1), (1, 1)], 1),
        "that was not rounded to 32 bits",
    ),
    "padded membrane": (
        lambda: sums.pad(membrane(), np.ones((2, 2), np.int64)),
        "padding of a value without",
    ),
    "convolution of a float": (
        lambda: products.convolution(FLOAT, weight((4, 3, 1, 1)), None, (1, 3, 5, 5), {}),
        "carries no code",
    ),
    "convolution by floats": (
        lambda: products.convolution(coded(rank=4), constant(1), None, (1, 3, 5, 5), {}),
        "are not integers",
    ),
    "convolution with a float": (
        lambda: products.convolution(coded(rank=4), weight((4, 3, 1, 1)), FLOAT, (1, 3, 5, 5), {}),
        "the bias of the convolution is not constant",
    ),
    "convolution across rows": (
        lambda: products.convolution(
            coded(1, 2, rank=4, axis=2), weight((4, 3, 1, 1)), None, (1, 3, 2, 5), {}
        ),
        "step changes within a channel",
    ),
    "convolution across channels": (
        lambda: products.convolution(coded(1, 2, 3, rank=4), weight((4, 3, 1, 1)), None, (1, 3, 5, 5), {}),
        "differs between channels and the weights do not compensate it",
    ),
    "convolution of scaled inputs": (
        lambda: products.convolution(
            coded(rank=4),
            weight((4, 3, 1, 1), numerator=steps((1, 3, 1, 1), 1, 2, 3)),
            None,
            (1, 3, 5, 5),
            {},
        ),
        "not one per output channel",
    ),
    "product of a float": (lambda: products.matmul(FLOAT, weight(), (2, 4), (4, 3)), "first operand"),
    "product with a vector": (lambda: products.matmul(coded(), weight(), (2, 4), (4,)), "with a vector"),
    "product with a membrane": (
        lambda: products.matmul(coded(), membrane(), (2, 4), (4, 3)),
        "second operand",
    ),
    "more axes": (
        lambda: products.matmul(coded(), weight((2, 4, 3)), (2, 4), (2, 4, 3)),
        "more axes than the data",
    ),
    "scaled rows of weights": (
        lambda: products.matmul(coded(), weight(numerator=steps((4, 1), 1, 2, 3, 4)), (2, 4), (4, 3)),
        "not one per output channel",
    ),
    "steps along two axes": (
        lambda: products.matmul(Coded(BOOK, steps((2, 2), 1, 2, 3, 4)), weight((2, 3)), (2, 2), (2, 3)),
        "changes along two axes",
    ),
    "steps that nothing compensates": (
        lambda: products.matmul(coded(1, 2), weight((2, 3)), (2, 2), (2, 3)),
        "do not compensate it",
    ),
    "steps along a sum": (
        lambda: products.matmul(coded(1, 2), coded(), (2, 2), (2, 3)),
        "along the summed axis of a product",
    ),
}


@pytest.mark.parametrize("case", REFUSED.values(), ids=REFUSED)
def test_what_has_no_integers_says_why(case: Any) -> None:
    make, reason = case
    kind = make()
    assert isinstance(kind, FloatValue)
    assert reason in kind.reason


def test_a_weight_compensates_steps_of_its_input() -> None:
    divisor = steps((2, 1), 1, 2)
    kind = products.matmul(coded(1, 2), weight((2, 3), denominator=divisor), (2, 2), (2, 3))
    assert isinstance(kind, Membrane)
    assert kind.step.reshape(-1).tolist() == [1]
    assert (kind.low.max(), kind.high.min()) == (0, 2 * BOOK.largest)
    groups = products.convolution(
        coded(1, 2, rank=4),
        weight((2, 1, 1, 1), denominator=steps((2, 1, 1, 1), 1, 2)),
        constant(3, 4),
        (1, 2, 5, 5),
        {"group": 2},
    )
    assert isinstance(groups, Membrane)
    assert groups.step.reshape(-1).tolist() == [1] and groups.bias.reshape(-1).tolist() == [3, 4]


def test_signs_of_sums_and_scales() -> None:
    turned = sums.add(constant(1), membrane(), -1)
    assert isinstance(turned, Membrane)
    assert (turned.step.item(), turned.bias.item(), turned.low.item(), turned.high.item()) == (-1, 1, -5, 9)
    apart = sums.add(membrane(), membrane(low=-1, high=2), -1)
    assert isinstance(apart, Membrane)
    assert (apart.low.item(), apart.high.item()) == (-7, 10)
    negative = sums.scale(coded(), constant(-2), divide=False)
    assert isinstance(negative, Membrane) and negative.step.item() == -2
    halved = sums.scale(Merged(exact(1, 2), 0, 9), constant(2), divide=True)
    assert isinstance(halved, Merged) and halved.step.item() == Fraction(1, 2)
    quotient = sums.add(QUOTIENT, constant(2), -1)
    assert isinstance(quotient, Quotient) and quotient.membrane.bias.item() == -2


def test_rounding_by_steps_that_float64_cannot_hold() -> None:
    """Thirds are compared as fractions; the bias goes into the integers before the shift."""
    third = exact(Fraction(1, 3), 2)
    kind = sums.round_to(membrane(third, exact(Fraction(1, 7), 2)), exact(Fraction(4, 3), 2), 2)
    assert isinstance(kind, Membrane)
    # (3 a + 9/7) / 12 + 1/2, rounded down, for a of -5 and 9.
    wanted = [(Fraction(a, 3) + Fraction(1, 7)) / Fraction(4, 3) + Fraction(1, 2) for a in (-5, 9)]
    assert [kind.low.item(), kind.high.item()] == [number.__floor__() for number in wanted]


def test_the_host_input_keeps_its_bound_when_it_is_padded_or_given_axes() -> None:
    kind = sums.ranked(Fixed(exact(1, 1), 127), 3)
    assert isinstance(kind, Fixed) and kind.step.shape == (1, 1, 1) and kind.bound == 127
    assert sums.pad(kind, np.ones((2, 3), np.int64)) is kind


def test_pools_at_the_edge_count_what_is_there() -> None:
    kind = pool(image(), pads=[1, 1, 0, 0])
    assert isinstance(kind, Membrane)
    assert kind.step[0, 0, 0, 0] == 1 and kind.step[0, 0, 1, 1] == Fraction(1, 4)
    assert (kind.low.item(), kind.high.item()) == (-20, 36)
    counted = pool(image(), pads=[1, 1, 0, 0], count_include_pad=1)
    assert isinstance(counted, Membrane) and counted.step.item() == Fraction(1, 4)


def test_a_constant_that_is_no_number_is_for_whoever_asks() -> None:
    for grid in (exact(1, 2), steps((1, 2), 3, 5)):
        with pytest.raises(NotFiniteError):
            sums.round_to(constant(np.inf, 1), grid, 2)
