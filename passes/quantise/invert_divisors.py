"""Pass ``invert-divisors``: a division by what is no sum of codes multiplies by the reciprocal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from snnc.ir import Model, Node, constant
from snnc.passes.analysis.layout import LAYOUT_OPS
from snnc.passes.editing import Editor, is_standard
from snnc.passes.quantise.sites import host_values
from snnc.pipeline.contract import PassResult, Semantics

__all__ = ["InvertDivisors", "divides_by_a_sum"]

_SUMS = frozenset({"AveragePool", "GlobalAveragePool", "ReduceMean", "ReduceSum", "MatMul"})


@dataclass(frozen=True)
class InvertDivisors:
    """Write ``a / b`` as ``a * (1 / b)`` where ``b`` is computed and no sum of codes.

    A neuron with a gain divides by a sum of codes, and by nothing else. The reciprocal of a code
    is a table of it, and the product of two codes has a form with spikes.

    Matches:
        Div of two computed values.
    Leaves alone:
        "it divides by a sum", which is a gain; divisors that the host computes.
    Keeps:
        The name of the result.
    """

    name: ClassVar[str] = "invert-divisors"
    requires: ClassVar[frozenset[str]] = frozenset({"constants-folded", "unique-names"})
    establishes: ClassVar[frozenset[str]] = frozenset()
    invalidates: ClassVar[frozenset[str]] = frozenset()
    semantics: ClassVar[Semantics] = "approximate"

    def run(self, model: Model) -> PassResult:
        """Rewrite; see the class."""
        editor = Editor(model)
        divisions = [node for node in model.graph if is_standard(node, "Div")]
        host = host_values(model, clipped=True) if divisions else set()
        for node in divisions:
            left, right = node.inputs[:2]
            if left is None or right is None or id(right) in host:
                continue
            if constant(left) is not None or constant(right) is not None:
                continue
            if divides_by_a_sum(node):
                editor.fail("it divides by a sum", node)
                continue
            out, name = node.outputs[0], editor.take_name(node)
            inverse = editor.add(
                node, "Reciprocal", [right], name=f"{name}.reciprocal", dtype=right.dtype, shape=right.shape
            )
            made = editor.add(node, "Mul", [left, inverse], name=name, dtype=out.dtype, shape=out.shape)
            editor.replace("invert a divisor", out, made, removed=[node])
            editor.notes.append(f"{name}: a product with the reciprocal of {right.name}")
        return editor.result()


def divides_by_a_sum(node: Node) -> bool:
    """Whether the divisor of a node is a sum of codes, or of products of codes, and perhaps a constant."""
    value = node.inputs[1]
    while True:
        maker = value.producer() if value is not None else None
        if maker is None or maker.domain not in ("", "ai.onnx"):
            return False
        if maker.op_type in _SUMS:
            return True
        varying = [entry for entry in maker.inputs if entry is not None and constant(entry) is None]
        if maker.op_type in ("Add", "Mul", "Div") and len(varying) == 1:
            if maker.op_type == "Div" and maker.inputs[0] is not varying[0]:
                return False
            value = varying[0]
        elif maker.op_type in LAYOUT_OPS:
            value = maker.inputs[0]
        else:
            return False
