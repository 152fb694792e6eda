"""Neurons with a gain: normalisation and softmax by an adaptive threshold (semantics 6.2)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import prod

import numpy as np
import numpy.typing as npt

from snnc.ops.schema import BOOK_ATTRIBUTES, Array, Attribute, Attributes, OpDef, arrays, integer, integers
from snnc.ops.search import SEARCH_BODY, code_table, count_reached, fire, floor_quotient
from snnc.ops.signal import Signal, SpikeTrain, book_of
from snnc.ops.types import numpy_dtype

__all__ = ["EXPG_IF_GAIN", "MEMBRANE_MAX", "NORM_GAIN", "NORM_POTENTIAL", "integer_sqrt"]

_ROOT_BITS = 31  # bits of the root of a number below 2^62


def _max(inputs: Sequence[Array], attrs: Attributes) -> Array:
    return np.asarray(inputs[0].max(axis=integer(attrs, "axis"), keepdims=True))


def _max_by_comparisons(inputs: Sequence[Signal], attrs: Attributes) -> Signal:
    rows = np.moveaxis(arrays(inputs)[0], integer(attrs, "axis"), 0)
    largest = rows[0]
    for row in rows[1:]:
        largest = np.where(row > largest, row, largest)
    return np.expand_dims(largest, integer(attrs, "axis"))


MEMBRANE_MAX = OpDef(
    name="MembraneMax",
    dialect="spike",
    doc="""Largest membrane along one axis: the winner of a softmax row.

    Semantics: y = max of a along `axis`, which is kept with extent 1.
    Inputs: a (int32).
    Output: y (int32).
    Constraints: C1 the axis is in range and not empty.
    """,
    inputs=("a",),
    output="y",
    attributes=(Attribute("axis", "int", "axis of the maximum; negative ones count from the end"),),
    # TopK and not ReduceMax, whose axes became an input with opset 18.
    body="""\
  one = Constant<value_ints: ints = [1]>()
  y, place = TopK<axis: int = @axis>(a, one)""",
    packed=_max,
    timestep=_max_by_comparisons,
)


def _extent(shape: tuple[int, ...], axes: tuple[int, ...]) -> int:
    return prod(shape[axis] for axis in axes)


def _norm_potential(inputs: Sequence[Array], attrs: Attributes) -> Array:
    r, sign = inputs
    axes = integers(attrs, "axes")
    wide = r.astype(np.int64)
    v = wide * _extent(r.shape, axes)
    if integer(attrs, "centred", 1):
        v = v - wide.sum(axis=axes, keepdims=True)
    return np.asarray(v * sign.astype(np.int64))


def _norm_potential_by_shifts(inputs: Sequence[Signal], attrs: Attributes) -> Signal:
    r, sign = arrays(inputs)
    axes = integers(attrs, "axes")
    wide = r.astype(np.int64)
    count = _extent(r.shape, axes)
    v = np.zeros_like(wide)
    for bit in range(count.bit_length()):
        if count >> bit & 1:
            v = v + (wide << bit)
    if integer(attrs, "centred", 1):
        v = v - wide.sum(axis=axes, keepdims=True)
    return np.where(sign < 0, -v, v)


_NORM_ATTRIBUTES = (
    Attribute("axes", "ints", "normalised axes; negative ones count from the end"),
    Attribute("centred", "int", "1 subtracts the mean, 0 does not (RMSNorm)", default=1, required=False),
)

_COUNT_BODY = """\
  r64 = Cast<to = 7>(r)
  over = Constant<value_ints: ints = @axes>()
  extents = Shape(r)
  normalised = Gather(extents, over)
  count = ReduceProd<keepdims = 0>(normalised)
  sum = ReduceSum<keepdims = 1>(r64, over)
  keeps_mean = Constant<value_int: int = @centred>()
  total = Mul(sum, keeps_mean)
"""

NORM_POTENTIAL = OpDef(
    name="NormPotential",
    dialect="spike",
    doc="""Potential of a normalisation: the distance from the mean, times the number of elements.

    Semantics: v = sign * (C * r - sum of r over `axes`), C their number of elements; without the sum where
    centred is 0. The product with C is a sum of shifts.
    Inputs: r (int32); sign (int32 constant, 1 or -1, broadcastable to r): -1 mirrors a channel whose
    scale is negative.
    Output: v (int64, shape of r).
    Constraints: C1 C * |r| < 2^31.
    """,
    inputs=("r", "sign"),
    output="v",
    attributes=_NORM_ATTRIBUTES,
    body=_COUNT_BODY
    + """\
  times = Mul(r64, count)
  upright = Sub(times, total)
  sign64 = Cast<to = 7>(sign)
  v = Mul(upright, sign64)""",
    packed=_norm_potential,
    timestep=_norm_potential_by_shifts,
)


def _radicand(r: Array, attrs: Attributes) -> npt.NDArray[np.int64]:
    axes = integers(attrs, "axes")
    wide = r.astype(np.int64)
    squares = (wide * wide).sum(axis=axes, keepdims=True) * _extent(r.shape, axes)
    if integer(attrs, "centred", 1):
        squares = squares - wide.sum(axis=axes, keepdims=True) ** 2
    return np.asarray(squares + integer(attrs, "epsilon"))


def integer_sqrt(values: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return floor(sqrt(values)), exactly, for 0 <= values < 2^62."""
    root = np.sqrt(values.astype(np.float64)).astype(np.int64)
    # The rounded root is off by one at most.
    root -= root * root > values
    root += (root + 1) * (root + 1) <= values
    return root


def _norm_gain(inputs: Sequence[Array], attrs: Attributes) -> Array:
    return np.maximum(integer_sqrt(_radicand(inputs[0], attrs)), 1)


def _norm_gain_by_digits(inputs: Sequence[Signal], attrs: Attributes) -> Signal:
    rest = _radicand(arrays(inputs)[0], attrs)
    root = np.zeros_like(rest)
    for bit in range(_ROOT_BITS - 1, -1, -1):
        # Trying root + 2^bit takes (2 * root + 2^bit) * 2^bit from what is left.
        cost = ((root << 1) + (1 << bit)) << bit
        fits = rest >= cost
        rest = np.where(fits, rest - cost, rest)
        root = np.where(fits, root + (1 << bit), root)
    return np.maximum(root, 1)


NORM_GAIN = OpDef(
    name="NormGain",
    dialect="spike",
    doc="""Gain of a normalisation: the standard deviation, times the number of elements.

    Semantics: gain = max(1, isqrt(C * sum of r^2 - (sum of r)^2 + epsilon)), sums over `axes`, C their number
    of elements, isqrt the root rounded down, taken digit by digit; without (sum of r)^2 where
    centred is 0. A square is a sum of shifts of r gated by its own bits.
    Inputs: r (int32).
    Output: gain (int64); normalised axes have extent 1.
    Constraints: C1 C * |r| < 2^31, C < 2^22; C2 0 <= epsilon and the radicand is below 2^62.
    """,
    inputs=("r",),
    output="gain",
    attributes=(
        *_NORM_ATTRIBUTES,
        Attribute("epsilon", "int", "added to the radicand, in units of the grid"),
    ),
    # onnxruntime adds int64 in doubles, so squares are added in halves of 31 bits. The root of a rounded
    # double is off by one at most; two comparisons of integers settle it.
    body=_COUNT_BODY
    + """\
  square = Mul(r64, r64)
  half = Constant<value = int64 {2147483648}>()
  high = Div(square, half)
  high_part = Mul(high, half)
  low = Sub(square, high_part)
  highs = ReduceSum<keepdims = 1>(high, over)
  lows = ReduceSum<keepdims = 1>(low, over)
  highs_part = Mul(highs, half)
  squares = Add(highs_part, lows)
  weighted = Mul(squares, count)
  mean = Mul(total, total)
  spread = Sub(weighted, mean)
  little = Constant<value_int: int = @epsilon>()
  radicand = Add(spread, little)
  real = Cast<to = 11>(radicand)
  real_root = Sqrt(real)
  root = Cast<to = 7>(real_root)
  one = Constant<value = int64 {1}>()
  back = Mul(root, root)
  too_much = Greater(back, radicand)
  minus = Cast<to = 7>(too_much)
  lower = Sub(root, minus)
  above = Add(lower, one)
  above_squared = Mul(above, above)
  enough = LessOrEqual(above_squared, radicand)
  plus = Cast<to = 7>(enough)
  exact = Add(lower, plus)
  gain = Max(exact, one)""",
    packed=_norm_gain,
    timestep=_norm_gain_by_digits,
)


def _shifted(v: Array, attrs: Attributes) -> npt.NDArray[np.int64]:
    return v.astype(np.int64) << integer(attrs, "fraction_bits")


def _expg_if_gain(inputs: Sequence[Array], attrs: Attributes) -> Array:
    v, gain, thresholds, rows = inputs
    quotient = np.floor_divide(_shifted(v, attrs), np.maximum(gain.astype(np.int64), 1)).astype(np.int32)
    table = code_table(integers(attrs, "codes"), integer(attrs, "code_type"))
    return np.asarray(table.take(count_reached(quotient, thresholds[:, : len(table) - 1], rows)))


def _expg_if_gain_in_time(inputs: Sequence[Signal], attrs: Attributes) -> Signal:
    v, gain, thresholds, rows = arrays(inputs)
    codes = integers(attrs, "codes")
    book = book_of(attrs)
    dtype = numpy_dtype(integer(attrs, "code_type"))
    potential = _shifted(v, attrs)
    adaptive = np.broadcast_to(np.maximum(gain.astype(np.int64), 1), v.shape)
    if all(low < high for low, high in pairwise(codes)):
        return SpikeTrain(fire(potential, thresholds, rows, codes, book, adaptive), book, dtype)
    reached = np.zeros(v.shape, dtype=np.intp)
    for column in thresholds[:, : len(codes) - 1].T:
        reached += potential >= adaptive * column[rows]
    return SpikeTrain(book.encode(np.asarray(codes)[reached]), book, dtype)


EXPG_IF_GAIN = OpDef(
    name="ExpGIFGain",
    dialect="spike",
    doc="""The neuron with a gain: its thresholds are multiplied by a number known only at run time.

    Semantics: code = codes[k], k = #{j : (v << F) >= max(gain, 1) * thresholds[row, j]}; sent most
    significant step first. The product is a sum of shifts of the threshold gated by the gain's bits. As the
    thresholds are integers, the comparison equals floor((v << F) / gain) >= threshold,
    which the function computes.
    Inputs: v (int32 or int64); gain (int32 or int64, broadcastable to v); thresholds (int32, (R, K),
    ascending along K, padded with 2^31 - 1); rows (int32, broadcastable to v, in 0 .. R-1).
    Output: code (type code_type, shape of v).
    Constraints: C1 K = 2^depth - 1; C2 codes has one entry per reachable k; C3 codes belong to the book;
    C4 |v| * 2^F < 2^62; C5 |v| * 2^F < max(gain, 1) * (2^31 - 1).
    """,
    inputs=("v", "gain", "thresholds", "rows"),
    output="code",
    attributes=(
        *BOOK_ATTRIBUTES,
        Attribute("codes", "ints", "code of each k"),
        Attribute("code_type", "int", "ONNX element type of the codes"),
        Attribute("depth", "int", "rounds of the binary search"),
        Attribute("fraction_bits", "int", "F: thresholds count in 2^-F of the gain"),
    ),
    body="""\
  v64 = Cast<to = 7>(v)
  gain64 = Cast<to = 7>(gain)
  least = Constant<value = int64 {1}>()
  divisor = Max(gain64, least)
  f_bits = Constant<value_int: int = @fraction_bits>()
  f_bits_u = Cast<to = 13>(f_bits)
  unit_u = Constant<value = uint64 {1}>()
  factor_u = BitShift<direction = "LEFT">(unit_u, f_bits_u)
  factor = Cast<to = 7>(factor_u)
  shifted = Mul(v64, factor)
"""
    + floor_quotient("shifted", "divisor", "quotient64")
    + "  quotient = Cast<to = 6>(quotient64)\n"
    + SEARCH_BODY.replace("Shape(v)", "Shape(quotient)").replace("Reshape(v,", "Reshape(quotient,"),
    packed=_expg_if_gain,
    timestep=_expg_if_gain_in_time,
)
