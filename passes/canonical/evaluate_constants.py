"""Pass ``evaluate-constants``: the remaining nodes with constant inputs are evaluated with numpy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from snnc.ir import Model
from snnc.passes.canonical.fold_constants import fold_node
from snnc.passes.editing import Editor
from snnc.pipeline.contract import PassResult, Semantics, whole

__all__ = ["EvaluateConstants"]


@dataclass(frozen=True)
class EvaluateConstants:
    """Evaluate nodes with constant inputs whose last bits depend on the library (Exp, sums of floats …).

    Weight standardisation and similar chains end here. Run ``fold-constants`` first: what it folds is exact.

    Matches:
        Nodes of standard ops with constant inputs, without subgraphs.
    Leaves alone:
        As ``fold-constants``, except that inexact ops are folded.
    Keeps:
        Value names.

    Attributes:
        max_bytes: Results larger than this, and larger than the inputs, are not stored. Unit: bytes.
    """

    max_bytes: int = whole(2**24, 0, 2**30)

    name: ClassVar[str] = "evaluate-constants"
    requires: ClassVar[frozenset[str]] = frozenset({"sorted", "constants-folded", "unique-names"})
    establishes: ClassVar[frozenset[str]] = frozenset()
    invalidates: ClassVar[frozenset[str]] = frozenset()
    semantics: ClassVar[Semantics] = "approximate"

    def run(self, model: Model) -> PassResult:
        """Fold; see the class."""
        editor = Editor(model)
        for node in list(model.graph):
            fold_node(editor, node, exact=False, max_bytes=self.max_bytes)
        if editor.rewrites:
            rules = sorted({rewrite.rule.removeprefix("fold ") for rewrite in editor.rewrites})
            editor.notes.append(
                f"{len(editor.rewrites)} constant nodes ({', '.join(rules)}) were evaluated with numpy: "
                "another library may differ in the last bits"
            )
        return editor.result()
