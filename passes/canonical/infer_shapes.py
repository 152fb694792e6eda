"""Pass ``infer-shapes``: every value gets its type and shape."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from snnc.ir import AI_SNNC, DataType, Model, Node, Value, attributes
from snnc.ir.rewrite import infer_with_stand_ins
from snnc.pipeline.contract import NoMatch, PassResult, Rewrite, Semantics

__all__ = ["InferShapes"]


_FLOAT = int(DataType.FLOAT)
_QONNX = ("qonnx.custom_op.general", "onnx.brevitas", "finn.custom_op.general", "qonnx.custom_op", "finn")


def _stand_in(node: Node) -> tuple[str, Mapping[str, Any]] | None:
    """Return a standard op of the same result type and shape for quantisers that ONNX does not know."""
    if node.domain == AI_SNNC:
        return ("Cast", {"to": _FLOAT}) if node.op_type == "Weight" else ("Identity", {})
    if node.domain in _QONNX:
        return "Identity", {}
    if node.domain != "com.microsoft":
        return None
    if node.op_type == "DequantizeLinear":
        return "Cast", {"to": _FLOAT}
    if node.op_type == "QuantizeLinear":
        zero = node.inputs[2] if len(node.inputs) > 2 else None
        listed = int(attributes(node).get("output_dtype", 0)) or int(DataType.UINT8)
        return "Cast", {"to": int(zero.dtype) if zero is not None and zero.dtype is not None else listed}
    return None


def _values(model: Model) -> list[Value]:
    return [*model.graph.inputs, *(value for node in model.graph for value in node.outputs)]


@dataclass(frozen=True)
class InferShapes:
    """Fill in element types and shapes; a symbolic batch size stays symbolic.

    Quantisers of other tools' domains keep the shape of their input; ONNX itself does not know them.

    Matches:
        Values whose type or shape is unknown or less precise than it could be.
    Leaves alone:
        "ONNX cannot infer the shape": custom ops without a function body, data-dependent shapes.
    Keeps:
        Everything but types and shapes.
    """

    name: ClassVar[str] = "infer-shapes"
    requires: ClassVar[frozenset[str]] = frozenset({"sorted"})
    establishes: ClassVar[frozenset[str]] = frozenset({"types-known", "shapes-known"})
    invalidates: ClassVar[frozenset[str]] = frozenset()
    semantics: ClassVar[Semantics] = "exact"

    def run(self, model: Model) -> PassResult:
        """Infer; see the class."""
        before = {id(value): f"{value.dtype} {value.shape}" for value in _values(model)}
        infer_with_stand_ins(model, _stand_in)
        changed = [
            value.name or ""
            for value in _values(model)
            if f"{value.dtype} {value.shape}" != before.get(id(value))
        ]
        unknown = [
            NoMatch("ONNX cannot infer the shape", node.name or "")
            for node in model.graph
            if any(value.name and (value.shape is None or value.dtype is None) for value in node.outputs)
        ]
        rewrites = [Rewrite("infer-shapes", (), (), f"{len(changed)} values")] if changed else []
        return PassResult(rewrites, unknown)
