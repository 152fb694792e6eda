"""Pass ``check-layers``: every rule for single layers means some."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import ClassVar

from snnc.errors import Problem, UsageError
from snnc.ir import Model, constant
from snnc.passes.layers import Chooser, Place
from snnc.passes.quantise.sites import quantiser_sites
from snnc.passes.recognise.recode import quantisers
from snnc.pipeline.contract import PassResult, Semantics
from snnc.settings import LayerRule

__all__ = ["CheckLayers", "places"]

_CODES = frozenset({"timesteps", "groups", "partition"})


@dataclass(frozen=True)
class CheckLayers:
    """Refuse rules that choose a code for no code, or a weight format for no float weights.

    Matches:
        Nothing: no node is changed.
    Leaves alone:
        Everything.
    Keeps:
        The graph.

    Attributes:
        layers: Rules for single layers; see `snnc.settings.LayerRule`.

    Raises:
        UsageError: SNN276, rules match nothing, each with names that are near.
    """

    layers: tuple[str, ...] = ()

    name: ClassVar[str] = "check-layers"
    requires: ClassVar[frozenset[str]] = frozenset({"constants-folded", "unique-names"})
    establishes: ClassVar[frozenset[str]] = frozenset()
    invalidates: ClassVar[frozenset[str]] = frozenset()
    semantics: ClassVar[Semantics] = "exact"

    def run(self, model: Model) -> PassResult:
        """Check; see the class."""
        result = PassResult()
        if not self.layers:
            return result
        codes, weights = places(model)
        problems = []
        for rule in Chooser(model, self.layers).rules:
            chosen = {name for name, _ in rule.values}
            found = [_matching(rule, codes), _matching(rule, weights)]
            result.notes.append(f"{rule}: {len(found[0])} codes, {len(found[1])} layers with float weights")
            if chosen & _CODES and not found[0]:
                problems.append(Problem(f"the rule {str(rule)!r} matches no code{_near(rule, codes)}"))
            if chosen - _CODES and not found[1]:
                reason = _near(rule, weights) or "; integer weights of the source stay as they are"
                problems.append(
                    Problem(f"the rule {str(rule)!r} matches no layer with float weights{reason}")
                )
        if problems:
            first, *others = problems
            raise UsageError(
                "SNN276",
                first.message if not others else f"{len(problems)} rules for layers match nothing",
                hint="a rule means nodes and tensors by name, glob pattern or role; see docs/recipe.md",
                problems=problems if others else (),
            )
        return result


def places(model: Model) -> tuple[list[Place], list[Place]]:
    """Return the codes of a recognised model that rules can choose, and its layers with float weights.

    Args:
        model: A model as ``recode`` gets it; not changed.
    """
    sites = [site.value for site in quantiser_sites(model)]
    chooser = Chooser(model, (), sites)
    coded = [*(node.outputs[0] for node in quantisers(model)), *sites]
    products = [
        node
        for node in model.graph
        if node.op_type in ("Conv", "MatMul") and node.domain == "" and constant(node.inputs[1]) is not None
    ]
    return [chooser.place_of_code(value) for value in coded], [
        chooser.place_of_weights(node) for node in products
    ]


def _matching(rule: LayerRule, candidates: Iterable[Place]) -> list[Place]:
    return [place for place in candidates if rule.applies(place.names, place.roles)]


def _near(rule: LayerRule, candidates: list[Place]) -> str:
    """Return what a rule that matches none of some places may have meant, as text."""
    if not candidates:
        return ""
    if rule.role is not None and not any(rule.role in place.roles for place in candidates):
        roles = sorted({role for place in candidates for role in place.roles})
        return f"; their roles are {', '.join(roles)}"
    names = sorted({name for place in candidates for name in place.names})
    near = get_close_matches(rule.match, names, n=3, cutoff=0.5)
    if near:
        return f"; did you mean {' or '.join(near)}?"
    return f"; there are {', '.join(place.name for place in candidates[:3])} and others"
