"""Pass ``fold-constants``: nodes with constant inputs are evaluated once, where that is exact."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from snnc.ir import DataType, Model, Node, Value, constant, consumers_of
from snnc.ir.evaluate import dequantise_linear, evaluate, integer_range, quantise_linear
from snnc.ir.rewrite import has_subgraph
from snnc.passes.editing import Array, Editor, is_output, is_standard
from snnc.pipeline.contract import PassResult, Semantics, whole

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
_LINEAR_DOMAINS = ("", "ai.onnx", "com.microsoft")
_MOVES = frozenset({"Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze"})
#: Inputs that are numbers of the op, not weights: no code is ever made of them.
_PARAMETERS = {
    "BatchNormalization": range(1, 5),
    "GroupNormalization": range(1, 3),
    "InstanceNormalization": range(1, 3),
    "PRelu": range(1, 2),
}
_RANDOM = frozenset(
    {"RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Bernoulli", "Multinomial"}
)


#: What rounded distances go through before they are integers.
_ON_THE_WAY_TO_PLACES = ("Add", "Sub", "Mul", "Neg", "Where", "Min", "Max", "Clip", "Reshape", "Unsqueeze")


def _floats_in(values: list[Value]) -> bool:
    return any(value.dtype is None or value.dtype.is_floating_point() for value in values)


def _becomes_places(node: Node) -> bool:
    """Whether a float is computed to be an integer: logarithmic buckets of distances, no quantised weight."""
    waiting: list[Value] = list(node.outputs)
    seen: set[int] = set()
    while waiting:
        value = waiting.pop()
        if value.is_graph_output():
            return False
        for reader in consumers_of(value):
            if id(reader) in seen:
                continue
            seen.add(id(reader))
            if is_standard(reader, "Cast"):
                if reader.outputs[0].dtype not in (DataType.INT32, DataType.INT64):
                    return False
            elif is_standard(reader, *_ON_THE_WAY_TO_PLACES):
                waiting += reader.outputs
            else:
                return False
    return True


def _quantised(node: Node, arrays: list[Array | None]) -> list[Array] | None:
    """Evaluate QuantizeLinear of a constant, or DequantizeLinear of an int32 constant (a bias)."""
    data, scale = arrays[0], arrays[1]
    if data is None or scale is None:
        return None
    zero, axis = _zero(scale, arrays[2:]), _axis(node, data, scale)
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


def _written_out(value: Value | None, opsets: Mapping[str, int], most: int, depth: int = 8) -> Array | None:
    """Return what a value is if DequantizeLinear and ops that only move numbers are all that make it."""
    found, node = constant(value), value.producer() if value is not None else None
    if found is not None or node is None or depth == 0 or len(node.outputs) != 1:
        return found
    if node.op_type == "DequantizeLinear" and node.domain in _LINEAR_DOMAINS:
        data, scale, *rest = (constant(entry) for entry in node.inputs)
        if data is None or scale is None or not np.issubdtype(data.dtype, np.integer):
            return None
        return dequantise_linear(data, scale, _zero(scale, rest), _axis(node, data, scale))
    if not is_standard(node, node.op_type) or node.op_type not in _MOVES:
        return None
    arrays = [_written_out(entry, opsets, most, depth - 1) for entry in node.inputs]
    if any(array is None for array in arrays):
        return None
    results = evaluate(node, arrays, opsets, most_bytes=most)
    return results[0] if results else None


def _fold_parameters(editor: Editor, node: Node) -> bool:
    """Let ops whose numbers DequantizeLinear makes of a constant read these numbers."""
    value = node.outputs[0]
    read = [use for use in value.uses() if use.idx in _PARAMETERS.get(use.node.op_type, ())]
    numbers = _written_out(value, editor.graph.opset_imports, 0) if read else None
    if numbers is None:
        return False
    held = editor.constant(f"{value.name}.float", numbers)
    for use in read:
        use.node.replace_input_with(use.idx, held)
    editor.record("fold parameters", [node])
    return True


def _zero(scale: Array, rest: Sequence[Array | None]) -> Array:
    return rest[0] if rest and rest[0] is not None else np.zeros(scale.shape, np.int32)


def _axis(node: Node, data: Array, scale: Array) -> int:
    axis = int(node.attributes["axis"].value) if "axis" in node.attributes else 1
    return 0 if axis >= data.ndim and scale.size == 1 else axis


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
    linear = node.op_type in ("QuantizeLinear", "DequantizeLinear") and node.domain in _LINEAR_DOMAINS
    if linear and node.op_type == "QuantizeLinear" and arrays[0] is None and arrays[1] is not None:
        # What shares its numbers with another weight reads that one's, which has a quantiser of its own.
        arrays[0] = _written_out(node.inputs[0], editor.graph.opset_imports, max_bytes)
    present = [value for value in node.inputs if value is not None]
    if any(value is not None and array is None for value, array in zip(node.inputs, arrays, strict=True)):
        return False
    if (not linear and not is_standard(node, node.op_type)) or has_subgraph(node):
        return False
    if node.op_type in _RANDOM or node.op_type == "Constant":
        return False
    if node.op_type in _ROUNDINGS and _floats_in(present) and (exact or not _becomes_places(node)):
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
        return _fold_parameters(editor, node) if node.op_type == "DequantizeLinear" else False
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

    QuantizeLinear of a constant weight becomes its integers (also where ops that move numbers lie between it
    and a DequantizeLinear of another constant), and DequantizeLinear of an int32 constant (a
    bias) its float32 values, both as onnxruntime computes them.

    Matches:
        Nodes of standard ops with constant inputs, without subgraphs.
    Leaves alone:
        DequantizeLinear of narrower integers (but where it makes the numbers of a normalisation or of PRelu)
        and Round, Floor, Ceil of floats (they make a weight's code);
        "... is not exact to the bit on every machine" (see ``evaluate-constants``); "the result takes ...
        bytes"; "the result is an output of the graph"; what the evaluator cannot run.
    Keeps:
        Value names.

    Attributes:
        max_bytes: Results larger than this, and larger than the inputs, are not stored. Unit: bytes.
    """

    max_bytes: int = whole(2**24, 0, 2**30)

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
