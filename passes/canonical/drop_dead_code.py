"""Pass ``drop-dead-code``: what reaches no output goes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from snnc.ir import Model
from snnc.ir.rewrite import drop_unused
from snnc.pipeline.contract import PassResult, Rewrite, Semantics
from snnc.pipeline.digest import GraphDigest

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
        # Weights are dropped or stay as they are.
        digest = GraphDigest(content=False)
        before, names = digest(model), {node.name or "" for node in model.graph}
        weights = len(model.graph.initializers)
        drop_unused(model)
        if digest(model) == before:
            return PassResult()
        gone = names - {node.name or "" for node in model.graph}
        note = f"{weights - len(model.graph.initializers)} weights"
        return PassResult([Rewrite("drop-dead-code", tuple(sorted(gone)), (), note)])
