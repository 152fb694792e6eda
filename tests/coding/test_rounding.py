"""Nearest level, ties, and the bit-serial neuron, against brute force over exact fractions."""

from __future__ import annotations

from fractions import Fraction
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from snnc.coding import BreakPoint, CodeBook, Partition, Ties, fire_serially
from snnc.coding.grid import tables
from snnc.errors import UsageError

PARTITIONS: tuple[Partition, ...] = get_args(Partition)
TIES: tuple[Ties, ...] = get_args(Ties)


def brute_force_nearest(codes: list[int], u: Fraction, ties: Ties) -> int:
    """Nearest code by comparing all distances exactly."""
    least = min(abs(u - c) for c in codes)
    best = [c for c in codes if abs(u - c) == least]
    if len(best) == 1:
        return best[0]
    low, high = best
    if ties == "up":
        return high
    if ties == "away":
        return high if u > 0 else low
    return next(c for c in best if c % 2 == 0)


@st.composite
def books(draw: st.DrawFn, most: int = 16) -> CodeBook:
    timesteps = draw(st.integers(1, most))
    groups = draw(st.integers(1, timesteps))
    book = CodeBook(timesteps, groups, draw(st.sampled_from(PARTITIONS)), draw(st.booleans()))
    if draw(st.booleans()):
        ends = sorted(draw(st.tuples(*[st.integers(0, book.levels - 1)] * 2)))
        book = book.restricted(int(book.codes[ends[0]]), int(book.codes[ends[1]]))
    return book


@st.composite
def books_and_inputs(
    draw: st.DrawFn, most: int = 16
) -> tuple[CodeBook, Ties, np.ndarray[Any, np.dtype[np.float64]]]:
    """A book, a legal tie rule, and float64 inputs of which many sit on or right beside a break point."""
    book = draw(books(most))
    ties = draw(st.sampled_from(TIES if book.is_uniform else TIES[:2]))
    anywhere = st.floats(book.smallest - 2.0, book.largest + 2.0)
    special = st.sampled_from([0.0, -0.0, np.inf, -np.inf, 1e300, -1e300, 5e-324, -5e-324])
    choices = [anywhere, special]
    if book.levels > 1:
        middle = st.integers(0, book.levels - 2).map(lambda k: float(book.twice_midpoints[k]) / 2)
        choices += [
            middle,
            middle.map(lambda m: np.nextafter(m, np.inf)),
            middle.map(lambda m: np.nextafter(m, -np.inf)),
        ]
    return book, ties, np.array(draw(st.lists(st.one_of(choices), min_size=1, max_size=8)), np.float64)


def exact_nearest(book: CodeBook, u: float, ties: Ties) -> int:
    if np.isinf(u):
        return book.largest if u > 0 else book.smallest
    # Beyond both neighbours no code can be nearest: keeps the exact search small for huge books.
    row = int(np.searchsorted(book.codes, u))
    near = book.codes[max(row - 3, 0) : row + 3].tolist() or [int(book.codes[-1])]
    return brute_force_nearest(near, Fraction(u), ties)


# Tables of 16 steps have 131,071 rows, and each break point is an object: one such case is enough.
LARGE = (
    CodeBook(16, 16, signed=True),
    "even",
    np.array([-65535.5, -0.5, 0.0, 12345.5, np.nextafter(65534.5, 0)]),
)


@given(books_and_inputs(most=11))
@example(LARGE)
@settings(max_examples=400, deadline=None)
def test_nearest_is_the_nearest_level(case: tuple[CodeBook, Ties, np.ndarray[Any, Any]]) -> None:
    book, ties, inputs = case
    got = book.nearest(inputs, ties)
    assert got.dtype == np.int32
    assert got.tolist() == [exact_nearest(book, u, ties) for u in inputs.tolist()]


@given(books_and_inputs(most=9))
@example(LARGE)
@settings(max_examples=300, deadline=None)
def test_serial_neuron_equals_the_table(case: tuple[CodeBook, Ties, np.ndarray[Any, Any]]) -> None:
    book, ties, inputs = case
    table = book.encode(book.nearest(inputs, ties))
    firing = fire_serially(book.codes, book.timesteps, inputs, book.thresholds(ties))
    assert np.array_equal(firing.patterns, table)
    assert np.array_equal(book.fire(inputs, book.break_points(ties)), table)
    assert (firing.comparisons <= book.timesteps + book.signed).all()
    assert (np.abs(table).sum(axis=0) <= book.groups).all()
    assert np.array_equal(np.abs(table).sum(axis=0), book.spike_count(book.nearest(inputs, ties)))


@pytest.mark.parametrize("partition", PARTITIONS)
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("timesteps", range(1, 6))
def test_every_quarter_step_of_every_small_book(timesteps: int, signed: bool, partition: Partition) -> None:
    reach = 2**timesteps + 1
    quarters = np.arange(-4 * reach, 4 * reach + 1) / 4
    for groups in range(1, timesteps + 1):
        book = CodeBook(timesteps, groups, partition, signed)
        codes = book.codes.tolist()
        for ties in TIES if book.is_uniform else TIES[:2]:
            expected = [brute_force_nearest(codes, Fraction(u), ties) for u in quarters.tolist()]
            assert book.nearest(quarters, ties).tolist() == expected
            firing = fire_serially(book.codes, timesteps, quarters, book.thresholds(ties))
            assert np.array_equal(firing.patterns, book.encode(expected))
            assert firing.comparisons.max() <= timesteps + signed


def needed(book: CodeBook, code: int) -> int:
    """Comparisons of a serial neuron: the sign, and steps at which codes of one beginning differ."""
    codes = book.codes.tolist()
    left = [each for each in codes if (each < 0) == (code < 0)]
    count = int(len(left) < len(codes))
    for step in range(book.timesteps):
        weight = 1 << (book.timesteps - 1 - step)
        alike = [each for each in left if bool(abs(each) & weight) == bool(abs(code) & weight)]
        count += len(alike) < len(left)
        left = alike
    return count


@pytest.mark.parametrize(
    "book",
    [
        CodeBook(4, 2),
        CodeBook(5, 2, "contiguous", True),
        CodeBook.uniform(-3, 6),
        CodeBook(4, 2, signed=True, smallest=-9, largest=-1),
        CodeBook(3, 1, smallest=2, largest=2),
    ],
)
def test_a_serial_neuron_compares_only_where_both_answers_are_possible(book: CodeBook) -> None:
    firing = fire_serially(book.codes, book.timesteps, book.codes, book.thresholds())
    assert firing.comparisons.tolist() == [needed(book, code) for code in book.codes.tolist()]
    assert np.array_equal(firing.patterns, book.patterns.T)


@given(books())
@settings(max_examples=150, deadline=None)
def test_books_of_any_size(book: CodeBook) -> None:
    codes = book.codes
    assert (np.diff(codes) > 0).all()
    assert codes[0] == book.smallest
    assert codes[-1] == book.largest
    assert (book.patterns.astype(np.int64) @ book.weights == codes).all()
    groups = np.array(book.group_of_step)
    for group in range(book.groups):
        assert (np.abs(book.patterns[:, groups == group]).sum(axis=1) <= 1).all()
    # Lexicographic order: the first step in which two neighbours differ decides which is larger.
    change = np.diff(book.patterns.astype(np.int64), axis=0)
    first = change[np.arange(len(change)), (change != 0).argmax(axis=1)]
    assert (first > 0).all()
    assert np.array_equal(book.decode(book.encode(codes)), codes)
    assert np.array_equal(book.spike_count(codes), book.spikes)
    assert 2**book.comparisons >= book.levels > 2**book.comparisons // 2
    assert book.comparisons <= book.timesteps + book.signed
    assert CodeBook.from_attributes(book.to_attributes()) == book
    assert np.array_equal(codes.astype(book.dtype), codes)


@pytest.mark.parametrize(("timesteps", "groups"), [(5, 2), (9, 4), (16, 3), (16, 11)])
@pytest.mark.parametrize("partition", PARTITIONS)
def test_levels_of_large_books_by_count(timesteps: int, groups: int, partition: Partition) -> None:
    """All 2**T numbers, kept if no group has two bits set."""
    book = CodeBook(timesteps, groups, partition)
    numbers = np.arange(2**timesteps)
    legal = np.ones(numbers.size, np.bool_)
    for group in range(groups):
        steps = [t for t in range(timesteps) if book.group_of_step[t] == group]
        legal &= sum(numbers >> (timesteps - 1 - t) & 1 for t in steps) <= 1
    assert np.array_equal(book.codes, numbers[legal])


def test_break_points_away() -> None:
    assert CodeBook(2, 1, signed=True).break_points() == (
        BreakPoint(-3, closed=False),
        BreakPoint(-1, closed=False),
        BreakPoint(1, closed=True),
        BreakPoint(3, closed=True),
    )
    assert [point.closed for point in CodeBook(2, 1, signed=True).break_points("up")] == [True] * 4


@pytest.mark.parametrize("place", [0, 1, 2])
def test_thresholds_are_numbers_or_all_of_them_break_points(place: int) -> None:
    book = CodeBook(2, 2)
    points: list[Any] = list(book.break_points())
    assert np.array_equal(book.fire([0.0, 0.5, 2.0], points), book.fire([0.0, 0.5, 2.0], [0.5, 1.5, 2.5]))
    points[place] = float(place)
    for wrong in (points, [None, None, None]):
        with pytest.raises(UsageError, match="all of them break points") as caught:
            book.fire([0.0, 0.5, 2.0], wrong)
        assert caught.value.code == "SNN209"


def test_rows_of_codes_and_of_what_is_none() -> None:
    found = tables(3, 1, "contiguous", signed=True, smallest=-2, largest=4)
    assert found.codes.tolist() == [-2, -1, 0, 1, 2, 4]
    assert found.rows.tolist() == [0, 1, 2, 3, 4, -1, 5]


def test_break_points_even_alternate() -> None:
    points = CodeBook.uniform(-2, 2).break_points("even")
    assert [(point.twice_midpoint, point.closed) for point in points] == [
        (-3, False),
        (-1, True),
        (1, False),
        (3, True),
    ]


def test_even_ties_agree_with_numpy_rounding() -> None:
    halves = np.arange(-300, 301) / 2
    expected = np.clip(np.rint(halves), -128, 127)
    assert np.array_equal(CodeBook.uniform(-128, 127).nearest(halves, "even"), expected)


def test_up_ties_agree_with_qcfs_floor() -> None:
    halves = np.arange(-40, 80) / 4
    expected = np.clip(np.floor(halves + 0.5), 0, 4)
    assert np.array_equal(CodeBook(3, 3, largest=4).nearest(halves, "up"), expected)


def test_wrong_ties_are_refused() -> None:
    with pytest.raises(UsageError, match="ties") as caught:
        CodeBook(4, 2).break_points("even")
    assert caught.value.code == "SNN208"
    with pytest.raises(UsageError, match="SNN208"):
        CodeBook(4, 4).nearest(1.0, "down")  # type: ignore[arg-type]


def test_not_a_number_reaches_no_threshold() -> None:
    book = CodeBook(4, 2, signed=True)
    assert book.nearest([np.nan, 1.0]).tolist() == [-12, 1]
    assert book.decode(book.fire([np.nan, 1.0], book.break_points())).tolist() == [-12, 1]


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_integer_thresholds_per_channel(data: st.DataObject) -> None:
    """The deployed neuron: integer potentials, one ascending integer table per channel, levels skipped."""
    book = data.draw(books(most=5))
    channels = data.draw(st.integers(1, 3))
    row = st.lists(st.integers(-9, 9), min_size=book.levels - 1, max_size=book.levels - 1).map(sorted)
    table = np.array([data.draw(row) for _ in range(channels)], np.int32).reshape(channels, -1)
    potential = np.array(
        data.draw(
            st.lists(
                st.lists(st.integers(-10, 10), min_size=channels, max_size=channels), min_size=1, max_size=3
            )
        ),
        np.int32,
    )
    reached = (potential[..., None] >= table).sum(axis=-1)
    patterns = book.fire(potential, table.T)
    assert np.array_equal(patterns, book.encode(book.codes[reached]))


def test_thresholds_of_each_neuron_broadcast_as_numpy_does() -> None:
    book, rng = CodeBook(4, 2, signed=True), np.random.default_rng(0)
    potential = rng.integers(-40, 40, (2, 5, 3))
    for shape in ((3,), (1,), (5, 1), (5, 3), (1, 3), (2, 1, 1), (1, 1, 3), (2, 5, 3)):
        table = np.sort(rng.integers(-40, 40, (book.levels - 1, *shape)), axis=0)
        aligned = table.reshape(book.levels - 1, *(1,) * (3 - len(shape)), *shape)
        reached = (potential >= aligned).sum(axis=0)
        assert np.array_equal(book.fire(potential, table), book.encode(book.codes[reached])), shape


def test_thresholds_of_the_wrong_shape_are_refused() -> None:
    book = CodeBook(4, 2)
    for wrong in (
        np.zeros((8, 5, 1, 2)),
        np.zeros((8, 2, 2)),
        np.zeros((8, 5, 5)),
        np.zeros(7),
        np.zeros(()),
        np.zeros((8, 3)),
        np.zeros((8, 1, 1, 2)),
        book.break_points()[1:],
    ):
        with pytest.raises(UsageError, match="thresholds") as caught:
            book.fire(np.zeros((5, 2)), wrong)
        assert caught.value.code == "SNN209"
