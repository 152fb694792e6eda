"""Thresholds of burst attention, and the gain and constant of each channel, from calibration data."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from snnc.coding import CodeBook

__all__ = ["Fit", "fit"]

Array = npt.NDArray[Any]

#: Steps tried for queries, keys and values, in units of their root mean squares.
_TRIED = ((0.5, 1.0, 2.0), (0.4, 0.8, 1.6), (1.0, 2.0))

#: The largest gain is at most so many times the smallest.
_GAINS = 1024


@dataclass(frozen=True, eq=False)
class Fit:
    """What was chosen for one attention.

    Attributes:
        steps: Steps of queries, keys and values: half of one is the first threshold.
        gain: Factor of the result, float32 (1, heads, 1, size).
        bias: Constant behind it, of that shape.
        explained: Part of the variance of the softmax attention's result that is kept; None if not measured.
    """

    steps: Sequence[float]
    gain: Array
    bias: Array
    explained: float | None


def fit(arrays: Sequence[Array], mask: Array, books: Sequence[CodeBook]) -> Fit:
    """Choose steps from a small grid, and the affine map of each channel in least squares.

    Args:
        arrays: Queries (n, heads, tokens, size), keys (n, heads, size, tokens), values and the result of the
            softmax attention (n, heads, tokens, size).
        mask: Pairs of tokens that attend, bool (tokens, tokens).
        books: Codes of queries, keys and values.
    """
    *operands, wanted = arrays
    units = [float(np.sqrt(np.mean(np.square(array, dtype=np.float64)))) or 1.0 for array in operands]
    tried = [
        [(factor * unit, coded(array, factor * unit, book)) for factor in factors]
        for array, unit, book, factors in zip(operands, units, books, _TRIED, strict=True)
    ]
    centre = wanted.mean((0, 2), keepdims=True, dtype=np.float64)
    spread = float(np.square(wanted - centre, dtype=np.float64).sum()) or 1.0
    best: Fit | None = None
    for (step_q, q), (step_k, k) in itertools.product(tried[0], tried[1]):
        scores = np.matmul(q, k) * mask
        for step_v, v in tried[2]:
            mixed = np.matmul(scores, v).astype(np.float64)
            mean = mixed.mean((0, 2), keepdims=True)
            power = np.square(mixed - mean).sum((0, 2), keepdims=True)
            shared = ((mixed - mean) * (wanted - centre)).sum((0, 2), keepdims=True)
            gain = np.divide(shared, power, out=np.zeros_like(shared), where=power > 0)
            explained = float((gain * shared).sum()) / spread
            if best is None or best.explained is None or explained > best.explained:
                gain = _in_range(gain)
                bias = centre - gain * mean
                steps = (step_q, step_k, step_v)
                best = Fit(steps, gain.astype(np.float32), bias.astype(np.float32), explained)
    assert best is not None
    return best


def _in_range(gain: Array) -> Array:
    """Return gains of which none is so small that its channel and the others have no common step.

    What is made larger explains next to nothing, or is the gain of a channel that is always the same.
    """
    least = float(np.abs(gain).max()) / _GAINS or 1.0
    return np.where(np.abs(gain) < least, np.where(gain < 0, -least, least), gain)


def coded(array: Array, step: float, book: CodeBook) -> Array:
    """Return the decoded nearest codes of an array, float32."""
    codes = np.sort(np.asarray(book.codes, np.float32)) * np.float32(step)
    places = np.searchsorted((codes[1:] + codes[:-1]) / 2, array, side="right")
    result: Array = codes[places]
    return result
