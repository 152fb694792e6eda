"""How large a value can be that the host computes from masks of zeros and ones."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import product

import numpy as np

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


def reach_of(value: Value | None, *, floats: Reach | None = None) -> Reach | None:
    """Return bounds of a value computed from constants and integer inputs that hold zeros and ones.

    Args:
        value: A value.
        floats: Bounds of inputs of floats; None if nothing is known of them.

    Returns:
        Smallest and largest number, or None if they are not known.
    """
    return _reach(value, floats, 0)


def _reach(value: Value | None, floats: Reach | None, depth: int) -> Reach | None:
    held = constant(value)
    if held is not None:
        if held.dtype.kind not in "biuf" or not held.size:
            return None
        return float(held.min()), float(held.max())
    if value is None or value.dtype is None or depth > _DEEPEST:
        return None
    if value.is_graph_input():
        return floats if value.dtype.is_floating_point() else (0.0, 1.0)
    node = value.producer()
    if node is None or node.domain not in ("", "ai.onnx"):
        return None
    return _of_node(node, floats, depth + 1)


def _of_node(node: Node, floats: Reach | None, depth: int) -> Reach | None:
    op = node.op_type
    if op in _TRUTH:
        return 0.0, 1.0
    if op in LAYOUT_OPS | {"Tile"}:
        return _reach(node.inputs[0], floats, depth)
    if op == "Cast":
        return _cast(_reach(node.inputs[0], floats, depth), node.outputs[0].dtype)
    if op in ("Clip", "Relu"):
        return _clipped(_reach(node.inputs[0], floats, depth), node)
    if op == "Pad":
        return _padded(_reach(node.inputs[0], floats, depth), node)
    parts = [_reach(value, floats, depth) for value in node.inputs]
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
    if op == "Div" and len(known) == 2 and (known[1][0] > 0 or known[1][1] < 0):
        op, known[1] = "Mul", (1 / known[1][1], 1 / known[1][0])
    if op not in _CORNERS or len(known) != 2:
        return None
    corners = [_CORNERS[op](a, b) for a, b in product(*known)]
    return None if any(math.isnan(corner) for corner in corners) else (min(corners), max(corners))


def _clipped(reach: Reach | None, node: Node) -> Reach | None:
    """Bounds of what a Relu, or a Clip to constants, leaves of a value."""
    low, high = 0.0, math.inf
    if node.op_type == "Clip":
        ends: list[float] = []
        for place, name, free in ((1, "min", -math.inf), (2, "max", math.inf)):
            given = node.inputs[place] if len(node.inputs) > place else None
            held = constant(given) if given is not None else attributes(node).get(name, free)
            if held is None or not np.size(held):
                return None
            ends.append(float(np.asarray(held).reshape(-1)[0]))
        low, high = ends
    first = reach or (-math.inf, math.inf)
    found = min(max(first[0], low), high), min(max(first[1], low), high)
    return found if all(map(math.isfinite, found)) else None


def _padded(reach: Reach | None, node: Node) -> Reach | None:
    """Bounds of a value and of what it is padded with, which is zero unless it says otherwise."""
    given = node.inputs[2] if len(node.inputs) > 2 else None
    held = constant(given) if given is not None else np.asarray(attributes(node).get("value", 0.0))
    if reach is None or held is None:
        return None
    return min(reach[0], *held.reshape(-1).tolist()), max(reach[1], *held.reshape(-1).tolist())


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
