"""Threshold folding through an activation function: any f in front of a quantiser is a table (semantics 6.2).

A neuron that emits the code of gain · f(u) + offset walks through a sequence of levels as u grows. The
sequence ascends where the function rises and descends where it falls, so the codes of the table need not be
sorted. Where it falls, closed and open change places: the lower level begins where the upper one ends.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from snnc.coding import CodeBook, Ties
from snnc.errors import InternalError
from snnc.passes.analysis.exact import ExactArray, collapse, distinct
from snnc.passes.analysis.functions import Activation, Edge, shape_of
from snnc.passes.analysis.kinds import Activated
from snnc.passes.analysis.reals import Point, threshold
from snnc.passes.fold.rounding import FAR, float_column, float_quotient, rounded_up
from snnc.passes.fold.thresholds import INT32_MAX, ThresholdTable, check_size, reach, table_size

__all__ = ["fold_activated"]

# What the float64 of a point that is no rational may be wrong by, in units of max(1, |point|).
_POINT_ERROR = 2.0**-43
# Rows folded together: a few megabytes.
_BLOCK = 512

_Key = tuple[Activation, Fraction, Fraction, Fraction]


@dataclass(frozen=True, eq=False)
class _Event:
    """Crossing one break point of the code book.

    Attributes:
        k: The level above it.
        point: Where, on the axis of the function's argument.
        closed: Whether the new level holds at the point itself.
    """

    k: int
    point: Point
    closed: bool


@dataclass(frozen=True, eq=False)
class _Path:
    """The levels that one neuron walks through, from minus to plus infinity.

    Attributes:
        directions: 1 or -1 for each run in which the level only grows or only shrinks.
        levels: Level before each run, and the last one.
        runs: The events of each run.
    """

    directions: tuple[int, ...]
    levels: tuple[int, ...]
    runs: tuple[tuple[_Event, ...], ...]


def fold_activated(kind: Activated, book: CodeBook, output_step: ExactArray, ties: Ties) -> ThresholdTable:
    """Compute the integer break points of a neuron that holds an activation function.

    Args:
        kind: What the neuron reads; the steps of its membrane must not be negative.
        book: Admitted output codes.
        output_step: Exact step of the output code, broadcastable to the tensor.
        ties: Rule at mid-points.

    Returns:
        Thresholds clamped to the reachable potentials, and the code between each two of them. Levels that
        no row can reach are left out; those that a row does not reach lie between equal thresholds.

    Raises:
        UnsupportedError: SNN439, the table would need more than 2^24 thresholds.
    """
    membrane = kind.membrane
    low, high = reach(membrane)
    numbers, rows = distinct(membrane.step, membrane.bias, kind.function, kind.gain, kind.offset, output_step)
    check_size(len(numbers), book.levels)
    channels: dict[_Key, list[tuple[Fraction, Fraction, int]]] = {}
    for row, (step, bias, *rest) in enumerate(numbers):
        channels.setdefault(tuple(rest), []).append((step, bias, row))
    closes = book.closed(ties)
    closed_at = tuple(bool(flag) for flag in closes)
    paths = {key: _path(book, closed_at, *key) for key in channels}
    levels, columns = _columns(list(paths.values()))
    check_size(len(numbers), len(levels))
    table = np.empty((len(numbers), len(levels) - 1), dtype=np.int64)
    for key, path in paths.items():
        layout = columns[path]
        crossed = [event for run in path.runs for event in run]
        points = np.array([float(event.point) for event in crossed])
        rational = np.array([isinstance(event.point, Fraction) for event in crossed], dtype=np.bool_)
        error = np.where(rational, 0.0, _POINT_ERROR * np.maximum(1.0, np.abs(points)))
        closed = np.array([event.closed for event in crossed], dtype=np.bool_)
        for first in range(0, len(channels[key]), _BLOCK):
            block = channels[key][first : first + _BLOCK]
            found = _rows(crossed, points, error, closed, [(step, bias) for step, bias, _ in block])
            table[[row for _, _, row in block]] = found[:, layout]
    return _table(np.clip(table, low, high + 1), book.codes[levels], rows, low, high)


@lru_cache(maxsize=256)
def _path(
    book: CodeBook,
    closed: tuple[bool, ...],
    function: Activation,
    gain: Fraction,
    offset: Fraction,
    step: Fraction,
) -> _Path:
    """Follow gain · f + offset through the levels of a code book."""
    points = [int(middle) * step / 2 - offset for middle in book.twice_midpoints]
    if gain == 0:
        level = _count(Edge(Fraction(0)), points, closed, falling=False)
        return _Path((1,), (level, level), ((),))
    targets, falling = [point / gain for point in points], gain < 0
    shape = shape_of(function)
    level = _count(shape.first, targets, closed, falling=falling)
    directions: list[int] = []
    levels, runs = [level], list[list[_Event]]()
    for piece in shape.pieces:
        direction = -piece.direction if falling else piece.direction
        if not directions or directions[-1] != direction:
            directions.append(direction)
            levels.append(level)
            runs.append([])
        last = _count(piece.last, targets, closed, falling=falling)
        if (last - level) * direction < 0:
            raise InternalError("SNN158", f"{function.name} does not do on a piece what it should")
        for k in range(level, last) if direction > 0 else range(level - 1, last - 1, -1):
            takes = piece.held if piece.jump else bool(closed[k]) == (direction > 0)
            runs[-1].append(_Event(k + 1, piece.inverse(targets[k]), takes))
        levels[-1] = level = last
    if not runs:
        return _Path((1,), (level, level), ((),))
    return _Path(tuple(directions), tuple(levels), tuple(map(tuple, runs)))


def _count(edge: Edge, targets: Sequence[Fraction], closed: Sequence[bool], *, falling: bool) -> int:
    """Number of break points that a value has reached, by bisection: level k needs all below it."""
    low, high = 0, len(targets)
    while low < high:
        middle = (low + high) // 2
        if edge.reaches(targets[middle], closed=bool(closed[middle]), falling=falling):
            low = middle + 1
        else:
            high = middle
    return low


def _columns(paths: list[_Path]) -> tuple[list[int], dict[_Path, npt.NDArray[np.intp]]]:
    """Lay the paths of all rows into one sequence of levels.

    Paths of equal directions share their runs; others follow each other.

    Returns:
        The level after each number of thresholds, and for each path which of its own thresholds stands in
        each column: events from 0, then -2 for one that is always reached and -1 for one that never is.
    """
    levels: list[int] = []
    columns: dict[_Path, npt.NDArray[np.intp]] = {}
    for directions in dict.fromkeys(path.directions for path in paths):
        group = [path for path in paths if path.directions == directions]
        own: list[tuple[int, int]] = []  # (run, break point) of each column
        sequence: list[int] = []
        for run, direction in enumerate(directions):
            seen = [level for path in group for level in path.levels[run : run + 2]]
            low, high = min(seen), max(seen)
            stations = list(range(low, high + 1))[::direction]
            # Directions alternate: where one run ends, at the extreme of all rows, the next begins.
            if not sequence:
                sequence.append(stations[0])
            for level in stations[1:]:
                own.append((run, max(level, level - direction)))
                sequence.append(level)
        before = len(levels)
        for path, part in columns.items():
            # Never beyond its own part: the new columns, and the one that leads over to them.
            columns[path] = np.concatenate([part, np.full(len(sequence), -1, dtype=np.intp)])
        for path in group:
            part = _places(path, own, sequence)
            columns[path] = np.concatenate([np.full(before, -2, dtype=np.intp), part])
        levels += sequence
    return levels, columns


def _places(path: _Path, own: list[tuple[int, int]], sequence: list[int]) -> npt.NDArray[np.intp]:
    """Which of a path's events stands in each column; levels it skips begin where its next event lies."""
    events = {
        (run, event.k): place
        for place, (run, event) in enumerate((r, e) for r, part in enumerate(path.runs) for e in part)
    }
    result = np.empty(len(own), dtype=np.intp)
    following = -1
    for column in range(len(own) - 1, -1, -1):
        following = events.get(own[column], following)
        result[column] = following
    # In front of its first level everything has been reached.
    result[: sequence.index(path.levels[0])] = -2
    return result


def _rows(
    events: Sequence[_Event],
    points: npt.NDArray[np.float64],
    error: npt.NDArray[np.float64],
    closed: npt.NDArray[np.bool_],
    channels: Sequence[tuple[Fraction, Fraction]],
) -> npt.NDArray[np.int64]:
    """Integer break points of channels of given step and bias, clamped, then always (-2) and never (-1)."""
    if any(step < 0 for step, _ in channels):
        raise InternalError("SNN153", "a membrane with a negative step reached a neuron")
    steps, biases = (float_column(numbers) for numbers in zip(*channels, strict=True))
    slopes, offsets = float_quotient(np.ones_like(steps), steps), float_quotient(biases, steps)
    result, doubtful = rounded_up(points[None, :], slopes, offsets, closed[None, :], error[None, :])
    for row, place in doubtful:
        step, bias = channels[row]
        if step:
            event = events[place]
            exactly = threshold(event.point, step, bias, closed=event.closed)
            result[row, place] = min(max(exactly, -FAR), FAR)
    for row, (step, bias) in enumerate(channels):
        if step == 0:
            # The potential is the bias: with step 1 it has reached a point if the threshold is at most 0.
            found = [threshold(event.point, Fraction(1), bias, closed=event.closed) for event in events]
            result[row] = [-FAR if each <= 0 else FAR for each in found]
    if bool(np.any(np.diff(result, axis=1)[[step > 0 for step, _ in channels]] < 0)):
        raise InternalError("SNN158", "break points of an activation function are out of order")
    ends = np.broadcast_to(np.array([-FAR, FAR], dtype=np.int64), (len(channels), 2))
    return np.concatenate([result, ends], axis=1)


def _table(
    thresholds: npt.NDArray[np.int64],
    codes: npt.NDArray[np.int32],
    rows: npt.NDArray[np.int32],
    low: int,
    high: int,
) -> ThresholdTable:
    """Leave out codes that no row can emit, and pad."""
    # Entry k is emitted for potentials from threshold k - 1 up to threshold k, both exclusive of the reach.
    first = np.concatenate([np.full((len(thresholds), 1), low), thresholds], axis=1)
    behind = np.concatenate([thresholds, np.full((len(thresholds), 1), high + 1)], axis=1)
    used = np.any(first < behind, axis=0)
    kept, codes = first[:, used][:, 1:], codes[used]
    size, depth = table_size(len(codes))
    check_size(len(kept), size)
    table = np.full((len(kept), size), INT32_MAX, dtype=np.int32)
    table[:, : kept.shape[1]] = kept
    return ThresholdTable(table, collapse(rows), depth, tuple(codes.tolist()))
