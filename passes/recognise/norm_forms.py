"""Parts of normalisations written as arithmetic: deviations, variances, roots, lengths."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import prod
from typing import Any

import numpy as np

from snnc.ir import Node, Value, attributes, constant
from snnc.passes.editing import is_standard, rank_of

__all__ = [
    "LEAST_LENGTH",
    "all_static",
    "centred_of",
    "extent_of",
    "is_number",
    "length_of",
    "radicand",
    "reduced_axes",
    "root_of",
    "skip_of",
    "variance_of",
]

#: Bound of what is added to a length, or is its least, so that nothing divides by zero.
LEAST_LENGTH = 1e-2


def extent_of(value: Value, axes: tuple[int, ...]) -> int | None:
    """Return how many elements some axes hold together, None if one of them is not static."""
    sizes = [None if value.shape is None else value.shape[axis] for axis in axes]
    return prod(size for size in sizes if isinstance(size, int)) if all_static(sizes) else None


def all_static(sizes: Iterable[Any]) -> bool:
    """Return whether all of some extents are numbers."""
    return all(isinstance(size, int) for size in sizes)


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


def root_of(node: Node) -> tuple[Value, Value, float] | None:
    """Return x, y and eps squared of x / (sqrt(y) + eps), or None."""
    left, right = (skip_of(value) for value in node.inputs[:2])
    assert left is not None and right is not None
    if node.op_type == "Div":
        inner, behind = radicand(right), 0.0
        maker = right.producer()
        held = _one_number(maker.inputs) if maker is not None and is_standard(maker, "Add") else None
        if inner is None and held is not None and 0 <= held[1] < LEAST_LENGTH:
            inner, behind = radicand(skip_of(held[0])), held[1] ** 2
        return (left, inner, behind) if inner is not None else None
    for value, other in ((left, right), (right, left)):
        inverse = other.producer()
        inner = None
        if inverse is not None and is_standard(inverse, "Reciprocal"):
            inner = radicand(skip_of(inverse.inputs[0]))
        elif inverse is not None and is_standard(inverse, "Div") and is_number(inverse.inputs[0], 1.0):
            inner = radicand(skip_of(inverse.inputs[1]))
        elif inverse is not None and is_standard(inverse, "Pow") and is_number(inverse.inputs[1], -0.5):
            inner = inverse.inputs[0]
        if inner is not None:
            return value, inner, 0.0
    return None


def radicand(value: Value | None) -> Value | None:
    """Return y where a value is sqrt(y)."""
    root = value.producer() if value is not None else None
    if root is None:
        return None
    if is_standard(root, "Sqrt"):
        return root.inputs[0]
    return root.inputs[0] if is_standard(root, "Pow") and is_number(root.inputs[1], 0.5) else None


def is_number(value: Value | None, number: float) -> bool:
    """Return whether a value is a constant that is this number everywhere."""
    held = constant(value)
    return held is not None and bool(np.all(held == number))


def length_of(node: Node) -> tuple[Value, float, tuple[int, ...]] | None:
    """Return x, eps squared and the axes where a node is x / max(|x|, eps) or x / (|x| + eps)."""
    if node.op_type != "Div":
        return None
    source, value = node.inputs[0], skip_of(node.inputs[1])
    epsilon: float | None = None
    while True:
        maker = value.producer() if value is not None else None
        if maker is None or source is None:
            return None
        square = (epsilon or 0.0) ** 2
        axes = _axes_of(maker) if is_standard(maker, "ReduceL2") else None
        if axes is not None:
            return (source, square, axes) if skip_of(maker.inputs[0]) is skip_of(source) else None
        under = radicand(value)
        if under is not None:
            total = under.producer()
            axes = _axes_of(total) if total is not None and is_standard(total, "ReduceSum") else None
            if total is None or axes is None:
                return None
            return (source, square, axes) if _square(total.inputs[0]) is skip_of(source) else None
        if is_standard(maker, "Expand"):
            value = maker.inputs[0]
            continue
        held = [constant(entry) for entry in maker.inputs[1:]]
        small = [float(entry.reshape(-1)[0]) for entry in held if entry is not None and entry.size == 1]
        if (
            epsilon is not None
            or not is_standard(maker, "Clip", "Max", "Add")
            or len(small) != 1
            or not 0 <= small[0] < LEAST_LENGTH
        ):
            return None
        value, epsilon = maker.inputs[0], small[0]


def _axes_of(node: Node) -> tuple[int, ...] | None:
    """Return the axes that a node reduces and keeps with extent 1, in order; None for others."""
    return reduced_axes(node) if int(attributes(node).get("keepdims", 1)) else None


def reduced_axes(node: Node) -> tuple[int, ...] | None:
    """Return the axes that a node reduces, in order; None if it does not say."""
    rank = rank_of(node.inputs[0]) if node.inputs else None
    given = constant(node.inputs[1]) if len(node.inputs) > 1 else None
    axes = given.tolist() if given is not None else attributes(node).get("axes")
    return tuple(sorted(int(axis) % rank for axis in axes)) if axes and rank else None


def _mean_of(value: Value | None) -> tuple[Value, tuple[int, ...]] | None:
    """Return what a value is the mean of, and the axes, which it keeps; None if it is no such mean."""
    node = value.producer() if value is not None else None
    axes = _axes_of(node) if node is not None and is_standard(node, "ReduceMean") else None
    source = node.inputs[0] if node is not None and node.inputs else None
    return (source, axes) if source is not None and axes is not None else None


def centred_of(value: Value | None) -> tuple[Value, tuple[int, ...]] | None:
    """Return x and the axes of the mean where a value is x - mean x."""
    value = skip_of(value)
    node = value.producer() if value is not None else None
    if node is None or not is_standard(node, "Sub"):
        return None
    mean = _mean_of(node.inputs[1])
    return mean if mean is not None and mean[0] is node.inputs[0] else None


def _square(value: Value | None) -> Value | None:
    """Return d where a value is d^2."""
    power = value.producer() if value is not None else None
    if power is None or not is_standard(power, "Pow", "Mul"):
        return None
    base, other = skip_of(power.inputs[0]), skip_of(power.inputs[1])
    twice = power.op_type == "Pow" and is_number(other, 2.0)
    return base if twice or (power.op_type == "Mul" and base is other) else None


def variance_of(value: Value) -> tuple[Value, float, float, tuple[int, ...]] | None:
    """Return d, c, eps and the axes where a value is c times the mean of d^2, plus eps."""
    node, epsilon = value.producer(), 0.0
    if is_standard(node, "Add") and node is not None:
        held = _one_number(node.inputs)
        if held is None:
            return None
        value, epsilon = held
    factor = 1.0
    shape = list(value.shape) if value.shape is not None else None
    while True:
        inner = skip_of(value)
        node = inner.producer() if inner is not None else None
        if inner is None or node is None:
            return None
        if is_standard(node, "ReduceMean"):
            axes, source = reduced_axes(node), node.inputs[0]
            base = _square(source)
            if axes is None or base is None or not _is_kept(base, axes, shape):
                return None
            return base, factor, epsilon, axes
        if is_standard(node, "Mul", "Div"):
            held = _one_number(node.inputs[:1] if node.op_type == "Div" else node.inputs, node.inputs[1:])
            if held is None or held[1] <= 0:
                return None
            value, factor = held[0], factor * held[1] if node.op_type == "Mul" else factor / held[1]
        elif is_standard(node, "Reshape", "Unsqueeze", "Expand") and node.inputs[0] is not None:
            value = node.inputs[0]
        else:
            return None


def _one_number(
    inputs: Sequence[Value | None], others: Sequence[Value | None] = ()
) -> tuple[Value, float] | None:
    """Return the value that varies and the number beside it, of the operands of an op of two."""
    operands = [*inputs, *others] if len(inputs) == 1 else list(inputs)
    held = [constant(operand) for operand in operands]
    for place, number in enumerate(held):
        other = operands[1 - place]
        if number is not None and number.size == 1 and other is not None and held[1 - place] is None:
            if len(inputs) == 1 and place == 0:
                return None  # a number divided by a value
            return other, float(number.reshape(-1)[0])
    return None


def _is_kept(base: Value, axes: tuple[int, ...], shape: list[Any] | None) -> bool:
    """Whether a shape is that of a value with extent 1 along its reduced axes."""
    if base.shape is None or shape is None or len(base.shape) != len(shape):
        return False
    pairs = enumerate(zip(base.shape, shape, strict=True))
    return all(
        size == 1 if axis in axes else size == whole or not isinstance(size, int)
        for axis, (whole, size) in pairs
    )
