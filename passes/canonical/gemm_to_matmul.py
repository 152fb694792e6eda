"""Pass ``gemm-to-matmul``: Gemm becomes MatMul and Add."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from snnc.ir import Model, Node, Shape, Value, attributes, constant
from snnc.passes.editing import Array, Editor, is_standard
from snnc.pipeline.contract import PassResult, Semantics

__all__ = ["GemmToMatmul"]


def _transposed(editor: Editor, node: Node, value: Value, label: str) -> Value:
    """Return the transpose of a matrix: of its content where it is constant, else by a Transpose node."""
    array = constant(value)
    if array is not None:
        return editor.constant(f"{value.name}.transposed", np.ascontiguousarray(array.T))
    shape = Shape(list(reversed(list(value.shape)))) if value.shape is not None else None
    return editor.add(
        node,
        "Transpose",
        [value],
        {"perm": [1, 0]},
        name=f"{node.name}.{label}",
        dtype=value.dtype,
        shape=shape,
    )


def _scaled(editor: Editor, node: Node, value: Value, factor: float, label: str) -> Value:
    """Return ``factor * value`` in the type of the value."""
    if factor == 1.0:
        return value
    array = constant(value)
    dtype = value.dtype.numpy() if value.dtype is not None else np.dtype(np.float32)
    scale: Array = np.asarray(factor, dtype=dtype)
    if array is not None:
        return editor.constant(f"{value.name}.scaled", array * scale)
    held = editor.constant(f"{node.name}.{label}", scale)
    return editor.add(
        node, "Mul", [value, held], name=f"{node.name}.{label}", dtype=value.dtype, shape=value.shape
    )


@dataclass(frozen=True)
class GemmToMatmul:
    """Write Gemm as ``MatMul(A, B) * alpha + C * beta``, transposes done on the constants.

    The function is the same in real arithmetic. In float32 a library may add the bias before or after the
    sum, and multiply by alpha at another place: last bits may differ.

    Matches:
        Every Gemm.
    Leaves alone:
        Nothing.
    Keeps:
        The name of the output; the node that is left last takes the name of the Gemm.
    """

    name: ClassVar[str] = "gemm-to-matmul"
    requires: ClassVar[frozenset[str]] = frozenset({"constants-folded", "unique-names"})
    establishes: ClassVar[frozenset[str]] = frozenset({"no-gemm"})
    invalidates: ClassVar[frozenset[str]] = frozenset()
    semantics: ClassVar[Semantics] = "approximate"

    def run(self, model: Model) -> PassResult:
        """Rewrite; see the class."""
        editor = Editor(model)
        for node in [entry for entry in model.graph if is_standard(entry, "Gemm")]:
            self._rewrite(editor, node)
        if editor.rewrites:
            editor.notes.append(
                f"{len(editor.rewrites)} Gemm nodes add their bias after the sum: float32 results may differ "
                "in the last bits from a library that adds it before"
            )
        return editor.result()

    @staticmethod
    def _rewrite(editor: Editor, node: Node) -> None:
        attrs, out = attributes(node), node.outputs[0]
        left, right = node.inputs[0], node.inputs[1]
        bias = node.inputs[2] if len(node.inputs) > 2 else None
        if left is None or right is None:
            editor.fail("an operand is missing", node)
            return
        if int(attrs.get("transA", 0)):
            left = _transposed(editor, node, left, "left")
        if int(attrs.get("transB", 0)):
            right = _transposed(editor, node, right, "right")
        name = editor.take_name(node)
        total = editor.add(node, "MatMul", [left, right], name=name, dtype=out.dtype, shape=out.shape)
        total = _scaled(editor, node, total, float(attrs.get("alpha", 1.0)), "alpha")
        if bias is not None:
            bias = _scaled(editor, node, bias, float(attrs.get("beta", 1.0)), "beta")
            total = editor.add(
                node, "Add", [total, bias], name=f"{name}.bias", dtype=out.dtype, shape=out.shape
            )
        # The weight that was transposed goes with the Gemm if nothing else reads it.
        editor.replace("gemm-to-matmul", out, total, removed=[node])
