"""Put constants that are added position by position on the membrane's integer grid."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from snnc.ir import (
    AI_SNNC,
    DataType,
    Graph,
    Model,
    Node,
    Shape,
    drop_if_unused,
    initializer,
    insert_node,
    make_node,
)
from snnc.passes.analysis import Constant, Membrane, TypeAnalysis, as_membrane
from snnc.passes.analysis.exact import ExactArray, collapse
from snnc.pipeline.contract import PassResult, Rewrite, Semantics

__all__ = ["RoundConstants"]


@dataclass(frozen=True)
class RoundConstants:
    """Round position embeddings and class tokens to multiples of the step of the membrane they join.

    A constant that depends on one axis (a bias per channel) is left alone: threshold folding takes it up
    exactly. One that depends on several would need a threshold table per position, so it is added to the
    membrane as integers instead.

    Matches: Add and Sub of a membrane and a constant that varies along two or more axes; constants in a
    Concat with membranes.
    Leaves alone: biases per tensor or per channel.
    Keeps: names and shapes.
    """

    name: ClassVar[str] = "round-constants"
    requires: ClassVar[frozenset[str]] = frozenset()
    establishes: ClassVar[frozenset[str]] = frozenset()
    invalidates: ClassVar[frozenset[str]] = frozenset()
    semantics: ClassVar[Semantics] = "approximate"

    def run(self, model: Model) -> PassResult:
        """Insert ``RoundMembrane`` on the constants; the result notes the largest rounding error."""
        analysis = TypeAnalysis(model)
        result = PassResult()
        for node in list(model.graph):
            if node.op_type in ("Add", "Sub", "Concat") and node.domain == "":
                self._convert(model.graph, node, analysis, result)
            analysis.visit(node)
        return result

    def _convert(self, graph: Graph, node: Node, analysis: TypeAnalysis, result: PassResult) -> None:
        kinds = [analysis.kind(value) for value in node.inputs]
        partner = next((base for kind in kinds if (base := as_membrane(kind)) is not None), None)
        if partner is None:
            return
        for position, kind in enumerate(kinds):
            if not isinstance(kind, Constant) or (node.op_type != "Concat" and _axes(kind) < 2):
                continue
            rank = len(analysis.shape(node.outputs[0]))
            array = kind.array.reshape((1,) * (rank - kind.array.ndim) + kind.array.shape)
            exact_step = _step_for(partner, node)
            step = np.broadcast_to(exact_step.astype(np.float64), exact_step.shape)
            stem = f"{node.name}_constant"
            made = make_node(
                graph,
                "RoundMembrane",
                [initializer(graph, stem, array), initializer(graph, f"{stem}_step", np.abs(step))],
                domain=AI_SNNC,
                name=f"{stem}_rounded",
                dtype=DataType.FLOAT,
                shape=Shape(array.shape),
                source=node,
            )
            replaced = node.inputs[position]
            node.replace_input_with(position, insert_node(graph, node, made))
            drop_if_unused(graph, replaced)
            analysis.adopt(made, array.shape)
            result.rewrites.append(Rewrite("round a constant", (), (made.name or "",)))
            result.notes.append(
                f"{node.name}: constant rounded to multiples of {float(np.abs(step).max()):.3g}"
            )


def _axes(kind: Constant) -> int:
    """Number of axes along which a constant really varies."""
    return sum(size > 1 for size in collapse(kind.array).shape)


def _step_for(partner: Membrane, node: Node) -> ExactArray:
    """Step of the membrane a constant joins; in a concatenation one step for all of its channels."""
    if node.op_type != "Concat":
        return partner.step
    axis = int(node.attributes["axis"].as_int()) % partner.step.ndim
    return np.asarray(partner.step.min(axis=axis, keepdims=True), dtype=object)
