"""Pass ``infer-shapes``: every value gets its type and shape."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from snnc.errors import Problem, UnsupportedError, Where
from snnc.ir import AI_SNNC, DataType, Model, Node, Shape, Value, attributes, concrete_shapes, keeps_shape
from snnc.ir.rewrite import infer_with_stand_ins
from snnc.passes.canonical.fix_sizes import OPEN_SIZES
from snnc.passes.editing import is_output, is_standard
from snnc.pipeline.contract import PassResult, Rewrite, Semantics

__all__ = ["InferShapes", "stand_in"]


_FLOAT = int(DataType.FLOAT)


def stand_in(node: Node) -> tuple[str, Mapping[str, Any]] | None:
    """Return a standard op of the same result type and shape for quantisers that ONNX does not know."""
    if node.domain == AI_SNNC:
        return ("Cast", {"to": _FLOAT}) if node.op_type == "Weight" else ("Identity", {})
    if node.domain == "com.microsoft" and node.op_type == "DequantizeLinear":
        return "Cast", {"to": _FLOAT}
    if node.domain == "com.microsoft" and node.op_type == "QuantizeLinear":
        zero = node.inputs[2] if len(node.inputs) > 2 else None
        listed = int(attributes(node).get("output_dtype", 0)) or int(DataType.UINT8)
        return "Cast", {"to": int(zero.dtype) if zero is not None and zero.dtype is not None else listed}
    return ("Identity", {}) if keeps_shape(node) else None


def _values(model: Model) -> list[Value]:
    return [*model.graph.inputs, *(value for node in model.graph for value in node.outputs)]


@dataclass(frozen=True)
class InferShapes:
    """Fill in element types and shapes; a symbolic batch size stays symbolic.

    Quantisers of other tools' domains keep the shape of their input; ONNX itself does not know them.

    Matches:
        Values whose type or shape is unknown or less precise than it could be.
        Statistics of a BatchNormalization that nothing reads, which older opsets give, are dropped.
    Leaves alone:
        Values whose type and shape are known.
    Keeps:
        Everything but types and shapes.

    Raises:
        UnsupportedError: SNN435, some shapes cannot be inferred: data-dependent ones, or custom ops.
    """

    name: ClassVar[str] = "infer-shapes"
    requires: ClassVar[frozenset[str]] = frozenset({"sorted"})
    establishes: ClassVar[frozenset[str]] = frozenset({"types-known", "shapes-known"})
    invalidates: ClassVar[frozenset[str]] = frozenset()
    semantics: ClassVar[Semantics] = "exact"

    def run(self, model: Model) -> PassResult:
        """Infer; see the class."""
        dropped = _drop_statistics(model)
        before = {id(value): f"{value.dtype} {value.shape}" for value in _values(model)}
        infer_with_stand_ins(model, stand_in)
        _fill_from_two_batches(model)
        changed = [
            value.name or ""
            for value in _values(model)
            if f"{value.dtype} {value.shape}" != before.get(id(value))
        ]
        unknown = [
            Problem(
                f"the type or shape of the result of {node.op_type} cannot be inferred", Where(node=node.name)
            )
            for node in model.graph
            if any(value.name and (value.shape is None or value.dtype is None) for value in node.outputs)
        ]
        if unknown:
            raise UnsupportedError(
                "SNN435",
                f"{len(unknown)} shapes are unknown",
                problems=unknown,
                hint=OPEN_SIZES,
            )
        rewrites = [Rewrite("infer-shapes", (), (), f"{len(changed)} values")] if changed else []
        if dropped:
            note = f"of {', '.join(dropped)}"
            rewrites.append(Rewrite("drop statistics that nothing reads", (), (), note))
        return PassResult(rewrites)


def _drop_statistics(model: Model) -> list[str]:
    """Drop statistics that nothing reads, which have no type in old opsets; name the nodes that gave them.

    Exporters write the normalisation of weights so, with their mean and variance as inputs.
    """
    dropped: list[str] = []
    for node in model.graph:
        unread = node.outputs[1:]
        if not is_standard(node, "BatchNormalization") or attributes(node).get("training_mode", 0):
            continue
        if unread and not any(value.uses() or is_output(value) for value in unread):
            node.resize_outputs(1)
            dropped.append(node.name or "")
    return dropped


def _fill_from_two_batches(model: Model) -> None:
    """Find shapes that hang on computations with a free batch size, by inference at two sizes of it."""
    missing = [value for value in _values(model) if value.name and value.shape is None]
    if not missing:
        return
    one, two = concrete_shapes(model, 1), concrete_shapes(model, 2)
    for value in missing:
        first, second = one.get(value.name or ""), two.get(value.name or "")
        if first is not None and second is not None and len(first) == len(second):
            dims = zip(first, second, strict=True)
            value.shape = Shape([a if a == b else f"batch_times_{a}" for a, b in dims])
