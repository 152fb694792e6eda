"""Pass ``sort-nodes``: nodes stand after the nodes whose outputs they read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from snnc.ir import Model
from snnc.ir.rewrite import sort_graph
from snnc.pipeline.contract import PassResult, Rewrite, Semantics

__all__ = ["SortNodes"]


@dataclass(frozen=True)
class SortNodes:
    """Sort the nodes topologically; an order that is one already stays as the file has it.

    Matches:
        Graphs in which a node stands before one whose output it reads.
    Leaves alone:
        Sorted graphs.
    Keeps:
        Everything but the order.

    Raises:
        InputError: SNN321, the graph has a cycle.
    """

    name: ClassVar[str] = "sort-nodes"
    requires: ClassVar[frozenset[str]] = frozenset()
    establishes: ClassVar[frozenset[str]] = frozenset({"sorted"})
    invalidates: ClassVar[frozenset[str]] = frozenset()
    semantics: ClassVar[Semantics] = "exact"

    def run(self, model: Model) -> PassResult:
        """Sort; see the class."""
        return PassResult([Rewrite("sort-nodes")] if sort_graph(model) else [])
