"""Pass ``drop-dead-code``: what reaches no output goes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from snnc.ir import Function, Graph, Model
from snnc.ir.rewrite import drop_unused
from snnc.pipeline.contract import PassResult, Rewrite, Semantics

__all__ = ["DropDeadCode"]


@dataclass(frozen=True)
class DropDeadCode:
    """Remove nodes, weights, functions and opset imports that reach no output.

    Matches:
        Nodes none of whose outputs is read; initializers, functions and opset imports without a user.
    Leaves alone:
        Graph inputs, read or not: they are the caller's.
    Keeps:
        Names, types and order of graph inputs and outputs.
    """

    name: ClassVar[str] = "drop-dead-code"
    requires: ClassVar[frozenset[str]] = frozenset({"sorted"})
    establishes: ClassVar[frozenset[str]] = frozenset({"no-dead-code"})
    invalidates: ClassVar[frozenset[str]] = frozenset()
    semantics: ClassVar[Semantics] = "exact"

    def run(self, model: Model) -> PassResult:
        """Drop; see the class."""
        before, names = _held(model), {node.name or "" for node in model.graph}
        weights = len(model.graph.initializers)
        drop_unused(model)
        if _held(model) == before:
            return PassResult()
        gone = names - {node.name or "" for node in model.graph}
        note = f"{weights - len(model.graph.initializers)} weights"
        return PassResult([Rewrite("drop-dead-code", tuple(sorted(gone)), (), note)])


def _held(model: Model) -> list[Any]:
    """Return all that can be dropped: nodes with what they give and read, weights, functions, opsets."""
    graphs: list[Graph | Function] = [model.graph, *model.functions.values()]
    nodes = [
        # Attributes too: those that only say which outputs there are go with them.
        (
            id(node),
            [v and v.name for v in (*node.inputs, *node.outputs)],
            len(node.inputs),
            [*node.attributes],
        )
        for graph in graphs
        for node in graph.all_nodes()
    ]
    opsets = [sorted(graph.opset_imports.items()) for graph in graphs]
    weights = [sorted(graph.initializers) for graph in (model.graph, *model.graph.subgraphs())]
    return [nodes, opsets, weights, list(model.functions)]
