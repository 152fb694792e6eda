"""The cosine of two vectors written as arithmetic: a sum of products by the root of two sums of squares."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from snnc.ir import Node, Value, attributes, constant
from snnc.passes.editing import Editor, is_standard
from snnc.passes.recognise.norm_forms import LEAST_LENGTH, is_number, radicand, reduced_axes, skip_of

__all__ = ["Cosine", "cosine_of", "write_cosine"]


@dataclass(frozen=True)
class Cosine:
    """A sum of products, divided by the product of the lengths of its factors.

    Attributes:
        factors: The two vectors.
        axes: Axes summed over.
        keeps: Whether the result has them, with extent 1.
        least: Least length of a vector.
        nodes: What it is written with.
    """

    factors: tuple[Value, Value]
    axes: tuple[int, ...]
    keeps: bool
    least: float
    nodes: tuple[Node, ...]


@dataclass(frozen=True)
class _Sum:
    """A sum of products; see `Cosine`."""

    factors: tuple[Value, Value]
    axes: tuple[int, ...]
    keeps: bool
    nodes: tuple[Node, ...]


def cosine_of(node: Node) -> Cosine | None:
    """Return what a node is the cosine of, sum(a b) / max(sqrt(sum(a a) sum(b b)), eps), or None."""
    if not is_standard(node, "Div"):
        return None
    dot, below = _sum_of(skip_of(node.inputs[0])), skip_of(node.inputs[1])
    maker = below.producer() if below is not None else None
    nodes, least = [node], 0.0
    if maker is not None and is_standard(maker, "Clip", "Max", "Add"):
        held = [constant(entry) for entry in maker.inputs]
        small = [float(entry.reshape(-1)[0]) for entry in held if entry is not None and entry.size == 1]
        others = [value for value in maker.inputs if value is not None and constant(value) is None]
        if len(small) != 1 or len(others) != 1 or not 0 <= small[0] < LEAST_LENGTH:
            return None
        least, below = small[0], others[0]
        nodes.append(maker)
    inner = radicand(below)
    product = inner.producer() if inner is not None else None
    root = below.producer() if below is not None else None
    if dot is None or root is None or product is None or not is_standard(product, "Mul"):
        return None
    squares = [entry for entry in map(_sum_of, product.inputs[:2]) if entry is not None]
    alike = all(entry.factors[0] is entry.factors[1] and entry.axes == dot.axes for entry in squares)
    lengths = {id(entry.factors[0]) for entry in squares}
    if len(squares) != 2 or not alike or lengths != {id(factor) for factor in dot.factors}:
        return None
    if any(entry.keeps != dot.keeps for entry in squares):
        return None
    nodes += [root, product, *dot.nodes, *squares[0].nodes, *squares[1].nodes]
    return Cosine(dot.factors, dot.axes, dot.keeps, least**0.5, tuple(nodes))


def _sum_of(value: Value | None) -> _Sum | None:
    """Return what a value is the sum of products of, or None; the batch is none of the axes."""
    total = value.producer() if value is not None else None
    if total is None or not is_standard(total, "ReduceSum"):
        return None
    product = total.inputs[0].producer() if total.inputs[0] is not None else None
    axes = reduced_axes(total)
    if product is None or not axes or axes[0] == 0:
        return None
    if is_standard(product, "Pow") and is_number(product.inputs[1], 2.0):
        left = right = product.inputs[0]
    elif is_standard(product, "Mul"):
        left, right = product.inputs
    else:
        return None
    if left is None or right is None or left.shape is None or left.shape != right.shape:
        return None
    keeps = bool(attributes(total).get("keepdims", 1))
    return _Sum((left, right), axes, keeps, (total, product))


def write_cosine(editor: Editor, node: Node, found: Cosine) -> None:
    """Divide both vectors by their lengths before they are multiplied, instead of the sum behind.

    Args:
        editor: Of the graph.
        node: What divides the sum.
        found: What it is the cosine of.
    """
    out, name = node.outputs[0], editor.take_name(node)
    axes = editor.constant(f"{name}.axes", np.array(found.axes, dtype=np.int64))
    least = editor.constant(f"{name}.least", np.array(found.least, dtype=np.float32))
    whole = list(found.factors[0].shape or ())
    kept = [1 if axis in found.axes else size for axis, size in enumerate(whole)]

    def add(op_type: str, inputs: list[Value], stem: str, shape: Sequence[Any], **attrs: int) -> Value:
        return editor.add(node, op_type, inputs, attrs, name=stem, dtype=out.dtype, shape=shape)

    units = []
    for place, vector in enumerate(found.factors):
        stem = f"{name}.unit{place}"
        square = add("Mul", [vector, vector], f"{stem}.square", whole)
        total = add("ReduceSum", [square, axes], f"{stem}.sum", kept)
        length = add("Max", [add("Sqrt", [total], f"{stem}.root", kept), least], f"{stem}.length", kept)
        units.append(add("Div", [vector, length], stem, whole))
    product = add("Mul", units, f"{name}.product", whole)
    made = add("ReduceSum", [product, axes], name, list(out.shape or ()), keepdims=int(found.keeps))
    editor.replace("cosine", out, made, removed=found.nodes)
