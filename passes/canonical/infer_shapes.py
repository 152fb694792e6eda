"""Pass ``infer-shapes``: every value gets its type and shape."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from snnc.ir import Model, Value, infer_shapes
from snnc.pipeline.contract import NoMatch, PassResult, Rewrite, Semantics

__all__ = ["InferShapes"]


def _values(model: Model) -> list[Value]:
    return [*model.graph.inputs, *(value for node in model.graph for value in node.outputs)]


@dataclass(frozen=True)
class InferShapes:
    """Fill in element types and shapes; a symbolic batch size stays symbolic.

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
        infer_shapes(model)
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
