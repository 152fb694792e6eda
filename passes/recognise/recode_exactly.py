"""Pass ``recode-exactly``: activations get the requested code where no value changes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from snnc.coding import CodeBook, Partition
from snnc.ir import Model, attributes
from snnc.passes.editing import Editor
from snnc.passes.layers import Chooser
from snnc.passes.recognise.recode import asked_book, holding, quantisers, set_code
from snnc.pipeline.contract import PassResult, Semantics, whole

__all__ = ["RecodeExactly"]


@dataclass(frozen=True)
class RecodeExactly:
    """Give quantisers a code book that holds all of their codes: only the spike patterns change.

    With G = T and enough time-steps this is every uniform quantiser.

    Matches:
        Quantise nodes with another code book, all of whose codes the requested one has.
    Leaves alone:
        "the requested book lacks some of its codes": see ``recode``.
    Keeps:
        Steps, levels, ties: every value.

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

    name: ClassVar[str] = "recode-exactly"
    requires: ClassVar[frozenset[str]] = frozenset({"constants-folded", "unique-names"})
    establishes: ClassVar[frozenset[str]] = frozenset()
    invalidates: ClassVar[frozenset[str]] = frozenset()
    semantics: ClassVar[Semantics] = "exact"

    def run(self, model: Model) -> PassResult:
        """Recode; see the class."""
        editor = Editor(model)
        chooser = Chooser(model, self.layers)
        for node in quantisers(model):
            attrs = attributes(node)
            book = CodeBook.from_attributes(attrs)
            choice, tensor = chooser.code(node.outputs[0]), node.outputs[0].name or ""
            wanted = asked_book(book, choice, self.timesteps, self.groups, self.partition, tensor)
            exact = holding(wanted, book)
            if exact is None:
                editor.fail("the requested book lacks some of its codes", node)
            elif exact != book:
                set_code(editor, node, exact, attrs["ties"], f"{book.levels} levels stay")
        return editor.result()
