"""The step that loses least of a normally distributed signal."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from snnc.coding.codebook import CodeBook
from snnc.errors import UsageError

__all__ = ["optimal_step"]

# In units of the standard deviation: the density beyond TAIL is below 1e-31.
_TAIL = 12.0
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(8)


def optimal_step(book: CodeBook, deviation: float = 1.0) -> float:
    """Return the step with the least mean squared error on a normal or half-normal signal.

    Args:
        book: The code book; a signed one is fitted to a normal signal of mean 0, an unsigned one to its
            absolute value.
        deviation: Standard deviation of the normal signal, in the signal's unit.

    Returns:
        The step, in the signal's unit, rounded to six significant digits so that it does not depend on the
        platform's mathematical library. ``theta = step * book.magnitude`` for an unrestricted book.

    Raises:
        UsageError: SNN207, if ``deviation`` is not positive and finite, or ``book`` admits no code but 0.

    Source:
        Semantics note 1.8.
    """
    if not (math.isfinite(deviation) and deviation > 0):
        raise UsageError("SNN207", f"deviation must be positive and finite, not {deviation!r}")
    if book.max_abs == 0:
        raise UsageError("SNN207", "book admits only the code 0, so it has no best step")
    return deviation * _unit_step(book)


@lru_cache(maxsize=256)
def _unit_step(book: CodeBook) -> float:
    # Books of few groups look alike under doubling the step, so the error has several dips: scan for the
    # deepest before narrowing it down.
    reach = np.geomspace(0.2, _TAIL, 64)
    errors = [_error(book, value / book.max_abs) for value in reach]
    best = int(np.argmin(errors))
    low = float(reach[max(best - 1, 0)]) / book.max_abs
    high = float(reach[min(best + 1, reach.size - 1)]) / book.max_abs
    ratio = (math.sqrt(5.0) - 1.0) / 2.0
    left, right = high - ratio * (high - low), low + ratio * (high - low)
    left_error, right_error = _error(book, left), _error(book, right)
    while high - low > 1e-8 * high:
        if left_error < right_error:
            high, right, right_error = right, left, left_error
            left = high - ratio * (high - low)
            left_error = _error(book, left)
        else:
            low, left, left_error = left, right, right_error
            right = low + ratio * (high - low)
            right_error = _error(book, right)
    return float(f"{(low + high) / 2:.6g}")


def _error(book: CodeBook, step: float) -> float:
    """Integrate the squared error, up to a constant factor.

    Gauss-Legendre per interval adds positive terms only; the closed form with erf loses all digits to
    cancellation once a book has thousands of levels.
    """
    inner = np.minimum(np.abs(book.twice_midpoints * (step / 2)), _TAIL) * np.sign(book.twice_midpoints)
    edges: npt.NDArray[np.float64] = np.concatenate([[-_TAIL if book.signed else 0.0], inner, [_TAIL]])
    # Outermost intervals can be many deviations wide, so each is cut into pieces that eight nodes resolve.
    first = np.linspace(edges[0], edges[1], 17)
    last = np.linspace(edges[-2], edges[-1], 17)
    targets = book.codes * step
    if book.levels == 1:
        edges, targets = first, np.repeat(targets, 16)
    else:
        edges = np.concatenate([first[:-1], edges[1:-1], last[1:]])
        targets = np.concatenate([np.repeat(targets[:1], 16), targets[1:-1], np.repeat(targets[-1:], 16)])
    half = np.diff(edges)[:, None] / 2
    points = edges[:-1, None] + half * (1 + _NODES)
    terms = half * _WEIGHTS * (points - targets[:, None]) ** 2 * np.exp(-(points**2) / 2)
    return float(terms.sum())
