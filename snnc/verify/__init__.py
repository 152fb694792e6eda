"""Invariants of graphs and the verifiers of the dialects ``ann``, ``quant`` and ``spike``."""

from __future__ import annotations

from collections.abc import Mapping

from snnc.errors import Problem
from snnc.ir import Model
from snnc.verify.dialects import CODES, DIALECTS, Dialect
from snnc.verify.invariants import STRUCTURE, Invariant

__all__ = ["DIALECTS", "INVARIANTS", "Dialect", "Invariant", "dialect_of", "verify_dialect"]


def verify_dialect(model: Model, name: str) -> list[Problem]:
    """List everything that keeps a model out of a dialect: foreign operators first, then broken invariants.

    Args:
        model: The model; not changed.
        name: ``ann``, ``quant`` or ``spike``.

    Returns:
        The findings; empty if the model is in the dialect.
    """
    dialect = DIALECTS[name]
    problems = dialect.check(model)
    for invariant in dialect.invariants:
        problems += _BASIC[invariant].check(model)
    return problems


def dialect_of(model: Model) -> str | None:
    """Return the dialect whose operators a model holds: by its operators only, invariants aside.

    Args:
        model: Any model.

    Returns:
        ``spike``, ``quant`` or ``ann``, or None for a model that mixes them or has foreign operators. A float
        network with the quantisers it was trained with, and weights still in float, is ``ann``.
    """
    operators = {node.op_type for node in model.graph if node.domain == "ai.snnc"}
    if operators <= {"Quantise"}:
        known = ("", "ai.onnx", "ai.snnc")
        return "ann" if all(node.domain in known for node in model.graph) else None
    for name in ("spike", "quant"):
        if operators <= DIALECTS[name].own:
            return name
    return None


def _dialect_invariant(dialect: Dialect) -> Invariant:
    def check(model: Model) -> list[Problem]:
        return verify_dialect(model, dialect.name)

    return Invariant(dialect.name, dialect.text, check)


_BASIC: Mapping[str, Invariant] = {entry.name: entry for entry in (*STRUCTURE, *CODES)}

#: All invariants by name; the names of dialects stand for their verifiers.
INVARIANTS: Mapping[str, Invariant] = {
    **_BASIC,
    **{dialect.name: _dialect_invariant(dialect) for dialect in DIALECTS.values()},
}
