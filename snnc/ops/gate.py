"""Ops of masks and of elementwise products: spikes that a truth value, or a held code, lets through."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from snnc.ops.schema import Array, Attribute, Attributes, OpDef, arrays, integer, same_in_time
from snnc.ops.search import floor_quotient
from snnc.ops.signal import Signal, SpikeTrain
from snnc.ops.synapse import charge, spikes_of
from snnc.ops.types import numpy_dtype

__all__ = ["GATE", "HOST_QUOTIENT", "MASK_ROW", "MEMBRANE_MASK", "SPIKE_GATE", "SPIKE_MUL_HELD"]

_AXIS = Attribute("axis", "int", "axis of the rows; negative ones count from the end")
_MASK_BODY = """\
  one = Constant<value_ints: ints = [1]>()
  lowest, place = TopK<axis: int = @axis, largest: int = 0>(s, one)
  y = Where(gate, s, lowest)"""


def _gate(inputs: Sequence[Array], attrs: Attributes) -> Array:
    x, gate = inputs
    return np.where(gate, x, x.dtype.type(0))


GATE = OpDef(
    name="Gate",
    dialect="quant",
    doc="""Values that a mask lets through; the others are zero.

    Semantics: y = x where gate is true, else 0. In the spiking network a closed gate sends no spike.
    Inputs: x (float32); gate (bool, broadcastable to x).
    Output: y (float32, shape of x).
    """,
    inputs=("x", "gate"),
    output="y",
    attributes=(),
    body="""\
  zero = Constant<value = float {0.0}>()
  y = Where(gate, x, zero)""",
    packed=_gate,
    timestep=same_in_time(_gate),
)


def _mask(inputs: Sequence[Array], attrs: Attributes) -> Array:
    s, gate = inputs
    return np.where(gate, s, s.min(axis=integer(attrs, "axis"), keepdims=True))


MASK_ROW = OpDef(
    name="MaskRow",
    dialect="quant",
    doc="""Scores in which masked places cannot be the largest of their row.

    Semantics: y = s where gate is true, else the smallest s along `axis`.
    Inputs: s (float32); gate (bool, broadcastable to s).
    Output: y (float32, shape of s).
    """,
    inputs=("s", "gate"),
    output="y",
    attributes=(_AXIS,),
    body=_MASK_BODY,
    packed=_mask,
    timestep=same_in_time(_mask),
)


def _mask_by_comparisons(inputs: Sequence[Signal], attrs: Attributes) -> Signal:
    s, gate = arrays(inputs)
    rows = np.moveaxis(s, integer(attrs, "axis"), 0)
    lowest = rows[0]
    for row in rows[1:]:
        lowest = np.where(row < lowest, row, lowest)
    return np.where(gate, s, np.expand_dims(lowest, integer(attrs, "axis")))


MEMBRANE_MASK = OpDef(
    name="MembraneMask",
    dialect="spike",
    doc="""Membranes of which the masked ones cannot win their row.

    Semantics: y = s where gate is true, else the smallest s along `axis`.
    Inputs: s (int32); gate (bool, broadcastable to s).
    Output: y (int32, shape of s).
    Constraints: C1 the axis is in range and not empty.
    """,
    inputs=("s", "gate"),
    output="y",
    attributes=(_AXIS,),
    body=_MASK_BODY,
    packed=_mask,
    timestep=_mask_by_comparisons,
)


def _spike_gate_in_time(inputs: Sequence[Signal], attrs: Attributes) -> Signal:
    train = spikes_of(inputs[0])
    (gate,) = arrays(inputs[1:])
    return SpikeTrain(np.where(gate, train.patterns, np.int8(0)), train.book, train.dtype)


SPIKE_GATE = OpDef(
    name="SpikeGate",
    dialect="spike",
    doc="""Spikes that a mask lets through.

    Semantics: at each step y(t) = x(t) where gate is true, else no spike.
    Inputs: x (codes); gate (bool, broadcastable to x).
    Output: y (codes of the type code_type, shape of x).
    """,
    inputs=("x", "gate"),
    output="y",
    attributes=(Attribute("code_type", "int", "ONNX element type of the codes"),),
    # onnxruntime has no Where for the narrow integer types.
    body="""\
  wide = Cast<to = 6>(x)
  zero = Constant<value = int32 {0}>()
  kept = Where(gate, wide, zero)
  y = Cast<to: int = @code_type>(kept)""",
    packed=lambda inputs, attrs: _gate(inputs, attrs).astype(numpy_dtype(integer(attrs, "code_type"))),
    timestep=_spike_gate_in_time,
)


def _times(inputs: Sequence[Array], attrs: Attributes) -> Array:
    return np.multiply(inputs[0], inputs[1], dtype=np.int32)


def _times_in_time(inputs: Sequence[Signal], attrs: Attributes) -> Signal:
    held = charge(spikes_of(inputs[1]), lambda spikes: spikes.astype(np.int32))
    return charge(
        spikes_of(inputs[0]), lambda spikes: np.where(spikes == 0, 0, np.where(spikes < 0, -held, held))
    )


SPIKE_MUL_HELD = OpDef(
    name="SpikeMulHeld",
    dialect="spike",
    doc="""Elementwise product of two activations: gated units, squeeze and excitation (semantics 3.4).

    Semantics: first b is accumulated and held, B = sum of 2^(T-t) b(t); then each spike of a adds B or
    subtracts it: A(0) = 0, A(t) = 2 A(t-1) + a(t) B; y = A(T).
    Inputs: a, b (codes, broadcastable to each other).
    Output: y (int32).
    Constraints: C1 max|a| * max|b| < 2^31.
    """,
    inputs=("a", "b"),
    output="y",
    attributes=(),
    body="""\
  ai = Cast<to = 6>(a)
  bi = Cast<to = 6>(b)
  y = Mul(ai, bi)""",
    packed=_times,
    timestep=_times_in_time,
)


def _quotient(inputs: Sequence[Array], attrs: Attributes) -> Array:
    v, gain = inputs
    shifted = v.astype(np.int64) << integer(attrs, "fraction_bits")
    return np.asarray(np.floor_divide(shifted, np.maximum(gain.astype(np.int64), 1)).astype(np.int32))


HOST_QUOTIENT = OpDef(
    name="HostQuotient",
    dialect="host",
    doc="""A normalised value that is an output of the network: the host divides, and reads the result out.

    Semantics: y = floor((v << F) / max(gain, 1)).
    Inputs: v (int32 or int64); gain (int32 or int64, broadcastable to v).
    Output: y (int32, shape of v).
    Constraints: C1 |v| * 2^F < 2^62; C2 |v| * 2^F < max(gain, 1) * (2^31 - 1).
    """,
    inputs=("v", "gain"),
    output="y",
    attributes=(Attribute("fraction_bits", "int", "F: the quotient counts in 2^-F"),),
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
    + floor_quotient("shifted", "divisor", "quotient")
    + "  y = Cast<to = 6>(quotient)",
    packed=_quotient,
    timestep=same_in_time(_quotient),
)
