"""Where one code gives way to the next, and to which of the two a tie goes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from snnc.errors import UsageError

__all__ = ["BreakPoint", "Ties", "closed_flags", "closed_thresholds"]

Ties = Literal["away", "up", "even"]


@dataclass(frozen=True)
class BreakPoint:
    """Where one code gives way to the next, in units of the step.

    Attributes:
        twice_midpoint: Sum of the two codes, that is twice the break point: an integer, so exact.
        closed: Whether the point itself belongs to the upper code (u >= point) or not (u > point).
    """

    twice_midpoint: int
    closed: bool


def closed_flags(codes: npt.NDArray[np.int32], ties: Ties) -> npt.NDArray[np.bool_]:
    """Return which break points belong to the code above them.

    Args:
        codes: Admitted codes, int32 (levels,), ascending.
        ties: ``"away"`` from zero, ``"up"``, or to the ``"even"`` code, which needs consecutive codes.

    Returns:
        bool (levels - 1,).

    Raises:
        UsageError: SNN208, if ``ties`` is unknown, or ``"even"`` on codes that are not consecutive.
    """
    if ties == "up":
        return np.ones(codes.size - 1, np.bool_)
    if ties == "away":
        # Zero is never a mid-point: between codes of opposite sign lies the code 0.
        return np.asarray(codes[:-1] + codes[1:] > 0)
    if ties != "even":
        raise UsageError("SNN208", f"ties must be one of {get_args(Ties)}, not {ties!r}")
    if int(codes[-1]) - int(codes[0]) != codes.size - 1:
        raise UsageError("SNN208", "ties='even' needs consecutive codes, which this code book has not")
    return np.equal(codes[1:] % 2, 0)


def closed_thresholds(points: Iterable[BreakPoint]) -> npt.NDArray[np.float64]:
    """Return float64 thresholds that ``u >= threshold`` decides as the break points do.

    An open break point becomes the next float64 above it; no float64 lies between. Half-integers of this
    size are exact.

    Args:
        points: Break points.

    Returns:
        float64, one per break point, in units of the step.
    """
    pairs = [(point.twice_midpoint / 2, point.closed) for point in points]
    middle = np.array([pair[0] for pair in pairs], np.float64)
    closed = np.array([pair[1] for pair in pairs], np.bool_)
    return np.where(closed, middle, np.nextafter(middle, np.inf))
