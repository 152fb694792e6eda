"""Pass ``freeze-defaults``: graph inputs that have a default value become constants."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from snnc.ir import Model
from snnc.pipeline.contract import PassResult, Rewrite, Semantics

__all__ = ["FreezeDefaults"]


@dataclass(frozen=True)
class FreezeDefaults:
    """Drop graph inputs that an initializer gives a value: old exporters list every weight as an input.

    Matches:
        Graph inputs of the same name as an initializer.
    Leaves alone:
        Inputs that the caller must give.
    Keeps:
        Names, types and order of the inputs that the caller must give, and of the outputs.
    """

    name: ClassVar[str] = "freeze-defaults"
    requires: ClassVar[frozenset[str]] = frozenset()
    establishes: ClassVar[frozenset[str]] = frozenset()
    invalidates: ClassVar[frozenset[str]] = frozenset()
    semantics: ClassVar[Semantics] = "exact"

    def run(self, model: Model) -> PassResult:
        """Freeze; see the class."""
        frozen = [value for value in model.graph.inputs if value.is_initializer()]
        for value in frozen:
            model.graph.inputs.remove(value)
        names = [value.name or "" for value in frozen]
        if not names:
            return PassResult()
        note = f"optional inputs now hold their default values: {', '.join(names)}"
        return PassResult([Rewrite("freeze-defaults", (), (), note)], [], [note])
