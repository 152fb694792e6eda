"""Pass ``split-products``: columns taken of a product are products with the columns that they come from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from snnc.ir import Model, Node, Shape, Value, attributes, constant
from snnc.passes.editing import Array, Editor, is_standard
from snnc.pipeline.contract import PassResult, Semantics

__all__ = ["SplitProducts"]


@dataclass(frozen=True)
class SplitProducts:
    """Take columns of the right operand in place of columns of the product, where they stand beside others.

    Linear attention computes its denominators as one more column: ones stand beside the values, and what the
    product has in that column is a sum of what is never negative. Apart from the other columns that is plain.

    Matches:
        Slice along the last axis of a MatMul, whose right operand is, perhaps by further products, a Pad with
        a number or a Concat along its last axis; what is taken comes from one part of it.
    Leaves alone:
        Everything else; that is no failure.
    Keeps:
        The name of the result.
    """

    name: ClassVar[str] = "split-products"
    requires: ClassVar[frozenset[str]] = frozenset({"constants-folded", "unique-names", "shapes-known"})
    establishes: ClassVar[frozenset[str]] = frozenset()
    invalidates: ClassVar[frozenset[str]] = frozenset({"no-dead-code"})
    semantics: ClassVar[Semantics] = "approximate"

    def run(self, model: Model) -> PassResult:
        """Rewrite; see the class."""
        editor = Editor(model)
        for node in list(model.graph):
            span = _span(node)
            product = node.inputs[0].producer() if node.inputs and node.inputs[0] is not None else None
            if span is None or product is None or not is_standard(product, "MatMul"):
                continue
            columns = _columns(editor, node, product, *span)
            if columns is not None:
                editor.replace(self.name, node.outputs[0], columns, removed=[node])
        return editor.result()


def _span(node: Node) -> tuple[int, int] | None:
    """Return which columns a Slice takes, None if it is none along the last axis alone."""
    if not is_standard(node, "Slice") or len(node.inputs) < 4:
        return None
    held = [constant(value) for value in node.inputs[1:]]
    source = node.inputs[0]
    if any(entry is None or entry.size != 1 for entry in held) or source is None or source.shape is None:
        return None
    start, end, axis, *step = (int(np.asarray(entry).reshape(-1)[0]) for entry in held)
    width = source.shape[-1]
    if axis % len(source.shape) != len(source.shape) - 1 or step not in ([], [1]):
        return None
    if not isinstance(width, int) or len(source.shape) < 2:
        return None
    first, last, _ = slice(start, end).indices(width)
    return (first, last) if first < last else None


def _columns(editor: Editor, anchor: Node, product: Node, first: int, last: int) -> Value | None:
    """Return columns of a product as a product of its own; None if they cannot be told apart."""
    left, right = product.inputs
    maker = right.producer() if right is not None else None
    if (
        left is None
        or right is None
        or maker is None
        or right.shape is None
        or product.outputs[0].shape is None
    ):
        return None
    part: Value | Array | None
    if is_standard(maker, "MatMul"):
        part = _columns(editor, anchor, maker, first, last)
    else:
        part = _part(maker, first, last)
    if part is None:
        return None
    if isinstance(part, np.ndarray):
        rows = right.shape[-2]
        if not isinstance(rows, int):
            return None
        ones = np.broadcast_to(part, [*[1] * (len(right.shape) - 2), rows, last - first])
        part = editor.constant(f"{product.name}.columns", np.ascontiguousarray(ones))
    dims: list[Any] = [*list(product.outputs[0].shape)[:-1], last - first]
    name = f"{product.name}.columns{first}"
    return editor.add(anchor, "MatMul", [left, part], name=name, shape=Shape(dims))


def _part(maker: Node, first: int, last: int) -> Value | Array | None:
    """Return the value that columns of a join are, or the number that they hold; None if they are neither."""
    if is_standard(maker, "Concat"):
        rank = len(maker.outputs[0].shape or ())
        if int(attributes(maker).get("axis", 0)) % max(1, rank) != rank - 1:
            return None
        begin = 0
        for value in maker.inputs:
            width = value.shape[-1] if value is not None and value.shape is not None else None
            if not isinstance(width, int):
                return None
            if (begin, begin + width) == (first, last):
                return value
            begin += width
        return None
    if not is_standard(maker, "Pad") or str(attributes(maker).get("mode", "constant")) != "constant":
        return None
    source, pads = maker.inputs[0], constant(maker.inputs[1]) if len(maker.inputs) > 1 else None
    if source is None or source.shape is None or pads is None or len(maker.inputs) > 3:
        return None
    before, after = np.split(pads.reshape(-1), 2)
    width = source.shape[-1]
    if before[:-1].any() or after[:-1].any() or not isinstance(width, int) or min(before[-1], after[-1]) < 0:
        return None
    inside = int(before[-1]), int(before[-1]) + width
    if (first, last) == inside:
        return source
    if first < inside[1] and last > inside[0]:
        return None
    given = maker.inputs[2] if len(maker.inputs) > 2 else None
    fill = np.zeros(1, np.float32) if given is None else constant(given)
    return None if fill is None else np.asarray(fill, np.float32).reshape(1, 1)
