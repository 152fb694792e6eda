"""Pass ``turn-products``: a constant matrix stands on the right of what it is multiplied with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from snnc.ir import Model, Node, Value, attributes, constant
from snnc.passes.canonical.chain import Chain
from snnc.passes.editing import Array, Editor, is_standard
from snnc.pipeline.contract import PassResult, Semantics

__all__ = ["TurnProducts"]

_DOMAINS_OF_INTEGERS = ("", "ai.onnx", "com.microsoft")


@dataclass(frozen=True)
class TurnProducts:
    """Write a product with constants on its left as the transpose of one with constants on its right.

    Spikes of the one operand add rows of the other: weights are the rows.

    Matches:
        MatMul of a constant, which may be a dequantised one, and a value of as many axes or more.
    Leaves alone:
        "the constant has more axes than the value".
    Keeps:
        The name of the result.
    """

    name: ClassVar[str] = "turn-products"
    requires: ClassVar[frozenset[str]] = frozenset({"constants-folded", "unique-names", "shapes-known"})
    establishes: ClassVar[frozenset[str]] = frozenset()
    invalidates: ClassVar[frozenset[str]] = frozenset()
    semantics: ClassVar[Semantics] = "approximate"

    def run(self, model: Model) -> PassResult:
        """Rewrite; see the class."""
        editor = Editor(model)
        for node in list(model.graph):
            if is_standard(node, "MatMul"):
                _turn(editor, node)
        return editor.result()


def _turn(editor: Editor, node: Node) -> None:
    held, value = constant(_integers(node) or node.inputs[0]), node.inputs[1]
    if held is None or value is None or value.shape is None or constant(value) is not None:
        return
    rank = len(value.shape)
    if held.ndim < 2 or rank < 2 or held.ndim > rank:
        editor.fail("the constant has more axes than the value", node)
        return
    turned = [*range(rank - 2), rank - 1, rank - 2]
    weights = np.ascontiguousarray(np.swapaxes(held, -1, -2))
    chain = Chain(editor, node, value).transpose(turned)
    sizes = [
        one if two == 1 else two
        for one, two in zip([1] * (rank - held.ndim) + list(weights.shape[:-2]), chain.dims[:-2], strict=True)
    ]
    matrix = weights if constant(node.inputs[0]) is not None else _dequantised(editor, node, weights)
    chain.append("MatMul", [matrix], [*sizes, chain.dims[-2], weights.shape[-1]]).transpose(turned)
    chain.finish("turn a product")


def _integers(node: Node) -> Value | None:
    """Return what a DequantizeLinear in front of the left operand reads, None if there is none, or blocks."""
    left = node.inputs[0]
    maker = left.producer() if left is not None else None
    quantised = (
        maker is not None
        and maker.op_type == "DequantizeLinear"
        and maker.domain in _DOMAINS_OF_INTEGERS
        and not attributes(maker).get("block_size")
    )
    return maker.inputs[0] if quantised and maker is not None else None


def _dequantised(editor: Editor, node: Node, integers: Array) -> Value:
    """Return turned integers, dequantised as the left operand is; a scale stays with its row or column."""
    left = node.inputs[0]
    maker = left.producer() if left is not None else None
    assert maker is not None
    attrs, last = attributes(maker), integers.ndim - 1
    turned = {last: last - 1, last - 1: last}
    scale = constant(maker.inputs[1])
    if scale is None or scale.size > 1:
        axis = int(attrs.get("axis", 1)) % integers.ndim
        attrs["axis"] = turned.get(axis, axis)
    held = editor.constant(f"{maker.name}.turned", integers)
    return editor.add(
        node,
        "DequantizeLinear",
        [held, *maker.inputs[1:]],
        attrs,
        name=f"{maker.name}.turned",
        domain=maker.domain,
        shape=integers.shape,
    )
