"""Pass ``fold-batch-norm``: batch normalisation goes into the layer before it, or becomes Mul and Add."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from snnc.ir import Model, Node, Value, attributes, constant
from snnc.passes.canonical.batch_norm_targets import TARGETS, Affine, Folded
from snnc.passes.editing import Editor, is_standard, only_consumer, rank_of
from snnc.pipeline.contract import PassResult, Semantics

__all__ = ["FoldBatchNorm"]


def _affine(node: Node) -> Affine | str:
    """Return factor and offset per channel of a batch normalisation in float64, or why there are none."""
    attrs = attributes(node)
    if int(attrs.get("training_mode", 0)) or any(out.name and out.uses() for out in node.outputs[1:]):
        return "runs in training mode"
    if not int(attrs.get("spatial", 1)):
        return "normalises per position, not per channel"
    held = [constant(value) for value in node.inputs[1:5]]
    if len(held) < 4 or any(array is None for array in held):
        return "its statistics are not constant"
    gamma, beta, mean, variance = (np.asarray(array, dtype=np.float64) for array in held)
    # epsilon is a float32 attribute: the number the runtimes add.
    factor = gamma / np.sqrt(variance + np.float64(np.float32(attrs.get("epsilon", 1e-5))))
    offset = beta - mean * factor
    if not (np.isfinite(factor).all() and np.isfinite(offset).all()):
        return "its statistics give infinite or undefined factors"
    return Affine(factor, offset)


@dataclass(frozen=True)
class FoldBatchNorm:
    """Fold batch normalisation into the weights and bias of the layer before it.

    Factor and offset per channel are computed in float64 and the new weights rounded once to float32. Where
    the weights come through DequantizeLinear the factor goes into its scale, and its sign into the integers
    (the bitwise complement of integer and zero point negates their difference without overflow).

    Matches:
        BatchNormalization after Conv, ConvTranspose, Gemm, MatMul or MatMul + Add that nothing else reads;
        any other BatchNormalization of known rank becomes Mul and Add.
    Leaves alone:
        "runs in training mode"; "its statistics are not constant"; "normalises per position"; "the rank of
        its input is unknown".
    Keeps:
        The name of the output.
    """

    name: ClassVar[str] = "fold-batch-norm"
    requires: ClassVar[frozenset[str]] = frozenset({"constants-folded", "unique-names", "shapes-known"})
    establishes: ClassVar[frozenset[str]] = frozenset()
    invalidates: ClassVar[frozenset[str]] = frozenset()
    semantics: ClassVar[Semantics] = "approximate"

    def run(self, model: Model) -> PassResult:
        """Fold; see the class."""
        editor = Editor(model)
        worst = 0.0
        for node in [entry for entry in model.graph if is_standard(entry, "BatchNormalization")]:
            affine = _affine(node)
            source = node.inputs[0]
            if isinstance(affine, str) or source is None:
                editor.fail(affine if isinstance(affine, str) else "its input is missing", node)
                continue
            folded = self._into_producer(editor, node, source, affine)
            if isinstance(folded, str):
                editor.fail(f"is not folded into a layer: {folded}", node)
                folded = self._as_mul_add(editor, node, source, affine)
            if isinstance(folded, str):
                editor.fail(folded, node)
            else:
                worst = max(worst, folded.change)
        if editor.rewrites:
            editor.notes.append(
                f"{len(editor.rewrites)} batch normalisations folded; rounding the new weights to float32 "
                f"changed them by at most {worst:.2g} of their value"
            )
        return editor.result()

    @staticmethod
    def _into_producer(editor: Editor, node: Node, source: Value, affine: Affine) -> Folded | str:
        producer = source.producer()
        if producer is None or not is_standard(producer, producer.op_type):
            return "no layer stands before it"
        target = TARGETS.get(producer.op_type)
        if target is None:
            return f"{producer.op_type} stands before it"
        if only_consumer(source) is not node:
            return "something else reads the layer's output"
        folded = target(editor, producer, affine, node)
        if isinstance(folded, Folded):
            rule = f"fold-batch-norm into {producer.op_type}"
            result = folded.result if folded.result is not None else producer.outputs[0]
            editor.replace(rule, node.outputs[0], result, removed=[node])
        return folded

    @staticmethod
    def _as_mul_add(editor: Editor, node: Node, source: Value, affine: Affine) -> Folded | str:
        rank = rank_of(source)
        if rank is None or rank < 2:
            return "the rank of its input is unknown"
        shape = [affine.factor.size] + [1] * (rank - 2)
        name, out = editor.take_name(node), node.outputs[0]
        factor, factor_change = affine.rounded(affine.factor)
        offset, offset_change = affine.rounded(affine.offset)
        scaled = editor.add(
            node,
            "Mul",
            [source, editor.constant(f"{name}.factor", factor.reshape(shape))],
            name=f"{name}.mul",
            dtype=out.dtype,
            shape=out.shape,
        )
        shifted = editor.add(
            node,
            "Add",
            [scaled, editor.constant(f"{name}.offset", offset.reshape(shape))],
            name=name,
            dtype=out.dtype,
            shape=out.shape,
        )
        editor.replace("batch-norm to Mul and Add", out, shifted, removed=[node])
        return Folded(max(factor_change, offset_change))
