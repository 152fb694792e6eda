"""Pass ``group-attention``: global attention on a grid of tokens becomes attention in groups (GW-SSA)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from snnc.ir import Model
from snnc.passes.attention.pairs import dilated, of_groups, windowed
from snnc.passes.attention.recognise import Attention, recognise
from snnc.passes.attention.writer import Writer
from snnc.passes.editing import Editor, is_standard
from snnc.pipeline.contract import PassResult, Semantics

__all__ = ["GroupAttention"]


@dataclass(frozen=True)
class GroupAttention:
    """Let each token of a grid attend to some: half of the heads in dilated groups, half in windows.

    A dilated group holds the tokens ``stride`` apart, along rows and columns; a window holds ``window`` x
    ``window`` neighbours. A class token in front of the grid is kept apart: it attends to all tokens, and is
    a member of every group. The groups are real: products of other pairs are gone, not masked. What the
    network computes changes; fine-tune it in this form before export to recover what that costs.

    Matches:
        A product of two values of shape (batch, heads, tokens, size), constant factors, Softmax over the last
        axis, and a product with a third such value, where tokens, or all but the first, are a grid: the map
        that was flattened to tokens, or a square.
    Leaves alone:
        "its heads are no axis of their own", "its tokens are no grid", "stride ... or window ... does
        not divide the grid", "a mask or bias on its scores", "its queries and keys differ in number".
    Keeps:
        The name of the result.

    Attributes:
        stride: Distance of neighbours in a dilated group.
        window: Side of a window; 0: the sides of the grid divided by ``stride``, groups of equal size.

    Source:
        Ge2mS-T (arXiv 2604.08894), GW-SSA; semantics notes 3.1 and 6.2.
    """

    stride: int = 2
    window: int = 0

    name: ClassVar[str] = "group-attention"
    requires: ClassVar[frozenset[str]] = frozenset({"constants-folded", "unique-names"})
    establishes: ClassVar[frozenset[str]] = frozenset()
    invalidates: ClassVar[frozenset[str]] = frozenset({"no-dead-code", "sorted"})
    semantics: ClassVar[Semantics] = "approximate"

    def run(self, model: Model) -> PassResult:
        """Rewrite; see the class."""
        editor = Editor(model)
        for node in [entry for entry in model.graph if is_standard(entry, "Softmax")]:
            found = recognise(node)
            if isinstance(found, str):
                editor.fail(found, node)
                continue
            rows, columns = (self.window or side // max(1, self.stride) for side in found.sides)
            divided = zip(found.sides, (rows, columns), strict=True)
            if any(side % self.stride or not cut or side % cut for side, cut in divided):
                editor.fail(
                    f"stride {self.stride} or window {rows} x {columns} does not divide the grid of "
                    f"{found.grid} tokens",
                    node,
                )
                continue
            self._group(editor, found, (rows, columns))
        return editor.result()

    def _group(self, editor: Editor, found: Attention, window: tuple[int, int]) -> None:
        half = (found.heads + 1) // 2
        parts = of_groups(np.arange(half), dilated(found.sides, self.stride), found.extra)
        if half < found.heads:
            groups = windowed(found.sides, window)
            parts += of_groups(np.arange(half, found.heads), groups, found.extra)
        writer = Writer(editor, found)
        editor.replace(self.name, found.second.outputs[0], writer.write(parts), removed=found.removed)
        token = ", class token with all" if found.extra else ""
        editor.notes.append(
            f"{found.softmax.name}: {half} heads in groups of stride {self.stride}, {found.heads - half} in "
            f"windows of {window[0]} x {window[1]} of {found.grid}{token}: "
            f"{100 * writer.share(parts):.1f} % of the pairs are left"
        )
