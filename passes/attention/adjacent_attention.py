"""Pass ``adjacent-attention``: global attention on a grid of patches becomes attention between neighbours."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from snnc.ir import Model
from snnc.passes.attention.grid import sides_of
from snnc.passes.attention.pairs import Pairs, neighbours
from snnc.passes.attention.recognise import Attention
from snnc.passes.attention.rewrite import accepted, attentions, result
from snnc.passes.attention.writer import Writer
from snnc.passes.editing import Editor
from snnc.pipeline.contract import PassResult, Semantics, whole

__all__ = ["AdjacentAttention"]


@dataclass(frozen=True)
class AdjacentAttention:
    """Let each patch of a grid attend to its neighbours only: the patch-adjacency mask, with real skipping.

    Neighbours are at most ``window // 2`` rows and columns apart. A class token beside the grid attends
    to all and is seen by all. Products of other pairs are gone, not masked: patches with equally many
    neighbours are computed together. What the network computes changes; fine-tune it in this form before
    export to recover what that costs.

    Matches:
        What `GroupAttention` matches.
    Leaves alone:
        "a window of ... leaves no pair out", and as `GroupAttention` does.
    Keeps:
        The name of the result.

    Attributes:
        window: Side of the neighbourhood, odd.
        grid: Height and width of the grid of tokens whose map is not seen, ``4x6``; empty: not stated.

    Source:
        BSViT (arXiv 2604.23165), patch-adjacency masking; semantics note 5.1.
    """

    window: int = whole(3, 1, 1024)
    grid: str = ""

    name: ClassVar[str] = "adjacent-attention"
    requires: ClassVar[frozenset[str]] = frozenset({"constants-folded", "unique-names"})
    establishes: ClassVar[frozenset[str]] = frozenset()
    invalidates: ClassVar[frozenset[str]] = frozenset({"no-dead-code", "sorted"})
    semantics: ClassVar[Semantics] = "approximate"

    def run(self, model: Model) -> PassResult:
        """Rewrite; see the class."""
        editor = Editor(model)
        for found in attentions(editor, stated=sides_of(self.grid)):
            parts = accepted(editor, found, self._parts(found))
            if parts is None:
                continue
            writer = Writer(editor, found)
            written = writer.merged(writer.write(parts))
            editor.replace(self.name, found.second.outputs[0], written, removed=found.removed)
            editor.notes.append(
                f"{found.softmax.name}: neighbours in {self.window} x {self.window}"
                f" of {found.grid}{', class token with all' if found.others.size else ''}: "
                f"{100 * writer.share(parts):.1f} % of the pairs are left"
            )
        return result(editor)

    def _parts(self, found: Attention) -> list[Pairs] | str:
        if self.window // 2 >= max(found.sides) - 1:
            return f"a window of {self.window} leaves no pair out of {found.grid}"
        return neighbours(np.arange(found.heads), found.sides, self.window, found.extra, found.behind)
