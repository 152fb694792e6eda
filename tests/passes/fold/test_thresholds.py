"""Folded thresholds against the definition, in rational arithmetic only."""

from __future__ import annotations

import itertools
from fractions import Fraction
from math import floor, lcm
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from snnc.coding import CodeBook
from snnc.errors import InternalError, UnsupportedError
from snnc.passes.analysis import Membrane, as_exact, exact
from snnc.passes.fold.thresholds import (
    INT32_MAX,
    ThresholdTable,
    fold,
    fold_float,
    integer_threshold,
    reach,
)

THOROUGH = settings(max_examples=60, deadline=None, derandomize=True, database=None)
BOOKS = (
    CodeBook(1, 1),
    CodeBook(2, 2),
    CodeBook(4, 2),
    CodeBook(4, 4),
    CodeBook(4, 4, signed=True),
    CodeBook(4, 1, "contiguous", signed=True),
    CodeBook(5, 2, "contiguous"),
    CodeBook(4, 4, signed=True, smallest=-8, largest=7),
    CodeBook(3, 3, signed=True, smallest=-1, largest=5),
    CodeBook.uniform(0, 3),
    CodeBook.uniform(-3, -1),
)
TIES = ("away", "up", "even")
books = st.sampled_from(BOOKS)
float32s = st.floats(2.0**-100, 2.0**60, width=32).map(Fraction)
rationals = st.fractions(Fraction(1, 10**6), Fraction(10**6), max_denominator=10**9)
signed_rationals = st.fractions(-(10**6), 10**6, max_denominator=10**9)


def code(u: int, step: int, book: CodeBook, ties: str) -> int:
    """Nearest code by distance, ties as the word says: written without break points."""
    distances = [abs(u - step * c) for c in book.codes.tolist()]
    best = min(distances)
    nearest = [c for c, distance in zip(book.codes.tolist(), distances, strict=True) if distance == best]
    if len(nearest) == 1:
        return int(nearest[0])
    low, high = nearest
    if ties == "up":
        return int(high)
    if ties == "even":
        return int(low if low % 2 == 0 else high)
    return int(high if abs(high) > abs(low) else low)


def on_one_denominator(*numbers: Fraction) -> list[int]:
    """The same numbers, multiplied by whatever makes all of them integers."""
    common = lcm(*(number.denominator for number in numbers))
    return [int(number * common) for number in numbers]


def looked_up(table: ThresholdTable, row: int, v: Any, book: CodeBook) -> int:
    """What a neuron emits: the number of thresholds reached is the code's place."""
    return int(book.codes[int(np.count_nonzero(v >= table.thresholds[row]))])


def check_table(table: ThresholdTable, book: CodeBook, rows: int) -> None:
    assert table.thresholds.shape == (rows, 2**table.depth - 1)
    assert 2**table.depth >= book.levels > (2 ** (table.depth - 1) if table.depth > 1 else 0)
    assert np.all(table.thresholds[:, 1:] >= table.thresholds[:, :-1])
    unreachable = np.inf if table.thresholds.dtype == np.float32 else INT32_MAX
    assert np.all(table.thresholds[:, book.levels - 1 :] == unreachable)


def membrane(step: Any, bias: Any, low: int, high: int) -> Membrane:
    return Membrane(
        as_exact(np.asarray(step, dtype=object)),
        as_exact(np.asarray(bias, dtype=object)),
        np.full((1,), low, np.int64),
        np.full((1,), high, np.int64),
    )


def potentials(
    step: Fraction, bias: Fraction, out: Fraction, book: CodeBook, low: int, high: int
) -> set[int]:
    """Both ends, and both sides of every break point."""
    found = {low, high, low + 1, high - 1, 0}
    for twice in book.twice_midpoints.tolist():
        at = (twice * out / 2 - bias) / step if step else Fraction(0)
        found |= {floor(at) + offset for offset in (-1, 0, 1, 2)}
    return {v for v in found if low <= v <= high}


def check(
    step: Fraction, bias: Fraction, out: Fraction, book: CodeBook, ties: str, low: int, high: int
) -> None:
    table = fold(membrane([step], [bias], low, high), book, as_exact(np.array([out], dtype=object)), ties)  # type: ignore[arg-type]
    check_table(table, book, 1)
    assert table.thresholds.dtype == np.int32 and table.rows.dtype == np.int32
    used = table.thresholds[0, : book.levels - 1]
    assert used.min(initial=low) >= low and used.max(initial=high + 1) <= high + 1
    a, b, c = on_one_denominator(step, bias, out)
    for v in potentials(step, bias, out, book, low, high):
        assert looked_up(table, 0, v, book) == code(a * v + b, c, book, ties), (v, used)


def legal(book: CodeBook, ties: str) -> bool:
    return ties != "even" or book.is_uniform


@THOROUGH
@given(rationals, signed_rationals, rationals, books, st.sampled_from(TIES))
def test_rational_steps(step: Fraction, bias: Fraction, out: Fraction, book: CodeBook, ties: str) -> None:
    assume(legal(book, ties))
    check(step, bias, out, book, ties, -(10**6), 10**6)


@THOROUGH
@given(
    float32s, st.floats(-(2.0**99), 2.0**99, width=32).map(Fraction), float32s, books, st.sampled_from(TIES)
)
@example(Fraction(2) ** -100, Fraction(1), Fraction(2) ** -101, CodeBook(4, 4), "away")
@example(Fraction(2) ** -100, Fraction(2) ** -98, Fraction(2) ** -100, CodeBook(4, 4), "up")
def test_float32_steps(step: Fraction, bias: Fraction, out: Fraction, book: CodeBook, ties: str) -> None:
    assume(legal(book, ties))
    check(step, bias, out, book, ties, -INT32_MAX, INT32_MAX - 1)


@THOROUGH
@given(rationals, st.integers(-(2**30), 2**30), st.integers(0, 100), books, st.sampled_from(TIES))
def test_exact_ties_and_their_neighbours(
    out: Fraction, at: int, which: int, book: CodeBook, ties: str
) -> None:
    """A break point falls exactly on an integer, or off it by less than float64 can see."""
    assume(legal(book, ties))
    step = out / 7
    middle = int(book.twice_midpoints[which % (book.levels - 1)]) * out / 2
    for nudge in (
        Fraction(0),
        Fraction(1, 2**80),
        -Fraction(1, 2**80),
        Fraction(1, 2**52),
        -Fraction(1, 2**50),
    ):
        bias = middle - step * (at + nudge)
        check(step, bias, out, book, ties, -(2**31) + 2, INT32_MAX - 1)


@pytest.mark.parametrize("nudge", [Fraction(0), Fraction(1, 2**80), -Fraction(1, 2**80), Fraction(1, 2**55)])
def test_ties_of_terms_smaller_than_one(nudge: Fraction) -> None:
    """Break points below the step, so that float64 sees no difference from the bias."""
    for ties in TIES:
        step = Fraction(7, 3)
        for book, out in ((CodeBook(1, 1), Fraction(1, 3)), (CodeBook(2, 2, signed=True), Fraction(1, 5))):
            if legal(book, ties):
                check(step, out / 2 - step * nudge, out, book, ties, -100, 100)


@THOROUGH
@given(rationals, st.integers(2**90, 2**110), st.integers(-50, 50), books)
def test_a_bias_that_cancels_a_far_break_point(out: Fraction, far: int, at: int, book: CodeBook) -> None:
    """Both terms of the quotient are beyond float64's integers; their difference is not."""
    step = out / far
    middle = int(book.twice_midpoints[-1]) * out / 2
    check(step, middle - step * at, out, book, "away", -100, 100)


@pytest.mark.parametrize("power", [-1080, -1070, -1020, -970, -930, 900, 1030])
@pytest.mark.parametrize("bias", [0, 1, Fraction(1, 3)])
def test_steps_that_float64_holds_badly_or_not_at_all(power: int, bias: Fraction) -> None:
    size = Fraction(2) ** power
    check(Fraction(3, 7) * size, bias * size, Fraction(5, 3) * size, CodeBook(4, 4), "away", -100, 100)
    check(Fraction(3, 7), bias * size, Fraction(5, 3), CodeBook(4, 4, signed=True), "away", -100, 100)


@pytest.mark.parametrize("power", [-972, -960, -948])
def test_terms_on_both_sides_of_what_float64_holds(power: int) -> None:
    """One channel's step, bias or output step may be too small for float64 while the others are not."""
    book, numbers = CodeBook(4, 4, signed=True), (Fraction(3, 7), Fraction(5, 9), Fraction(4, 5))
    size = Fraction(2) ** power
    for small in itertools.product((Fraction(1), Fraction(1, 8)), repeat=3):
        step, bias, out = (a * b * size for a, b in zip(numbers, small, strict=True))
        # Beside a channel of ordinary size, and alone.
        table = fold(membrane([1, step], [bias], -100, 100), book, exact(out, 1), "away")
        a, b, c = on_one_denominator(step, bias, out)
        for v in range(-100, 101):
            assert looked_up(table, table.rows[1], v, book) == code(a * v + b, c, book, "away")
        check(step, bias, out, book, "away", -100, 100)


@pytest.mark.parametrize("ties", TIES)
@pytest.mark.parametrize("book", BOOKS, ids=str)
def test_a_step_of_zero_leaves_the_bias_alone(book: CodeBook, ties: str) -> None:
    if not legal(book, ties):
        return
    for twice in range(-70, 70):
        check(Fraction(0), Fraction(twice, 4), Fraction(1, 2), book, ties, -1000, 1000)


@settings(THOROUGH, max_examples=50)
@given(st.integers(-300, 0), st.integers(0, 300), rationals, signed_rationals, books)
def test_clamped_to_what_the_membrane_can_reach(
    low: int, high: int, step: Fraction, bias: Fraction, book: CodeBook
) -> None:
    check(step / 100, bias / 10**4, Fraction(1, 3), book, "away", low, high)


def test_channels_that_reach_different_potentials() -> None:
    """A table is clamped to what any of its channels reaches."""
    book = CodeBook.uniform(-9, 9)
    seen = Membrane(exact(1, 1), exact(0, 1), np.array([-9, -3]), np.array([2, 7]))
    assert reach(seen) == (-9, 7)
    table = fold(seen, book, exact(1, 1), "away")
    assert [looked_up(table, 0, v, book) for v in range(-9, 8)] == list(range(-9, 8))


def test_largest_membrane_and_the_one_too_large() -> None:
    assert np.iinfo(np.int32).max == INT32_MAX
    book = CodeBook(2, 2)
    out = exact(1, 1)
    table = fold(membrane([1], [0], -INT32_MAX, INT32_MAX - 1), book, out * 2**33, "away")
    # Not reachable, and yet no padding is counted at the largest potential.
    assert looked_up(table, 0, INT32_MAX - 1, book) == 0
    for low, high in ((-INT32_MAX - 1, 0), (0, INT32_MAX)):
        with pytest.raises(InternalError, match="SNN152"):
            fold(membrane([1], [0], low, high), book, out, "away")


@pytest.mark.parametrize("steps", [[-1], [1, -1]], ids=str)
def test_a_negative_step_is_refused(steps: list[int]) -> None:
    with pytest.raises(InternalError, match="SNN153"):
        fold(membrane(steps, [0], -9, 9), CodeBook(2, 2), exact(1, 1), "away")


@settings(THOROUGH, max_examples=30)
@given(st.data(), books, st.sampled_from(TIES))
def test_one_row_per_channel(data: st.DataObject, book: CodeBook, ties: str) -> None:
    assume(legal(book, ties))
    channels = data.draw(st.integers(1, 6))
    few = st.sampled_from([Fraction(1, 3), Fraction(1, 2), Fraction(2)])
    steps, biases, outs = (
        [data.draw(few) for _ in range(data.draw(st.sampled_from([1, channels])))] for _ in range(3)
    )
    found = fold(
        membrane(steps, biases, -500, 500),
        book,
        as_exact(np.array(outs, dtype=object)),
        ties,  # type: ignore[arg-type]
    )
    rows = np.broadcast_to(found.rows, channels)
    triples = [tuple(values[c % len(values)] for values in (steps, biases, outs)) for c in range(channels)]
    check_table(found, book, len(set(triples)))
    for c, (step, bias, out) in enumerate(triples):
        a, b, d = on_one_denominator(step, bias, out)
        for v in potentials(step, bias, out, book, -500, 500):
            assert looked_up(found, rows[c], v, book) == code(a * v + b, d, book, ties)


def test_more_rows_than_are_folded_together() -> None:
    """Every row of the second and third block follows the definition."""
    biases = [Fraction(number, 97) for number in range(1100)]
    book, out = CodeBook(4, 2, signed=True), Fraction(1, 4)
    found = fold(membrane([Fraction(1, 32)], biases, -900, 900), book, exact(out, 1), "away")
    assert found.thresholds.shape[0] == 1100
    for c in (0, 1, 510, 511, 512, 513, 1022, 1023, 1024, 1025, 1099):
        a, b, d = on_one_denominator(Fraction(1, 32), biases[c], out)
        for v in potentials(Fraction(1, 32), biases[c], out, book, -900, 900):
            assert looked_up(found, found.rows[c], v, book) == code(a * v + b, d, book, "away")


def test_rows_keep_the_axes_they_depend_on() -> None:
    step, bias = np.ones((1, 3, 1, 1)), np.zeros((1, 1, 1, 2))
    step[0, 1], bias[..., 1] = 2, 1
    seen = Membrane(as_exact(step), as_exact(bias), np.full((1,) * 4, -9), np.full((1,) * 4, 9))
    table = fold(seen, CodeBook(2, 2), exact(1, 4), "away")
    assert table.rows.shape == (1, 3, 1, 2)
    assert table.rows[0, 0, 0, 0] == table.rows[0, 2, 0, 0] != table.rows[0, 1, 0, 0]
    assert table.thresholds.shape[0] == 4


def test_a_table_that_is_too_large_is_refused() -> None:
    book = CodeBook(16, 16)
    wide = as_exact(np.arange(1, 400, dtype=np.float64))
    seen = Membrane(wide, exact(0, 1), np.full((1,), -9), np.full((1,), 9))
    with pytest.raises(UnsupportedError, match="SNN439"):
        fold(seen, book, exact(1, 1), "away")
    with pytest.raises(UnsupportedError, match="SNN439"):
        fold_float(book, wide, "away")


@THOROUGH
@given(signed_rationals, rationals, signed_rationals, st.booleans())
def test_integer_threshold(point: Fraction, step: Fraction, bias: Fraction, closed: bool) -> None:
    v = integer_threshold(point, step, bias, closed=closed)

    def reached(number: int) -> bool:
        value = step * number + bias
        return value >= point if closed else value > point

    assert reached(v) and not reached(v - 1)


# --- encoders: thresholds in float32 ---


def float_neighbours(point: Fraction) -> list[np.float32]:
    at = np.float32(float(point))
    below, above = np.nextafter(at, np.float32(-np.inf)), np.nextafter(at, np.float32(np.inf))
    return [v for v in (np.nextafter(below, np.float32(-np.inf)), below, at, above) if np.isfinite(v)]


def check_float(step: Fraction, book: CodeBook, ties: str) -> None:
    table = fold_float(book, as_exact(np.array([step], dtype=object)), ties)  # type: ignore[arg-type]
    check_table(table, book, 1)
    assert table.thresholds.dtype == np.float32
    for twice in book.twice_midpoints.tolist():
        for v in float_neighbours(twice * step / 2):
            assert looked_up(table, 0, v, book) == code(
                *on_one_denominator(Fraction(float(v)), step), book, ties
            ), (v, twice)


@THOROUGH
@given(st.floats(2.0**-149, 2.0**100, width=32).map(Fraction), books, st.sampled_from(TIES))
@example(Fraction(2) ** -149, CodeBook(4, 4, signed=True), "away")
@example(Fraction(3) * Fraction(2) ** -149, CodeBook(4, 4, signed=True), "even")
def test_encoder_with_a_float32_step(step: Fraction, book: CodeBook, ties: str) -> None:
    assume(legal(book, ties))
    check_float(step, book, ties)


@THOROUGH
@given(rationals, books, st.sampled_from(TIES))
@example(Fraction(1, 2**60 - 1), CodeBook(4, 4, signed=True), "away")
@example(Fraction(1, 2**60 + 1), CodeBook(4, 4, signed=True), "up")
@example(Fraction(1, 2**1074), CodeBook(4, 4, signed=True), "away")
@example(Fraction(1, 2**1073), CodeBook(4, 4, signed=True), "away")
def test_encoder_with_any_step(step: Fraction, book: CodeBook, ties: str) -> None:
    assume(legal(book, ties))
    check_float(step, book, ties)


@pytest.mark.parametrize("ties", TIES)
def test_encoder_at_exact_ties(ties: str) -> None:
    """Steps that are powers of two put every mid-point on a float32."""
    for book in BOOKS:
        if legal(book, ties):
            check_float(Fraction(1, 8), book, ties)


def test_encoder_of_sixteen_steps() -> None:
    check_float(Fraction(float(np.float32(0.1))), CodeBook(16, 2), "away")


@pytest.mark.parametrize("step", [np.float32(3e38), np.finfo(np.float64).max, 1e39])
def test_encoder_with_break_points_beyond_float32(step: float) -> None:
    book = CodeBook(4, 4, signed=True)
    table = fold_float(book, as_exact(np.array([float(step)])), "away")
    check_table(table, book, 1)
    largest = np.finfo(np.float32).max
    for v in (-largest, np.float32(0), largest):
        exactly = on_one_denominator(Fraction(float(v)), Fraction(float(step)))
        assert looked_up(table, 0, v, book) == code(*exactly, book, "away")


@pytest.mark.parametrize("bits", [35, 36, 37, 38])
@pytest.mark.parametrize("beyond", [1, -1])
def test_encoder_with_break_points_of_more_bits_than_float64(bits: int, beyond: int) -> None:
    """A break point next to a float32, by one unit of an integer of 52 to 55 bits."""
    book = CodeBook.uniform(65534, 65535)
    (middle,) = book.twice_midpoints.tolist()
    # middle · numerator is one more or less than a multiple of 2^29 with 24 bits or so before it.
    inverse = beyond * pow(middle, -1, 2**29) % 2**29
    found = 0
    for number in range(2 ** (bits - 30), 2 ** (bits - 30) + 32):
        numerator = number * 2**29 + inverse
        product = numerator * middle
        assert numerator.bit_length() == bits and product % 2**29 == beyond % 2**29
        near = (product - beyond) // 2**29
        if int(np.float32(near)) == near:
            found += 1
            check_float(Fraction(numerator), book, "away")
    assert found > 0


@pytest.mark.parametrize("ties", TIES)
def test_encoder_with_a_break_point_at_the_largest_float32(ties: str) -> None:
    largest = np.finfo(np.float32).max
    below = np.nextafter(largest, np.float32(0))
    for book in BOOKS:
        if not legal(book, ties):
            continue
        for twice in {abs(m) for m in book.twice_midpoints.tolist()}:
            step = 2 * Fraction(float(largest)) / twice
            table = fold_float(book, exact(step, 1), ties)  # type: ignore[arg-type]
            check_table(table, book, 1)
            for v in (-largest, -below, np.float32(0), below, largest):
                exactly = on_one_denominator(Fraction(float(v)), step)
                assert looked_up(table, 0, v, book) == code(*exactly, book, ties), (v, twice)
