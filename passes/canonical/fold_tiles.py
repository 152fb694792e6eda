"""Pass ``fold-tiles``: constants repeated for every sample are added along an axis of their own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from snnc.ir import Model, Node, Shape, Value, constant, settled
from snnc.ir.evaluate import evaluate
from snnc.ir.rewrite import has_subgraph
from snnc.passes.canonical.fold_constants import EXACT_OPS
from snnc.passes.editing import Editor, batch_name, is_standard
from snnc.pipeline.contract import PassResult, Semantics

__all__ = ["FoldTiles"]

Array = npt.NDArray[Any]
#: The first tells the constant, the others that it is repeated.
_BATCHES = (1, 2, 3)
_MOST_BYTES = 2**24
#: What two sums of floats could make of it depends on their order; these operations have one result.
_ALLOWED = EXACT_OPS - {"Clip", "Compress", "NonZero", "OneHot"}
_JOINS = ("Add", "Sub", "Mul", "MatMul")


@dataclass(frozen=True)
class FoldTiles:
    """Turn a constant that is repeated along an axis merged with the batch into a constant with that axis.

    A window mask differs between the windows of an image; some exporters repeat it for every image before
    windows and images become one axis: (batch · windows, ...). The other operand is split into (batch,
    windows, ...) instead, the constant is added there, and the result is merged again.

    Matches:
        Tile along axes of one element: it becomes Expand. Add, Sub, Mul, MatMul of a computed value and one
        that is made of constants and the batch size alone and repeats itself along its first axis for every
        sample.
    Leaves alone:
        "it does not repeat itself for every sample"; what takes more than 16 MiB.
    Keeps:
        The name of the result.
    """

    name: ClassVar[str] = "fold-tiles"
    requires: ClassVar[frozenset[str]] = frozenset({"sorted", "constants-folded", "unique-names"})
    establishes: ClassVar[frozenset[str]] = frozenset()
    invalidates: ClassVar[frozenset[str]] = frozenset({"no-dead-code"})
    semantics: ClassVar[Semantics] = "exact"

    def run(self, model: Model) -> PassResult:
        """Fold; see the class."""
        editor = Editor(model)
        if not any(is_standard(node, "Expand", "Tile") for node in model.graph):
            return editor.result()
        free = _of_batch_alone(model)
        places: list[_Values] = []
        for node in list(model.graph):
            if is_standard(node, "Tile") and constant(node.inputs[1]) is None:
                places = places or [_Values(model, *known) for known in settled(model, *_BATCHES)]
                _expand(editor, node, places)
            if not is_standard(node, *_JOINS):
                continue
            tiled = [
                value is not None and id(value) in free and constant(value) is None for value in node.inputs
            ]
            if tiled.count(True) != 1 or len(tiled) != 2:
                continue
            places = places or [_Values(model, *known) for known in settled(model, *_BATCHES)]
            _split(editor, node, tiled.index(True), places)
        return editor.result()


def _of_batch_alone(model: Model) -> set[int]:
    """Return the values that depend on nothing but constants and the sizes of others."""
    free: set[int] = set()
    for node in model.graph:
        if node.domain not in ("", "ai.onnx") or has_subgraph(node):
            continue
        known = [value is None or constant(value) is not None or id(value) in free for value in node.inputs]
        if node.op_type in ("Shape", "Size") or (node.op_type in _ALLOWED and all(known)):
            free |= {id(value) for value in node.outputs}
    return free


class _Values:
    """What values are at one batch size.

    Args:
        model: The model.
        shapes: Shapes at this batch size.
        contents: Integers known at this batch size.
    """

    def __init__(
        self, model: Model, shapes: Mapping[str, tuple[int, ...]], contents: Mapping[str, Array]
    ) -> None:
        self.shapes = shapes
        self._contents = dict(contents)
        self._opsets = model.graph.opset_imports

    def of(self, value: Value | None) -> Array | None:
        """Return the content of a value that depends on the batch size alone, None if it cannot be told."""
        if value is None:
            return None
        held = constant(value)
        if held is not None:
            return held
        name = value.name or ""
        if name not in self._contents:
            found = self._computed(value)
            if found is None:
                return None
            self._contents[name] = found
        return self._contents[name]

    def _computed(self, value: Value) -> Array | None:
        node, shape = value.producer(), self.shapes.get(value.name or "")
        if node is None or shape is None or len(node.outputs) != 1 or 8 * np.prod(shape) > _MOST_BYTES:
            return None
        inputs = [self.of(entry) for entry in node.inputs]
        if any(array is None and entry is not None for array, entry in zip(inputs, node.inputs, strict=True)):
            return None
        try:
            results = evaluate(node, inputs, self._opsets)
        except ValueError:
            return None
        return None if results is None else np.asarray(results[0])


def _expand(editor: Editor, node: Node, values: list[_Values]) -> None:
    """Make a Tile an Expand where it repeats axes of one element alone."""
    data, repeats, out = node.inputs[0], node.inputs[1], node.outputs[0]
    if data is None or repeats is None:
        return
    for entry in values:
        shape, times = entry.shapes.get(data.name or ""), entry.of(repeats)
        if shape is None or times is None or len(times) != len(shape):
            return
        if any(size != 1 and number != 1 for size, number in zip(shape, times.tolist(), strict=True)):
            return
    new = editor.add(
        node, "Expand", [data, repeats], name=f"{node.name}.expand", dtype=out.dtype, shape=out.shape
    )
    editor.replace("tile-to-expand", out, new, removed=[node])


def _split(editor: Editor, node: Node, place: int, values: list[_Values]) -> None:
    tiled, other, out = node.inputs[place], node.inputs[1 - place], node.outputs[0]
    assert tiled is not None and other is not None
    found = [entry.of(tiled) for entry in values]
    shape = values[0].shapes.get(other.name or "")
    one = found[0]
    if one is None or shape is None or one.ndim != len(shape) or one.ndim == 0:
        return
    result = values[0].shapes.get(out.name or "")
    fits = result is not None and (
        result == shape or (node.op_type == "MatMul" and len(result) == len(shape) > 2)
    )
    if result is None or not fits or result[0] != shape[0] or one.shape[0] != shape[0]:
        return
    for batch, array in zip(_BATCHES, found, strict=True):
        times = (batch,) + (1,) * (one.ndim - 1)
        if array is None or not np.array_equal(array, np.tile(one, times)):
            editor.fail("it does not repeat itself for every sample", node)
            return
    producer = tiled.producer()
    removed = [producer] if producer is not None else []
    stem = node.name or node.op_type
    if one.shape[0] == 1:
        editor.set_constant(node, place, f"{stem}.once", one)
        editor.record("fold-repetition", removed)
        return
    inner = np.array([-1, *shape], dtype=np.int64)
    apart = editor.add(
        node,
        "Reshape",
        [other, editor.constant(f"{stem}.apart", inner)],
        name=f"{stem}.split",
        dtype=other.dtype,
        shape=Shape([batch_name(editor.model), *shape]),
    )
    held = editor.constant(f"{stem}.once", one[None])
    pair = (held, apart) if place == 0 else (apart, held)
    dims = Shape([batch_name(editor.model), *result])
    joined = editor.add(node, node.op_type, list(pair), name=f"{stem}.joined", dtype=out.dtype, shape=dims)
    outer = np.array([-1, *result[1:]], dtype=np.int64)
    merged = editor.add(
        node,
        "Reshape",
        [joined, editor.constant(f"{stem}.merged", outer)],
        name=f"{stem}.whole",
        dtype=out.dtype,
        shape=out.shape,
    )
    editor.replace("fold-tile", out, merged, removed=[node, *removed])
