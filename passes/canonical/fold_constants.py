"""Pass ``fold-constants``: nodes with constant inputs are evaluated once, where that is exact."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from snnc.ir import DataType, Model, Node, Value, constant
from snnc.ir.evaluate import dequantise_linear, evaluate, integer_range, quantise_linear
from snnc.ir.rewrite import has_subgraph
from snnc.passes.editing import Array, Editor, is_output, is_standard
from snnc.pipeline.contract import PassResult, Semantics

__all__ = ["EXACT_OPS", "Budget", "FoldConstants", "fold_node"]

#: Ops whose results IEEE arithmetic fixes to the bit, or that only move numbers.
EXACT_OPS = frozenset(
    {
        "Abs",
        "Add",
        "And",
        "BitShift",
        "BitwiseAnd",
        "BitwiseNot",
        "BitwiseOr",
        "BitwiseXor",
        "Cast",
        "CastLike",
        "Ceil",
        "Clip",
        "Compress",
        "Concat",
        "ConstantOfShape",
        "DepthToSpace",
        "Div",
        "Equal",
        "Expand",
        "EyeLike",
        "Flatten",
        "Floor",
        "Gather",
        "GatherElements",
        "GatherND",
        "Greater",
        "GreaterOrEqual",
        "Identity",
        "Less",
        "LessOrEqual",
        "Max",
        "Min",
        "Mod",
        "Mul",
        "Neg",
        "NonZero",
        "Not",
        "OneHot",
        "Or",
        "Pad",
        "Range",
        "Reciprocal",
        "ReduceMax",
        "ReduceMin",
        "ReduceProd",
        "Relu",
        "Reshape",
        "Round",
        "ScatterElements",
        "ScatterND",
        "Shape",
        "Sign",
        "Size",
        "Slice",
        "SpaceToDepth",
        "Split",
        "Sqrt",
        "Squeeze",
        "Sub",
        "Tile",
        "Transpose",
        "Trilu",
        "Unsqueeze",
        "Where",
        "Xor",
    }
)
#: On integers these too are exact.
_EXACT_ON_INTEGERS = frozenset({"ReduceSum", "CumSum", "MatMul", "Sum"})
#: Rounding a float weight is a quantiser: ``recognise-weights`` needs to see it.
_ROUNDINGS = ("Round", "Floor", "Ceil")
_RANDOM = frozenset(
    {"RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Bernoulli", "Multinomial"}
)


def _floats_in(values: list[Value]) -> bool:
    return any(value.dtype is None or value.dtype.is_floating_point() for value in values)


def _quantised(node: Node, arrays: list[Array | None]) -> list[Array] | None:
    """Evaluate QuantizeLinear of a constant, or DequantizeLinear of an int32 constant (a bias)."""
    data, scale = arrays[0], arrays[1]
    if data is None or scale is None:
        return None
    zero = arrays[2] if len(arrays) > 2 and arrays[2] is not None else np.zeros(scale.shape, np.int32)
    axis = int(node.attributes["axis"].value) if "axis" in node.attributes else 1
    if axis >= data.ndim and scale.size == 1:
        axis = 0
    if node.op_type == "DequantizeLinear":
        return [dequantise_linear(data, scale, zero, axis)] if data.dtype == np.int32 else None
    dtype = node.outputs[0].dtype
    if dtype is None and len(node.inputs) > 2 and node.inputs[2] is not None:
        dtype = node.inputs[2].dtype
    bounds = integer_range(dtype or DataType.UINT8)
    if bounds is None:
        raise ValueError("quantises to a type that is not an integer of at most 32 bits")
    codes = quantise_linear(data, scale, zero, bounds, axis)
    return [codes.astype((dtype or DataType.UINT8).numpy())]


@dataclass
class Budget:
    """Bytes by which the constants of a graph may grow; a file's numbers are not trusted.

    Attributes:
        most: So many.
        spent: So many are taken.
    """

    most: int = 2**30
    spent: int = 0

    def spend(self, size: int) -> bool:
        """Take some, unless too few are left."""
        if self.spent + size > self.most:
            return False
        self.spent += max(0, size)
        return True


def fold_node(
    editor: Editor, node: Node, *, exact: bool, max_bytes: int, budget: Budget | None = None
) -> bool:
    """Replace a node by its results if all of its inputs are constant.

    Args:
        editor: Editor of the model.
        node: A node of the main graph.
        exact: Only where the result is fixed to the bit.
        max_bytes: Results that are larger than this, and larger than the inputs, are not stored.
        budget: What all results together may take beyond the inputs.

    Returns:
        Whether it was folded.
    """
    arrays = [constant(value) for value in node.inputs]
    present = [value for value in node.inputs if value is not None]
    if any(value is not None and array is None for value, array in zip(node.inputs, arrays, strict=True)):
        return False
    linear = node.op_type in ("QuantizeLinear", "DequantizeLinear") and node.domain in (
        "",
        "ai.onnx",
        "com.microsoft",
    )
    if (not linear and not is_standard(node, node.op_type)) or has_subgraph(node):
        return False
    if node.op_type in _RANDOM or node.op_type == "Constant":
        return False
    if node.op_type in _ROUNDINGS and _floats_in(present):
        return False
    fixed = linear or node.op_type in EXACT_OPS
    fixed = fixed or (node.op_type in _EXACT_ON_INTEGERS and not _floats_in(present))
    if exact and not fixed:
        editor.fail(f"{node.op_type} is not exact to the bit on every machine", node)
        return False
    if any(is_output(value) for value in node.outputs):
        editor.fail("the result is an output of the graph", node)
        return False
    held = sum(array.nbytes for array in arrays if array is not None)
    most, opsets = max(max_bytes, held), editor.graph.opset_imports
    try:
        results = _quantised(node, arrays) if linear else evaluate(node, arrays, opsets, most_bytes=most)
    except ValueError as error:
        editor.fail(str(error), node)
        return False
    if results is None:
        return False
    size = sum(result.nbytes for result in results)
    if size > most:
        editor.fail(f"the result takes {size} bytes, more than {max_bytes}", node)
        return False
    if budget is not None and not budget.spend(size - held):
        editor.fail(f"all results take more than {budget.most} bytes", node)
        return False
    for old, result in zip(node.outputs, results, strict=True):
        if old.name and old.uses():
            old.replace_all_uses_with(editor.constant_for(old, result))
    editor.record(f"fold {node.op_type}", [node])
    return True


@dataclass(frozen=True)
class FoldConstants:
    """Evaluate nodes whose inputs are all constant, where IEEE arithmetic fixes the result to the bit.

    QuantizeLinear of a constant weight becomes its integers, and DequantizeLinear of an int32 constant (a
    bias) its float32 values, both as onnxruntime computes them.

    Matches:
        Nodes of standard ops with constant inputs, without subgraphs.
    Leaves alone:
        DequantizeLinear of narrower integers and Round, Floor, Ceil of floats (they make a weight's code);
        "... is not exact to the bit on every machine" (see ``evaluate-constants``); "the result takes ...
        bytes"; "the result is an output of the graph"; what the evaluator cannot run.
    Keeps:
        Value names.

    Attributes:
        max_bytes: Results larger than this, and larger than the inputs, are not stored. Unit: bytes.
    """

    max_bytes: int = 2**24

    name: ClassVar[str] = "fold-constants"
    requires: ClassVar[frozenset[str]] = frozenset({"sorted", "constants-folded", "unique-names"})
    establishes: ClassVar[frozenset[str]] = frozenset()
    invalidates: ClassVar[frozenset[str]] = frozenset()
    semantics: ClassVar[Semantics] = "exact"

    def run(self, model: Model) -> PassResult:
        """Fold; see the class."""
        editor = Editor(model)
        budget = Budget()
        for node in list(model.graph):
            fold_node(editor, node, exact=True, max_bytes=self.max_bytes, budget=budget)
        return editor.result()
