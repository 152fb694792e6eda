"""Pass ``drop-expansions``: values repeated in front of elementwise ops that would repeat them anyway."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from snnc.ir import Model, Node, concrete_shapes, constant
from snnc.passes.editing import Editor, is_standard
from snnc.pipeline.contract import PassResult, Semantics

__all__ = ["DropExpansions"]

_ELEMENTWISE = (
    "Add", "And", "Div", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Max", "Min", "Mul",
    "Or", "Sub", "Where", "Xor",
)  # fmt: skip

Shape = tuple[int, ...]


@dataclass(frozen=True)
class DropExpansions:
    """Let an elementwise op read what an Expand repeats, where broadcasting gives the same shape.

    Exporters repeat class tokens, position biases and masks for every sample. What is repeated is often
    constant, and the op behind it has a form with constants.

    Matches:
        Operands of elementwise ops that come from Expand, whose other operands have the result's extents
        where the Expand repeats; extents are compared for two batch sizes. An Expand that repeats nothing.
    Leaves alone:
        Expands that make the result larger than the other operands.
    Keeps:
        Names, and the shape of the result.
    """

    name: ClassVar[str] = "drop-expansions"
    requires: ClassVar[frozenset[str]] = frozenset({"sorted", "unique-names"})
    establishes: ClassVar[frozenset[str]] = frozenset()
    invalidates: ClassVar[frozenset[str]] = frozenset({"no-dead-code"})
    semantics: ClassVar[Semantics] = "exact"

    def run(self, model: Model) -> PassResult:
        """Rewrite; see the class."""
        editor = Editor(model)
        shapes: list[dict[str, Shape]] = []
        for node in list(model.graph):
            if is_standard(node, "Expand") and node.inputs[0] is not None:
                shapes = shapes or [concrete_shapes(model, batch) for batch in (1, 2)]
                names = node.inputs[0].name or "", node.outputs[0].name or ""
                found = [(known.get(names[0]), known.get(names[1])) for known in shapes]
                if all(before is not None and before == after for before, after in found):
                    editor.replace("drop an expansion to itself", node.outputs[0], node.inputs[0])
                continue
            if not is_standard(node, *_ELEMENTWISE):
                continue
            for place, value in enumerate(node.inputs):
                expand = value.producer() if value is not None else None
                if expand is None or not is_standard(expand, "Expand") or expand.inputs[0] is None:
                    continue
                shapes = shapes or [concrete_shapes(model, batch) for batch in (1, 2)]
                if all(_fits(node, place, expand, known) for known in shapes):
                    node.replace_input_with(place, expand.inputs[0])
                    editor.record("drop an expansion", [expand])
        return editor.result()


def _fits(node: Node, place: int, expand: Node, known: dict[str, Shape]) -> bool:
    """Whether the result keeps its shape at one batch size if an operand is not expanded."""
    operands = [expand.inputs[0] if index == place else value for index, value in enumerate(node.inputs)]
    found: list[Shape | None] = []
    for value in operands:
        held = constant(value)
        found.append(held.shape if held is not None else known.get(value.name or "") if value else None)
    result = known.get(node.outputs[0].name or "")
    present = [shape for shape in found if shape is not None]
    if result is None or len(present) != len(operands):
        return False
    try:
        return tuple(np.broadcast_shapes(*present)) == result
    except ValueError:
        return False
