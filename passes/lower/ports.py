"""What the host may write into a tensor that the machine reads."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from snnc.ir import AI_SNNC, Value, attributes, constant
from snnc.passes.lower.synapses import weights_bound

__all__ = ["host_range"]

Array = npt.NDArray[Any]
_LARGEST = (1 << 31) - 1


def host_range(value: Value, array: Array) -> tuple[int, int]:
    """Return what the host may write into a tensor."""
    node = value.producer()
    if node is not None and node.domain == AI_SNNC:
        attrs = attributes(node)
        if node.op_type == "FixedPointEncode":
            top = (1 << (int(attrs["bits"]) - 1)) - 1
            return -top, top
        if node.op_type == "Encode":
            return min(attrs["codes"]), max(attrs["codes"])
        if node.op_type in ("HostConv", "HostMatMul"):
            weights = constant(node.inputs[1])
            source = node.inputs[0]
            if weights is not None and source is not None:
                low, high = host_range(source, array.astype(np.int32))
                axes = tuple(range(1, weights.ndim)) if node.op_type == "HostConv" else (weights.ndim - 2,)
                return weights_bound(weights, (low, high), axes)
    if node is not None and node.op_type in ("Reshape", "Transpose", "Slice", "Concat", "Gather", "Flatten"):
        source = node.inputs[0]
        if source is not None and source.dtype == value.dtype and node.op_type != "Concat":
            return host_range(source, array)
    if array.dtype.kind == "b":
        return 0, 1
    limits = np.iinfo(array.dtype)
    return max(int(limits.min), -_LARGEST - 1), min(int(limits.max), _LARGEST)
