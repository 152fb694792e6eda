"""Pass ``recode``: activations get the requested code where that changes values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from snnc.coding import CodeBook, Partition, Ties, optimal_step
from snnc.ir import AI_SNNC, Model, Node, attributes, constant
from snnc.ir.rewrite import set_attribute
from snnc.passes.editing import Array, Editor
from snnc.passes.layers import Chooser, book_of
from snnc.passes.recognise.uniform import quantise_attributes
from snnc.pipeline.contract import PassResult, Semantics, whole

__all__ = ["Recode", "asked_book", "holding", "quantisers", "set_code", "wanted_book"]


def quantisers(model: Model) -> list[Node]:
    """Return the quantisers of a graph, in its order."""
    return [node for node in model.graph if node.domain == AI_SNNC and node.op_type == "Quantise"]


def wanted_book(book: CodeBook, timesteps: int | None, groups: int | None, partition: Partition) -> CodeBook:
    """Return the unrestricted book that is asked for in place of another.

    Args:
        book: The present book.
        timesteps: T, or None for that of the book.
        groups: G, or None for that of the book, at most T; G = T where it is so now. Where T is the own one,
            as many as that at most.
        partition: Partition; that of the book if neither T nor G is asked for.
    """
    if timesteps is None and groups is None:
        partition = book.partition
    steps = timesteps if timesteps is not None else book.timesteps
    if groups is None:
        groups = steps if book.groups == book.timesteps else min(book.groups, steps)
    elif timesteps is None:
        # Beside codes of many time-steps a network may send single spikes: G is the most there may be.
        groups = min(groups, steps)
    return CodeBook(steps, groups, partition, signed=book.smallest < 0)


def asked_book(
    book: CodeBook,
    choice: dict[str, Any],
    timesteps: int | None,
    groups: int | None,
    partition: Partition,
    tensor: str,
) -> CodeBook:
    """Return the book that options and the rules for one quantiser ask for; see `wanted_book`.

    Args:
        book: The present book.
        choice: What rules choose for this quantiser.
        timesteps: T of all others.
        groups: G of all others; where a rule gives fewer time-steps, as many as those.
        partition: Partition of all others.
        tensor: Tensor, for messages.
    """
    if not choice:
        return wanted_book(book, timesteps, groups, partition)
    steps = choice.get("timesteps", timesteps)
    rest = wanted_book(
        book, steps, None if groups is None else min(groups, steps or book.timesteps), partition
    )
    return book_of(choice, rest.timesteps, rest.groups, rest.partition, signed=rest.signed, tensor=tensor)


def set_code(
    editor: Editor, node: Node, book: CodeBook, ties: Ties, note: str, step: Array | None = None
) -> None:
    """Give a quantiser another code book, and perhaps another step; booked as a rewrite.

    Args:
        editor: Editor of the model.
        node: The quantiser.
        book: Its new code book.
        ties: Where mid-points go.
        note: For the record.
        step: New step, float32; None keeps the present one.
    """
    for name, value in quantise_attributes(book, ties).items():
        set_attribute(node, name, value)
    if step is not None:
        editor.set_constant(node, 1, f"{node.name}.step", step)
    editor.record("recode", note=f"{node.name}: {note}")


def holding(wanted: CodeBook, book: CodeBook) -> CodeBook | None:
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
    """Give quantisers a code book of T time-steps and G groups that lacks some of their codes.

    The step is multiplied by the ratio of the steps that are best for a normal distribution under the new and
    the old book, and mid-points go away from zero.

    Matches:
        Quantise nodes with a code that the requested code book has not.
    Leaves alone:
        "the requested book holds all of its codes: recode-exactly changes it"; "its step is not constant".
    Keeps:
        Shapes and names; signed quantisers stay signed, unsigned ones unsigned.

    Attributes:
        timesteps: T, 1 to 16; None keeps that of each quantiser.
        groups: G, 1 to T; None keeps that of each quantiser, or G = T where it is so now.
        partition: ``interleaved`` or ``contiguous``.
        layers: Rules for single layers; see `snnc.settings.LayerRule`.

    Raises:
        UsageError: SNN201 to SNN203, an option is out of range; SNN277, that of a rule.
    """

    timesteps: int | None = whole(None, 1, 16)
    groups: int | None = whole(None, 1, 16)
    partition: Partition = "interleaved"
    layers: tuple[str, ...] = ()

    name: ClassVar[str] = "recode"
    requires: ClassVar[frozenset[str]] = frozenset({"constants-folded", "unique-names"})
    establishes: ClassVar[frozenset[str]] = frozenset()
    invalidates: ClassVar[frozenset[str]] = frozenset()
    semantics: ClassVar[Semantics] = "approximate"

    def run(self, model: Model) -> PassResult:
        """Recode; see the class."""
        editor = Editor(model)
        chooser = Chooser(model, self.layers)
        for node in quantisers(model):
            self._recode(editor, node, chooser.code(node.outputs[0]))
        return editor.result()

    def _recode(self, editor: Editor, node: Node, choice: dict[str, Any]) -> None:
        book = CodeBook.from_attributes(attributes(node))
        tensor = node.outputs[0].name or ""
        wanted = asked_book(book, choice, self.timesteps, self.groups, self.partition, tensor)
        if holding(wanted, book) is not None:
            editor.fail("the requested book holds all of its codes: recode-exactly changes it", node)
            return
        step = constant(node.inputs[1])
        if step is None:
            editor.fail("its step is not constant", node)
            return
        new, ratio = _approximate(wanted, book)
        note = f"{book.levels} levels become {new.levels}, the step grows by {ratio:.6g}"
        set_code(editor, node, new, "away", note, (step.astype(np.float64) * ratio).astype(np.float32))
        editor.notes.append(f"{node.outputs[0].name}: {note}")
