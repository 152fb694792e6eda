"""Pass ``fold-repeated``: what follows from a constant that is repeated for every sample is a constant."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from snnc.ir import DataType, Model, Node, Shape, Value, attributes, constant, settled
from snnc.ir.evaluate import evaluate
from snnc.ir.rewrite import has_subgraph
from snnc.passes.analysis.hosted import OF_THE_HOST
from snnc.passes.analysis.layout import LAYOUT_OPS
from snnc.passes.editing import Editor, is_output, is_standard
from snnc.pipeline.contract import PassResult, Semantics

__all__ = ["FoldRepeated"]

Array = npt.NDArray[Any]
#: A value for each of these numbers.
Results = tuple[Array, ...]
_MOST_ELEMENTS = 1 << 22
#: Numbers of samples that results are compared for.
_COUNTS = (1, 2, 7)
_OTHERS = frozenset({"Expand", "Shape", "Size", "ConstantOfShape", "Range", "Dropout"})


@dataclass(frozen=True)
class FoldRepeated:
    """Evaluate what a network computes for every sample from its own constants alone, once.

    Learned queries of attention pools, class tokens and scales of ones are constants that exporters repeat
    along the batch, and then normalise, project and cut into heads. The result is the same for every sample:
    a constant, and one repetition of it. Where a product alone reads it, the host encodes it as spikes.

    Matches:
        Standard ops with one output that read a repeated constant, or integers that the batch size decides,
        and otherwise constants, whose result for two samples is that for one sample twice, along one axis.
    Leaves alone:
        Results that are outputs of the graph, or of more than 4 million elements; other operators.
    Keeps:
        Names and shapes of the results.
    """

    name: ClassVar[str] = "fold-repeated"
    requires: ClassVar[frozenset[str]] = frozenset({"sorted", "constants-folded", "unique-names"})
    establishes: ClassVar[frozenset[str]] = frozenset()
    invalidates: ClassVar[frozenset[str]] = frozenset({"no-dead-code"})
    semantics: ClassVar[Semantics] = "approximate"

    def run(self, model: Model) -> PassResult:
        """Fold; see the class."""
        editor = Editor(model)
        #: By id of a value: what it is for some numbers of samples.
        known = _of_batch_size(model)
        for node in list(model.graph):
            found = _repetition(node)
            if found is None:
                found = _computed(node, known, editor.graph.opset_imports)
                out = node.outputs[0]
                if found is not None and found[0].dtype != np.float32:
                    # Masks and places stay where they are; what follows from them may be a constant.
                    known[id(out)] = found
                elif found is not None and _is_merged(node, found):
                    known[id(out)] = found
                elif found is not None and not is_output(out):
                    new = _repeated(editor, node, found)
                    if new is None:
                        continue
                    editor.replace("fold what is repeated", out, new, removed=[node])
                    known[id(new)] = found
                continue
            known[id(node.outputs[0])] = found
        folded = len(editor.rewrites)
        for node in model.graph:
            unsaid = node.metadata_props.get(OF_THE_HOST) != "yes" and is_standard(node, "Expand")
            found = _repetition(node) if unsaid else None
            if found is not None and found[0].dtype == np.float32 and _feeds_products(node):
                node.metadata_props[OF_THE_HOST] = "yes"
                editor.record("let the host repeat it", note=node.name or "")
        if folded:
            editor.notes.append(
                f"{folded} values that are the same for every sample were evaluated with numpy"
            )
        return editor.result()


def _feeds_products(node: Node) -> bool:
    """Whether nothing but products of two values reads a repeated constant, perhaps moved."""
    readers = [use.node for use in node.outputs[0].uses()]
    return bool(readers) and all(
        (is_standard(reader, "MatMul") and all(constant(value) is None for value in reader.inputs))
        or (is_standard(reader, *LAYOUT_OPS) and _feeds_products(reader))
        for reader in readers
    )


def _repetition(node: Node) -> Results | None:
    """Return what an Expand of a constant along the batch gives, or one number for every sample."""
    if not is_standard(node, "Expand", "ConstantOfShape"):
        return None
    target = node.inputs[1 if node.op_type == "Expand" else 0]
    if target is None or constant(target) is not None:
        return None
    shape = node.outputs[0].shape
    dims = [dim if isinstance(dim, int) else None for dim in shape] if shape is not None else [None, None]
    if dims.count(None) != 1:
        return None
    axis = dims.index(None)
    one = [dim if dim is not None else 1 for dim in dims]
    if int(np.prod(one)) > _MOST_ELEMENTS:
        return None
    if node.op_type == "Expand":
        held = constant(node.inputs[0])
    else:
        filled = attributes(node).get("value")
        held = np.zeros(1, np.float32) if filled is None else np.asarray(filled)
    try:
        single = None if held is None else np.broadcast_to(held, one)
    except ValueError:
        return None
    if single is None:
        return None
    return tuple(np.concatenate([single] * count, axis=axis) for count in _COUNTS)


def _of_batch_size(model: Model) -> dict[int, Results]:
    """Return the integers and truth values that the batch size alone decides, for each of these numbers."""
    if not any(is_standard(node, "Shape", "Size") for node in model.graph):
        return {}
    contents = [entry[1] for entry in settled(model, *_COUNTS)]
    known: dict[int, Results] = {}
    for node in model.graph:
        for value in node.outputs:
            found = [entry.get(value.name or "") for entry in contents]
            if all(array is not None for array in found):
                known[id(value)] = tuple(array for array in found if array is not None)
    return known


def _computed(node: Node, known: dict[int, Results], opsets: dict[str, int]) -> Results | None:
    if not is_standard(node, node.op_type) or node.op_type in _OTHERS or len(node.outputs) != 1:
        return None
    found = [known.get(id(value)) if value is not None else None for value in node.inputs]
    if all(entry is None for entry in found) or has_subgraph(node):
        return None
    held = [constant(value) for value in node.inputs]
    for value, array, entry in zip(node.inputs, held, found, strict=True):
        if value is not None and array is None and entry is None:
            return None
    results = []
    for place, count in enumerate(_COUNTS):
        inputs = [
            entry[place] if entry is not None else array for entry, array in zip(found, held, strict=True)
        ]
        try:
            made = evaluate(node, inputs, opsets)
        except Exception:  # noqa: BLE001 - what cannot be evaluated stays
            return None
        if made is None or len(made) != 1 or made[0].size > count * _MOST_ELEMENTS:
            return None
        results.append(np.asarray(made[0]))
    return tuple(results)


def _is_merged(node: Node, found: Results) -> bool:
    """Whether a node is the Reshape that merges a repeated constant with the batch, and stays."""
    source = node.inputs[0].producer() if node.inputs and node.inputs[0] is not None else None
    apart = is_standard(node, "Reshape") and source is not None and _repetition(source) is not None
    return apart and found[0].ndim > 0 and found[0].shape[0] > 1


def _repeated(editor: Editor, node: Node, found: Results) -> Value | None:
    """Return a value that repeats the result for one sample along the axis along which others are longer."""
    one, two = found[:2]
    if one.ndim != two.ndim:
        return None
    axes = [axis for axis in range(one.ndim) if one.shape[axis] != two.shape[axis]]
    if len(axes) != 1:
        return None
    axis = axes[0]
    if not np.isfinite(one).all():
        return None
    for count, result in zip(_COUNTS, found, strict=True):
        if not np.array_equal(np.concatenate([one] * count, axis=axis), result):
            return None
    if axis and one.shape[axis] != 1:
        return None
    target = _target(editor, node, one.shape, axis)
    if target is None:
        return None
    stem, out = node.name or node.op_type, node.outputs[0]
    if one.shape[axis] == 1:
        held = editor.constant(f"{stem}.constant", one)
        return editor.add(node, "Expand", [held, target], name=f"{stem}.expand", shape=out.shape)
    # Heads, or windows, that were merged with the batch: samples come first.
    held = editor.constant(f"{stem}.constant", one[None])
    apart = Shape(["batch_apart", *one.shape])
    wide = editor.add(node, "Expand", [held, target], name=f"{stem}.expand", shape=apart)
    sizes = editor.constant(f"{stem}.merged", np.array([-1, *one.shape[1:]], dtype=np.int64))
    return editor.add(node, "Reshape", [wide, sizes], name=f"{stem}.merge", shape=out.shape)


def _target(editor: Editor, node: Node, shape: Sequence[int], axis: int) -> Value | None:
    """Return the extents of a constant repeated for every sample of the first network input."""
    source = next((value for value in editor.graph.inputs if not value.is_initializer()), None)
    if source is None or source.shape is None:
        return None
    stem = node.name or node.op_type

    def made(op: str, inputs: list[Value], label: str, length: int, axis: int | None = None) -> Value:
        attrs = None if axis is None else {"axis": axis}
        name = f"{stem}.{label}"
        return editor.add(node, op, inputs, attrs, name=name, dtype=DataType.INT64, shape=[length])

    zero = editor.constant(f"{stem}.first", np.array([0], dtype=np.int64))
    sizes = made("Shape", [source], "sizes", len(source.shape))
    batch = made("Gather", [sizes, zero], "batch", 1, 0)
    rest = list(shape) if shape[axis] != 1 else [*shape[:axis], *shape[axis + 1 :]]
    place = 0 if shape[axis] != 1 else axis
    parts: list[Value] = [batch]
    if rest[:place]:
        parts.insert(0, editor.constant(f"{stem}.before", np.array(rest[:place], dtype=np.int64)))
    if rest[place:]:
        parts.append(editor.constant(f"{stem}.behind", np.array(rest[place:], dtype=np.int64)))
    return made("Concat", parts, "extents", len(rest) + 1, 0)
