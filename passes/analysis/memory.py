"""Remembers the kinds of a graph's values from pass to pass: most nodes do not change in between."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from snnc.ir import Graph, Node, Value
from snnc.passes.analysis.kinds import Kind

__all__ = ["Memory", "Situation", "content", "forget"]

_KEY = "snnc.kinds"


@dataclass(frozen=True, eq=False)
class Situation:
    """All that the kinds of a node's outputs depend on.

    Attributes:
        objects: Kinds and constants it reads, and its attributes; the same only if they are the same objects,
            which nobody changes.
        facts: Operator and shapes.
    """

    objects: tuple[object, ...]
    facts: tuple[Any, ...]

    def same(self, other: Situation) -> bool:
        """Whether nothing has changed."""
        return (
            self.facts == other.facts
            and len(self.objects) == len(other.objects)
            and all(one is two for one, two in zip(self.objects, other.objects, strict=True))
        )


class Memory:
    """Kinds found by the previous analysis of a graph, and by this one.

    They lie in the notes of the graph, which belong to no file; what an analysis did not meet is forgotten at
    the next one.

    Args:
        graph: The graph.
    """

    def __init__(self, graph: Graph) -> None:
        self._before: dict[int, tuple[Node, Situation, Sequence[Kind]]] = graph.meta.get(_KEY, {})
        self._now: dict[int, tuple[Node, Situation, Sequence[Kind]]] = {}
        graph.meta[_KEY] = self._now

    def recall(self, node: Node, situation: Situation) -> Sequence[Kind] | None:
        """Return the kinds of a node's outputs if it was seen in the same situation."""
        for store in (self._now, self._before):
            found = store.get(id(node))
            # An entry holds its node, so the number of a node that is gone is not given to another one.
            if found is not None and found[0] is node and found[1].same(situation):
                self._now[id(node)] = found
                return found[2]
        return None

    def keep(self, node: Node, situation: Situation, kinds: Sequence[Kind]) -> None:
        """Remember the kinds of a node's outputs."""
        self._now[id(node)] = (node, situation, kinds)


def forget(graph: Graph) -> None:
    """Drop what is remembered of a graph."""
    graph.meta.pop(_KEY, None)


def content(value: Value) -> object:
    """Return the object that holds a constant; it stays the same as long as the constant does."""
    if value.const_value is not None:
        return value.const_value
    producer = value.producer()
    return producer if producer is not None and producer.op_type == "Constant" else None
