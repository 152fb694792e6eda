"""How each kind of layer takes in a factor and an offset per output channel."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from snnc.ir import Node, Value, attributes, constant
from snnc.ir.rewrite import set_attribute
from snnc.passes.editing import Editor, is_standard, only_consumer, rank_of

__all__ = ["TARGETS", "Affine", "Folded"]

Float64 = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Affine:
    """``y = factor * x + offset`` per channel.

    Attributes:
        factor: float64 (channels,).
        offset: float64 (channels,), in the unit of the output.
    """

    factor: Float64
    offset: Float64

    @staticmethod
    def rounded(array: Float64) -> tuple[npt.NDArray[np.float32], float]:
        """Return an array in float32 and the largest relative change that the rounding made."""
        result = array.astype(np.float32)
        size = np.abs(array)
        change = np.abs(result - array) / np.where(size > 0, size, 1.0)
        return result, float(change.max(initial=0.0))


@dataclass(frozen=True)
class Folded:
    """What folding did to the numbers.

    Attributes:
        change: Largest relative change of a weight or bias by rounding to float32.
        result: The value that takes the place of the normalised one; None for the layer's output.
    """

    change: float
    result: Value | None = None


def _over(factor: Float64, rank: int, axis: int) -> Float64:
    shape = [1] * rank
    shape[axis] = factor.size
    return factor.reshape(shape)


def _weight(editor: Editor, layer: Node, axis: int, factor: Float64) -> float | str:
    """Multiply the weight of a layer (its input 1) by a factor along an axis."""
    value = layer.inputs[1]
    if value is None:
        return "its weight is missing"
    array = constant(value)
    if array is not None:
        if array.shape[axis] != factor.size:
            return "its weight has another number of channels"
        new, change = Affine.rounded(array.astype(np.float64) * _over(factor, array.ndim, axis))
        editor.set_constant(layer, 1, f"{value.name}.folded", new)
        return change
    return _dequantised_weight(editor, layer, value, axis, factor)


def _dequantised_weight(editor: Editor, layer: Node, value: Value, axis: int, factor: Float64) -> float | str:
    """Put the factor into the scale of the weight's DequantizeLinear, its sign into the integers."""
    dequantise = value.producer()
    if dequantise is None or dequantise.op_type != "DequantizeLinear" or only_consumer(value) is not layer:
        return "its weight is not constant"
    integers, scale = constant(dequantise.inputs[0]), constant(dequantise.inputs[1])
    if integers is None or scale is None or int(attributes(dequantise).get("block_size", 0)):
        return "its weight is not constant, or blocked"
    rank = integers.ndim
    old_axis = int(attributes(dequantise).get("axis", 1)) % rank
    if scale.size > 1 and old_axis != axis % rank:
        return "the scales of its weight run along another axis than its output channels"
    if integers.shape[axis] != factor.size or np.any(factor == 0):
        return "a factor is zero, or its weight has another number of channels"
    zero = constant(dequantise.inputs[2]) if len(dequantise.inputs) > 2 else None
    dtype = integers.dtype
    wide = integers.astype(np.int32)
    zeros = np.broadcast_to(
        np.zeros((), np.int32) if zero is None else zero.astype(np.int32).reshape(-1), factor.shape
    )
    # ~q - ~z = -(q - z); for an unsigned type of n bits the complement is 2^n - 1 - q, with the same effect.
    info = np.iinfo(dtype) if dtype.kind in "iu" else None
    if info is None and np.any(factor < 0):
        return "its integers are narrower than 8 bits and a factor is negative"
    mirror = int(info.min) + int(info.max) if info is not None else 0
    negative = factor < 0
    flipped = np.where(_over(negative.astype(np.float64), rank, axis) > 0, mirror - wide, wide)
    new_zero = np.where(negative, mirror - zeros, zeros)
    new_scale, change = Affine.rounded(
        np.broadcast_to(scale.astype(np.float64).reshape(-1), factor.shape) * np.abs(factor)
    )
    stem = value.name or "weight"
    if negative.any():
        editor.set_constant(dequantise, 0, f"{stem}.integers", flipped.astype(dtype))
    editor.set_constant(dequantise, 1, f"{stem}.scale", new_scale)
    if zero is not None or np.any(new_zero):
        editor.set_constant(dequantise, 2, f"{stem}.zero", new_zero.astype(dtype))
    set_attribute(dequantise, "axis", axis % rank)
    return change


def _bias(editor: Editor, layer: Node, index: int, affine: Affine) -> float:
    """Let the bias of a layer (input ``index``, without a problem) become ``bias * factor + offset``."""
    old = constant(layer.inputs[index]) if len(layer.inputs) > index else None
    shift = (
        affine.offset if old is None else old.reshape(-1).astype(np.float64) * affine.factor + affine.offset
    )
    new, change = Affine.rounded(shift)
    editor.set_constant(layer, index, f"{layer.name}.bias", new)
    return change


def _bias_problem(layer: Node, index: int, channels: int) -> str | None:
    """Check the bias before the weight is touched."""
    value = layer.inputs[index] if len(layer.inputs) > index else None
    old = constant(value)
    if value is not None and old is None:
        return "its bias is not constant"
    if old is not None and not _per_channel(old, channels):
        return "its bias is not one number per channel"
    return None


def _per_channel(bias: npt.NDArray[Any], channels: int) -> bool:
    """Whether a bias is one number, or one per entry of the last axis; rows of a batch can be as many."""
    return bias.size == 1 or bias.shape[-1] == bias.size == channels


def _conv(editor: Editor, layer: Node, affine: Affine, _: Node) -> Folded | str:
    problem = _bias_problem(layer, 2, affine.factor.size)
    if problem is not None:
        return problem
    weight = _weight(editor, layer, 0, affine.factor)
    return weight if isinstance(weight, str) else Folded(max(weight, _bias(editor, layer, 2, affine)))


def _conv_transpose(editor: Editor, layer: Node, affine: Affine, _: Node) -> Folded | str:
    """The weight is (inputs, outputs / group, ...): with groups, output channels run over both axes."""
    value = layer.inputs[1]
    array = constant(value)
    group = int(attributes(layer).get("group", 1))
    problem = _bias_problem(layer, 2, affine.factor.size)
    if problem is not None or array is None or value is None:
        return problem or "its weight is not constant"
    if array.shape[1] * group != affine.factor.size:
        return "its weight has another number of channels"
    grouped = array.astype(np.float64).reshape(group, array.shape[0] // group, *array.shape[1:])
    factor = affine.factor.reshape(group, 1, array.shape[1], *[1] * (array.ndim - 2))
    new, change = Affine.rounded((grouped * factor).reshape(array.shape))
    editor.set_constant(layer, 1, f"{value.name}.folded", new)
    return Folded(max(change, _bias(editor, layer, 2, affine)))


def _gemm(editor: Editor, layer: Node, affine: Affine, _: Node) -> Folded | str:
    attrs = attributes(layer)
    if float(attrs.get("beta", 1.0)) != 1.0:
        return "its beta is not 1"
    problem = _bias_problem(layer, 2, affine.factor.size)
    if problem is not None:
        return problem
    weight = _weight(editor, layer, 0 if int(attrs.get("transB", 0)) else 1, affine.factor)
    return weight if isinstance(weight, str) else Folded(max(weight, _bias(editor, layer, 2, affine)))


def _matmul(editor: Editor, layer: Node, affine: Affine, norm: Node) -> Folded | str:
    """MatMul has no bias: the offset becomes an Add behind it."""
    if rank_of(norm.inputs[0]) != 2:
        return "its channels are not the last axis"
    right = layer.inputs[1]
    if right is None or (right.shape is not None and len(right.shape) != 2):
        return "its weight is not a matrix"
    weight = _weight(editor, layer, 1, affine.factor)
    if isinstance(weight, str):
        return weight
    offset, change = Affine.rounded(affine.offset)
    total = editor.add(
        norm,
        "Add",
        [layer.outputs[0], editor.constant(f"{layer.name}.bias", offset)],
        name=f"{layer.name}.bias",
        dtype=norm.outputs[0].dtype,
        shape=norm.outputs[0].shape,
    )
    return Folded(max(weight, change), total)


def _add(editor: Editor, layer: Node, affine: Affine, norm: Node) -> Folded | str:
    """MatMul + Add of a constant: both take the factor."""
    for index in (0, 1):
        source, bias = layer.inputs[index], layer.inputs[1 - index]
        held = constant(bias)
        product = source.producer() if source is not None else None
        if held is None or not is_standard(product, "MatMul") or product is None:
            continue
        channels_last = rank_of(norm.inputs[0]) == 2 and _per_channel(held, affine.factor.size)
        if not channels_last or only_consumer(source) is not layer:
            return "its channels are not the last axis, or something else reads the product"
        weight = _weight(editor, product, 1, affine.factor)
        if isinstance(weight, str):
            return weight
        return Folded(max(weight, _bias(editor, layer, 1 - index, affine)))
    return "Add stands before it"


#: Editor, layer, factor and offset, and the normalisation behind the layer.
Target = Callable[[Editor, Node, Affine, Node], Folded | str]

#: Layers that can take in an affine map, by op type.
TARGETS: dict[str, Target] = {
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "Gemm": _gemm,
    "MatMul": _matmul,
    "Add": _add,
}
