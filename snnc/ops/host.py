"""Ops at the border of the spiking part: fixed-point input, its integer layers, input encoder."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from snnc.ops.exact import integer_conv, integer_matmul
from snnc.ops.quantise import FIXED_POINT_ATTRIBUTES, ON_GRID_BODY, on_grid
from snnc.ops.schema import (
    BOOK_ATTRIBUTES,
    CONV_ATTRIBUTES,
    Array,
    Attribute,
    Attributes,
    OpDef,
    arrays,
    integer,
    integers,
    same_in_time,
)
from snnc.ops.search import SEARCH_BODY, code_table, count_reached
from snnc.ops.signal import Signal, SpikeTrain, book_of

__all__ = ["ENCODE", "FIXED_POINT_ENCODE", "HOST_CONV", "HOST_MATMUL"]


def _fixed_point_encode(inputs: Sequence[Array], attrs: Attributes) -> Array:
    return on_grid(inputs[0], attrs).astype(np.int32)


FIXED_POINT_ENCODE = OpDef(
    name="FixedPointEncode",
    dialect="host",
    doc="""A float network input as a fixed-point integer.

    Semantics: y = clip(round half even(x * 2^F), -2^(bits-1) + 1, 2^(bits-1) - 1).
    Inputs: x (float32, no NaN).
    Output: y (int32, shape of x).
    Constraints: C1 2 <= bits <= 25; C2 0 <= F <= 62.
    """,
    inputs=("x",),
    output="y",
    attributes=FIXED_POINT_ATTRIBUTES,
    body=ON_GRID_BODY + "  y = Cast<to = 6>(whole)",
    packed=_fixed_point_encode,
    timestep=same_in_time(_fixed_point_encode),
)


def _host_conv(inputs: Sequence[Array], attrs: Attributes) -> Array:
    x, weights = inputs
    return integer_conv(
        x,
        weights,
        strides=attrs.get("strides"),
        pads=attrs.get("pads"),
        dilations=attrs.get("dilations"),
        group=integer(attrs, "group", 1),
        dtype=np.int64,
    )


_CONV = (
    "Conv<strides: ints = @strides, pads: ints = @pads, dilations: ints = @dilations, group: int = @group>"
)

HOST_CONV = OpDef(
    name="HostConv",
    dialect="host",
    doc="""Convolution of fixed-point integers: multiply-accumulate work, billed as such.

    Semantics: y = sum of W * x over the window, in integers; padding adds zeros.
    Inputs: x (int32, (N, C, *spatial), |x| < 2^24); W (int32, (O, C / group, *kernel)).
    Output: y (int64, (N, O, *out)).
    Constraints: C1 255 * L1(W) < 2^24 for each output channel: the body sums three 8-bit digits of x, each in
    an exact float32 convolution.
    """,
    inputs=("x", "W"),
    output="y",
    attributes=CONV_ATTRIBUTES,
    # Integer Div truncates towards zero, so the digits keep the sign of x.
    body=f"""\
  base = Constant<value = int32 {{256}}>()
  upper = Div(x, base)
  upper_part = Mul(upper, base)
  digit0 = Sub(x, upper_part)
  digit2 = Div(upper, base)
  digit2_part = Mul(digit2, base)
  digit1 = Sub(upper, digit2_part)
  kernel = Cast<to = 1>(W)
  d0 = Cast<to = 1>(digit0)
  d1 = Cast<to = 1>(digit1)
  d2 = Cast<to = 1>(digit2)
  s0 = {_CONV}(d0, kernel)
  s1 = {_CONV}(d1, kernel)
  s2 = {_CONV}(d2, kernel)
  y0 = Cast<to = 7>(s0)
  y1 = Cast<to = 7>(s1)
  y2 = Cast<to = 7>(s2)
  base64 = Constant<value = int64 {{256}}>()
  high = Mul(y2, base64)
  middle = Add(high, y1)
  raised = Mul(middle, base64)
  y = Add(raised, y0)""",
    packed=_host_conv,
    timestep=same_in_time(_host_conv),
)


def _host_matmul(inputs: Sequence[Array], attrs: Attributes) -> Array:
    return integer_matmul(inputs[0], inputs[1], np.int64)


HOST_MATMUL = OpDef(
    name="HostMatMul",
    dialect="host",
    doc="""Matrix product of fixed-point integers: multiply-accumulate work, billed as such.

    Semantics: y = x W in integers.
    Inputs: x (int32, (..., M, K)); W (int32, (..., K, N)).
    Output: y (int64, (..., M, N)).
    Constraints: C1 max|x| * L1(W) < 2^53 for each column: the body is an exact float64 product.
    """,
    inputs=("x", "W"),
    output="y",
    attributes=(),
    body="""\
  x64 = Cast<to = 11>(x)
  w64 = Cast<to = 11>(W)
  s = MatMul(x64, w64)
  y = Cast<to = 7>(s)""",
    packed=_host_matmul,
    timestep=same_in_time(_host_matmul),
)


def _encode(inputs: Sequence[Array], attrs: Attributes) -> Array:
    v, thresholds, rows = inputs
    table = code_table(integers(attrs, "codes"), integer(attrs, "code_type"))
    return np.asarray(table.take(count_reached(v, thresholds[:, : len(table) - 1], rows)))


def _encode_in_time(inputs: Sequence[Signal], attrs: Attributes) -> Signal:
    codes = _encode(arrays(inputs), attrs)
    book = book_of(attrs)
    return SpikeTrain(book.encode(codes), book, codes.dtype)


ENCODE = OpDef(
    name="Encode",
    dialect="host",
    doc="""The input quantiser: floats to codes, by comparisons on the host.

    Semantics: code = codes[k], k = #{j : v >= thresholds[row, j]}.
    Inputs: v (float32, no NaN); thresholds (float32, (R, K), ascending along K, padded with +inf);
    rows (int32, broadcastable to v, in 0 .. R-1).
    Output: code (type code_type, shape of v).
    Constraints: C1 K = 2^depth - 1; C2 codes has one entry per reachable k; C3 codes belong to the book.
    """,
    inputs=("v", "thresholds", "rows"),
    output="code",
    attributes=(
        *BOOK_ATTRIBUTES,
        Attribute("codes", "ints", "code of each k"),
        Attribute("code_type", "int", "ONNX element type of the codes"),
        Attribute("depth", "int", "rounds of the binary search"),
    ),
    body=SEARCH_BODY,
    packed=_encode,
    timestep=_encode_in_time,
)
