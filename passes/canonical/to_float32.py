"""Pass ``to-float32``: models in float16, bfloat16 or float64 are computed in float32."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from snnc.ir import DataType, Model, Node, Value, consumers_of, make_node, tensor
from snnc.ir.hosting import is_sealed
from snnc.ir.rewrite import set_attribute
from snnc.passes.canonical.islands import narrow_islands
from snnc.passes.editing import Array, Editor, is_standard
from snnc.pipeline.contract import PassResult, Semantics

__all__ = ["ToFloat32"]

_NARROW = (DataType.FLOAT16, DataType.BFLOAT16)
_NAMES = {DataType.FLOAT16: "float16", DataType.BFLOAT16: "bfloat16", DataType.DOUBLE: "float64"}
#: Attributes that name an element type.
_TYPE_ATTRIBUTES = ("to", "dtype", "output_dtype", "precision", "stash_type", "softmax_precision")


@dataclass(frozen=True)
class ToFloat32:
    """Give float16 and bfloat16 tensors the type float32, and float64 ones that the network computes.

    Numbers of narrow types stay what they are, and what the source rounds between its operators is not
    rounded here; those of float64 are rounded. Inputs and outputs keep their type, with a Cast on the host
    behind or in front of them; only those of bfloat16, which numpy does not have, become float32.

    Matches:
        Weights, constants, values, and attributes that name one of these types.
    Leaves alone:
        Other types; in models whose inputs and outputs are of other types, float64 that does not depend on
        data: sizes and positions are computed in it, which must not be rounded.
    Keeps:
        All names; the types of inputs and outputs, but for bfloat16.
    """

    name: ClassVar[str] = "to-float32"
    requires: ClassVar[frozenset[str]] = frozenset({"no-functions", "unique-names"})
    establishes: ClassVar[frozenset[str]] = frozenset()
    invalidates: ClassVar[frozenset[str]] = frozenset({"no-identity"})
    semantics: ClassVar[Semantics] = "approximate"

    def run(self, model: Model) -> PassResult:
        """Widen; see the class."""
        editor = Editor(model)
        graph = model.graph
        ends_of_graph = [*graph.inputs, *graph.outputs]
        wide = any(value.dtype == DataType.DOUBLE for value in ends_of_graph)
        islands = 0 if wide else narrow_islands(editor)
        meant = (*_NARROW, DataType.DOUBLE) if wide else _NARROW
        cast = {id(value) for value in ends_of_graph if _is_cast(value)}
        inner = [value for value in _values(model) if id(value) not in cast]
        found = {value.dtype for value in inner if value.dtype in meant}
        for value in list(graph.initializers.values()):
            if value.dtype in meant and value.const_value is not None:
                value.const_value = tensor(_float32(value.const_value.numpy()), name=value.name)
        changed = sum(
            _change_attributes(node, meant)
            for node in graph
            if not any(id(value) in cast for value in node.outputs)
        )
        kinds = (DataType.FLOAT16, DataType.DOUBLE) if wide else (DataType.FLOAT16,)
        kept = [value for value in ends_of_graph if value.dtype in kinds and id(value) not in cast]
        types = {id(value): value.dtype for value in kept}
        for value in inner:
            if value.dtype in meant:
                value.dtype = DataType.FLOAT
        for value in kept:
            turn = _cast_input if value.is_graph_input() else _cast_output
            turn(editor, value, types[id(value)] or DataType.FLOAT16)
        if islands:
            found.add(DataType.DOUBLE)
        if found or changed:
            names = " and ".join(sorted(_NAMES[dtype] for dtype in found if dtype is not None)) or "float16"
            editor.record("float32", note=f"{names} becomes float32")
            editor.notes.append(
                f"{names} is computed in float32: between its operators the source rounds to another type"
            )
        return editor.result()


def _is_cast(value: Value) -> bool:
    """Whether an input is only cast to float32, or an output is what a float32 value is cast to."""
    if value.is_graph_input():
        return all(
            is_standard(node, "Cast") and node.outputs[0].dtype == DataType.FLOAT
            for node in consumers_of(value)
        )
    node = value.producer()
    source = node.inputs[0] if node is not None and is_standard(node, "Cast") else None
    return source is not None and source.dtype == DataType.FLOAT and not value.uses()


def _values(model: Model) -> list[Value]:
    made = [value for node in model.graph for value in node.outputs]
    return [*model.graph.inputs, *model.graph.initializers.values(), *made]


def _float32(array: Array) -> Array:
    with np.errstate(over="ignore"):
        return array.astype(np.float32)


def _change_attributes(node: Node, meant: tuple[DataType, ...]) -> int:
    """Change the tensors and types that a node names in its attributes; returns how many."""
    if is_sealed(node):
        return 0
    changed = 0
    for name in _TYPE_ATTRIBUTES:
        attribute = node.attributes.get(name)
        if attribute is not None and attribute.value in [int(dtype) for dtype in meant]:
            set_attribute(node, name, int(DataType.FLOAT))
            changed += 1
    held = node.attributes.get("value")
    if held is not None and getattr(held.value, "dtype", None) in meant:
        set_attribute(node, "value", tensor(_float32(held.value.numpy())))
        changed += 1
    return changed


def _cast_input(editor: Editor, value: Value, dtype: DataType) -> None:
    uses = list(value.uses())
    value.dtype = dtype
    if not uses:
        return
    first = next(iter(editor.graph))
    wide = editor.add(
        first,
        "Cast",
        [value],
        {"to": int(DataType.FLOAT)},
        name=f"{value.name}.float32",
        dtype=DataType.FLOAT,
        shape=value.shape,
    )
    for reader, place in uses:
        reader.replace_input_with(place, wide)


def _cast_output(editor: Editor, value: Value, dtype: DataType) -> None:
    producer = value.producer()
    if producer is None:
        return
    name = value.name
    narrow = make_node(
        editor.graph,
        "Cast",
        [value],
        {"to": int(dtype)},
        name=f"{name}.float32",
        dtype=dtype,
        shape=value.shape,
    )
    uses = list(value.uses())
    out = narrow.outputs[0]
    value.replace_all_uses_with(out, replace_graph_outputs=True)
    for reader, place in uses:
        reader.replace_input_with(place, value)
    value.name, out.name = out.name, name
    editor.graph.insert_after(producer, narrow)
    editor.adopt(narrow)
