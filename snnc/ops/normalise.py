"""Ops of the quant dialect that divide: normalisation and the quotient behind a softmax."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np

from snnc.ops.schema import Array, Attribute, Attributes, OpDef, integer, integers, same_in_time

__all__ = ["FLOOR_QUOTIENT", "NORMALISE", "RMS_NORM"]

_FRACTION = Attribute("fraction_bits", "int", "F: the quotient is rounded down to multiples of 2^-F")

_FACTOR_BODY = """\
  one_u = Constant<value = uint64 {1}>()
  f_bits = Constant<value_int: int = @fraction_bits>()
  f_bits_u = Cast<to = 13>(f_bits)
  factor_u = BitShift<direction = "LEFT">(one_u, f_bits_u)
  factor = Cast<to = 11>(factor_u)
  least = Constant<value = double {1.0}>()
"""


def _floor_quotient(inputs: Sequence[Array], attrs: Attributes) -> Array:
    n, d, n_step, d_step = inputs
    factor = 2.0 ** integer(attrs, "fraction_bits")
    v = np.rint(n.astype(np.float64) / n_step)
    gain = np.maximum(np.rint(d.astype(np.float64) / d_step), 1.0)
    return np.asarray((np.floor(v * factor / gain) / factor * (n_step / d_step)).astype(n.dtype))


FLOOR_QUOTIENT = OpDef(
    name="FloorQuotient",
    dialect="quant",
    doc="""Division of a membrane by a sum of codes, rounded down to a fine grid.

    Semantics: with the integers v = n / n_step and gain = max(d / d_step, 1):
    y = (n_step / d_step) * floor(2^F * v / gain) / 2^F, in float64, rounded to float32. Only a quantiser
    may read it: nothing divides in the spiking network, whose neuron takes the gain into its thresholds.
    Inputs: n, d (float32, d broadcastable to n); n_step, d_step (float64, broadcastable to n, positive).
    Output: y (float32, shape of n).
    """,
    inputs=("n", "d", "n_step", "d_step"),
    output="y",
    attributes=(_FRACTION,),
    body=_FACTOR_BODY
    + """\
  n64 = Cast<to = 11>(n)
  n_whole = Div(n64, n_step)
  v = Round(n_whole)
  d64 = Cast<to = 11>(d)
  d_whole = Div(d64, d_step)
  gain_any = Round(d_whole)
  gain = Max(gain_any, least)
  times = Mul(v, factor)
  ratio = Div(times, gain)
  down = Floor(ratio)
  fraction = Div(down, factor)
  scale = Div(n_step, d_step)
  exact = Mul(fraction, scale)
  y = Cast<to = 1>(exact)""",
    packed=_floor_quotient,
    timestep=same_in_time(_floor_quotient),
)


def _normalise(inputs: Sequence[Array], attrs: Attributes) -> Array:
    u, sign, step = inputs
    axes = integers(attrs, "axes")
    factor = 2.0 ** integer(attrs, "fraction_bits")
    r = np.rint(u.astype(np.float64) / step)
    count = float(prod(u.shape[axis] for axis in axes))
    total = r.sum(axis=axes, keepdims=True) * integer(attrs, "centred", 1)
    radicand = count * (r * r).sum(axis=axes, keepdims=True) - total * total + integer(attrs, "epsilon")
    gain = np.maximum(np.floor(np.sqrt(radicand)), 1.0)
    v = (count * r - total) * sign
    return np.asarray((np.floor(v * factor / gain) / factor).astype(u.dtype))


NORMALISE = OpDef(
    name="Normalise",
    dialect="quant",
    doc="""Normalisation of a membrane to mean 0 and deviation 1, rounded down to a fine grid.

    Semantics: with the integers r = u / step and C elements on the normalised axes:
    v = sign * (C * r - sum of r), gain = max(1, isqrt(C * sum of r^2 - (sum of r)^2 + epsilon)),
    y = floor(2^F * v / gain) / 2^F; in float64, rounded to float32. Where centred is 0 there is no sum of r
    (RMSNorm). Only a quantiser may read it, constants multiplied and added in between.
    Inputs: u (float32); sign (int32, 1 or -1, broadcastable to u); step (float64, one number, positive).
    Output: y (float32, shape of u).
    Constraints: C1 u is an integer multiple of the step.
    """,
    inputs=("u", "sign", "step"),
    output="y",
    attributes=(
        Attribute("axes", "ints", "normalised axes; negative ones count from the end"),
        Attribute("centred", "int", "1 subtracts the mean, 0 does not (RMSNorm)", default=1, required=False),
        Attribute("epsilon", "int", "added to the radicand, in units of step^2 / C^2"),
        _FRACTION,
    ),
    body=_FACTOR_BODY
    + """\
  u64 = Cast<to = 11>(u)
  u_whole = Div(u64, step)
  r = Round(u_whole)
  over = Constant<value_ints: ints = @axes>()
  extents = Shape(u)
  normalised = Gather(extents, over)
  count_i = ReduceProd<keepdims = 0>(normalised)
  count = Cast<to = 11>(count_i)
  sum = ReduceSum<keepdims = 1>(r, over)
  centred_i = Constant<value_int: int = @centred>()
  centred_f = Cast<to = 11>(centred_i)
  total = Mul(sum, centred_f)
  square = Mul(r, r)
  squares = ReduceSum<keepdims = 1>(square, over)
  weighted = Mul(squares, count)
  mean = Mul(total, total)
  spread = Sub(weighted, mean)
  little_i = Constant<value_int: int = @epsilon>()
  little = Cast<to = 11>(little_i)
  radicand = Add(spread, little)
  root = Sqrt(radicand)
  root_whole = Floor(root)
  gain = Max(root_whole, least)
  times = Mul(r, count)
  upright = Sub(times, total)
  sign64 = Cast<to = 11>(sign)
  v = Mul(upright, sign64)
  shifted = Mul(v, factor)
  ratio = Div(shifted, gain)
  down = Floor(ratio)
  exact = Div(down, factor)
  y = Cast<to = 1>(exact)""",
    packed=_normalise,
    timestep=same_in_time(_normalise),
)


def _rms_norm(inputs: Sequence[Array], attrs: Attributes) -> Array:
    x, scale, epsilon = inputs
    mean = np.square(x).sum(axis=-1, keepdims=True) / np.float32(x.shape[-1])
    return np.asarray(x / np.sqrt(mean + epsilon) * scale, dtype=x.dtype)


RMS_NORM = OpDef(
    name="RMSNorm",
    dialect="quant",
    doc="""Normalisation to a root mean square of one, over the last axis, in float.

    Semantics: y = x / sqrt(mean of x^2 + epsilon) * scale, in float32. It lives between its recognition and
    the neuron that takes its place; the standard has it from opset 23 on.
    Inputs: x (float32); scale (float32, (C) or one number); epsilon (float32, one number).
    Output: y (float32, shape of x).
    """,
    inputs=("x", "scale", "epsilon"),
    output="y",
    attributes=(),
    body="""\
  square = Mul(x, x)
  last = Constant<value_ints: ints = [-1]>()
  sum = ReduceSum<keepdims = 1>(square, last)
  extents = Shape(x)
  count_i = Gather(extents, last)
  count = Cast<to = 1>(count_i)
  mean = Div(sum, count)
  radicand = Add(mean, epsilon)
  root = Sqrt(radicand)
  normal = Div(x, root)
  y = Mul(normal, scale)""",
    packed=_rms_norm,
    timestep=same_in_time(_rms_norm),
)
