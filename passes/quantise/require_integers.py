"""Refuse what has no integer form, all of it at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from snnc.errors import Problem, UnsupportedError, Where
from snnc.ir import AI_SNNC, Model, Node
from snnc.passes.analysis import Activated, FloatValue, TypeAnalysis, analyse
from snnc.passes.quantise.sites import SITE
from snnc.pipeline.contract import PassResult, Semantics

__all__ = ["RequireIntegers"]


@dataclass(frozen=True)
class RequireIntegers:
    """Check that every value is a code, a membrane, or float on the way from the input to its encoder.

    Changes nothing. Only the nodes at which the integer form is lost are reported, not all that follow.
    """

    name: ClassVar[str] = "require-integers"
    requires: ClassVar[frozenset[str]] = frozenset()
    establishes: ClassVar[frozenset[str]] = frozenset({"quant"})
    invalidates: ClassVar[frozenset[str]] = frozenset()
    semantics: ClassVar[Semantics] = "exact"

    def run(self, model: Model) -> PassResult:
        """Check the graph.

        Raises:
            UnsupportedError: SNN401 with every node that has no integer form, and why.
        """
        _refuse_floats(model, analyse(model))
        return PassResult()


def _refuse_floats(model: Model, analysis: TypeAnalysis) -> None:
    """Collect every node that has no integer form though its inputs have one."""
    problems = []
    for node in model.graph:
        for value in node.outputs:
            kind = analysis.kind(value)
            if isinstance(kind, FloatValue) and not kind.on_host and _is_root(node, analysis):
                problems.append(Problem(f"{node.op_type}: {kind.reason}", Where(node=node.name)))
                break
    for value in model.graph.outputs:
        kind = analysis.kind(value)
        if isinstance(kind, Activated):
            text = "this output is an activation function that no quantiser follows"
            problems.append(Problem(text, Where(tensor=value.name)))
        if isinstance(kind, FloatValue) and kind.from_input and not kind.hosted:
            problems.append(
                Problem("this output is computed in float from the input alone", Where(tensor=value.name))
            )
    if problems:
        raise UnsupportedError(
            "SNN401",
            f"{len(problems)} node(s) have no integer form",
            where=Where(pass_name=RequireIntegers.name),
            problems=problems,
            hint=_remedy(model),
        )


def _remedy(model: Model) -> str:
    """Say what helps: quantisers only where the network brought its own, and not ours."""
    made = [node for node in model.graph if node.domain == AI_SNNC and node.op_type == "Quantise"]
    if made and all(SITE in node.metadata_props for node in made):
        return "write these parts with other operators, or cut the model in front of them"
    return "every product needs a quantiser before it and every activation one behind it"


def _is_root(node: Node, analysis: TypeAnalysis) -> bool:
    return all(
        not isinstance(kind := analysis.kind(value), FloatValue) or kind.on_host
        for value in node.inputs
        if value is not None
    )
