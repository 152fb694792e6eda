"""Rounding real break points to integers: in float64 where that is certain, elsewhere the caller is told."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["FAR", "rounded_up"]

#: Beyond every potential.
FAR = 2**40
# Beyond this, float64 would overflow, or see nothing of the difference of two terms.
_HUGE = 2.0**200
# A float64 quotient this close to an integer (relative to its terms) is in doubt.
_DOUBT = 2.0**-48


def rounded_up(
    points: npt.NDArray[Any],
    slopes: Sequence[Fraction],
    offsets: Sequence[Fraction],
    closed: npt.NDArray[np.bool_],
    error: npt.NDArray[np.float64] | float = 0.0,
) -> tuple[npt.NDArray[np.int64], list[tuple[int, int]]]:
    """Round points · slope - offset up (closed) or to the next integer above (open), for each slope.

    Args:
        points: Numbers, good to a few units in the last place; shape (1, points).
        slopes: Exact factors, one a row of the result.
        offsets: Exact summands.
        closed: Whether an integer itself stays; shape of the points.
        error: What the points may be wrong by besides.

    Returns:
        Integers clamped to ±2^40, shape (slopes, points), and the places at which float64 cannot be trusted.
    """
    factor, shift = _column(slopes), _column(offsets)
    with np.errstate(over="ignore", invalid="ignore"):
        scaled = points * factor
        quotient = scaled - shift
        margin = _DOUBT * (np.abs(scaled) + np.abs(shift) + 1) + error * np.abs(factor)
        doubt = (np.abs(quotient - np.rint(quotient)) <= margin) & (np.abs(quotient) < FAR + margin)
    doubt |= ~(np.abs(factor) <= _HUGE) | ~(np.abs(shift) <= _HUGE)
    upper = np.where(closed, np.ceil(quotient), np.floor(quotient) + 1)
    result = np.clip(np.nan_to_num(upper), -FAR, FAR).astype(np.int64)
    return result, list(zip(*(places.tolist() for places in np.nonzero(doubt)), strict=True))


def _column(numbers: Sequence[Fraction]) -> npt.NDArray[np.float64]:
    """Return rationals as a column of float64, infinite beyond its range."""
    column = np.empty((len(numbers), 1), dtype=np.float64)
    for row, number in enumerate(numbers):
        try:
            column[row] = float(number)
        except OverflowError:
            column[row] = np.inf
    return column
