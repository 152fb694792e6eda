"""What the host may write into a tensor that the machine reads."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from snnc.ir import AI_SNNC, Node, Value, attributes, constant
from snnc.isa.program import Channels

__all__ = ["host_channels", "host_range"]

Array = npt.NDArray[Any]
_LARGEST = (1 << 31) - 1


def host_range(value: Value, array: Array) -> tuple[int, int]:
    """Return what the host may write into a tensor.

    Args:
        value: The tensor.
        array: Anything of its element type and its number of axes.
    """
    node = value.producer()
    if node is not None and node.domain == AI_SNNC:
        attrs = attributes(node)
        if node.op_type == "FixedPointEncode":
            top = (1 << (int(attrs["bits"]) - 1)) - 1
            return -top, top
        if node.op_type == "Encode":
            return min(attrs["codes"]), max(attrs["codes"])
        if (sums := _sums(node, array)) is not None:
            low, high = sums
            return int(low.min(initial=0)), int(high.max(initial=0))
    if node is not None and node.op_type in ("Reshape", "Transpose", "Slice", "Concat", "Gather", "Flatten"):
        source = node.inputs[0]
        if source is not None and source.dtype == value.dtype and node.op_type != "Concat":
            return host_range(source, array)
    if array.dtype.kind == "b":
        return 0, 1
    limits = np.iinfo(array.dtype)
    return max(int(limits.min), -_LARGEST - 1), min(int(limits.max), _LARGEST)


def host_channels(value: Value, array: Array) -> Channels | None:
    """Return the ranges of the channels of a product on the host, each from its own weights; None of others.

    Args:
        value: The tensor.
        array: Anything of its element type and its number of axes.
    """
    node = value.producer()
    sums = _sums(node, array) if node is not None and node.domain == AI_SNNC else None
    if node is None or sums is None or sums[0].ndim != 1:
        return None
    low, high = (tuple(item.tolist()) for item in sums)
    return Channels(1 if node.op_type == "HostConv" else array.ndim - 1, low, high)


def _sums(node: Node, array: Array) -> tuple[Array, Array] | None:
    """Return the range of each sum of inputs times weights; None if a node makes no such sums."""
    if node.op_type not in ("HostConv", "HostMatMul"):
        return None
    weights, source = constant(node.inputs[1]), node.inputs[0]
    if weights is None or source is None:
        return None
    low, high = host_range(source, array.astype(np.int32))
    axes = tuple(range(1, weights.ndim)) if node.op_type == "HostConv" else (weights.ndim - 2,)
    wide = weights.astype(np.int64)
    up, down = np.maximum(wide, 0).sum(axis=axes), np.minimum(wide, 0).sum(axis=axes)
    return up * low + down * high, up * high + down * low
