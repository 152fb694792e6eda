"""Pass ``inline-functions``: calls of model-local functions become their bodies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from snnc.ir import AI_SNNC, Model
from snnc.ir.rewrite import inline_functions
from snnc.pipeline.contract import PassResult, Rewrite, Semantics

__all__ = ["InlineFunctions"]


@dataclass(frozen=True)
class InlineFunctions:
    """Replace calls of functions that the file brings along by their bodies.

    Matches:
        Every node that calls a function of the model.
    Leaves alone:
        Functions of the domain ``ai.snnc``: their nodes are the quantisers and weights of snnc itself.
    Keeps:
        Names, types and order of graph inputs and outputs.

    Raises:
        InputError: SNN320, functions call each other in a circle or disagree with the model's opsets.
    """

    name: ClassVar[str] = "inline-functions"
    requires: ClassVar[frozenset[str]] = frozenset()
    establishes: ClassVar[frozenset[str]] = frozenset({"no-functions"})
    invalidates: ClassVar[frozenset[str]] = frozenset(
        {"types-known", "shapes-known", "constants-folded", "no-identity", "no-batch-norm", "no-gemm"}
    )
    semantics: ClassVar[Semantics] = "exact"

    def run(self, model: Model) -> PassResult:
        """Inline; see the class."""
        foreign = [key for key in model.functions if key[0] != AI_SNNC]
        if not foreign:
            return PassResult()
        before = {node.name or "" for node in model.graph}
        inline_functions(model, AI_SNNC)
        # Names handed out before are not those of the inlined nodes.
        model.graph.meta.pop("snnc.names", None)
        after = {node.name or "" for node in model.graph}
        return PassResult(
            [Rewrite("inline-functions", tuple(sorted(before - after)), tuple(sorted(after - before)))]
        )
