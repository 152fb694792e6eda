"""Pass ``fold-scales``: a constant factor per channel behind a layer goes into the layer's weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from snnc.ir import Model, Node, Value, constant
from snnc.passes.editing import Editor, is_standard, only_consumer
from snnc.pipeline.contract import PassResult, Semantics

__all__ = ["FoldScales"]


@dataclass(frozen=True)
class FoldScales:
    """Fold ``(x W + b) * c`` into ``x (W c) + b c``, as LayerScale in front of a residual join has it.

    A membrane that joins a stream then counts in steps of a power of two, which a factor per channel behind
    the weights would spoil. Products are taken in float64 and rounded once to float32.

    Matches:
        Mul with a constant that changes along the channels alone, behind MatMul, MatMul + Add or Conv with
        constant weights that nothing else reads.
    Leaves alone:
        Factors that are one number; "something else reads the layer".
    Keeps:
        The name of the result.
    """

    name: ClassVar[str] = "fold-scales"
    requires: ClassVar[frozenset[str]] = frozenset({"constants-folded", "unique-names", "shapes-known"})
    establishes: ClassVar[frozenset[str]] = frozenset()
    invalidates: ClassVar[frozenset[str]] = frozenset()
    semantics: ClassVar[Semantics] = "approximate"

    def run(self, model: Model) -> PassResult:
        """Fold; see the class."""
        editor = Editor(model)
        for node in [entry for entry in model.graph if is_standard(entry, "Mul")]:
            for place in (0, 1):
                held, source = constant(node.inputs[place]), node.inputs[1 - place]
                if held is not None and held.size > 1 and held.dtype == np.float32 and source is not None:
                    _fold(editor, node, source, held)
                    break
        if editor.rewrites:
            editor.notes.append(f"{len(editor.rewrites)} factors folded into weights")
        return editor.result()


def _fold(editor: Editor, node: Node, source: Value, factor: npt.NDArray[Any]) -> None:
    if not np.isfinite(factor).all():
        return  # refused later, by the name of this node
    rank = len(source.shape) if source.shape is not None else 0
    wide = (1,) * (rank - factor.ndim) + factor.shape
    layer, addition = source.producer(), None
    if layer is not None and is_standard(layer, "Add"):
        addition = layer
        held = [constant(value) is not None for value in layer.inputs]
        value = layer.inputs[held.index(False)] if held.count(True) == 1 else None
        layer = value.producer() if value is not None and only_consumer(value) is addition else None
    if layer is None or not is_standard(layer, "MatMul", "Conv"):
        return
    axis = rank - 1 if layer.op_type == "MatMul" else 1
    if len(wide) != rank or factor.size != wide[axis] or (addition is not None and axis == 1 < rank - 1):
        return
    weight = constant(layer.inputs[1])
    shared = layer.inputs[1] is not None and len(layer.inputs[1].uses()) != 1
    if only_consumer(source) is not node or weight is None or shared or weight.dtype != np.float32:
        editor.fail("something else reads the layer, or its weights are not constant floats", node)
        return
    flat = factor.reshape(-1).astype(np.float64)
    over = flat if layer.op_type == "MatMul" else flat.reshape((-1,) + (1,) * (weight.ndim - 1))
    if layer.op_type == "MatMul" and (weight.ndim != 2 or weight.shape[1] != flat.size):
        return
    editor.set_constant(layer, 1, f"{layer.name}.scaled", (weight * over).astype(np.float32))
    bias = layer.inputs[2] if layer.op_type == "Conv" and len(layer.inputs) > 2 else None
    biases = [(layer, 2, constant(bias))]
    if addition is not None:
        biases += [(addition, index, constant(value)) for index, value in enumerate(addition.inputs)]
    for reader, place, held_bias in biases:
        if held_bias is not None:
            scaled = (held_bias.astype(np.float64) * flat).astype(np.float32)
            editor.set_constant(reader, place, f"{reader.name}.bias", scaled)
    editor.replace("fold a factor", node.outputs[0], source)
