"""Kinds of sums, constant scalings and pools."""

from __future__ import annotations

from fractions import Fraction
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from snnc.passes.analysis import gains
from snnc.passes.analysis.activations import as_activated, scaled, shifted
from snnc.passes.analysis.exact import (
    ExactArray,
    NotFiniteError,
    as_exact,
    collapse,
    exact,
    floats,
    rounded_quotients,
    same,
)
from snnc.passes.analysis.kinds import (
    Activated,
    Coded,
    Constant,
    Fixed,
    FloatValue,
    Kind,
    Membrane,
    Merged,
    Quotient,
    as_membrane,
    integer_range,
)

__all__ = [
    "add",
    "average_pool",
    "concat",
    "max_pool",
    "pad",
    "power_of_two",
    "ranked",
    "reduce",
    "round_to",
    "rounding_offset",
    "scale",
    "scaled_range",
    "table",
]

IntArray = npt.NDArray[np.int64]

# No membrane comes near this; sums of two such numbers still fit 64 bits.
_FAR = 2**61
# Sums of fewer integers keep the range of each position.
_MANY = 1 << 12
# One range stands for all positions where constants are so many times smaller than what they are added to.
_POSITIONS = 64
# Below this float64 adds a half without rounding.
_EXACT_HALVES = 2.0**51


def ranked(kind: Kind, rank: int) -> Kind:
    """Give a kind's arrays leading axes of size 1 up to ``rank``, as numpy broadcasting would."""

    def pad(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return array.reshape((1,) * (rank - array.ndim) + array.shape) if array.ndim < rank else array

    if isinstance(kind, Coded):
        return Coded(kind.book, pad(kind.step))
    if isinstance(kind, Merged):
        return Merged(pad(kind.step), kind.low, kind.high)
    if isinstance(kind, Fixed):
        return Fixed(pad(kind.step), kind.bound)
    if isinstance(kind, Constant):
        return Constant(pad(kind.array))
    if isinstance(kind, Quotient):
        return Quotient(ranked(kind.membrane, rank))  # type: ignore[arg-type]
    if isinstance(kind, Activated):
        inner = ranked(kind.membrane, rank)
        return Activated(inner, pad(kind.function), pad(kind.gain), pad(kind.offset))  # type: ignore[arg-type]
    if isinstance(kind, Membrane):
        return Membrane(
            pad(kind.step),
            pad(kind.bias),
            pad(kind.low),
            pad(kind.high),
            kind.host,
            pad(kind.content) if kind.content is not None else None,
        )
    return kind


def add(left: Kind, right: Kind, sign: int) -> Kind:
    """Kind of left + sign · right."""
    if isinstance(left, Constant) and isinstance(right, Constant):
        return FloatValue("a sum of constants that was not folded")
    for one, other in ((left, right), (right, left)):
        if isinstance(one, Quotient):
            if isinstance(other, Constant) and (sign > 0 or one is left):
                return gains.shifted(one, other, sign)
            return FloatValue("a sum with a quotient: put a quantiser behind the division")
        if isinstance(one, Activated):
            if isinstance(other, Constant):
                return shifted(one, other, sign, turned=sign < 0 and one is right)
            return FloatValue("a sum with an activation function: put a quantiser behind the function")
    if isinstance(right, Constant):
        base = as_membrane(left)
        if base is None:
            return FloatValue("a constant added to a value without a code")
        offset = as_exact(right.array)
        return _shifted(base, base.bias + sign * offset)
    if isinstance(left, Constant):
        base = as_membrane(right)
        if base is None:
            return FloatValue("a constant added to a value without a code")
        offset = as_exact(left.array)
        moved = base if sign > 0 else Membrane(-base.step, -base.bias, base.low, base.high, base.host)
        return _shifted(moved, moved.bias + offset)
    first, second = as_membrane(left), as_membrane(right)
    if first is None or second is None:
        return FloatValue("a sum with a value that carries no code")
    if first.host or second.host:
        return FloatValue("a sum with an accumulator of the host that was not rounded to 32 bits")
    if not same(first.step, second.step):
        return FloatValue("a sum of two membranes with different steps")
    low, high = (second.low, second.high) if sign > 0 else (-second.high, -second.low)
    low, high = _ends(first, second, first.low + low, first.high + high)
    return Membrane(
        step=collapse(np.asarray(first.step + 0 * second.step, dtype=object)),
        bias=collapse(np.asarray(first.bias + sign * second.bias, dtype=object)),
        low=low,
        high=high,
    )


def _ends(first: Membrane, second: Membrane, low: IntArray, high: IntArray) -> tuple[IntArray, IntArray]:
    """Return the range of a sum, one for all positions where a constant is small beside the other side.

    Embeddings of positions have rows of their own, but what they are added to may lie anywhere: ranges for
    every position of every later value would tell nothing more, and be most of what an analysis keeps.
    """
    held, free = (first, second) if first.content is not None else (second, first)
    if low.size < _MANY or held.content is None or held.bound > free.bound // _POSITIONS:
        return low, high
    shape = np.broadcast_shapes(first.step.shape, second.step.shape, first.bias.shape, second.bias.shape)
    alike = tuple(axis for axis, size in enumerate(shape) if size == 1 < low.shape[axis])
    return low.min(axis=alike, keepdims=True), high.max(axis=alike, keepdims=True)


def _shifted(base: Membrane, bias: npt.NDArray[Any]) -> Membrane:
    return Membrane(base.step, collapse(np.asarray(bias, dtype=object)), base.low, base.high, base.host)


def scale(left: Kind, right: Kind, *, divide: bool) -> Kind:
    """Kind of left · right or left / right, one of them constant, or both codes."""
    if isinstance(left, Coded) and isinstance(right, Coded) and not divide:
        return _product(left, right)
    if isinstance(left, Constant) and not divide:
        left, right = right, left
    if isinstance(left, Constant) or not isinstance(right, Constant):
        return FloatValue(
            "a product of two run-time values" if not divide else "a division by a run-time value"
        )
    if divide and bool(np.any(right.array == 0)):
        return FloatValue("a division by zero")
    factor = as_exact(right.array)
    if divide:
        factor = 1 / factor
    if isinstance(left, Quotient):
        return gains.scaled(left, factor)
    if isinstance(left, Activated):
        return scaled(left, factor)
    if isinstance(left, Merged) and bool(np.all(factor > 0)):
        return Merged(collapse(np.asarray(left.step * factor, dtype=object)), left.low, left.high)
    if isinstance(left, Coded) and bool(np.all(factor > 0)):
        return Coded(left.book, collapse(np.asarray(left.step * factor, dtype=object)))
    base = as_membrane(left)
    if base is None:
        return FloatValue("a scaled value without a code")
    return Membrane(
        collapse(np.asarray(base.step * factor, dtype=object)),
        collapse(np.asarray(base.bias * factor, dtype=object)),
        base.low,
        base.high,
        base.host,
    )


def _product(left: Coded, right: Coded) -> Kind:
    """Kind of the elementwise product of two codes: the spikes of one add the other, which is held."""
    (low, high), (lowest, highest) = integer_range(left), integer_range(right)
    ends = [low * lowest, low * highest, high * lowest, high * highest]
    step = collapse(np.asarray(left.step * right.step, dtype=object))
    form = (1,) * step.ndim
    return Membrane(
        step, exact(0, step.ndim), np.full(form, min(ends), np.int64), np.full(form, max(ends), np.int64)
    )


def reduce(kind: Kind, shape: tuple[int, ...], axes: list[int], keep: bool, *, mean: bool) -> Kind:
    """Kind of ReduceMean or ReduceSum over ``axes`` of a tensor of the given shape."""
    base = as_membrane(kind)
    if base is None:
        return FloatValue(_without_code(kind, "a mean"))
    if any(base.step.shape[axis] != 1 for axis in axes):
        return FloatValue("a mean over an axis along which the step changes")
    count = prod(shape[axis] for axis in axes)

    def total(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        result = array
        for axis in axes:
            if result.shape[axis] == 1:
                result = result * shape[axis]
            else:
                result = np.asarray(result.sum(axis=axis, keepdims=True), dtype=array.dtype)
        return result

    step, bias = base.step, total(base.bias)
    if mean:
        step, bias = step / count, bias / count
    if isinstance(kind, Coded | Merged):
        kept = step if keep else step.reshape([n for axis, n in enumerate(step.shape) if axis not in axes])
        low, high = integer_range(kind)
        return Merged(kept, low * count, high * count)
    arrays = [step, bias, total(base.low), total(base.high)]
    if not keep:
        arrays = [
            array.reshape([n for axis, n in enumerate(array.shape) if axis not in axes]) for array in arrays
        ]
    return Membrane(arrays[0], arrays[1], arrays[2], arrays[3])


def average_pool(kind: Kind, shape: tuple[int, ...], output: tuple[int, ...], attrs: dict[str, Any]) -> Kind:
    """Kind of AveragePool; positions at the border have a step of their own where padding is not counted."""
    base = as_membrane(kind)
    if base is None:
        return FloatValue(_without_code(kind, "an average pool"))
    spatial = len(shape) - 2
    if any(size != 1 for size in base.step.shape[2:]) or any(size != 1 for size in base.bias.shape[2:]):
        return FloatValue("an average pool over positions with different steps")
    kernel = [int(size) for size in attrs["kernel_shape"]]
    pads = [int(size) for size in attrs.get("pads", [0] * (2 * spatial))]
    if attrs.get("ceil_mode", 0) or attrs.get("auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
        return FloatValue("an average pool with ceil_mode or auto_pad")
    if any(int(size) != 1 for size in attrs.get("dilations", ())):
        return FloatValue("an average pool with dilations")
    area = prod(kernel)
    counted = np.full((1, 1) + (1,) * spatial, area, dtype=object)
    if any(pads):
        if attrs.get("count_include_pad", 0):
            if not same(base.bias, exact(0, 1)):
                return FloatValue("an average pool that counts padding beside a biased membrane")
        else:
            counted = _window_counts(shape, output, kernel, pads, attrs)
    ratio = np.vectorize(lambda n: Fraction(1, int(n)), otypes=[object])(counted)
    if isinstance(kind, Coded | Merged):
        low, high = integer_range(kind)
        return Merged(collapse(np.asarray(base.step * ratio, dtype=object)), low * area, high * area)
    zero = np.minimum(base.low, 0) if any(pads) else base.low
    top = np.maximum(base.high, 0) if any(pads) else base.high
    return Membrane(collapse(np.asarray(base.step * ratio, dtype=object)), base.bias, zero * area, top * area)


def _window_counts(
    shape: tuple[int, ...], output: tuple[int, ...], kernel: list[int], pads: list[int], attrs: dict[str, Any]
) -> npt.NDArray[Any]:
    """Number of real (not padded) inputs under each window, shape (1, 1, …)."""
    spatial = len(kernel)
    strides = attrs.get("strides", [1] * spatial)
    counts = np.ones((1, 1) + (1,) * spatial, dtype=np.int64)
    for axis in range(spatial):
        start = np.arange(output[2 + axis]) * strides[axis] - pads[axis]
        inside = np.minimum(start + kernel[axis], shape[2 + axis]) - np.maximum(start, 0)
        form = [1] * (2 + spatial)
        form[2 + axis] = -1
        counts = counts * inside.reshape(form)
    return counts.astype(object)


def _without_code(kind: Kind, what: str) -> str:
    if isinstance(kind, Activated):
        return f"{what} of an activation function: put a quantiser behind the function"
    return f"{what} of a value without a code"


def max_pool(kind: Kind) -> Kind:
    """Kind of MaxPool: codes and membranes with one positive step per channel keep theirs.

    So do functions of a membrane that never fall, because a maximum commutes with them.
    """
    if isinstance(kind, Activated):
        rising = all(function.monotone for function in kind.function.reshape(-1))
        if not rising or bool(np.any(kind.gain <= 0)):
            return FloatValue("a maximum of a function that falls somewhere: put its quantiser before it")
        arrays = (kind.function, kind.gain, kind.offset)
        if any(size != 1 for array in arrays for size in array.shape[2:]):
            return FloatValue("a maximum over positions with different functions")
        inner = max_pool(kind.membrane)
        return Activated(inner, *arrays) if isinstance(inner, Membrane) else inner
    if isinstance(kind, Coded):
        if any(size != 1 for size in kind.step.shape[2:]):
            return FloatValue("a maximum over positions with different steps")
        return kind
    if isinstance(kind, Membrane):
        if any(size != 1 for size in (*kind.step.shape[2:], *kind.bias.shape[2:])):
            return FloatValue("a maximum over positions with different steps")
        if bool(np.any(kind.step <= 0)):
            return FloatValue("a maximum over a membrane with a negative step")
        return kind
    return FloatValue("a maximum of values without a code")


def scaled_range(kind: Membrane, factor: IntArray) -> tuple[IntArray, IntArray]:
    """Range of a membrane's integers after multiplication by integer constants."""
    one, two = kind.low * factor, kind.high * factor
    return np.minimum(one, two), np.maximum(one, two)


def power_of_two(ratio: Fraction) -> int | None:
    """Return k where ratio = 2^k, or None."""
    top, bottom = ratio.numerator, ratio.denominator
    if top <= 0 or top & (top - 1) or bottom & (bottom - 1):
        return None
    return top.bit_length() - bottom.bit_length()


def round_to(kind: Kind, step: ExactArray, rank: int) -> Kind:
    """Kind of a value rounded (half up) to multiples of ``step``."""
    if isinstance(kind, Constant):
        if step.size == 1 and power_of_two(step.reshape(-1)[0]) is not None:
            return _round_finely(kind.array, step, rank)
        if bool(np.any(step == 0)):
            return FloatValue("a constant beside a channel that is always zero")
        if not np.isfinite(kind.array).all():
            raise NotFiniteError
        wide = kind.array.reshape((1,) * (rank - kind.array.ndim) + kind.array.shape)
        content = rounded_quotients(wide, step, Fraction(1, 2))
        if content is None or bool((np.abs(content) >= _FAR).any()):
            return FloatValue("a constant too large for the grid of what it joins, and no mask of a softmax")
        content = collapse(content)
        # The integers themselves go into the graph, so they keep the axes along which they are equal.
        full = (1,) * (rank - kind.array.ndim) + kind.array.shape
        content = np.broadcast_to(content, np.broadcast_shapes(full, content.shape))
        return Membrane(step, exact(0, rank), content, content, content=content)
    if not isinstance(kind, Membrane):
        return FloatValue("a rounded value without a membrane")
    shift = _common_shift(step, kind.step)
    if shift is None or shift < 0:
        return FloatValue("a membrane rounded by other than one power of two")
    if bool(np.any(kind.step <= 0)):
        return FloatValue("a rounded membrane with a negative step")
    offset = rounding_offset(kind, shift)
    low, high = ((end + offset) >> shift for end in (kind.low, kind.high))
    return Membrane(step, exact(0, rank), low, high)


def _common_shift(coarse: ExactArray, fine: ExactArray) -> int | None:
    """Return k where all steps are 2^k times others, or None."""
    (one, certain), (two, sure) = floats(coarse), floats(fine)
    if certain and sure and bool((one > 0).all()) and bool((two > 0).all()):
        (mantissa, exponent), (other, places) = np.frexp(one), np.frexp(two)
        apart = exponent - places
        alike = bool((mantissa == other).all()) and bool((apart == apart.reshape(-1)[0]).all())
        return int(apart.reshape(-1)[0]) if alike else None
    ratios = {power_of_two(ratio) for ratio in np.asarray(coarse / fine, dtype=object).reshape(-1)}
    return ratios.pop() if len(ratios) == 1 else None


def _round_finely(array: npt.NDArray[Any], step: ExactArray, rank: int) -> Kind:
    """Round a constant to a power of two; float64 does that without error, and a table may be large."""
    scaled = array.astype(np.float64) / float(step.reshape(-1)[0])
    if not np.isfinite(scaled).all():
        raise NotFiniteError
    if float(np.abs(scaled).max(initial=0.0)) >= _EXACT_HALVES:
        return FloatValue("a constant too large for the grid of what it joins, and no mask of a softmax")
    content = np.floor(scaled + 0.5).astype(np.int64)
    content = content.reshape((1,) * (rank - array.ndim) + array.shape)
    return Membrane(step, exact(0, rank), content, content, content=content)


def table(kind: Membrane, axis: int, index_rank: int) -> Kind:
    """Kind of rows of a constant, read along one axis at places of ``index_rank`` axes, known at run time."""
    if kind.step.shape[axis] != 1 or kind.bias.shape[axis] != 1:
        return FloatValue("a table whose step changes from row to row")

    def moved(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return array.reshape((*array.shape[:axis], *(1,) * index_rank, *array.shape[axis + 1 :]))

    low, high = kind.low.min(axis=axis, keepdims=True), kind.high.max(axis=axis, keepdims=True)
    return Membrane(moved(kind.step), moved(kind.bias), moved(low), moved(high))


def rounding_offset(kind: Membrane, shift: int) -> IntArray:
    """Return what to add to a membrane's integers before a shift to the right, bias and half a step included.

    ⌊(s·a + b) / (s·2^k) + 1/2⌋ = ⌊(a + b/s + 2^(k-1)) / 2^k⌋, and a fraction of b/s + 2^(k-1) has no effect
    on the integer a.
    """
    found = rounded_quotients(kind.bias, kind.step, Fraction(2**shift, 2))
    if found is not None:
        return found
    raised = np.asarray(kind.bias / kind.step + Fraction(2**shift, 2), dtype=object)
    return np.asarray(np.vectorize(lambda x: x.numerator // x.denominator, otypes=[np.int64])(raised))


def concat(kinds: list[Kind], shapes: list[tuple[int, ...]], axis: int) -> Kind:
    """Kind of Concat: codes of one book stay codes, anything else becomes a membrane with its own steps."""

    def joined(arrays: list[npt.NDArray[Any]]) -> npt.NDArray[Any]:
        # Every axis but the concatenated one keeps size 1 unless some part depends on it.
        rank = len(shapes[0])
        full = [max(array.shape[k] for array in arrays) for k in range(rank)]
        parts = []
        for array, shape in zip(arrays, shapes, strict=True):
            target = list(full)
            target[axis] = shape[axis]
            parts.append(np.broadcast_to(array, target))
        return collapse(np.concatenate(parts, axis=axis))

    if all(isinstance(kind, Coded) for kind in kinds):
        coded = [kind for kind in kinds if isinstance(kind, Coded)]
        if all(kind.book == coded[0].book for kind in coded):
            return Coded(coded[0].book, joined([kind.step for kind in coded]))
    if any(isinstance(kind, Activated) for kind in kinds):
        functions = [as_activated(kind) for kind in kinds]
        seen = [function for function in functions if function is not None]
        if len(seen) < len(kinds):
            return FloatValue("a concatenation with a value that carries no code")
        inner = concat([function.membrane for function in seen], shapes, axis)
        if isinstance(inner, Membrane):
            return Activated(
                inner,
                joined([function.function for function in seen]),
                joined([function.gain for function in seen]),
                joined([function.offset for function in seen]),
            )
        return FloatValue("a concatenation with a value that carries no code")
    bases = [as_membrane(kind) for kind in kinds]
    if any(base is None for base in bases):
        return FloatValue("a concatenation with a value that carries no code")
    parts = [base for base in bases if base is not None]
    if any(base.host for base in parts):
        return FloatValue("a concatenation with an accumulator of the host that was not rounded to 32 bits")
    return Membrane(
        joined([base.step for base in parts]),
        joined([base.bias for base in parts]),
        joined([base.low for base in parts]),
        joined([base.high for base in parts]),
    )


def pad(kind: Kind, widths: IntArray) -> Kind:
    """Kind of Pad with constant 0: allowed where the integer 0 stands for the value 0.

    Args:
        kind: What is padded.
        widths: Widths at the begin and the end of each axis, (2, rank); negative ones crop.
    """
    if isinstance(kind, Coded):
        if 0 not in kind.book.codes:
            return FloatValue("padding with zero, which is no admitted code")
        step = kind.step
        for axis, (begin, end) in enumerate(widths.T.tolist()):
            if step.shape[axis] != 1:
                step = step.take(range(max(0, -begin), step.shape[axis] + min(0, end)), axis=axis)
                margins = [(0, 0)] * step.ndim
                margins[axis] = (max(0, begin), max(0, end))
                # A silent neuron may have any step: the first one's, as in the oracle.
                step = np.pad(step, margins, constant_values=kind.step.flat[0])
        return Coded(kind.book, collapse(step))
    if isinstance(kind, Fixed):
        return kind
    return FloatValue(_without_code(kind, "padding"))
