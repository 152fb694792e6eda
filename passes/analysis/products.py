"""Kinds of products: convolutions and matrix products of codes with weights or with codes."""

from __future__ import annotations

import weakref
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from snnc.cores import over_cores
from snnc.passes.analysis.exact import ExactArray, as_exact, collapse, exact, floats, same
from snnc.passes.analysis.kinds import (
    Coded,
    Constant,
    Fixed,
    FloatValue,
    IntegerWeight,
    Kind,
    Membrane,
    Merged,
    integer_range,
)

__all__ = ["convolution", "matmul", "per_unit", "sum_of_magnitudes", "weight_range"]

Sums: TypeAlias = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]

#: Sums of weights and of their magnitudes, for as long as these live: several passes ask for them.
_SUMS: dict[object, tuple[weakref.ref[Any], Sums]] = {}
_AT_ONCE = 1 << 16


def weight_range(
    integers: npt.NDArray[Any], axes: tuple[int, ...], low: int, high: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Worst-case sums of integers times inputs in [low, high], summed over ``axes`` (kept as size 1)."""
    total, magnitude = _sums(integers, axes)
    positive, negative = (magnitude + total) // 2, (total - magnitude) // 2
    return positive * low + negative * high, positive * high + negative * low


def sum_of_magnitudes(integers: npt.NDArray[Any], axes: tuple[int, ...]) -> npt.NDArray[np.int64]:
    """Return the sum of the magnitudes of integers over axes, which are kept as size 1."""
    return _sums(integers, axes)[1]


def _sums(integers: npt.NDArray[Any], axes: tuple[int, ...]) -> Sums:
    """Return sums over axes, which are kept as size 1, of integers and of their magnitudes."""
    # Whoever reads a constant gets a view of his own.
    owner = integers if integers.base is None else integers.base
    key = id(owner), integers.shape, integers.strides, axes
    reference, known = _SUMS.get(key, (None, None))
    if known is not None and reference is not None and reference() is owner:
        return known
    # Of narrow integers the magnitudes fit the next wider type, |-128| too.
    wider = np.int16 if integers.dtype == np.int8 else np.int32 if integers.dtype == np.int16 else np.int64
    # A piece of bytes or of 16 bits has a sum of 32 bits.
    short = np.int64 if wider == np.int64 else np.int32

    def part(rows: slice) -> Sums:
        piece = integers[rows].astype(wider)
        total = piece.sum(axis=axes, keepdims=True, dtype=short).astype(np.int64)
        return total, np.abs(piece).sum(axis=axes, keepdims=True, dtype=short).astype(np.int64)

    height = max(1, _AT_ONCE // max(1, integers[:1].size))
    pieces = [slice(first, first + height) for first in range(0, len(integers), height)]
    totals, magnitudes = zip(*over_cores(part, pieces or [slice(0)]), strict=True)
    join = np.add.reduce if 0 in axes else np.concatenate
    found = np.asarray(join(totals)), np.asarray(join(magnitudes))
    for array in found:
        array.flags.writeable = False
    if isinstance(owner, np.ndarray) and owner.size == integers.size:
        # Passes make new arrays instead of writing into old ones.
        _SUMS[key] = weakref.ref(owner, lambda _: _SUMS.pop(key, None)), found
    return found


def per_unit(step: ExactArray, divisor: ExactArray) -> ExactArray:
    """Return step / divisor: what one unit of the input's code adds, in units of the weight's numerator.

    A divisor that is the float64 nearest to the step stands for the step itself. Otherwise a step such as a
    ninth, which no float64 equals, would leave every channel with a grid of its own.
    """
    numbers, certain = floats(divisor)
    near = floats(step)[0]
    nearest = near == numbers if certain else np.asarray(near.astype(object) == divisor)
    if bool(nearest.all()):
        return exact(1, nearest.ndim)
    return np.where(nearest, exact(1), np.asarray(step / divisor, dtype=object))


def convolution(
    data: Kind, weight: Kind, bias: Kind | None, shape: tuple[int, ...], attrs: dict[str, Any]
) -> Kind:
    """Kind of Conv(data, weight, bias), data of the given shape (N, C, …)."""
    if not isinstance(data, Coded | Merged | Fixed):
        return FloatValue("the input of the convolution carries no code")
    if not isinstance(weight, IntegerWeight):
        return FloatValue("the weights of the convolution are not integers")
    if bias is not None and not isinstance(bias, Constant):
        return FloatValue("the bias of the convolution is not constant")
    integers = weight.integers
    outputs, inputs = int(integers.shape[0]), int(integers.shape[1])
    groups = int(attrs.get("group", 1))
    rank = len(shape)
    if any(size != 1 for axis, size in enumerate(data.step.shape) if axis != 1):
        return FloatValue("the input's step changes within a channel")
    channel_steps = np.broadcast_to(data.step.reshape(-1), (shape[1],)).reshape(groups, 1, inputs)
    per_weight = np.broadcast_to(channel_steps, (groups, outputs // groups, inputs)).reshape(outputs, inputs)
    divisor = weight.denominator.reshape(weight.denominator.shape[0], -1)
    if data.step.size == 1 and divisor.shape[1] == 1:
        ratio = per_unit(data.step.reshape(1, 1), divisor)
    elif groups == 1 and divisor.shape[0] == 1:
        # The inputs of all output channels are the same: one row of exact numbers stands for all.
        ratio = collapse(per_unit(channel_steps.reshape(1, inputs), divisor))
    else:
        ratio = collapse(per_unit(per_weight, divisor))
    if ratio.shape[1] != 1:
        return FloatValue("the input's step differs between channels and the weights do not compensate it")
    numerator = weight.numerator
    if any(size != 1 for size in numerator.shape[1:]):
        return FloatValue("the weight scale is not one per output channel")
    step = collapse(np.broadcast_to(numerator.reshape(-1) * ratio[:, 0], (outputs,)))
    low, high = weight_range(integers, tuple(range(1, integers.ndim)), *integer_range(data))
    form = (1, -1) + (1,) * (rank - 2)
    offset = as_exact(bias.array.reshape(-1)) if isinstance(bias, Constant) else exact(0, 1)
    return Membrane(
        step=step.reshape(form),
        bias=offset.reshape(form),
        low=low.reshape(form),
        high=high.reshape(form),
        host=isinstance(data, Fixed),
    )


def matmul(left: Kind, right: Kind, left_shape: tuple[int, ...], right_shape: tuple[int, ...]) -> Kind:
    """Kind of MatMul(left, right)."""
    if not isinstance(left, Coded | Merged | Fixed):
        return FloatValue("the first operand of the matrix product carries no code")
    if len(left_shape) < 2 or len(right_shape) < 2:
        return FloatValue("a matrix product with a vector")
    if isinstance(right, IntegerWeight):
        return _matmul_weight(left, right, len(left_shape))
    if isinstance(right, Coded) and isinstance(left, Coded):
        return _matmul_codes(left, right, left_shape[-1])
    return FloatValue("the second operand of the matrix product is neither integer weights nor a code")


def _matmul_weight(left: Coded | Merged | Fixed, right: IntegerWeight, rank: int) -> Kind:
    integers = right.integers
    if integers.ndim > rank:
        return FloatValue("the weights have more axes than the data")
    if right.numerator.shape[-2] != 1:
        return FloatValue("the weight scale is not one per output channel")
    divisor = right.denominator
    if left.step.shape[-1] == 1 and divisor.shape[-2] == 1:
        step = per_unit(left.step, divisor.reshape((1,) * (rank - divisor.ndim) + divisor.shape))
    else:
        if left.step.size != left.step.shape[-1]:
            return FloatValue("the input's step changes along two axes")
        ratio = collapse(per_unit(left.step.reshape(-1, 1), divisor))
        if ratio.size != 1:
            return FloatValue(
                "the input's step differs between channels and the weights do not compensate it"
            )
        step = ratio.reshape((1,) * rank)
    numerator = right.numerator.reshape((1,) * (rank - integers.ndim) + right.numerator.shape)
    low, high = weight_range(integers, (integers.ndim - 2,), *integer_range(left))
    form = (1,) * (rank - integers.ndim)
    return Membrane(
        step=collapse(numerator if same(step, exact(1)) else np.asarray(step * numerator, dtype=object)),
        bias=exact(0, rank),
        low=low.reshape(form + low.shape),
        high=high.reshape(form + high.shape),
        host=isinstance(left, Fixed),
    )


def _matmul_codes(left: Coded, right: Coded, length: int) -> Kind:
    if left.step.shape[-1] != 1 or right.step.shape[-2] != 1:
        return FloatValue("a step changes along the summed axis of a product of two codes")
    rank = max(left.step.ndim, right.step.ndim)
    first = left.step.reshape((1,) * (rank - left.step.ndim) + left.step.shape)
    second = right.step.reshape((1,) * (rank - right.step.ndim) + right.step.shape)
    low_a, high_a = integer_range(left)
    low_b, high_b = integer_range(right)
    extremes = [low_a * low_b, low_a * high_b, high_a * low_b, high_a * high_b]
    form = (1,) * rank
    return Membrane(
        step=collapse(np.asarray(first * second, dtype=object)),
        bias=exact(0, rank),
        low=np.full(form, length * min(extremes), dtype=np.int64),
        high=np.full(form, length * max(extremes), dtype=np.int64),
    )
