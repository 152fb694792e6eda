"""The code of a network input: 8-bit pixels where the values are such, a signed uniform code elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from snnc.coding import CodeBook
from snnc.passes.quantise.histogram import Histogram
from snnc.passes.quantise.steps import best_step

__all__ = ["PIXELS", "InputCode", "of_affine", "of_any", "of_pixels", "of_samples"]

Array = npt.NDArray[Any]

#: 256 levels, one for each value of a byte.
PIXELS = CodeBook(8, 8)
_LEVELS = 255
_SIGNED = CodeBook(8, 8, signed=True)
#: Covers raw pixels, pixels over 255 and normalised ones where nothing is known of the input.
_ANY = CodeBook(16, 16, signed=True)
_ANY_STEP = 2.0**-8
#: How far from a whole number a value may lie, in steps: float32 noise of a few preprocessing operations.
_TOLERANCE = 2.0**-6
_COMMON = ((1.0, 0.0), (1 / 255, 0.0), (2 / 255, -1.0), (1 / 256, 0.0))


@dataclass(frozen=True, eq=False)
class InputCode:
    """How a network input is written as codes: value = step · code + offset.

    Attributes:
        book: The admitted codes.
        step: float32, of shape () or (channels,).
        offset: float32, of the same shape.
        note: What was found, in words.
    """

    book: CodeBook
    step: Array
    offset: Array
    note: str


def of_samples(rows: Array, low: float, *, channels: bool, offsets: bool = True) -> InputCode:
    """Choose the code of an input from samples of it.

    Args:
        rows: Samples, shape (n, channels).
        low: Smallest value seen.
        channels: Whether channels may have grids of their own.
        offsets: Whether level 0 may stand for another value than zero.

    Returns:
        Pixels, if every value lies on a grid of 256 levels (one in all, or one per channel); else the signed
        or unsigned uniform code of 8 time-steps that loses least.
    """
    found = of_pixels(rows.reshape(-1, 1)) or (of_pixels(rows) if channels and rows.shape[1] > 1 else None)
    if found is not None and (offsets or not bool(np.any(found.offset != 0))):
        return found
    book = _SIGNED if low < 0 else PIXELS
    histogram = Histogram()
    histogram.add(rows)
    found_step = best_step(histogram.distribution(), book)
    text = f"{book.levels} uniform levels, signal to noise {found_step.decibel:.1f} dB"
    return InputCode(book, np.asarray(found_step.step), np.zeros((), np.float32), text)


def of_pixels(rows: Array) -> InputCode | None:
    """Return the grid of 256 levels per column that every value lies on, or None if there is none."""
    grids = [_grid(column) for column in rows.T.astype(np.float64)]
    if not grids or any(grid is None for grid in grids):
        return None
    step, offset = (np.array(part, dtype=np.float32) for part in zip(*(g for g in grids if g), strict=True))
    if len(grids) == 1:
        step, offset = step.reshape(()), offset.reshape(())
    scope = "one grid" if len(grids) == 1 else "a grid per channel"
    return InputCode(
        PIXELS, step, offset, f"every value is one of 256 pixel levels ({scope}): nothing is lost"
    )


def _grid(column: Array) -> tuple[float, float] | None:
    """Return step and value of level 0 of the grid of a column; None if it has none of 256 levels."""
    values = np.unique(column)
    low, high = float(values[0]), float(values[-1])
    for step, offset in _COMMON:
        if (
            low >= offset - step / 8
            and high <= offset + (_LEVELS + 0.125) * step
            and _fits(values, step, offset)
        ):
            return step, offset
    gaps = np.diff(values)
    gaps = gaps[gaps > 1e-5 * max(high - low, 1e-30)]
    if gaps.size == 0:
        return None
    for parts in (1, 2, 3):
        step = float(gaps.min()) / parts
        count = (high - low) / step
        if count > _LEVELS + 0.5 or not _fits(values, step := (high - low) / round(count), low):
            continue
        # Levels that were not seen are shared out evenly on both sides.
        return step, low - step * ((_LEVELS - round(count)) // 2)
    return None


def _fits(values: Array, step: float, offset: float) -> bool:
    level = (values - offset) / step
    return bool(np.all(np.abs(level - np.rint(level)) <= _TOLERANCE))


def of_affine(factor: Array, summand: Array) -> InputCode | None:
    """Return the pixel code of an input that the network itself preprocesses as ``factor · x + summand``.

    Args:
        factor: Per channel or one, positive.
        summand: The same.

    Returns:
        The code of the preprocessed value for x in 0..255, or in 0..1 where the mean or the factor says so;
        None where the chain says nothing of the range.
    """
    if not bool(np.all(factor > 0)) or (bool(np.all(factor == 1)) and bool(np.all(summand == 0))):
        return None
    mean = -summand / factor
    raw = bool(np.any(mean > 1)) or bool(np.all(np.abs(factor * 255 - 1) < 0.02))
    if bool(np.any(mean < 0)) or bool(np.any(mean > _LEVELS)) or not (raw or bool(np.any(mean > 0))):
        return None
    unit = 1.0 if raw else 1 / _LEVELS
    text = f"256 pixel levels in 0..{_LEVELS if raw else 1}, which the preprocessing in the network implies"
    step, offset = np.broadcast_arrays(factor * unit, summand)
    return InputCode(PIXELS, step.astype(np.float32), offset.astype(np.float32), text)


def of_any() -> InputCode:
    """Return the code of an input of which nothing is known: multiples of 2^-8 up to ±256."""
    limit = _ANY.largest * _ANY_STEP
    text = (
        f"multiples of 2^-8 up to ±{limit:.0f} in {_ANY.timesteps} time-steps, because nothing is known of "
        "its range; with --calibrate it gets 8-bit codes"
    )
    return InputCode(_ANY, np.asarray(_ANY_STEP, np.float32), np.zeros((), np.float32), text)
