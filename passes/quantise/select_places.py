"""Pass ``select-places``: the row of each sample that the host chose is what a mask of one place leaves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from snnc.ir import AI_SNNC, DataType, Model, Node, Shape, Value, attributes, concrete_shapes, constant
from snnc.passes.analysis.hosted import host_nodes
from snnc.passes.editing import Editor, is_standard, only_consumer, rank_of
from snnc.pipeline.contract import PassResult, Semantics

__all__ = ["SelectPlaces"]


@dataclass(frozen=True)
class SelectPlaces:
    """Write the choice of one place of each sample as a gate and a sum: all other places send no spike.

    Text encoders read the token behind which a sentence ends, which the host finds in the integer input: the
    largest id, or the last open place of a mask.

    Matches:
        ``x[arange(batch), index]`` as exporters write it, ``index`` being the host's: GatherND of pairs, of
        single places with one batch dimension, Gather of rows of the flattened batch, GatherElements whose
        index is repeated. The choice is made in front of linear layers that treat each place alike.
    Leaves alone:
        "its places are not one for each sample", and places that are not computed by the host.
    Keeps:
        Names and shapes of the results.
    """

    name: ClassVar[str] = "select-places"
    requires: ClassVar[frozenset[str]] = frozenset({"constants-folded", "unique-names", "sorted"})
    establishes: ClassVar[frozenset[str]] = frozenset()
    invalidates: ClassVar[frozenset[str]] = frozenset({"no-dead-code"})
    semantics: ClassVar[Semantics] = "exact"

    def run(self, model: Model) -> PassResult:
        """Rewrite; see the class."""
        editor = Editor(model)
        hosted = set(host_nodes(model))
        for node in list(model.graph):
            if not is_standard(node, "GatherND", "Gather", "GatherElements") or id(node) in hosted:
                continue
            data, index = node.inputs[0], node.inputs[1]
            if data is None or index is None or constant(data) is not None or constant(index) is not None:
                continue
            finder = _Finder(editor, hosted)
            found = finder.find(node, data, index)
            if found is None:
                editor.fail("its places are not one for each sample, computed by the host", node)
                continue
            _select(editor, node, *found)
        return editor.result()


class _Finder:
    """Tells which place of each sample a node takes."""

    def __init__(self, editor: Editor, hosted: set[int]) -> None:
        self._editor, self._hosted = editor, hosted
        self._shapes: list[dict[str, tuple[int, ...]]] = []

    def find(self, node: Node, data: Value, index: Value) -> tuple[Value, Value] | None:
        """Return the value and the place for each sample, shape (batch,) or (batch, 1), or None."""
        if node.op_type == "GatherND":
            found = self._of_pairs(node, data, index)
        elif node.op_type == "GatherElements":
            found = self._of_elements(node, data, index)
        else:
            found = self._of_rows(node, data, index)
        place = found[1] if found is not None else None
        if found is None or place is None or not self._is_host(place):
            return None
        one, two = (shapes.get(place.name or "") for shapes in self._known())
        return (found[0], place) if one in ((1,), (1, 1)) and two in ((2,), (2, 1)) else None

    def _of_pairs(self, node: Node, data: Value, index: Value) -> tuple[Value, Value | None] | None:
        if int(attributes(node).get("batch_dims", 0)) == 1:
            return data, index
        pair = index.producer()
        if pair is None or not is_standard(pair, "Concat") or len(pair.inputs) != 2:
            return None
        first, second = pair.inputs
        # One below the other they would be places of the first axis.
        is_pair = self._known()[0].get(index.name or "", ())[-1:] == (2,)
        return (data, second) if is_pair and self._counts(first) else None

    def _of_elements(self, node: Node, data: Value, index: Value) -> tuple[Value, Value | None] | None:
        repeated = index.producer()
        if int(attributes(node).get("axis", 0)) != 1 or rank_of(data) != 3 or repeated is None:
            return None
        source = repeated.inputs[0]
        one = self._known()[0].get(source.name or "") if source is not None else None
        after = self._known()[0].get(index.name or "")
        if not is_standard(repeated, "Expand") or one != (1, 1, 1) or after is None or after[1] != 1:
            return None
        if source is None or source.shape is None or not self._is_host(source):
            return None
        flat = self._editor.constant(f"{node.name}.flat", np.array([-1], dtype=np.int64))
        name = f"{node.name}.places"
        place = self._editor.add(node, "Reshape", [source, flat], name=name, dtype=index.dtype)
        place.shape = Shape([source.shape[0]])
        self._hosted.add(id(place.producer()))
        self._shapes = []
        return data, place

    def _of_rows(self, node: Node, data: Value, index: Value) -> tuple[Value, Value | None] | None:
        """Gather of a (batch · S, C) value at place + number of the sample · S."""
        flat, total = data.producer(), index.producer()
        axis = int(attributes(node).get("axis", 0))
        if axis or flat is None or total is None or not is_standard(total, "Add"):
            return None
        source = flat.inputs[0] if is_standard(flat, "Flatten", "Reshape") else None
        one = self._known()[0].get(source.name or "") if source is not None else None
        rows = self._known()[0].get(data.name or "")
        if source is None or one is None or rows is None or len(one) < 3 or rows != (one[1], *one[2:]):
            return None
        for place in (0, 1):
            if self._counts(total.inputs[1 - place], one[1]):
                return source, total.inputs[place]
        return None

    def _counts(self, value: Value | None, times: int = 1) -> bool:
        """Whether a value is the number of each sample, times a number."""
        node = value.producer() if value is not None else None
        while node is not None and is_standard(node, "Unsqueeze", "Reshape", "Squeeze", "Cast", "Expand"):
            value = node.inputs[0]
            node = value.producer() if value is not None else None
        if node is None or value is None:
            return False
        if times != 1 and is_standard(node, "Mul"):
            for place in (0, 1):
                held = constant(node.inputs[place])
                if held is not None and held.size == 1 and int(held.reshape(-1)[0]) == times:
                    return self._counts(node.inputs[1 - place])
            return False
        if times != 1 or not is_standard(node, "Range"):
            return False
        start, step = constant(node.inputs[0]), constant(node.inputs[2])
        known = [shapes.get(value.name or "") for shapes in self._known()]
        numbers = [int(held.reshape(-1)[0]) for held in (start, step) if held is not None]
        return numbers == [0, 1] and known == [(1,), (2,)]

    def _is_host(self, value: Value) -> bool:
        producer = value.producer()
        return value.is_graph_input() or (producer is not None and id(producer) in self._hosted)

    def _known(self) -> list[dict[str, tuple[int, ...]]]:
        if not self._shapes:
            self._shapes = [concrete_shapes(self._editor.model, batch) for batch in (1, 2)]
        return self._shapes


def _select(editor: Editor, node: Node, value: Value, place: Value) -> None:
    stem, out = node.name or node.op_type, node.outputs[0]
    behind: list[Node] = []
    while (layer := _linear(value)) is not None:
        behind.append(layer)
        assert layer.inputs[0] is not None
        value = layer.inputs[0]
    dims = list(value.shape or ())
    size, batch = dims[1], dims[0]
    assert isinstance(size, int)

    def add(op: str, inputs: list[Value | None], label: str, shape: Sequence[Any], **attrs: int) -> Value:
        dtype = DataType.BOOL if op == "Equal" else inputs[0].dtype if inputs[0] is not None else None
        made = editor.add(node, op, inputs, attrs, name=f"{stem}.{label}", dtype=dtype)
        made.shape = Shape(shape)
        return made

    def axes(label: str, *numbers: int) -> Value:
        return editor.constant(f"{stem}.{label}", np.array(numbers, dtype=np.int64))

    whole = np.int32 if place.dtype == DataType.INT32 else np.int64
    column = add("Reshape", [place, axes("column", -1, 1)], "place", [batch, 1])
    length = editor.constant(f"{stem}.size", np.array(size, dtype=whole))
    # A negative place counts from the end.
    inside = add("Mod", [column, length], "inside", [batch, 1])
    numbers = editor.constant(f"{stem}.numbers", np.arange(size, dtype=whole)[None])
    chosen = add("Equal", [inside, numbers], "chosen", [batch, size])
    rest = tuple(range(2, len(dims)))
    gate = add("Unsqueeze", [chosen, axes("rest", *rest)], "gate", [batch, size, *(1 for _ in rest)])
    gate.dtype = DataType.BOOL
    name, dtype = f"{stem}.kept", value.dtype
    kept = editor.add(node, "Gate", [value, gate], domain=AI_SNNC, name=name, dtype=dtype, shape=value.shape)
    keep = 1 if node.op_type == "GatherElements" else 0
    shape: list[Any] = [batch, *([1] if keep else []), *dims[2:]]
    result = add("ReduceSum", [kept, axes("axis", 1)], "sum", shape, keepdims=keep)
    for layer in reversed(behind):
        width = layer.outputs[0].shape[-1] if layer.outputs[0].shape is not None else None
        shape = [*shape[:-1], width]
        result = add(layer.op_type, [result, *layer.inputs[1:]], layer.op_type.lower(), shape)
    editor.replace("select places", out, result, removed=[node, *behind])


def _linear(value: Value) -> Node | None:
    """Return the layer that makes a value from each place alone, if nothing else reads it."""
    node = value.producer()
    if node is None or only_consumer(value) is None or node.inputs[0] is None:
        return None
    if is_standard(node, "MatMul"):
        weights = constant(node.inputs[1])
        return node if weights is not None and weights.ndim == 2 else None
    if not is_standard(node, "Add"):
        return None
    held = constant(node.inputs[1])
    same = (rank_of(node.inputs[0]), rank_of(value))
    return node if held is not None and held.ndim <= 1 and same[0] == same[1] else None
