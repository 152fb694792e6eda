"""Pass ``recode``: every activation gets the requested code."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from snnc.coding import CodeBook, Partition, Ties, optimal_step
from snnc.ir import AI_SNNC, Model, Node, attributes, constant
from snnc.ir.rewrite import set_attribute
from snnc.passes.editing import Array, Editor
from snnc.passes.recognise.uniform import quantise_attributes
from snnc.pipeline.contract import PassResult, Semantics

__all__ = ["Recode"]


def _holding(wanted: CodeBook, book: CodeBook) -> CodeBook | None:
    """Return the wanted book restricted to exactly the codes of another; None if it lacks some."""
    if not np.isin(book.codes, wanted.codes).all():
        return None
    result = wanted.restricted(book.smallest, book.largest)
    return result if result.levels == book.levels else None


def _fitted(book: CodeBook, source: CodeBook) -> CodeBook:
    """Return the book whose best step stands for another: one-sided where the source is, else symmetric."""
    one_sided = -source.smallest <= source.largest / 4
    reach = book.max_abs
    return CodeBook(
        book.timesteps,
        book.groups,
        book.partition,
        signed=not one_sided,
        smallest=0 if one_sided else -reach,
        largest=reach,
    )


def _approximate(wanted: CodeBook, book: CodeBook) -> tuple[CodeBook, float]:
    """Return the wanted book restricted to the range of another, and the ratio of their best steps.

    Semantics notes 1.8: for inputs of one distribution the best steps of two books stand in a fixed ratio.
    """
    ratio = optimal_step(_fitted(wanted, book)) / optimal_step(_fitted(book, book))
    # A range that the old quantiser cuts on one side (a zero point, QCFS with few levels) stays cut there.
    low, high = wanted.smallest, wanted.largest
    if book.smallest > -book.max_abs:
        low = int(wanted.nearest(np.asarray(book.smallest / ratio)))
    if book.largest < book.max_abs:
        high = int(wanted.nearest(np.asarray(book.largest / ratio)))
    result = wanted.restricted(low, high)
    return (result if result.levels > 1 else wanted), ratio


@dataclass(frozen=True)
class Recode:
    """Change the code book of every quantiser to T time-steps, G groups and a partition.

    Where the requested book holds all codes of the present one (as with G = T and enough time-steps) only
    the patterns change: no value does. Otherwise the step is multiplied by the ratio of the steps that are
    best for a normal distribution under the new and the old book, and mid-points go away from zero.

    Matches:
        Quantise nodes with another code book.
    Leaves alone:
        Quantise nodes that have the requested code book; "its step is not constant".
    Keeps:
        Shapes and names; signed quantisers stay signed, unsigned ones unsigned.

    Attributes:
        timesteps: T, 1 to 16; None keeps that of each quantiser.
        groups: G, 1 to T; None keeps that of each quantiser, or G = T where it is so now.
        partition: ``interleaved`` or ``contiguous``.

    Raises:
        UsageError: SNN201 to SNN203, an option is out of range.
    """

    timesteps: int | None = None
    groups: int | None = None
    partition: Partition = "interleaved"

    name: ClassVar[str] = "recode"
    requires: ClassVar[frozenset[str]] = frozenset({"constants-folded", "unique-names"})
    establishes: ClassVar[frozenset[str]] = frozenset()
    invalidates: ClassVar[frozenset[str]] = frozenset()
    semantics: ClassVar[Semantics] = "approximate"

    def run(self, model: Model) -> PassResult:
        """Recode; see the class."""
        editor = Editor(model)
        for node in [
            entry for entry in model.graph if entry.domain == AI_SNNC and entry.op_type == "Quantise"
        ]:
            self._recode(editor, node)
        return editor.result()

    def _recode(self, editor: Editor, node: Node) -> None:
        attrs = attributes(node)
        book, ties = CodeBook.from_attributes(attrs), attrs["ties"]
        wanted = self._wanted(book)
        exact = _holding(wanted, book)
        if exact is not None:
            if exact != book:
                self._set(editor, node, exact, ties, f"{book.levels} levels stay")
            return
        step = constant(node.inputs[1])
        if step is None:
            editor.fail("its step is not constant", node)
            return
        new, ratio = _approximate(wanted, book)
        note = f"{book.levels} levels become {new.levels}, the step grows by {ratio:.6g}"
        self._set(editor, node, new, "away", note, (step.astype(np.float64) * ratio).astype(np.float32))
        editor.notes.append(f"{node.outputs[0].name}: {note}")

    def _wanted(self, book: CodeBook) -> CodeBook:
        timesteps = self.timesteps if self.timesteps is not None else book.timesteps
        groups = self.groups
        if groups is None:
            groups = timesteps if book.groups == book.timesteps else min(book.groups, timesteps)
        return CodeBook(timesteps, groups, self.partition, signed=book.smallest < 0)

    @staticmethod
    def _set(
        editor: Editor, node: Node, book: CodeBook, ties: Ties, note: str, step: Array | None = None
    ) -> None:
        for name, value in quantise_attributes(book, ties).items():
            set_attribute(node, name, value)
        if step is not None:
            editor.set_constant(node, 1, f"{node.name}.step", step)
        editor.record("recode", note=f"{node.name}: {note}")
