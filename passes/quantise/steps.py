"""Searching the step of a code that loses least of a sample."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from snnc.coding import CodeBook

__all__ = ["best_step"]

Array = npt.NDArray[Any]

_MOST_VALUES = 16_384
#: Largest code over largest magnitude: from no clipping at all down to heavy clipping of outliers.
_RATIOS = np.concatenate([np.linspace(1.05, 0.3, 31), np.geomspace(0.28, 0.02, 16)])


def best_step(values: Array, channel_peaks: Array | None, book: CodeBook) -> tuple[Array, float]:
    """Choose the step that minimises the mean squared error of nearest-level coding.

    Args:
        values: Sample, shape (n, channels).
        channel_peaks: Largest magnitude of each channel, for one step per channel; None for one step in all.
        book: The code.

    Returns:
        Step, float32 and positive, of shape () or (channels,), and the signal-to-noise ratio in dB (infinite
        where nothing is lost).
    """
    if channel_peaks is None:
        flat = _thinned(values.reshape(-1))
        peak = _peak(flat, book)
        step = np.float32(_search(flat, peak / book.max_abs, book))
        return np.asarray(step), _decibel(flat, np.full(1, step), book)
    rows = values[:: max(1, len(values) // 2048)].astype(np.float64)
    typical = float(np.median(channel_peaks[channel_peaks > 0])) if bool(np.any(channel_peaks > 0)) else 1.0
    # A channel that calibration never saw away from zero gets a step like the others, not zero.
    peaks = np.maximum(np.abs(rows).max(axis=0), typical * 2.0**-10)
    base = peaks / book.max_abs
    best = base.copy()
    least = np.full(len(base), np.inf)
    for ratio in _RATIOS[:31:2]:
        error = ((_coded(rows, base * ratio, book) - rows) ** 2).mean(axis=0)
        better = error < least
        least, best = np.where(better, error, least), np.where(better, base * ratio, best)
    steps = best.astype(np.float32)
    return steps, _decibel(rows, steps, book)


def _thinned(flat: Array) -> Array:
    return flat[:: max(1, len(flat) // _MOST_VALUES)].astype(np.float64)


def _peak(flat: Array, book: CodeBook) -> float:
    peak = float(np.abs(flat).max(initial=0.0)) if book.smallest < 0 else float(flat.max(initial=0.0))
    return peak if peak > 0 else 1.0


def _search(flat: Array, base: float, book: CodeBook) -> float:
    errors = [float(((_coded(flat, base * ratio, book) - flat) ** 2).sum()) for ratio in _RATIOS]
    return float(base * _RATIOS[int(np.argmin(errors))])


def _coded(values: Array, step: Array | float, book: CodeBook) -> Array:
    return np.asarray(book.nearest(values / step) * step)


def _decibel(values: Array, step: Array, book: CodeBook) -> float:
    signal = float((values.astype(np.float64) ** 2).sum())
    noise = float(((_coded(values.astype(np.float64), step.astype(np.float64), book) - values) ** 2).sum())
    if noise == 0.0 or signal == 0.0:
        return float("inf")
    return float(10 * np.log10(signal / noise))
