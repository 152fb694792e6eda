"""Pass ``remove-straight-through``: ``x + (q(x) - x)`` becomes ``q(x)``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from snnc.ir import Model, Node, Value
from snnc.passes.editing import Editor, is_standard, only_consumer
from snnc.pipeline.contract import PassResult, Semantics

__all__ = ["RemoveStraightThrough"]


def _detached(node: Node) -> tuple[Value, Node] | None:
    """Return q and the Sub node of ``x + (q - x)``, or of ``x - (x - q)``."""
    left, right = node.inputs[0], node.inputs[1]
    pairs = [(left, right), (right, left)] if node.op_type == "Add" else [(left, right)]
    for kept, other in pairs:
        inner = other.producer() if other is not None else None
        if inner is None or not is_standard(inner, "Sub") or kept is None or only_consumer(other) is not node:
            continue
        minuend, subtrahend = inner.inputs[0], inner.inputs[1]
        if node.op_type == "Add" and subtrahend is kept and minuend is not None:
            return minuend, inner
        if node.op_type == "Sub" and minuend is kept and subtrahend is not None:
            return subtrahend, inner
    return None


@dataclass(frozen=True)
class RemoveStraightThrough:
    """Take away the straight-through estimator of training code, which stays in an export.

    ``x + (round(x) - x).detach()`` is ``round(x)`` in real arithmetic, and in float32 too while x and its
    rounded value are within a factor of two of each other (Sterbenz) or one of them is 0.

    Matches:
        ``x + (q - x)``, ``(q - x) + x`` and ``x - (x - q)`` where nothing else reads the difference.
    Leaves alone:
        Every other sum.
    Keeps:
        The name of the result where the graph returns it.
    """

    name: ClassVar[str] = "remove-straight-through"
    requires: ClassVar[frozenset[str]] = frozenset({"sorted", "unique-names"})
    establishes: ClassVar[frozenset[str]] = frozenset()
    invalidates: ClassVar[frozenset[str]] = frozenset()
    semantics: ClassVar[Semantics] = "approximate"

    def run(self, model: Model) -> PassResult:
        """Remove; see the class."""
        editor = Editor(model)
        for node in [entry for entry in model.graph if is_standard(entry, "Add", "Sub")]:
            found = _detached(node)
            if found is None:
                continue
            quantised, difference = found
            rule = "remove-straight-through"
            if not editor.replace(rule, node.outputs[0], quantised, removed=[difference]):
                editor.fail("its result is an output of the graph and so is what it would become", node)
        if editor.rewrites:
            editor.notes.append(
                f"{len(editor.rewrites)} sums x + (q - x) taken as q: equal in real arithmetic, and in "
                "float32 up to the last bit"
            )
        return editor.result()
