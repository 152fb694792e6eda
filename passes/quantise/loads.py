"""How much is summed: bounds that are known before weights are integers."""

from __future__ import annotations

from math import prod

import numpy as np

from snnc.ir import Node, attributes, constant, static_shape

__all__ = ["FEW", "fan_in", "load", "window"]

#: Sums of so many products of 8-bit codes and 8-bit weights stay below 2^24, where a maximum needs them.
FEW = 256


def fan_in(node: Node) -> int:
    """Return how many products are summed; a large number where that is not known."""
    shape = static_shape(node.inputs[1]) if node.inputs[1] is not None else None
    if not shape:
        return FEW + 1
    return prod(shape[1:]) if node.op_type == "Conv" else shape[max(0, len(shape) - 2)]


def load(node: Node) -> float:
    """Return the largest sum of the weights of one output channel, as magnitudes, in units of the largest."""
    weights = constant(node.inputs[1])
    if weights is None:
        return 0.0
    summed = tuple(range(1, weights.ndim)) if node.op_type == "Conv" else (max(0, weights.ndim - 2),)
    sizes = np.abs(weights.astype(np.float64))
    peaks = sizes.max(axis=summed, initial=0)
    return float((sizes.sum(axis=summed)[peaks > 0] / peaks[peaks > 0]).max(initial=0))


def window(node: Node) -> int:
    """Return how many elements a pool makes one of, 1 where that is not known."""
    if node.op_type == "AveragePool":
        return prod(int(size) for size in attributes(node)["kernel_shape"])
    source, out = (
        static_shape(value, 1) if value is not None else None for value in (node.inputs[0], node.outputs[0])
    )
    return prod(source[1:]) // max(1, prod(out[1:])) if source and out else 1
