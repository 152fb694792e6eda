"""Pass ``drop-repeated-quantisers``: what is on a grid already, or constant, needs no quantiser."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from snnc.coding import CodeBook
from snnc.ir import AI_SNNC, Model, Node, Value, attributes, constant
from snnc.ops.quantise import QUANTISE
from snnc.passes.editing import Editor, is_standard, only_consumer
from snnc.passes.recognise.masks import Masks
from snnc.pipeline.contract import PassResult, Semantics

__all__ = ["DropRepeatedQuantisers"]

#: Ops whose results are among the elements of their input (and not zeros that they add).
_SELECTING = (
    "MaxPool", "Reshape", "Transpose", "Flatten", "Squeeze", "Unsqueeze", "Slice", "Split", "Gather",
    "Identity", "Expand", "DepthToSpace", "SpaceToDepth"
)  # fmt: skip


#: A scale of 1 / 255, rounded to float32, gives 1 but for the last bit.
_LAST_BITS = 2.0**-22


def _is_quantise(node: Node | None) -> bool:
    return node is not None and node.domain == AI_SNNC and node.op_type == "Quantise"


def _scalar_step(node: Node) -> float | None:
    """Return the step of a quantiser, None if it is not one constant number."""
    step = constant(node.inputs[1])
    return float(step.reshape(())) if step is not None and step.size == 1 else None


def _first(value: Value | None) -> Node | None:
    """Return the quantiser whose values a tensor holds, looking through selecting ops."""
    node = value.producer() if value is not None else None
    while is_standard(node, *_SELECTING):
        assert node is not None and node.inputs[0] is not None
        node = node.inputs[0].producer()
    return node if _is_quantise(node) else None


def _only_cuts(first: Node, before: CodeBook, second: Node, after: CodeBook) -> bool:
    """Whether the second quantiser is the first with fewer codes at the ends, and alone reads it."""
    if attributes(first)["ties"] != attributes(second)["ties"]:
        return False
    kept = before.codes[(before.codes >= after.smallest) & (before.codes <= after.largest)]
    if not np.array_equal(kept, after.codes):
        return False
    node: Node | None = first
    while node is not None and node is not second:
        node = only_consumer(node.outputs[0])
    return node is second


def _holds_levels(masks: Masks, node: Node) -> bool:
    """Whether a quantiser reads a mask of the host all of whose numbers are its levels."""
    value, step = node.inputs[0], _scalar_step(node)
    numbers = masks.known(value) if value is not None and step is not None else None
    if numbers is None:
        return False
    held = np.array(sorted(numbers), dtype=np.float32)
    levels = QUANTISE.packed([held, np.asarray(step, dtype=np.float32)], attributes(node))
    return bool(np.all(np.abs(levels - held) <= _LAST_BITS * np.abs(held)))


@dataclass(frozen=True)
class DropRepeatedQuantisers:
    """Remove a quantiser whose input holds nothing but its levels.

    Tools that put a quantiser on every edge make such pairs around MaxPool and Reshape. A level is its own
    nearest level: no code changes. Where the second one only cuts codes off (a Relu between them) and alone
    reads the first, the first goes: ``clip(Q(u)) = Q'(u)`` if both have the same step and ties.

    A mask that the host computes from integers holds few numbers, zeros and ones or what closes a softmax. If
    all of them are levels, up to the last bit of float32, the mask is seen as one without its quantiser.

    Matches:
        Quantise after Quantise, with MaxPool or ops that only move elements between them, of equal scalar
        steps, where the codes of one are codes of the other; Quantise of a mask of the host.
    Leaves alone:
        "its step differs from the step before"; "it drops codes that others read, or rounds otherwise".
    Keeps:
        The name of the result where the graph returns it.
    """

    name: ClassVar[str] = "drop-repeated-quantisers"
    requires: ClassVar[frozenset[str]] = frozenset({"sorted", "constants-folded", "unique-names"})
    establishes: ClassVar[frozenset[str]] = frozenset()
    invalidates: ClassVar[frozenset[str]] = frozenset()
    semantics: ClassVar[Semantics] = "exact"

    def run(self, model: Model) -> PassResult:
        """Drop; see the class."""
        editor = Editor(model)
        masks = Masks(editor)
        for node in [entry for entry in model.graph if _is_quantise(entry)]:
            if _holds_levels(masks, node) and node.inputs[0] is not None:
                editor.replace("quantiser of a mask", node.outputs[0], node.inputs[0])
                continue
            first = _first(node.inputs[0])
            if first is None:
                continue
            if _scalar_step(first) is None or _scalar_step(first) != _scalar_step(node):
                editor.fail("its step differs from the step before", node)
                continue
            self._drop(editor, first, node)
        return editor.result()

    @staticmethod
    def _drop(editor: Editor, first: Node, second: Node) -> None:
        before, after = (CodeBook.from_attributes(attributes(entry)) for entry in (first, second))
        rule = "drop-repeated-quantiser"
        if np.isin(before.codes, after.codes).all():
            source = second.inputs[0]
            assert source is not None
            if not editor.replace(rule, second.outputs[0], source):
                editor.fail("its result is an output of the graph and so is its input", second)
        elif _only_cuts(first, before, second, after) and first.inputs[0] is not None:
            editor.replace(f"{rule}, the first", first.outputs[0], first.inputs[0])
        else:
            editor.fail("it drops codes that others read, or rounds otherwise", second)
