"""How much is summed: bounds that are known before weights are integers."""

from __future__ import annotations

from math import prod

import numpy as np

from snnc.ir import Node, attributes, constant, static_shape

__all__ = ["EIGHT_BITS", "fan_in", "load", "pools_exactly", "window"]

#: Largest product of a code of eight time-steps and an 8-bit weight.
EIGHT_BITS = 255 * 127
#: Sums of so many of these stay below 2^24, where a maximum needs them.
_FEW = 256


def pools_exactly(count: int, product: int) -> bool:
    """Whether sums of so many products are small enough for a maximum of them, whatever the codes are.

    Args:
        count: How many products are summed.
        product: The largest of them.
    """
    return count <= _FEW and count * product <= _FEW * EIGHT_BITS


def fan_in(node: Node) -> int:
    """Return how many products are summed; a large number where that is not known."""
    shape = static_shape(node.inputs[1]) if node.inputs[1] is not None else None
    if not shape:
        return _FEW + 1
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
