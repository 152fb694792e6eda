"""Pass ``products-to-matmul``: elementwise products of two values that vary become products of matrices."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any, ClassVar

from snnc.ir import Model, Node, Value, constant
from snnc.passes.canonical.chain import Chain, leave, same_batch, static_rest
from snnc.passes.editing import Editor, is_standard
from snnc.pipeline.contract import PassResult, Semantics

__all__ = ["ProductsToMatmul"]


@dataclass(frozen=True)
class ProductsToMatmul:
    """Write ``a * b`` of two values as a batch of matrix products that sum a single element.

    So a gate is what attention is: the spikes of one operand, each adding a held code of the other. Axes
    that both have are the batch; along those that one repeats, one of them has rows or columns: a gate for
    each channel of an image is one product a channel.

    Matches:
        Mul of two values that are not constant, of which at least one does not come from the input alone.
    Leaves alone:
        "its sizes are not static"; "its operands differ in their batch".
    Keeps:
        The name of the result.
    """

    name: ClassVar[str] = "products-to-matmul"
    requires: ClassVar[frozenset[str]] = frozenset({"constants-folded", "unique-names"})
    establishes: ClassVar[frozenset[str]] = frozenset()
    invalidates: ClassVar[frozenset[str]] = frozenset()
    semantics: ClassVar[Semantics] = "approximate"

    def run(self, model: Model) -> PassResult:
        """Rewrite; see the class."""
        editor = Editor(model)
        synaptic = {id(value) for node in model.graph if _makes(node) for value in node.outputs}
        for node in list(model.graph):
            if any(value is not None and id(value) in synaptic for value in node.inputs):
                synaptic |= {id(value) for value in node.outputs}
            operands = list(node.inputs) if is_standard(node, "Mul") else []
            if not operands or any(value is None or constant(value) is not None for value in operands):
                continue
            if any(id(value) in synaptic for value in operands):
                reason = _rewrite(editor, node, *operands)
                if reason is not None:
                    leave(editor, node, reason)
        return editor.result()


def _makes(node: Node) -> bool:
    """Whether a node's result is more than what the host does elementwise to the input."""
    return not is_standard(node, "Add", "Sub", "Mul", "Div", "Neg", "Cast", "Reshape", "Transpose", "Slice")


def _rewrite(editor: Editor, node: Node, left: Value | None, right: Value | None) -> str | None:
    out = node.outputs[0]
    rest = static_rest(out)
    if (
        left is None
        or right is None
        or rest is None
        or out.dtype is None
        or not out.dtype.is_floating_point()
    ):
        return "its sizes are not static"
    sides = [Chain(editor, node, value) for value in (left, right)]
    rank = 1 + len(rest)
    shapes = []
    for side in sides:
        if static_rest(side.value) is None:
            return "its sizes are not static"
        if len(side.dims) != rank or not same_batch(side.dims[0], (out.shape or [None])[0]):
            return "its operands differ in their batch"
        shapes.append([int(size) for size in side.dims[1:]])
    both, rows, columns = _axes(*shapes)
    batch = prod(rest[axis] for axis in both)
    for side, own, last in ((sides[0], rows, False), (sides[1], columns, True)):
        _arrange(side, both, own, batch, last=last)
    first, second = sides
    dims = [first.dims[0], batch, first.dims[2], second.dims[3]]
    first.append("MatMul", [second.value], dims)
    order = [*both, *rows, *columns]
    first.reshape([rest[axis] for axis in order])
    first.transpose([0, *(order.index(axis) + 1 for axis in range(len(rest)))])
    first.finish("product of two values")
    return None


def _axes(left: list[int], right: list[int]) -> tuple[list[int], list[int], list[int]]:
    """Divide the axes behind the batch: those of both operands, of the left alone, of the right alone."""
    both, rows, columns = [], [], []
    for axis, (one, other) in enumerate(zip(left, right, strict=True)):
        if one > 1 and other == 1:
            rows.append(axis)
        elif other > 1 and one == 1:
            columns.append(axis)
        else:
            both.append(axis)
    return both, rows, columns


def _arrange(side: Chain, both: list[int], own: list[int], batch: int, *, last: bool) -> None:
    """Bring an operand into the form (samples, batch, rows, 1) or (samples, batch, 1, columns)."""
    sizes: list[Any] = side.dims[1:]
    missing = [axis for axis in range(len(sizes)) if axis not in both and axis not in own]
    side.transpose([0, *(axis + 1 for axis in (*both, *own, *missing))])
    count = prod(sizes[axis] for axis in own)
    side.reshape([batch, 1, count] if last else [batch, count, 1])
