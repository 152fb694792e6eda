"""Pass ``take-branches``: an If that shapes decide becomes the branch that is taken."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy.typing as npt

from snnc.ir import Graph, Model, Node, constant, settled
from snnc.ir.bodies import body_of, copy_body, lift_body_constants, release_body
from snnc.passes.editing import Editor, is_standard
from snnc.pipeline.contract import PassResult, Semantics

__all__ = ["TakeBranches"]

#: What is the same at these batch sizes is taken to be so at all.
_BATCHES = (1, 2, 3, 7)
_BRANCHES = ("then_branch", "else_branch")

Contents = Sequence[Mapping[str, npt.NDArray[Any]]]


@dataclass(frozen=True)
class TakeBranches:
    """Put the nodes of one branch in the place of an If whose condition is a constant or follows from shapes.

    torch's older exporter asks at run time whether an axis that it squeezes has size one, and torch's own
    functions whether a tensor is empty: of a network with sizes of its own both are decided.

    Matches:
        If whose condition is the same at every batch size.
    Leaves alone:
        "its condition depends on the data", "the branch that is taken holds control flow": refused later.
    Keeps:
        The names of the outputs.
    """

    name: ClassVar[str] = "take-branches"
    requires: ClassVar[frozenset[str]] = frozenset({"sorted", "unique-names", "no-functions"})
    establishes: ClassVar[frozenset[str]] = frozenset()
    invalidates: ClassVar[frozenset[str]] = frozenset({"constants-folded", "no-dead-code"})
    semantics: ClassVar[Semantics] = "exact"

    def run(self, model: Model) -> PassResult:
        """Rewrite; see the class."""
        editor = Editor(model)
        while choices := [node for node in model.graph if is_standard(node, "If")]:
            # What stands behind one If may have shapes only once it is gone.
            contents: Contents = [found for _, found in settled(model, *_BATCHES)]
            taken = 0
            for node in choices:
                decided = _decided(node, contents)
                branch = body_of(node, _BRANCHES[0 if decided else 1]) if decided is not None else None
                if branch is not None:
                    _take(editor, node, branch)
                    taken += 1
            if not taken:
                break
        for node in model.graph:
            if is_standard(node, "If"):
                editor.fail("its condition depends on the data, or a branch holds control flow", node)
        return editor.result()


def _decided(node: Node, contents: Contents) -> bool | None:
    """Return the condition of an If, None where it is not settled."""
    condition = node.inputs[0]
    if condition is None:
        return None
    held = constant(condition)
    arrays = [held] if held is not None else [entry.get(condition.name or "") for entry in contents]
    values = {bool(array.reshape(-1)[0]) for array in arrays if array is not None and array.size == 1}
    known = len(values) == 1 and all(array is not None and array.size == 1 for array in arrays)
    return values.pop() if known else None


def _take(editor: Editor, node: Node, branch: Graph) -> None:
    """Copy a branch in front of its If, whose outputs it gives."""
    known = lift_body_constants(editor.graph, branch)
    results, made = copy_body(editor.graph, node, branch, known, "")
    for copied in made:
        editor.adopt(copied)
    for old, new in zip(node.outputs, results, strict=True):
        if old.uses() or old.is_graph_output():
            inner = any(new is value for copied in made for value in copied.outputs)
            alone = inner and not old.is_graph_output()
            last = (
                new
                if alone
                else editor.add(node, "Identity", [new], name=f"{old.name}.taken", dtype=new.dtype)
            )
            editor.replace(TakeBranches.name, old, last)
    for name in _BRANCHES:
        attr = node.attributes.get(name)
        if attr is not None:
            release_body(attr.as_graph())
    editor.record(TakeBranches.name, [node])
