"""Parts of normalisations written as arithmetic: deviations, variances, roots, lengths."""

from __future__ import annotations

import numpy as np

from snnc.ir import Node, Value, attributes, constant
from snnc.passes.editing import is_standard, rank_of

__all__ = ["centred_of", "channels_of", "length_of", "root_of", "skip_of", "variance_of"]

#: What is added to a length, or is its least, so that nothing divides by zero.
_SMALL = 1e-2


def channels_of(value: Value) -> int | None:
    """Return the extent of the last axis, None if it is not static."""
    size = value.shape[-1] if value.shape is not None and len(value.shape) else None
    return size if isinstance(size, int) else None


def skip_of(value: Value | None) -> Value | None:
    """Look through casts between float types, as mixed precision has them."""
    node = value.producer() if value is not None else None
    while node is not None and is_standard(node, "Cast") and node.inputs[0] is not None:
        source = node.inputs[0]
        floats = [
            entry.dtype is not None and entry.dtype.is_floating_point() for entry in (source, node.outputs[0])
        ]
        if not all(floats):
            break
        value, node = source, source.producer()
    return value


def root_of(node: Node) -> tuple[Value, Value] | None:
    """Return x and y of x / sqrt(y), or None."""
    left, right = (skip_of(value) for value in node.inputs[:2])
    if left is None or right is None:
        return None
    if node.op_type == "Div":
        inner = _radicand(right)
        return (left, inner) if inner is not None else None
    for value, other in ((left, right), (right, left)):
        inverse = other.producer()
        inner = None
        if inverse is not None and is_standard(inverse, "Reciprocal"):
            inner = _radicand(skip_of(inverse.inputs[0]))
        elif inverse is not None and is_standard(inverse, "Div") and _is_number(inverse.inputs[0], 1.0):
            inner = _radicand(skip_of(inverse.inputs[1]))
        elif inverse is not None and is_standard(inverse, "Pow") and _is_number(inverse.inputs[1], -0.5):
            inner = inverse.inputs[0]
        if inner is not None:
            return value, inner
    return None


def _radicand(value: Value | None) -> Value | None:
    """Return y where a value is sqrt(y)."""
    root = value.producer() if value is not None else None
    if root is None:
        return None
    if is_standard(root, "Sqrt"):
        return root.inputs[0]
    return root.inputs[0] if is_standard(root, "Pow") and _is_number(root.inputs[1], 0.5) else None


def _is_number(value: Value | None, number: float) -> bool:
    held = constant(value)
    return held is not None and bool(np.all(held == number))


def length_of(node: Node) -> tuple[Value, float] | None:
    """Return x and eps squared where a node is x / max(|x|, eps) or x / (|x| + eps), over the last axis."""
    if node.op_type != "Div":
        return None
    source, value = node.inputs[0], skip_of(node.inputs[1])
    epsilon = 0.0
    for _ in range(4):
        maker = value.producer() if value is not None else None
        if maker is None or source is None:
            return None
        if is_standard(maker, "ReduceL2") and _reduces_last(maker):
            return (source, epsilon**2) if skip_of(maker.inputs[0]) is skip_of(source) else None
        if is_standard(maker, "Sqrt"):
            total = maker.inputs[0].producer() if maker.inputs[0] is not None else None
            if total is None or not is_standard(total, "ReduceSum") or not _reduces_last(total):
                return None
            return (source, epsilon**2) if _square(total.inputs[0]) is skip_of(source) else None
        if is_standard(maker, "Expand"):
            value = maker.inputs[0]
            continue
        held = [constant(entry) for entry in maker.inputs[1:]]
        small = [float(entry.reshape(-1)[0]) for entry in held if entry is not None and entry.size == 1]
        if not is_standard(maker, "Clip", "Max", "Add") or len(small) != 1 or not 0 <= small[0] < _SMALL:
            return None
        value, epsilon = maker.inputs[0], small[0]
    return None


def _reduces_last(node: Node) -> bool:
    """Whether a node reduces the last axis, which it keeps."""
    attrs = attributes(node)
    given = constant(node.inputs[1]) if len(node.inputs) > 1 else None
    axes = given.tolist() if given is not None else attrs.get("axes")
    rank = rank_of(node.inputs[0])
    last = axes is not None and list(axes) in ([-1], [(rank or 0) - 1])
    return last and bool(int(attrs.get("keepdims", 1)))


def _mean_of(value: Value | None) -> Value | None:
    """Return what a value is the mean of over the last axis, which it keeps; None if it is no such mean."""
    node = value.producer() if value is not None else None
    if node is None or not is_standard(node, "ReduceMean") or not _reduces_last(node):
        return None
    return node.inputs[0]


def centred_of(value: Value | None) -> Value | None:
    """Return x where a value is x - mean x."""
    value = skip_of(value)
    node = value.producer() if value is not None else None
    if node is None or not is_standard(node, "Sub"):
        return None
    return node.inputs[0] if _mean_of(node.inputs[1]) is node.inputs[0] else None


def _square(value: Value | None) -> Value | None:
    """Return d where a value is d^2."""
    power = value.producer() if value is not None else None
    if power is None or not is_standard(power, "Pow", "Mul"):
        return None
    base, other = skip_of(power.inputs[0]), skip_of(power.inputs[1])
    twice = power.op_type == "Pow" and _is_number(other, 2.0)
    return base if twice or (power.op_type == "Mul" and base is other) else None


def variance_of(value: Value) -> tuple[Value, float] | None:
    """Return d and eps where a value is the mean of d^2, plus eps."""
    node = value.producer()
    if node is None or not is_standard(node, "Add"):
        return None
    for place in (0, 1):
        held = constant(node.inputs[1 - place])
        base = _square(_mean_of(skip_of(node.inputs[place])))
        if held is not None and held.size == 1 and base is not None:
            return base, float(held.reshape(-1)[0])
    return None
