"""Integer matrix products and convolutions through BLAS, exact by the range of their operands.

A float sum of integers is exact in any order while every partial sum stays below 2^24 (float32) or 2^53
(float64); max|x| times the largest L1 norm of a weight column bounds them all (semantics 1.10).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from snnc.errors import InternalError

__all__ = ["exact_dtype", "integer_conv", "integer_matmul", "max_abs", "offsets", "pool_geometry", "window"]

Array = npt.NDArray[Any]

_FLOAT32_EXACT = 2**24
_FLOAT64_EXACT = 2**53
_INT64_EXACT = 2**63
_ROWS_AT_ONCE = 256  # rows of weights of two bytes: their sums stay below 2^24
_COLUMN_BUDGET = 1 << 19  # elements of one im2col buffer: 2 MiB of float32
_SHIFT_BUDGET = 1 << 16  # elements of one depthwise buffer: 256 KiB of float32; several are touched in turn


def max_abs(array: Array) -> int:
    """Return the largest magnitude in an integer array, 0 if it is empty."""
    if array.size == 0:
        return 0
    return max(abs(int(array.min())), abs(int(array.max())))


def exact_dtype(bound: int) -> np.dtype[Any]:
    """Return the cheapest element type in which sums bounded by ``bound`` are exact in any order.

    Raises:
        InternalError: SNN113, not even int64 holds them; the compiler's range analysis excludes this.
    """
    if bound < _FLOAT32_EXACT:
        return np.dtype(np.float32)
    if bound < _FLOAT64_EXACT:
        return np.dtype(np.float64)
    if bound < _INT64_EXACT:
        return np.dtype(np.int64)
    raise InternalError("SNN113", f"a sum may reach {bound}, beyond int64")


def _sum_bound(x: Array, weights: Array, axes: tuple[int, ...]) -> int:
    """Bound the sums of ``x`` times ``weights`` over ``axes`` of the weights."""
    reach = max_abs(x)
    rough: int = reach * max_abs(weights) * prod(weights.shape[axis] for axis in axes)
    if rough < _FLOAT32_EXACT or weights.size == 0:
        return rough
    return reach * _largest_norm(weights, axes)


def _largest_norm(weights: Array, axes: tuple[int, ...]) -> int:
    """Return the largest sum of magnitudes over ``axes``."""
    if weights.dtype.itemsize > 2:
        return int(np.abs(weights.astype(np.int64)).sum(axis=axes).max())
    # Widened first, so that |-128| is right; some rows at a time, whose sums fit 32 bits, in the cache.
    wide = np.int16 if weights.dtype.itemsize == 1 else np.int32
    moved = np.moveaxis(weights, axes, range(len(axes)))
    rows = moved.reshape(prod(moved.shape[: len(axes)]), -1)
    total = np.zeros(rows.shape[1], dtype=np.int64)
    for start in range(0, len(rows), _ROWS_AT_ONCE):
        total += np.abs(rows[start : start + _ROWS_AT_ONCE].astype(wide)).sum(axis=0, dtype=np.int32)
    return int(total.max())


def integer_matmul(a: Array, b: Array, dtype: npt.DTypeLike = np.int32) -> Array:
    """Multiply integer matrices exactly.

    Args:
        a: Integers, shape (..., M, K) or (K,).
        b: Integers, shape (..., K, N) or (K,).
        dtype: Element type of the result; the caller knows that it fits.

    Raises:
        InternalError: SNN113, the sums do not fit int64.
    """
    work = exact_dtype(_sum_bound(a, b, (b.ndim - 2,) if b.ndim > 1 else (0,)))
    sums = np.matmul(a.astype(work), b.astype(work))
    return np.asarray(sums).astype(dtype)


def offsets(kernel: Sequence[int]) -> Iterator[tuple[int, ...]]:
    """Iterate over the positions inside a kernel."""
    return product(*(range(extent) for extent in kernel))


def window(
    padded: Array, offset: Sequence[int], out: Sequence[int], strides: Sequence[int], dilations: Sequence[int]
) -> Array:
    """Return what one kernel element sees.

    Args:
        padded: Input with its padding, shape (..., *spatial).
        offset: Position inside the kernel.
        out: Output extents.
        strides: Steps per axis.
        dilations: Spacings per axis.

    Returns:
        A strided view, shape (..., *out).
    """
    spatial = tuple(
        slice(at * dilation, at * dilation + (count - 1) * stride + 1, stride)
        for at, count, stride, dilation in zip(offset, out, strides, dilations, strict=True)
    )
    leading = (slice(None),) * (padded.ndim - len(spatial))
    return padded[leading + spatial]


def pool_geometry(
    spatial: Sequence[int],
    kernel: Sequence[int],
    strides: Sequence[int] | None,
    pads: Sequence[int] | None,
    dilations: Sequence[int] | None,
    ceil_mode: bool = False,
) -> tuple[list[int], list[int], list[int], list[tuple[int, int]]]:
    """Resolve the defaults of a sliding window.

    Args:
        spatial: Input extents, in elements, without batch and channel.
        kernel: Window extents.
        strides: Steps, or None for 1.
        pads: Begins then ends, or None for 0.
        dilations: Spacings, or None for 1.
        ceil_mode: Whether a last partial window counts.

    Returns:
        Output extents, strides, dilations, and padding (begin, end) per axis; the end padding is what the
        windows really read, which ceil_mode may enlarge.
    """
    rank = len(spatial)
    step = list(strides) if strides else [1] * rank
    spacing = list(dilations) if dilations else [1] * rank
    margin = list(pads) if pads else [0] * (2 * rank)
    out: list[int] = []
    padding: list[tuple[int, int]] = []
    for axis, extent in enumerate(spatial):
        begin, end = margin[axis], margin[axis + rank]
        reach = (kernel[axis] - 1) * spacing[axis] + 1
        room = extent + begin + end - reach
        count = room // step[axis] + 1
        if ceil_mode and room % step[axis] and count * step[axis] < extent + begin:
            # A window that would start in the end padding is dropped, as in ONNX 1.16 and onnxruntime.
            count += 1
        out.append(count)
        padding.append((begin, max(end, (count - 1) * step[axis] + reach - extent - begin)))
    return out, step, spacing, padding


def integer_conv(
    x: Array,
    weights: Array,
    *,
    strides: Sequence[int] | None = None,
    pads: Sequence[int] | None = None,
    dilations: Sequence[int] | None = None,
    group: int = 1,
    dtype: npt.DTypeLike = np.int32,
) -> Array:
    """Convolve integers exactly, any number of spatial axes.

    Args:
        x: Integers, shape (N, C, *spatial); padding adds zeros.
        weights: Integers, shape (O, C / group, *kernel).
        strides: Steps per axis, default 1.
        pads: Begins then ends, default 0.
        dilations: Spacings, default 1.
        group: Number of channel groups.
        dtype: Element type of the result; the caller knows that it fits.

    Returns:
        Integers, shape (N, O, *out).

    Raises:
        InternalError: SNN113, the sums do not fit int64.
    """
    kernel = weights.shape[2:]
    out, step, spacing, padding = pool_geometry(x.shape[2:], kernel, strides, pads, dilations)
    work = exact_dtype(_sum_bound(x, weights, tuple(range(1, weights.ndim))))
    batch, channels = x.shape[:2]
    result = np.empty((batch, weights.shape[0], *out), dtype=dtype)
    depthwise = group == channels and weights.shape[0] == channels
    per_sample = channels * prod(out) * (1 if depthwise else prod(kernel))
    block = max(1, (_SHIFT_BUDGET if depthwise else _COLUMN_BUDGET) // max(1, per_sample))
    matrix = weights.astype(work).reshape(group, weights.shape[0] // group, -1)
    for start in range(0, batch, block):
        part = x[start : start + block].astype(work)
        if any(begin or end for begin, end in padding):
            part = np.pad(part, [(0, 0), (0, 0), *padding])
        if depthwise:
            sums = _shift_and_add(part, matrix, kernel, out, step, spacing)
        else:
            sums = _columns_product(part, matrix, kernel, out, step, spacing)
        result[start : start + block] = sums
    return result


def _shift_and_add(
    part: Array,
    matrix: Array,
    kernel: Sequence[int],
    out: Sequence[int],
    step: Sequence[int],
    spacing: Sequence[int],
) -> Array:
    """Depthwise convolution: one scaled, shifted copy of the input per kernel element."""
    total = np.zeros((*part.shape[:2], *out), dtype=part.dtype)
    term = np.empty_like(total)
    shape = (-1, *(1 for _ in kernel))
    for index, offset in enumerate(offsets(kernel)):
        np.multiply(window(part, offset, out, step, spacing), matrix[:, 0, index].reshape(shape), out=term)
        total += term
    return total


def _columns_product(
    part: Array,
    matrix: Array,
    kernel: Sequence[int],
    out: Sequence[int],
    step: Sequence[int],
    spacing: Sequence[int],
) -> Array:
    """Convolution as one matrix product per sample and group over unfolded windows (im2col)."""
    batch, channels = part.shape[:2]
    group, per_group, _ = matrix.shape
    if all(extent == 1 for extent in kernel):
        columns = window(part, [0] * len(out), out, step, spacing)
    else:
        columns = np.empty((batch, channels, prod(kernel), *out), dtype=part.dtype)
        for index, offset in enumerate(offsets(kernel)):
            columns[:, :, index] = window(part, offset, out, step, spacing)
    columns = columns.reshape(batch, group, channels // group * prod(kernel), prod(out))
    return np.asarray(np.matmul(matrix, columns)).reshape(batch, group * per_group, *out)
