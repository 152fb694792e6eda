"""Ops of the quant dialect: float tensors whose values lie on grids.

Their bodies make dumps of the quant dialect runnable; exactness begins with the spike dialect.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from snnc.ops.schema import (
    BOOK_ATTRIBUTES,
    Array,
    Attribute,
    Attributes,
    OpDef,
    integer,
    integers,
    same_in_time,
)

__all__ = [
    "FIXED_POINT",
    "FIXED_POINT_ATTRIBUTES",
    "QUANTISE",
    "RESCALE",
    "ROUND_MEMBRANE",
    "WEIGHT",
    "on_grid",
]

FIXED_POINT_ATTRIBUTES = (
    Attribute("fraction_bits", "int", "F: the grid is 2^-F", default=12, required=False),
    Attribute(
        "bits", "int", "width of the signed integer, sign included; at most 25", default=24, required=False
    ),
)


def _quantise(inputs: Sequence[Array], attrs: Attributes) -> Array:
    u, step = inputs
    twice = np.asarray(integers(attrs, "twice_midpoints"), dtype=np.float64)
    closed = np.asarray(integers(attrs, "closed"), dtype=bool)
    codes = np.asarray(integers(attrs, "codes")).astype(u.dtype)
    middles = (twice / 2).astype(u.dtype)
    # The canonical comparison is u >= fl(p * step); u / step >= p would round differently (semantics 1.3).
    low = np.zeros(u.shape, dtype=np.intp)
    half = 1 << len(middles).bit_length() >> 1
    while half:
        candidate = low + (half - 1)
        at = np.minimum(candidate, len(middles) - 1)
        limit = middles[at] * step
        reached = (candidate < len(middles)) & ((u > limit) | ((u == limit) & closed[at]))
        low += reached * half
        half >>= 1
    return np.asarray(codes[low] * step)


QUANTISE = OpDef(
    name="Quantise",
    dialect="quant",
    doc="""Round to the nearest level of a code book.

    Semantics: y = step * codes[k], k = #{j : u reaches twice_midpoints[j] / 2 * step}; a closed break point
    is reached by u >= it, an open one by u > it. The product is rounded to u's type before the comparison.
    Inputs: u (float32); step (float32, broadcastable to u, positive).
    Output: y (float32, shape of u).
    Constraints: C1 codes, twice_midpoints and closed are those of the book under `ties`;
    C2 two levels at least.
    """,
    inputs=("u", "step"),
    output="y",
    attributes=(
        *BOOK_ATTRIBUTES,
        Attribute("ties", "string", "'away' (from zero), 'up' or 'even'"),
        Attribute("codes", "ints", "codes of the book, ascending"),
        Attribute("twice_midpoints", "ints", "sums of neighbouring codes"),
        Attribute("closed", "ints", "1 where the break point belongs to the upper code"),
    ),
    body="""\
  twice64 = Constant<value_ints: ints = @twice_midpoints>()
  twice = Cast<to = 1>(twice64)
  a_half = Constant<value = float {0.5}>()
  middles = Mul(twice, a_half)
  closed64 = Constant<value_ints: ints = @closed>()
  closed_b = Cast<to = 9>(closed64)
  codes64 = Constant<value_ints: ints = @codes>()
  table = Cast<to = 1>(codes64)
  count64 = Size(twice64)
  count = Cast<to = 6>(count64)
  one = Constant<value = int32 {1}>()
  last = Sub(count, one)
  shape = Shape(u)
  begin = ConstantOfShape<value = int32[1] {0}>(shape)
  yes = Constant<value = bool {1}>()
  powers = Constant<value_ints: ints = [
      1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768, 65536]>()
  fits = LessOrEqual(powers, count64)
  fits64 = Cast<to = 7>(fits)
  zero_axis = Constant<value_ints: ints = [0]>()
  trips = ReduceSum<keepdims = 0>(fits64, zero_axis)
  trips_u = Cast<to = 13>(trips)
  one_u = Constant<value = uint64 {1}>()
  size_u = BitShift<direction = "LEFT">(one_u, trips_u)
  size = Cast<to = 6>(size_u)
  two = Constant<value = int32 {2}>()
  half0 = Div(size, two)
  place, half_last = Loop(trips, yes, begin, half0) <body = round
      (int64 i, bool go, int32[] p, int32 half) => (bool go_on, int32[] p_next, int32 half_next) {
      one_i = Constant<value = int32 {1}>()
      two_i = Constant<value = int32 {2}>()
      go_on = Identity(go)
      half_next = Div(half, two_i)
      ahead = Sub(half, one_i)
      candidate = Add(p, ahead)
      at = Min(candidate, last)
      middle = Gather(middles, at)
      limit = Mul(middle, step)
      above = Greater(u, limit)
      same = Equal(u, limit)
      takes = Gather(closed_b, at)
      tie = And(same, takes)
      beyond = Or(above, tie)
      inside = Less(candidate, count)
      reached = And(beyond, inside)
      gate = Cast<to = 6>(reached)
      move = Mul(gate, half)
      p_next = Add(p, move)
  }>
  code = Gather(table, place)
  y = Mul(code, step)""",
    packed=_quantise,
    timestep=same_in_time(_quantise),
)


def _weight(inputs: Sequence[Array], attrs: Attributes) -> Array:
    whole, numerator, denominator = inputs
    return np.asarray((whole.astype(np.float64) * numerator / denominator).astype(np.float32))


WEIGHT = OpDef(
    name="Weight",
    dialect="quant",
    doc="""An integer weight and its scale, as the float that it stands for.

    Semantics: w = integers * numerator / denominator, in float64, rounded to float32 at the end.
    Inputs: integers (signed, any width); numerator (float64, broadcastable): the step of the membrane that
    the weight charges, per output channel; denominator (float64, broadcastable): the step of the code that
    it multiplies, per input channel or scalar, 1 where the numerator is a plain weight scale.
    Output: w (float32, shape of integers).
    Constraints: C1 numerator and denominator are positive and finite.
    """,
    inputs=("integers", "numerator", "denominator"),
    output="w",
    attributes=(),
    body="""\
  whole = Cast<to = 11>(integers)
  scaled = Mul(whole, numerator)
  exact = Div(scaled, denominator)
  w = Cast<to = 1>(exact)""",
    packed=_weight,
    timestep=same_in_time(_weight),
)


def _rescale(inputs: Sequence[Array], attrs: Attributes) -> Array:
    u, multiplier, step, source_step = inputs
    dead = source_step == 0
    scaled = u.astype(np.float64) * multiplier * step / np.where(dead, 1, source_step)
    return np.asarray(np.where(dead, u, scaled).astype(u.dtype))


RESCALE = OpDef(
    name="Rescale",
    dialect="quant",
    doc="""A constant factor that is an integer on the grids it connects.

    Semantics: the real number u * multiplier * step / source_step, in float64, rounded to float32; on
    integers a * multiplier, which then counts in `step`. Where source_step is 0, u is a constant: y = u, and
    the multiplier is 0.
    Inputs: u (float32); multiplier (int32), step, source_step (float64), each broadcastable to u.
    Output: y (float32, shape of u).
    Constraints: C1 step and source_step are finite, and step is not 0.
    """,
    inputs=("u", "multiplier", "step", "source_step"),
    output="y",
    attributes=(),
    body="""\
  u64 = Cast<to = 11>(u)
  m64 = Cast<to = 11>(multiplier)
  times = Mul(u64, m64)
  scaled = Mul(times, step)
  zero = Constant<value = double {0}>()
  one = Constant<value = double {1}>()
  dead = Equal(source_step, zero)
  divisor = Where(dead, one, source_step)
  quotient = Div(scaled, divisor)
  exact = Where(dead, u64, quotient)
  y = Cast<to = 1>(exact)""",
    packed=_rescale,
    timestep=same_in_time(_rescale),
)


def on_grid(x: Array, attrs: Attributes) -> Array:
    """Return clip(round half even(x * 2^F), -2^(bits-1)+1, 2^(bits-1)-1) as float32 integers."""
    limit = np.float32((1 << (integer(attrs, "bits", 24) - 1)) - 1)
    scale = np.float32(1 << integer(attrs, "fraction_bits", 12))
    with np.errstate(over="ignore"):
        scaled = np.rint(x * scale)
    return np.asarray(np.clip(scaled, -limit, limit))


def _fixed_point(inputs: Sequence[Array], attrs: Attributes) -> Array:
    scale = np.float32(1 << integer(attrs, "fraction_bits", 12))
    return np.asarray(on_grid(inputs[0], attrs) / scale)


# 2^F by a shift: exact, where Pow depends on the platform's libm.
ON_GRID_BODY = """\
  one_u = Constant<value = uint64 {1}>()
  f_bits = Constant<value_int: int = @fraction_bits>()
  f_bits_u = Cast<to = 13>(f_bits)
  scale_u = BitShift<direction = "LEFT">(one_u, f_bits_u)
  scale = Cast<to = 1>(scale_u)
  n_bits = Constant<value_int: int = @bits>()
  one = Constant<value = int64 {1}>()
  low_bits = Sub(n_bits, one)
  low_bits_u = Cast<to = 13>(low_bits)
  half_u = BitShift<direction = "LEFT">(one_u, low_bits_u)
  half_i = Cast<to = 7>(half_u)
  limit_i = Sub(half_i, one)
  limit = Cast<to = 1>(limit_i)
  least = Neg(limit)
  scaled = Mul(x, scale)
  rounded = Round(scaled)
  whole = Clip(rounded, least, limit)
"""

FIXED_POINT = OpDef(
    name="FixedPoint",
    dialect="quant",
    doc="""A float network input read as a fixed-point number.

    Semantics: y = clip(round half even(x * 2^F), -2^(bits-1) + 1, 2^(bits-1) - 1) / 2^F.
    Inputs: x (float32, no NaN).
    Output: y (float32, shape of x), exact.
    Constraints: C1 2 <= bits <= 25, so that every result is a float32; C2 0 <= F <= 62.
    """,
    inputs=("x",),
    output="y",
    attributes=FIXED_POINT_ATTRIBUTES,
    body=ON_GRID_BODY + "  y = Div(whole, scale)",
    packed=_fixed_point,
    timestep=same_in_time(_fixed_point),
)


def _round_membrane(inputs: Sequence[Array], attrs: Attributes) -> Array:
    u, step = inputs
    return np.asarray((step * np.floor(u.astype(np.float64) / step + 0.5)).astype(u.dtype))


ROUND_MEMBRANE = OpDef(
    name="RoundMembrane",
    dialect="quant",
    doc="""Put a membrane on a coarser grid.

    Semantics: y = step * floor(u / step + 1/2), in float64, rounded to float32.
    Inputs: u (float32); step (float64, broadcastable to u, positive).
    Output: y (float32, shape of u).
    """,
    inputs=("u", "step"),
    output="y",
    attributes=(),
    body="""\
  u64 = Cast<to = 11>(u)
  ratio = Div(u64, step)
  a_half = Constant<value = double {0.5}>()
  raised = Add(ratio, a_half)
  whole = Floor(raised)
  exact = Mul(step, whole)
  y = Cast<to = 1>(exact)""",
    packed=_round_membrane,
    timestep=same_in_time(_round_membrane),
)
