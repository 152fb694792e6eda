"""The matrix by which Resize maps one axis: each new element as a weighted sum of old ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["resampling_matrix"]

Array = npt.NDArray[Any]
_HALF = np.float32(0.5)


def resampling_matrix(old: int, new: int, scale: float | None, attrs: dict[str, Any]) -> Array | str:
    """Return the matrix (new, old) of one axis, float64, or why there is none.

    Places are computed in float32, as runtimes do: whether a place lies on the middle between two elements
    depends on it.

    Args:
        old: Size before.
        new: Size after.
        scale: Factor that the model gives; None where it gives the new size.
        attrs: Attributes of the Resize (opset 11 or newer).
    """
    if attrs.get("antialias", 0):
        return "it filters before it shrinks (antialias)"
    ratio = np.float32(new / old if scale is None else scale)
    mode = str(attrs.get("coordinate_transformation_mode", "half_pixel"))
    places = _places(mode, np.arange(new, dtype=np.float32), ratio, old, new)
    if isinstance(places, str):
        return places
    kind = str(attrs.get("mode", "nearest"))
    if kind == "nearest":
        rounding = _ROUNDINGS.get(str(attrs.get("nearest_mode", "round_prefer_floor")))
        if rounding is None:
            return "its nearest_mode is not known"
        index = np.clip(rounding(places), 0, old - 1).astype(np.int64)
        return _weighted(old, index[:, None], np.ones((new, 1)))
    if kind == "linear":
        clamped = np.clip(places, np.float32(0), np.float32(old - 1)).astype(np.float64)
        low = np.floor(clamped).astype(np.int64)
        part = clamped - low
        index = np.stack([low, np.minimum(low + 1, old - 1)], axis=1)
        return _weighted(old, index, np.stack([1 - part, part], axis=1))
    if kind == "cubic":
        return _cubic(places.astype(np.float64), old, attrs)
    return f"its mode {kind} is not known"


def _places(mode: str, x: Array, ratio: np.float32, old: int, new: int) -> Array | str:
    """Return where the elements of the result lie among the old ones."""
    middle = np.asarray((x + _HALF) / ratio, dtype=np.float32)
    if mode == "half_pixel":
        return np.asarray(middle - _HALF)
    if mode == "pytorch_half_pixel":
        return np.asarray(middle - _HALF) if new > 1 else np.zeros_like(x)
    if mode == "half_pixel_symmetric":
        adjusted = np.float32(new) / np.float32(ratio * np.float32(old))
        offset = np.float32(old) / np.float32(2) * (np.float32(1) - adjusted)
        # Runtimes add these three in float64: a place beside an element must not come to lie on it.
        wide = float(offset) + (x.astype(np.float64) + 0.5) / float(ratio) - 0.5
        return np.asarray(wide, dtype=np.float32)
    if mode == "asymmetric":
        return np.asarray(x / ratio, dtype=np.float32)
    if mode == "align_corners":
        if new == 1:
            return np.zeros_like(x)
        return np.asarray(x * np.float32(old - 1) / np.float32(new - 1), dtype=np.float32)
    if mode == "tf_half_pixel_for_nn":
        return middle
    what = "cuts a region out" if "crop" in mode else "is not known"
    return f"its coordinate_transformation_mode {mode} {what}"


def _prefer_floor(x: Array) -> Array:
    return np.where(x == np.floor(x) + _HALF, np.floor(x), np.floor(x + _HALF))


_ROUNDINGS: dict[str, Callable[[Array], Array]] = {
    "round_prefer_floor": _prefer_floor,
    "round_prefer_ceil": lambda x: np.floor(x + _HALF),
    "floor": np.floor,
    "ceil": np.ceil,
}


def _cubic(places: Array, old: int, attrs: dict[str, Any]) -> Array:
    a = float(attrs.get("cubic_coeff_a", -0.75))
    base = np.floor(places).astype(np.int64)
    part = places - base
    index = base[:, None] + np.arange(-1, 3)
    away = np.abs(part[:, None] - np.arange(-1, 3))
    near = ((a + 2) * away - (a + 3)) * away * away + 1
    far = ((a * away - 5 * a) * away + 8 * a) * away - 4 * a
    weights = np.where(away <= 1, near, np.where(away < 2, far, 0.0))
    if attrs.get("exclude_outside", 0):
        weights = np.where((index < 0) | (index >= old), 0.0, weights)
        weights = weights / weights.sum(axis=1, keepdims=True)
    return _weighted(old, np.clip(index, 0, old - 1), weights)


def _weighted(old: int, index: Array, weights: Array) -> Array:
    matrix = np.zeros((len(index), old))
    np.add.at(matrix, (np.arange(len(index))[:, None], index), weights)
    return matrix
