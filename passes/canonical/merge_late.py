"""Pass ``merge-late``: an axis is merged with the batch behind what takes parts along other axes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import ClassVar

import numpy as np

from snnc.ir import Model, Node, Shape, Value, attributes, constant, consumers_of, shapes_of_batches
from snnc.passes.editing import Editor, is_output, is_standard
from snnc.pipeline.contract import PassResult, Semantics

__all__ = ["MergeLate"]

#: Primes: a size that changes with them grows with the batch.
_BATCHES = (7, 11)
_AXES = 3
_Sizes = tuple[int, ...]


@dataclass(frozen=True)
class MergeLate:
    """Take queries, keys and values apart before their heads are merged with the batch, not behind that.

    SAM's encoders merge heads with the batch once for all three. Each of the three has a code of its own, and
    none can stand in front of a merge that they share; behind it, steps of single channels would lie on the
    axis of the batch.

    Matches:
        A Reshape that merges the batch with another axis, if only Split, Gather and Slice along axes that it
        leaves as they are read it.
    Leaves alone:
        Everything else.
    Keeps:
        Names of the results of what takes parts.
    """

    name: ClassVar[str] = "merge-late"
    requires: ClassVar[frozenset[str]] = frozenset({"constants-folded", "unique-names"})
    establishes: ClassVar[frozenset[str]] = frozenset()
    invalidates: ClassVar[frozenset[str]] = frozenset({"no-dead-code"})
    semantics: ClassVar[Semantics] = "exact"

    def run(self, model: Model) -> PassResult:
        """Rewrite; see the class."""
        editor = Editor(model)
        merges = [node for node in model.graph if is_standard(node, "Reshape")]
        if merges:
            shapes = shapes_of_batches(model, *_BATCHES)
            for node in merges:
                _postpone(editor, node, shapes)
        return editor.result()


def _postpone(editor: Editor, node: Node, shapes: Sequence[dict[str, _Sizes]]) -> None:
    source, out = node.inputs[0], node.outputs[0]
    readers = list(dict.fromkeys(consumers_of(out)))
    if source is None or is_output(out) or not readers or not _merges(source, out, shapes):
        return
    before, after = (shapes[0][value.name or ""] for value in (source, out))
    places = [_copied(_axis_of(reader, out, len(after)), before, after) for reader in readers]
    results = [value for reader in readers for value in reader.outputs]
    known = all(_grown(value, shapes) is not None for value in results)
    if any(place is None for place in places) or not known:
        return
    for reader, place in zip(readers, places, strict=True):
        assert place is not None
        _apart(editor, reader, source, place, shapes)
    editor.prune([node])


def _merges(source: Value, out: Value, shapes: Sequence[dict[str, _Sizes]]) -> bool:
    """Whether the axis of the batch in a value has more merged into it in another."""
    first, last = _grown(source, shapes), _grown(out, shapes)
    if first is None or last is None:
        return False
    return shapes[0][source.name or ""][first] < shapes[0][out.name or ""][last]


def _grown(value: Value, shapes: Sequence[dict[str, _Sizes]]) -> int | None:
    """Return the only axis that grows with the batch."""
    known = [found.get(value.name or "") for found in shapes]
    sizes = [shape for shape in known if shape is not None]
    if len(sizes) != len(known) or len(set(map(len, sizes))) != 1:
        return None
    grown = [axis for axis, each in enumerate(zip(*sizes, strict=True)) if len(set(each)) > 1]
    return grown[0] if len(grown) == 1 else None


def _axis_of(reader: Node, value: Value, rank: int) -> int | None:
    """Return the axis along which a node takes parts of a value, None if it does anything else."""
    if reader.inputs[0] is not value or any(entry is value for entry in reader.inputs[1:]):
        return None
    if is_standard(reader, "Split", "Gather"):
        taken = is_standard(reader, "Split") or constant(reader.inputs[1]) is not None
        return int(attributes(reader).get("axis", 0)) % rank if taken else None
    if is_standard(reader, "Slice") and len(reader.inputs) > _AXES:
        axes = constant(reader.inputs[_AXES])
        return int(axes.ravel()[0]) % rank if axes is not None and axes.size == 1 else None
    return None


def _copied(axis: int | None, before: _Sizes, after: _Sizes) -> int | None:
    """Return which axis of its source an axis of a Reshape is."""
    if axis is None:
        return None
    for place, size in enumerate(before):
        if size == after[axis] and prod(before[:place]) == prod(after[:axis]):
            return place
    return None


def _apart(
    editor: Editor, reader: Node, source: Value, axis: int, shapes: Sequence[dict[str, _Sizes]]
) -> None:
    """Take the parts of a node in front of the merge, and merge each."""
    whole = shapes[0][source.name or ""]
    first, rest = 0, prod(whole) // whole[axis]
    for value in reader.outputs:
        sizes = list(shapes[0][value.name or ""])
        inputs, attrs = [source, *reader.inputs[1:]], attributes(reader)
        stem = f"{value.name}.apart"
        if reader.op_type == "Gather":
            attrs = {**attrs, "axis": axis}
        elif reader.op_type == "Slice":
            inputs[_AXES] = editor.constant(f"{stem}.axis", np.array([axis]))
        else:
            # A Slice for each part.
            size = prod(sizes) // rest
            ends = {"first": first, "last": first + size, "axis": axis}
            inputs = [source, *(editor.constant(f"{stem}.{name}", np.array([n])) for name, n in ends.items())]
            attrs, first = {}, first + size
        op = "Slice" if reader.op_type == "Split" else reader.op_type
        places = constant(inputs[1]) if op == "Gather" else None
        dims = list(source.shape) if source.shape is not None else []
        dims[axis : axis + 1] = list(places.shape) if places is not None else [prod(sizes) // rest]
        shape = Shape(dims) if source.shape is not None else None
        taken = editor.add(reader, op, inputs, attrs, name=stem, dtype=value.dtype, shape=shape)
        sizes[_grown(value, shapes) or 0] = -1
        target = editor.constant(f"{value.name}.shape", np.array(sizes, np.int64))
        merged = editor.add(
            reader, "Reshape", [taken, target], name=value.name or stem, dtype=value.dtype, shape=value.shape
        )
        editor.replace("merge late", value, merged)
