"""Threshold folding: scale, bias and quantiser become integer break points (semantics 1.7, 6.2).

A membrane holds the integer v and stands for u = step · v + bias. A neuron reaches its k-th code when
u ≥ p_k (closed) or u > p_k (open), with p_k the k-th mid-point in units of the output step. Solved for the
integer v this is v ≥ τ_k, computed here in exact rational arithmetic, so no rounding is left to disagree.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from snnc.coding import CodeBook, Ties
from snnc.errors import InternalError, UnsupportedError
from snnc.passes.analysis import ExactArray, Membrane
from snnc.passes.analysis.exact import collapse, distinct
from snnc.passes.fold.rounding import FAR, float_column, float_quotient, rounded_up

__all__ = [
    "INT32_MAX",
    "ThresholdTable",
    "check_size",
    "fold",
    "fold_float",
    "integer_threshold",
    "reach",
    "table_size",
]

INT32_MAX = 2**31 - 1
_LARGEST_TABLE = 2**24
#: Rows folded together: a few megabytes.
_BLOCK = 512
_LARGEST_FLOAT32 = 2**128 - 2**104


@dataclass(frozen=True, eq=False)
class ThresholdTable:
    """Break points of one neuron layer.

    Attributes:
        thresholds: (R, K) with K = 2^depth - 1, ascending along K, padded at the end with a value that no
            potential reaches; int32 for membranes, float32 for an encoder.
        rows: Row used at each position, int32, broadcastable to the potential.
        depth: Rounds of the binary search, ⌈log2 of the number of entries of ``codes``⌉.
        codes: Code emitted when k thresholds are reached, for each k. Those of the book, ascending, unless an
            activation function lies in the table.
    """

    thresholds: npt.NDArray[np.int32] | npt.NDArray[np.float32]
    rows: npt.NDArray[np.int32]
    depth: int
    codes: tuple[int, ...]


def integer_threshold(point: Fraction, step: Fraction, bias: Fraction, *, closed: bool) -> int:
    """Return the smallest integer v with step · v + bias ≥ point (closed) or > point (open), step > 0."""
    x = (point - bias) / step
    return -(-x.numerator // x.denominator) if closed else x.numerator // x.denominator + 1


def fold(membrane: Membrane, book: CodeBook, output_step: ExactArray, ties: Ties) -> ThresholdTable:
    """Compute the integer break points of a neuron.

    Args:
        membrane: What the neuron reads; its steps must not be negative.
        book: Admitted output codes.
        output_step: Exact step of the output code, broadcastable to the tensor.
        ties: Rule at mid-points.

    Returns:
        Thresholds clamped to the reachable potentials, one row for each distinct combination of
        step, bias and output step.

    Raises:
        UnsupportedError: SNN439, the table would need more than 2^24 thresholds.
    """
    low, high = reach(membrane)
    size, depth = table_size(book.levels)
    numbers, rows = distinct(membrane.step, membrane.bias, output_step)
    check_size(len(numbers), size)
    middles, closed = book.twice_midpoints.astype(np.int64), np.asarray(book.closed(ties))
    table = np.full((len(numbers), size), INT32_MAX, dtype=np.int32)
    for first in range(0, len(numbers), _BLOCK):
        block = numbers[first : first + _BLOCK]
        found = _rows(middles, closed, block)
        table[first : first + len(block), : len(middles)] = np.clip(found, low, high + 1)
    return ThresholdTable(table, collapse(rows), depth, tuple(book.codes.tolist()))


def reach(membrane: Membrane) -> tuple[int, int]:
    """Return the smallest and largest potential, which fit a neuron.

    Raises:
        InternalError: SNN152, they do not: whoever encodes has to check the range first.
    """
    low, high = int(membrane.low.min()), int(membrane.high.max())
    if low < -INT32_MAX or high >= INT32_MAX:
        raise InternalError("SNN152", f"a membrane in [{low}, {high}] reached a neuron")
    return low, high


def table_size(levels: int) -> tuple[int, int]:
    """Return the number of thresholds in a row, padding included, and the rounds of the search."""
    depth = max(1, (levels - 1).bit_length())
    return 2**depth - 1, depth


def check_size(rows: int, size: int) -> None:
    """Refuse a table that no one would want to store.

    Raises:
        UnsupportedError: SNN439, it would need more than 2^24 thresholds.
    """
    if rows * size > _LARGEST_TABLE:
        raise UnsupportedError(
            "SNN439",
            f"a threshold table of {rows} rows with {size} thresholds each is too large",
            hint="use fewer time-steps or groups, or one step per tensor",
        )


def _rows(
    middles: npt.NDArray[np.int64],
    closed: npt.NDArray[np.bool_],
    channels: Sequence[tuple[Fraction, Fraction, Fraction]],
) -> npt.NDArray[np.int64]:
    """Break points of some channels of given step, bias and output step, clamped to 41 bits.

    v ≥ (middle · output / 2 − bias) / step. The quotient is taken in float64 where that is certain to round
    to the right integer, and in exact rationals elsewhere.
    """
    if any(step < 0 for step, _, _ in channels):
        raise InternalError("SNN153", "a membrane with a negative step reached a neuron")
    steps, biases, outputs = (float_column(numbers) for numbers in zip(*channels, strict=True))
    slopes, offsets = float_quotient(outputs, 2 * steps), float_quotient(biases, steps)
    result, doubtful = rounded_up(middles[None, :], slopes, offsets, closed[None, :])
    for row, k in doubtful:
        step, bias, output = channels[row]
        if step:
            point = int(middles[k]) * output / 2
            exactly = integer_threshold(point, step, bias, closed=bool(closed[k]))
            result[row, k] = min(max(exactly, -FAR), FAR)
    for row, (step, bias, output) in enumerate(channels):
        if step == 0:
            reached = [_reached(bias, int(m), output, bool(c)) for m, c in zip(middles, closed, strict=True)]
            result[row] = [-FAR if each else FAR for each in reached]
    return result


def _reached(value: Fraction, twice_midpoint: int, output: Fraction, closed: bool) -> bool:
    point = twice_midpoint * output / 2
    return value >= point if closed else value > point


def fold_float(book: CodeBook, output_step: ExactArray, ties: Ties) -> ThresholdTable:
    """Compute the float32 break points of an encoder that reads the network input itself.

    Args:
        book: Admitted codes.
        output_step: Exact step of the code, broadcastable to the input.
        ties: Rule at mid-points.

    Returns:
        For every break point the smallest float32 that reaches it in exact arithmetic; padding is +inf.
    """
    size, depth = table_size(book.levels)
    numbers, rows = distinct(output_step)
    check_size(len(numbers), size)
    table = np.full((len(numbers), size), np.inf, dtype=np.float32)
    middles, closed = book.twice_midpoints.astype(np.int64), np.asarray(book.closed(ties))
    for row, (step,) in enumerate(numbers):
        table[row, : len(middles)] = _float_row(middles, closed, step)
    return ThresholdTable(table, collapse(rows), depth, tuple(book.codes.tolist()))


def _float_row(
    middles: npt.NDArray[np.int64], closed: npt.NDArray[np.bool_], step: Fraction
) -> npt.NDArray[np.float32]:
    """Smallest float32 that reaches each break point middle · step / 2."""
    half = step / 2
    # A middle has 17 bits: products of 53 bits are exact in float64, and far below the largest float32.
    if not (half.numerator.bit_length() <= 36 and Fraction(float(half)) == half):
        points = zip(middles.tolist(), closed.tolist(), strict=True)
        return np.array([_smallest_float(m * half, closed=c) for m, c in points], dtype=np.float32)
    point = middles * float(half)
    # The nearest float32 is the one that is wanted, or the one below it.
    value = point.astype(np.float32)
    short = (value < point) | (~closed & (value == point))
    return np.where(short, np.nextafter(value, np.float32(np.inf)), value).astype(np.float32)


def _smallest_float(point: Fraction, *, closed: bool) -> np.float32:
    """Return the smallest float32 that is ≥ point (closed) or > point (open)."""
    if point > _LARGEST_FLOAT32 or (not closed and point == _LARGEST_FLOAT32):
        return np.float32(np.inf)
    if point < -_LARGEST_FLOAT32:
        return np.float32(-_LARGEST_FLOAT32)
    # Rounding twice still gives one of the two neighbours of the point.
    value = np.float32(float(point))
    if Fraction(float(value)) < point or (not closed and Fraction(float(value)) == point):
        value = np.nextafter(value, np.float32(np.inf))
    return value
