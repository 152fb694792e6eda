"""Pass ``settle-shapes``: what the batch size alone decides is worked out and written down."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from snnc.ir import Model, Node, Shape, Value, attributes, constant, settled
from snnc.passes.editing import Editor, batch_name, is_output, is_standard
from snnc.pipeline.contract import PassResult, Semantics

__all__ = ["SettleShapes"]

#: A formula that fits at these sizes is taken to fit at all: they share no factor, and 1 is no special case.
_BATCHES = (2, 3, 7)

Contents = Sequence[Mapping[str, npt.NDArray[Any]]]
Shapes = Sequence[Mapping[str, tuple[int, ...]]]


@dataclass(frozen=True)
class SettleShapes:
    """Work out shapes, and integers computed from shapes, at three batch sizes; keep what they agree on.

    It follows chains of any length through any shape arithmetic: window counts, paddings to a multiple of a
    window, sizes after a stride, grids of positions. Inputs have a free first dimension at most.

    Matches:
        Integers and truth values that are the same at every batch size: they become constants. Targets of
        Reshape in which one entry depends on the batch size: it becomes -1. Symbolic dimensions that are a
        number or a multiple of the batch size.
    Leaves alone:
        "more than one entry depends on the batch size": the Reshape's target stays computed.
    Keeps:
        Value names; the names of symbolic dimensions of inputs and outputs.
    """

    name: ClassVar[str] = "settle-shapes"
    requires: ClassVar[frozenset[str]] = frozenset({"sorted", "constants-folded", "unique-names"})
    establishes: ClassVar[frozenset[str]] = frozenset()
    invalidates: ClassVar[frozenset[str]] = frozenset({"no-dead-code"})
    semantics: ClassVar[Semantics] = "exact"

    def run(self, model: Model) -> PassResult:
        """Settle; see the class."""
        if not _is_open(model):
            return PassResult()
        found = settled(model, *_BATCHES)
        shapes: Shapes = [entry[0] for entry in found]
        contents: Contents = [entry[1] for entry in found]
        editor = Editor(model)
        for node in list(model.graph):
            if is_standard(node, "Reshape"):
                _reshape(editor, node, shapes)
            for value in node.outputs:
                _fold(editor, value, contents)
        named = sum(_name(model, value, shapes) for node in model.graph for value in node.outputs)
        if named:
            editor.record("settle-shape", note=f"{named} values")
        return editor.result()


def _is_open(model: Model) -> bool:
    """Whether a shape is computed when the network runs, or is not a list of numbers behind the batch."""
    return any(
        is_standard(node, "Shape", "Size")
        or any(
            value.shape is not None and any(not isinstance(dim, int) for dim in list(value.shape)[1:])
            for value in node.outputs
        )
        for node in model.graph
    )


def _fold(editor: Editor, value: Value, contents: Contents) -> None:
    if value.dtype is None or value.dtype.is_floating_point() or is_output(value) or not value.uses():
        return
    arrays = [entry.get(value.name or "") for entry in contents]
    first = arrays[0]
    if first is None or any(array is None or not np.array_equal(first, array) for array in arrays):
        return
    editor.replace("settle", value, editor.constant_for(value, first.astype(value.dtype.numpy())))


def _reshape(editor: Editor, node: Node, shapes: Shapes) -> None:
    data, target = node.inputs[0], node.inputs[1]
    if data is None or target is None or constant(target) is not None:
        return
    wanted = [entry.get(node.outputs[0].name or "") for entry in shapes]
    given = [entry.get(data.name or "") for entry in shapes]
    if any(shape is None for shape in [*wanted, *given]):
        return
    columns = [set(column) for column in zip(*(shape for shape in wanted if shape is not None), strict=True)]
    numbers = [column.pop() if len(column) == 1 else -1 for column in columns]
    zero_copies = not int(attributes(node).get("allowzero", 0))
    for place in range(len(numbers)):
        if numbers.count(-1) <= 1 or numbers[place] != -1 or not zero_copies:
            continue
        if all(
            place < len(source or ()) and (source or ())[place] == (result or ())[place]
            for source, result in zip(given, wanted, strict=True)
        ):
            numbers[place] = 0
    if numbers.count(-1) > 1 or 0 in [size for shape in wanted for size in shape or ()]:
        editor.fail("more than one entry depends on the batch size", node)
        return
    producer = target.producer()
    editor.set_constant(node, 1, f"{node.name}.shape", np.array(numbers, np.int64))
    editor.record("settle-reshape", [producer] if producer is not None else [])


def _name(model: Model, value: Value, shapes: Shapes) -> int:
    """Write the dimensions of a value that are now known; return whether any was not."""
    found = [entry.get(value.name or "") for entry in shapes]
    first = found[0]
    if first is None or any(shape is None or len(shape) != len(first) for shape in found):
        return 0
    before = list(value.shape) if value.shape is not None else [None] * len(first)
    dims: list[int | str | None] = []
    for axis, sizes in enumerate(zip(*(shape for shape in found if shape is not None), strict=True)):
        old = before[axis]
        known = old if isinstance(old, int) or old is None else old.value
        dims.append(_dimension(model, sizes, known, kept=is_output(value)))
    after = [dim if isinstance(dim, int) or dim is None else dim.value for dim in before]
    if value.shape is not None and dims == after:
        return 0
    value.shape = Shape(dims)
    return 1


def _dimension(
    model: Model, sizes: tuple[int, ...], known: int | str | None, *, kept: bool
) -> int | str | None:
    if len(set(sizes)) == 1:
        return sizes[0]
    if kept and isinstance(known, str):
        return known
    times = sizes[0] // _BATCHES[0]
    if any(size != times * batch for size, batch in zip(sizes, _BATCHES, strict=True)):
        return known
    batch = batch_name(model)
    return batch if times == 1 else f"{times}*{batch}"
