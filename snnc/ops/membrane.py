"""Ops on held membranes: add, scale, sum, round, read out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from snnc.ops.schema import Array, Attribute, Attributes, OpDef, arrays, integer, integers, same_in_time
from snnc.ops.search import floor_quotient
from snnc.ops.signal import Signal

__all__ = ["MEMBRANE_ADD", "MEMBRANE_ROUND", "MEMBRANE_SCALE", "MEMBRANE_SUM", "READOUT"]


def _add(inputs: Sequence[Array], attrs: Attributes) -> Array:
    return np.add(inputs[0], inputs[1], dtype=np.int32)


MEMBRANE_ADD = OpDef(
    name="MembraneAdd",
    dialect="spike",
    doc="""Join two branches of the membrane current.

    Semantics: y = a + b.
    Inputs: a, b (int32, broadcastable to each other, on one grid).
    Output: y (int32).
    Constraints: C1 the sum stays in int32.
    """,
    inputs=("a", "b"),
    output="y",
    attributes=(),
    body="  y = Add(a, b)",
    packed=_add,
    timestep=same_in_time(_add),
)


def _scale(inputs: Sequence[Array], attrs: Attributes) -> Array:
    return np.multiply(inputs[0], inputs[1], dtype=np.int32)


def _scale_by_shifts(inputs: Sequence[Signal], attrs: Attributes) -> Signal:
    a, multiplier = arrays(inputs)
    magnitude = np.abs(multiplier.astype(np.int64))
    total = np.zeros(np.broadcast_shapes(a.shape, multiplier.shape), dtype=np.int64)
    shifted = a.astype(np.int64)
    while magnitude.any():
        total = total + np.where(magnitude & 1, shifted, 0)
        shifted = shifted << 1
        magnitude = magnitude >> 1
    return np.where(multiplier < 0, -total, total).astype(np.int32)


MEMBRANE_SCALE = OpDef(
    name="MembraneScale",
    dialect="spike",
    doc="""Multiply a membrane by a constant integer: shifts and adds, no multiplier.

    Semantics: y = a * multiplier: the sum of a << i over the bits i of |multiplier|, negated where it is
    negative.
    Inputs: a (int32); multiplier (int32 constant, broadcastable to a).
    Output: y (int32, shape of a).
    Constraints: C1 the product stays in int32.
    """,
    inputs=("a", "multiplier"),
    output="y",
    attributes=(),
    body="  y = Mul(a, multiplier)",
    packed=_scale,
    timestep=_scale_by_shifts,
)


def _sum(inputs: Sequence[Array], attrs: Attributes) -> Array:
    axes = integers(attrs, "axes")
    keep = bool(integer(attrs, "keepdims", 1))
    return np.asarray(np.sum(inputs[0], axis=axes, keepdims=keep, dtype=np.int32))


MEMBRANE_SUM = OpDef(
    name="MembraneSum",
    dialect="spike",
    doc="""Sum a membrane over some axes; a mean is this with a finer grid.

    Semantics: y = sum of a over `axes`.
    Inputs: a (int32).
    Output: y (int32); summed axes have extent 1, or are gone if keepdims is 0.
    Constraints: C1 axes are given, not empty, in range; C2 the sum stays in int32.
    """,
    inputs=("a",),
    output="y",
    attributes=(
        Attribute("axes", "ints", "axes summed over; negative ones count from the end"),
        Attribute("keepdims", "int", "1 keeps the summed axes with extent 1", default=1, required=False),
    ),
    body="""\
  over = Constant<value_ints: ints = @axes>()
  y = ReduceSum<keepdims: int = @keepdims>(a, over)""",
    packed=_sum,
    timestep=same_in_time(_sum),
)


def _round(inputs: Sequence[Array], attrs: Attributes) -> Array:
    shift = integer(attrs, "shift")
    raised = inputs[0].astype(np.int64) + ((1 << shift) >> 1)
    # An arithmetic shift is a floor division.
    return np.asarray(raised >> shift).astype(np.int32)


MEMBRANE_ROUND = OpDef(
    name="MembraneRound",
    dialect="spike",
    doc="""Drop low bits of a membrane, rounding to nearest, ties up.

    Semantics: y = floor((v + 2^(shift-1)) / 2^shift); y = v where shift is 0.
    Inputs: v (int32 or int64).
    Output: y (int32, shape of v).
    Constraints: C1 0 <= shift <= 62; C2 |v| < 2^62; C3 the result fits int32.
    """,
    inputs=("v",),
    output="y",
    attributes=(Attribute("shift", "int", "number of bits dropped"),),
    body="""\
  v64 = Cast<to = 7>(v)
  one_u = Constant<value = uint64 {1}>()
  n = Constant<value_int: int = @shift>()
  n_u = Cast<to = 13>(n)
  divisor_u = BitShift<direction = "LEFT">(one_u, n_u)
  divisor = Cast<to = 7>(divisor_u)
  two = Constant<value = int64 {2}>()
  a_half = Div(divisor, two)
  raised = Add(v64, a_half)
"""
    + floor_quotient("raised", "divisor", "quotient")
    + "  y = Cast<to = 6>(quotient)",
    packed=_round,
    timestep=same_in_time(_round),
)


def _readout(inputs: Sequence[Array], attrs: Attributes) -> Array:
    v, scale, bias = inputs
    with np.errstate(over="ignore"):
        return np.asarray(v.astype(np.float32) * scale + bias)


READOUT = OpDef(
    name="Readout",
    dialect="spike",
    doc="""Membranes as floats: the only float operation after the input.

    Semantics: y = fl(fl(float32(v) * scale) + bias), each step rounded to float32.
    Inputs: v (int32); scale, bias (float32, broadcastable to v).
    Output: y (float32, shape of v).
    """,
    inputs=("v", "scale", "bias"),
    output="y",
    attributes=(),
    body="""\
  real = Cast<to = 1>(v)
  scaled = Mul(real, scale)
  y = Add(scaled, bias)""",
    packed=_readout,
    timestep=same_in_time(_readout),
)
