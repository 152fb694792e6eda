"""Pass ``name-nodes``: every node gets a unique name, so that messages can speak of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from snnc.ir import Model
from snnc.pipeline.contract import PassResult, Rewrite, Semantics

__all__ = ["NameNodes"]


@dataclass(frozen=True)
class NameNodes:
    """Name the nodes that have no name, or one that an earlier node has.

    Matches:
        Nodes without a name (they take that of their first output); repeated names (they get a number).
    Leaves alone:
        Every other name: it is the user's.
    Keeps:
        Everything but node names.
    """

    name: ClassVar[str] = "name-nodes"
    requires: ClassVar[frozenset[str]] = frozenset()
    establishes: ClassVar[frozenset[str]] = frozenset({"unique-names"})
    invalidates: ClassVar[frozenset[str]] = frozenset()
    semantics: ClassVar[Semantics] = "exact"

    def run(self, model: Model) -> PassResult:
        """Name; see the class."""
        wished = {node.name for node in model.graph if node.name}
        seen: set[str] = set()
        named: list[str] = []
        for node in model.graph:
            if node.name and node.name not in seen:
                seen.add(node.name)
                continue
            first = next((value.name for value in node.outputs if value.name), None)
            stem = node.name or first or node.op_type
            name, count = stem, 0
            while name in seen or name in wished:
                count += 1
                name = f"{stem}_{count}"
            node.name = name
            seen.add(name)
            named.append(name)
        if not named:
            return PassResult()
        model.graph.meta.pop("snnc.names", None)
        return PassResult([Rewrite("name-nodes", (), tuple(named))])
