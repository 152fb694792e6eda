"""Index arithmetic of windows and of the search for a threshold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["search", "windows"]

Array = npt.NDArray[Any]


def windows(
    inp: Array, kernel: Sequence[int], out: Sequence[int], fields: Mapping[str, int]
) -> list[tuple[int, int, tuple[slice, slice], Array]]:
    """Return what each element of a window sees.

    Args:
        inp: Input, shape (batch, rows, columns, channels).
        kernel: Rows and columns of the window.
        out: Rows and columns of the output.
        fields: Steps, paddings and spacings of the instruction.

    Returns:
        Row and column in the window, the outputs it reaches, and the inputs these see.
    """
    found = []
    for i in range(kernel[0]):
        for j in range(kernel[1]):
            rows = _reached(inp.shape[1], out[0], fields["sy"], i * fields["dy"] - fields["pt"])
            columns = _reached(inp.shape[2], out[1], fields["sx"], j * fields["dx"] - fields["pl"])
            if rows is not None and columns is not None:
                found.append((i, j, (rows[0], columns[0]), inp[:, rows[1], columns[1]]))
    return found


def _reached(extent: int, out: int, stride: int, shift: int) -> tuple[slice, slice] | None:
    first = max(0, -(shift // stride))
    last = min(out - 1, (extent - 1 - shift) // stride)
    if last < first:
        return None
    begin = first * stride + shift
    return slice(first, last + 1), slice(begin, begin + (last - first) * stride + 1, stride)


def search(values: Array, thresholds: Array) -> Array:
    """Count the thresholds that each value has reached, by binary search.

    Args:
        values: Potentials, any shape.
        thresholds: Ascending along the last axis, shape (*values.shape, K), any strides.
    """
    count = thresholds.shape[-1]
    place = np.zeros(values.shape, np.intp)
    # Repeated rows are stored once: look up by index in what is stored.
    stored = thresholds[
        tuple(slice(0, 1) if stride == 0 else slice(None) for stride in thresholds.strides[:-1])
    ]
    flat = np.ascontiguousarray(stored).reshape(-1)
    index = np.arange(stored.size // count, dtype=np.intp).reshape(stored.shape[:-1]) * count
    begin = np.broadcast_to(index, values.shape)
    half = 1 << count.bit_length() >> 1
    while half:
        wanted = place + half
        inside = wanted <= count
        limit = flat.take(begin + np.minimum(wanted, count) - 1)
        place = np.where(inside & (values >= limit), wanted, place)
        half >>= 1
    return place
