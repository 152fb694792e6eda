"""The quantiser of the oracle: nearest codes of real numbers, decided exactly.

Comparisons run in float64; wherever that could be in doubt they are repeated with exact rationals.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from snnc.coding import CodeBook, Ties

__all__ = ["nearest_codes"]

Array = npt.NDArray[Any]
Exact = npt.NDArray[np.object_]
# Float64 comparisons closer than this (relative to the magnitudes involved) are repeated exactly.
_DOUBT = 2.0**-48


def nearest_codes(integers: Array, scale: Exact, bias: Exact, book: CodeBook, ties: Ties) -> Array:
    """Return the codes nearest to scale · integers + bias, in units of the step.

    Args:
        integers: Integers, or float32 numbers, any shape.
        scale: Exact, broadcastable to ``integers`` together with ``bias``.
        bias: Exact.
        book: Admitted codes.
        ties: Rule at mid-points.

    Returns:
        int64 codes of the broadcast shape.
    """
    integers = np.broadcast_to(integers, np.broadcast_shapes(integers.shape, scale.shape, bias.shape))
    points = book.break_points(ties)
    middles = np.array([point.twice_midpoint / 2 for point in points], dtype=np.float64)
    scaled = integers.astype(np.float64) * scale.astype(np.float64)
    offset = bias.astype(np.float64)
    number = scaled + offset
    index = np.searchsorted(middles, number, side="right")
    # The nearest mid-point is the one just passed or the one just ahead.
    doubt = np.zeros(number.shape, dtype=bool)
    margin = _DOUBT * (np.abs(scaled) + np.abs(offset) + 1.0)
    for neighbour in (index - 1, index):
        inside = (neighbour >= 0) & (neighbour < len(middles))
        distance = np.abs(number - middles[np.clip(neighbour, 0, len(middles) - 1)])
        doubt |= inside & (distance <= margin)
    if doubt.any():
        index[doubt] = _exactly(integers, scale, bias, points, index, doubt)
    return np.asarray(book.codes[index], dtype=np.int64)


def _exactly(
    integers: Array, scale: Exact, bias: Exact, points: Sequence[Any], index: Array, doubt: Array
) -> Array:
    """Repeat the comparisons at the marked positions with exact rationals."""
    positions = np.flatnonzero(doubt)
    scales = np.broadcast_to(scale, doubt.shape).reshape(-1)
    biases = np.broadcast_to(bias, doubt.shape).reshape(-1)
    numbers = integers.reshape(-1)
    starts = index.reshape(-1)
    result = np.empty(len(positions), dtype=index.dtype)
    known: dict[tuple[int, int, Any], int] = {}
    for row, position in enumerate(positions):
        number = numbers[position].item()
        key = (id(scales[position]), id(biases[position]), number)
        if key not in known:
            value = scales[position] * Fraction(number) + biases[position]
            known[key] = _count(value, points, int(starts[position]))
        result[row] = known[key]
    return result


def _count(value: Fraction, points: Sequence[Any], start: int) -> int:
    """Number of break points reached by a number that lies near break point ``start``."""
    k = start
    while k > 0 and not _reached(value, points[k - 1]):
        k -= 1
    while k < len(points) and _reached(value, points[k]):
        k += 1
    return k


def _reached(value: Fraction, point: Any) -> bool:
    middle = Fraction(point.twice_midpoint, 2)
    return value >= middle if point.closed else value > middle
