"""Rounding real break points to integers: in float64 where that is certain, elsewhere the caller is told."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["FAR", "float_column", "float_quotient", "rounded_up"]

#: Beyond every potential.
FAR = 2**40
# Beyond this, float64 would overflow, or see nothing of the difference of two terms.
_HUGE = 2.0**200
# Below this, float64 may have fewer bits.
_TINY = 2.0**-960
# A float64 quotient this close to an integer (relative to its terms) is in doubt.
_DOUBT = 2.0**-48


def rounded_up(
    points: npt.NDArray[Any],
    slopes: npt.NDArray[np.float64],
    offsets: npt.NDArray[np.float64],
    closed: npt.NDArray[np.bool_],
    error: npt.NDArray[np.float64] | float = 0.0,
) -> tuple[npt.NDArray[np.int64], list[tuple[int, int]]]:
    """Round points · slope - offset up (closed) or to the next integer above (open), for each slope.

    Args:
        points: Numbers, good to a few units in the last place; shape (1, points).
        slopes: Factors, one a row of the result: quotients of what `float_column` gives; shape (rows, 1).
        offsets: Summands, likewise.
        closed: Whether an integer itself stays; shape of the points.
        error: What the points may be wrong by besides.

    Returns:
        Integers clamped to ±2^40, shape (slopes, points), and the places at which float64 cannot be trusted.
    """
    factor, shift = slopes, offsets
    with np.errstate(over="ignore", invalid="ignore"):
        scaled = points * factor
        quotient = scaled - shift
        margin = _DOUBT * (np.abs(scaled) + np.abs(shift) + 1) + error * np.abs(factor)
        doubt = (np.abs(quotient - np.rint(quotient)) <= margin) & (np.abs(quotient) < FAR + margin)
    doubt |= ~(np.abs(factor) <= _HUGE) | ~(np.abs(shift) <= _HUGE)
    upper = np.where(closed, np.ceil(quotient), np.floor(quotient) + 1)
    result = np.clip(np.nan_to_num(upper), -FAR, FAR).astype(np.int64)
    return result, list(zip(*(places.tolist() for places in np.nonzero(doubt)), strict=True))


def float_column(numbers: Iterable[Fraction]) -> npt.NDArray[np.float64]:
    """Return rationals as a column of float64 of full precision: NaN where there is no such number."""
    ratios = [number.as_integer_ratio() for number in numbers]
    try:
        near = np.array([top / bottom for top, bottom in ratios], dtype=np.float64)
    except OverflowError:
        near = np.array([_near(*ratio) for ratio in ratios], dtype=np.float64)
    short = np.abs(near) < _TINY
    if short.any():
        for row in np.nonzero(short)[0]:
            near[row] = np.nan if ratios[row][0] else 0.0
    return near.reshape(-1, 1)


def float_quotient(above: npt.NDArray[np.float64], below: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return quotients of columns; those by zero are zero, for the caller to look at."""
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        return np.where(below == 0, 0.0, above / below)


def _near(top: int, bottom: int) -> float:
    try:
        return top / bottom
    except OverflowError:
        return np.nan
