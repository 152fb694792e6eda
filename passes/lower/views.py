"""Layout ops as strides: the same elements under another shape, without a move where that is possible."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import prod

from snnc.passes.lower.kernels import View

__all__ = ["broadcast", "gather", "pad_rank", "reshape", "reverse_free_slice", "transpose"]


def transpose(view: View, axes: Sequence[int]) -> View:
    """Return the view with its axes in another order."""
    return View(
        view.buffer,
        view.offset,
        tuple(view.shape[axis] for axis in axes),
        tuple(view.strides[axis] for axis in axes),
    )


def reshape(view: View, shape: Sequence[int]) -> View | None:
    """Return the view under another shape, or None if strides cannot say it."""
    runs = _runs(view)
    strides: list[int] = []
    extent, stride = runs.pop() if runs else (1, 1)
    for wanted in reversed(tuple(shape)):
        if wanted == 1:
            strides.append(0)
            continue
        while extent == 1 and runs:
            extent, stride = runs.pop()
        if extent % wanted:
            return None
        strides.append(stride)
        extent, stride = extent // wanted, stride * wanted
    return View(view.buffer, view.offset, tuple(shape), tuple(reversed(strides)))


def _runs(view: View) -> list[tuple[int, int]]:
    """Return extents and strides with neighbouring axes merged where they are one run of elements."""
    runs: list[tuple[int, int]] = []
    for extent, stride in zip(view.shape, view.strides, strict=True):
        if extent == 1:
            continue
        if runs and runs[-1][1] == stride * extent and stride:
            runs[-1] = (runs[-1][0] * extent, stride)
        else:
            runs.append((extent, stride))
    return runs


def pad_rank(view: View, rank: int) -> View:
    """Return the view with leading axes of extent 1."""
    missing = rank - len(view.shape)
    return View(view.buffer, view.offset, (1,) * missing + view.shape, (0,) * missing + view.strides)


def broadcast(view: View, shape: Sequence[int]) -> View:
    """Return the view repeated to a shape."""
    padded = pad_rank(view, len(shape))
    strides = tuple(
        stride if old == new else 0
        for old, new, stride in zip(padded.shape, shape, padded.strides, strict=True)
    )
    return View(view.buffer, view.offset, tuple(shape), strides)


def reverse_free_slice(view: View, axis: int, start: int, step: int, count: int) -> View:
    """Return ``count`` elements of an axis from ``start`` on, every ``step``-th; the step may be negative."""
    shape, strides = list(view.shape), list(view.strides)
    offset = view.offset + start * strides[axis]
    shape[axis], strides[axis] = count, strides[axis] * step
    return View(view.buffer, offset, tuple(shape), tuple(strides))


def gather(view: View, axis: int, places: Sequence[int]) -> View | None:
    """Return some elements of an axis, or None if their distances differ."""
    steps = {second - first for first, second in pairwise(places)}
    if len(steps) > 1:
        return None
    return reverse_free_slice(view, axis, places[0], steps.pop() if steps else 1, len(places))


def elements(view: View) -> int:
    """Return the number of elements, repeated ones counted each time."""
    return prod(view.shape)
