"""Pass ``group-attention``: global attention on a grid of tokens becomes attention in groups (GW-SSA)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from snnc.ir import Model
from snnc.passes.attention.grid import sides_of
from snnc.passes.attention.pairs import Pairs, dilated, of_groups, windowed
from snnc.passes.attention.recognise import Attention
from snnc.passes.attention.rewrite import accepted, attentions, result
from snnc.passes.attention.writer import Writer
from snnc.passes.editing import Editor
from snnc.pipeline.contract import PassResult, Semantics, whole

__all__ = ["GroupAttention"]


@dataclass(frozen=True)
class GroupAttention:
    """Let each token of a grid attend to some: half of the heads in dilated groups, half in windows.

    A dilated group holds the tokens ``stride`` apart, along rows and columns; a window holds ``window`` x
    ``window`` neighbours. A class token beside the grid is kept apart: it attends to all tokens, and is
    a member of every group. The groups are real: products of other pairs are gone, not masked. What the
    network computes changes; fine-tune it in this form before export to recover what that costs.

    Matches:
        A product of two values of shape (batch, heads, tokens, size), or with heads merged with the batch; a
        Softmax over its last axis; a product with a third such value, on either side. Keys and values may
        have one head for all. In between may stand factors, biases and masks, constant or computed, each
        taken along to the pairs that are left, and quantisers. The tokens, or all but a few in front or
        behind, are a grid: a map that was flattened, or stated.
    Leaves alone:
        "stride ... or window ... does not divide the grid", "its mask closes all that a token of a group
        could attend to"; what `Recogniser` tells: tokens that are no grid, or whose map is not seen, windows,
        attention among channels or to other tokens, mixed heads, scores of no product.
    Keeps:
        The name of the result.

    Attributes:
        stride: Distance of neighbours in a dilated group.
        window: Side of a window; 0: the sides of the grid divided by ``stride``, groups of equal size.
        grid: Height and width of the grid of tokens whose map is not seen, ``4x6``; empty: not stated.

    Source:
        Ge2mS-T (arXiv 2604.08894), GW-SSA; semantics notes 3.1 and 6.2.
    """

    stride: int = whole(2, 1, 1024)
    window: int = whole(0, 0, 1024)
    grid: str = ""

    name: ClassVar[str] = "group-attention"
    requires: ClassVar[frozenset[str]] = frozenset({"constants-folded", "unique-names"})
    establishes: ClassVar[frozenset[str]] = frozenset()
    invalidates: ClassVar[frozenset[str]] = frozenset({"no-dead-code", "sorted"})
    semantics: ClassVar[Semantics] = "approximate"

    def run(self, model: Model) -> PassResult:
        """Rewrite; see the class."""
        editor = Editor(model)
        for found in attentions(editor, stated=sides_of(self.grid)):
            height, width = found.sides
            window = (self.window or height // self.stride, self.window or width // self.stride)
            parts = accepted(editor, found, self._parts(found, window))
            if parts is not None:
                self._group(editor, found, parts, window)
        return result(editor)

    def _parts(self, found: Attention, window: tuple[int, int]) -> list[Pairs] | str:
        divided = zip(found.sides, window, strict=True)
        if any(side % self.stride or not cut or side % cut for side, cut in divided):
            return (
                f"stride {self.stride} or window {window[0]} x {window[1]} does not divide the grid of "
                f"{found.grid} tokens"
            )
        half = (found.heads + 1) // 2
        parts = of_groups(np.arange(half), dilated(found.sides, self.stride), found.extra, found.behind)
        if half < found.heads:
            groups = windowed(found.sides, window)
            parts += of_groups(np.arange(half, found.heads), groups, found.extra, found.behind)
        return parts

    def _group(self, editor: Editor, found: Attention, parts: list[Pairs], window: tuple[int, int]) -> None:
        writer = Writer(editor, found)
        written = writer.merged(writer.write(parts))
        editor.replace(self.name, found.second.outputs[0], written, removed=found.removed)
        half = (found.heads + 1) // 2
        token = ", class token with all" if found.others.size else ""
        editor.notes.append(
            f"{found.softmax.name}: {half} heads in groups of stride {self.stride}, {found.heads - half} in "
            f"windows of {window[0]} x {window[1]} of {found.grid}{token}: "
            f"{100 * writer.share(parts):.1f} % of the pairs are left"
        )
