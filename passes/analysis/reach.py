"""How large a value can be that the host computes from masks of zeros and ones."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import product

from snnc.ir import DataType, Node, Value, attributes, constant
from snnc.passes.analysis.layout import LAYOUT_OPS

__all__ = ["Reach", "reach_of"]

#: Smallest and largest number.
Reach = tuple[float, float]

_TRUTH = frozenset(
    {"And", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Not", "Or", "Xor", "IsNaN", "IsInf"}
)
_CORNERS: dict[str, Callable[[float, float], float]] = {
    "Add": lambda a, b: a + b,
    "Sub": lambda a, b: a - b,
    "Mul": lambda a, b: a * b if a and b else 0.0,
    "Max": max,
    "Min": min,
}
_DEEPEST = 200


def reach_of(value: Value | None, depth: int = 0) -> Reach | None:
    """Return bounds of a value computed from constants and integer inputs that hold zeros and ones.

    Args:
        value: A value.
        depth: Nodes already walked back.

    Returns:
        Smallest and largest number, or None if they are not known.
    """
    held = constant(value)
    if held is not None:
        if held.dtype.kind not in "biuf" or not held.size:
            return None
        return float(held.min()), float(held.max())
    if value is None or value.dtype is None or depth > _DEEPEST:
        return None
    if value.is_graph_input():
        return None if value.dtype.is_floating_point() else (0.0, 1.0)
    node = value.producer()
    if node is None or node.domain not in ("", "ai.onnx"):
        return None
    return _of_node(node, depth + 1)


def _of_node(node: Node, depth: int) -> Reach | None:
    op = node.op_type
    if op in _TRUTH:
        return 0.0, 1.0
    if op in LAYOUT_OPS | {"Tile"}:
        return reach_of(node.inputs[0], depth)
    if op == "Cast":
        return _cast(reach_of(node.inputs[0], depth), node.outputs[0].dtype)
    parts = [reach_of(value, depth) for value in node.inputs]
    known = [part for part in parts if part is not None]
    if op == "CumSum" and parts[0] is not None:
        size = _extent(node)
        low, high = parts[0]
        return None if size is None else (min(low, low * size), max(high, high * size))
    if len(known) < len(parts):
        return None
    if op in ("Where", "Concat"):
        branches = known[1:] if op == "Where" else known
        return min(low for low, _ in branches), max(high for _, high in branches)
    if op == "Neg":
        return -known[0][1], -known[0][0]
    if op not in _CORNERS or len(known) != 2:
        return None
    corners = [_CORNERS[op](a, b) for a, b in product(*known)]
    return None if any(math.isnan(corner) for corner in corners) else (min(corners), max(corners))


def _cast(reach: Reach | None, dtype: DataType | None) -> Reach | None:
    if reach is None or dtype is None or dtype.is_floating_point():
        return reach
    return (0.0, 1.0) if dtype == DataType.BOOL else (math.floor(reach[0]), math.ceil(reach[1]))


def _extent(node: Node) -> int | None:
    """Return how many numbers a CumSum adds at most."""
    axis, shape = constant(node.inputs[1]), node.inputs[0].shape if node.inputs[0] is not None else None
    if axis is None or shape is None or attributes(node).get("exclusive", 0):
        return None
    size = shape[int(axis.reshape(-1)[0])]
    return size if isinstance(size, int) else None
