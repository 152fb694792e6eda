"""Ops that charge membranes: spikes times weights, spikes times held codes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from snnc.coding import CodeBook
from snnc.errors import InternalError
from snnc.ops.exact import integer_conv, integer_matmul
from snnc.ops.schema import CONV_ATTRIBUTES, Array, Attribute, Attributes, OpDef, arrays, integer
from snnc.ops.signal import Signal, SpikeTrain

__all__ = ["CHARGE", "CODE_SLICE", "SPIKE_CONV", "SPIKE_MATMUL", "SPIKE_MATMUL_HELD", "charge"]


def spikes_of(signal: Signal) -> SpikeTrain:
    """Return the input that must be a spike train.

    Raises:
        InternalError: SNN112, it is an array.
    """
    if not isinstance(signal, SpikeTrain):
        raise InternalError("SNN112", "an array arrives where spikes are needed")
    return signal


def charge(train: SpikeTrain, deliver: Callable[[Array], Array]) -> Array:
    """Charge a membrane over one window: A(t) = 2 A(t-1) + deliver(spikes of step t).

    Args:
        train: Spikes, the most significant step first.
        deliver: What the spikes of one step, in {-1, 0, 1}, add to each membrane, int32.

    Returns:
        A(T), int32.
    """
    membrane: Array | None = None
    for spikes in train.patterns:
        arriving = deliver(spikes)
        membrane = arriving if membrane is None else 2 * membrane + arriving
    if membrane is None:
        raise InternalError("SNN112", "a spike train of no steps")
    return membrane


def _conv(x: Array, weights: Array, attrs: Attributes) -> Array:
    return integer_conv(
        x,
        weights,
        strides=attrs.get("strides"),
        pads=attrs.get("pads"),
        dilations=attrs.get("dilations"),
        group=integer(attrs, "group", 1),
    )


def _spike_conv(inputs: Sequence[Array], attrs: Attributes) -> Array:
    return _conv(inputs[0], inputs[1], attrs)


def _spike_conv_in_time(inputs: Sequence[Signal], attrs: Attributes) -> Signal:
    (weights,) = arrays(inputs[1:])
    return charge(spikes_of(inputs[0]), lambda spikes: _conv(spikes, weights, attrs))


SPIKE_CONV = OpDef(
    name="SpikeConv",
    dialect="spike",
    doc="""Convolution of spikes with integer weights.

    Semantics: A(0) = 0, A(t) = 2 A(t-1) + W * x(t), x(t) in {-1, 0, 1}; a = A(T). Padding never spikes.
    Inputs: x (codes, (N, C, *spatial)); W (signed integers, (O, C / group, *kernel)).
    Output: a (int32, (N, O, *out)).
    Constraints: C1 max|x| * L1(W) < 2^24 for each output channel: the body is an exact float32 convolution.
    """,
    inputs=("x", "W"),
    output="a",
    attributes=CONV_ATTRIBUTES,
    body="""\
  xf = Cast<to = 1>(x)
  wf = Cast<to = 1>(W)
  s = Conv<strides: ints = @strides, pads: ints = @pads, dilations: ints = @dilations,
      group: int = @group>(xf, wf)
  a = Cast<to = 6>(s)""",
    packed=_spike_conv,
    timestep=_spike_conv_in_time,
)


def _spike_matmul(inputs: Sequence[Array], attrs: Attributes) -> Array:
    return integer_matmul(inputs[0], inputs[1])


def _spike_matmul_in_time(inputs: Sequence[Signal], attrs: Attributes) -> Signal:
    (weights,) = arrays(inputs[1:])
    return charge(spikes_of(inputs[0]), lambda spikes: integer_matmul(spikes, weights))


# The left operand becomes int32 on its way to float32: where a Transpose that moves the batch stands right in
# front of Cast and MatMul, onnxruntime's MatmulTransposeFusion (1.18 to 1.29) breaks the graph, and the
# session crashes.
SPIKE_MATMUL = OpDef(
    name="SpikeMatMul",
    dialect="spike",
    doc="""Matrix product of spikes with integer weights.

    Semantics: A(0) = 0, A(t) = 2 A(t-1) + x(t) W, x(t) in {-1, 0, 1}; a = A(T).
    Inputs: x (codes, (..., M, K)); W (signed integers, (K, N) or (..., K, N)).
    Output: a (int32, (..., M, N)).
    Constraints: C1 max|x| * L1(W) < 2^24 for each column: the body is an exact float32 product.
    """,
    inputs=("x", "W"),
    output="a",
    attributes=(),
    body="""\
  xi = Cast<to = 6>(x)
  xf = Cast<to = 1>(xi)
  wf = Cast<to = 1>(W)
  s = MatMul(xf, wf)
  a = Cast<to = 6>(s)""",
    packed=_spike_matmul,
    timestep=_spike_matmul_in_time,
)


def _spike_matmul_held_in_time(inputs: Sequence[Signal], attrs: Attributes) -> Signal:
    held = charge(spikes_of(inputs[1]), lambda spikes: spikes.astype(np.int32))
    return charge(spikes_of(inputs[0]), lambda spikes: integer_matmul(spikes, held))


SPIKE_MATMUL_HELD = OpDef(
    name="SpikeMatMulHeld",
    dialect="spike",
    doc="""Matrix product of two activations (semantics 3.4).

    Semantics: first b is accumulated and held, B = sum of 2^(T-t) b(t); then the spikes of a add its rows:
    A(0) = 0, A(t) = 2 A(t-1) + a(t) B; y = A(T).
    Inputs: a (codes, (..., M, K)); b (codes, (..., K, N)).
    Output: y (int32, (..., M, N)).
    Constraints: C1 K * max|a| * max|b| < 2^24: the body is an exact float32 product.
    """,
    inputs=("a", "b"),
    output="y",
    attributes=(),
    body="""\
  ai = Cast<to = 6>(a)
  af = Cast<to = 1>(ai)
  bf = Cast<to = 1>(b)
  s = MatMul(af, bf)
  y = Cast<to = 6>(s)""",
    packed=_spike_matmul,
    timestep=_spike_matmul_held_in_time,
)


def _code_slice(inputs: Sequence[Array], attrs: Attributes) -> Array:
    x = inputs[0].astype(np.int64)
    digits = (np.abs(x) >> integer(attrs, "shift")) & ((1 << integer(attrs, "bits")) - 1)
    return np.asarray((np.sign(x) * digits).astype(inputs[0].dtype))


def _code_slice_in_time(inputs: Sequence[Signal], attrs: Attributes) -> Signal:
    train = spikes_of(inputs[0])
    bits = integer(attrs, "bits")
    # Bit `shift` is sent at step T - shift; steps before the first are silent.
    end = len(train.patterns) - integer(attrs, "shift")
    sent = train.patterns[max(0, end - bits) : max(0, end)]
    silent = np.zeros((bits - len(sent), *train.shape), dtype=np.int8)
    book = CodeBook(bits, bits, "interleaved", train.book.signed)
    return SpikeTrain(np.concatenate([silent, sent]), book, train.dtype)


CODE_SLICE = OpDef(
    name="CodeSlice",
    dialect="spike",
    doc="""Some consecutive time-steps of a spike train, as a train of their own.

    Splits a product whose sum would pass 2^24 into several that do not.

    Semantics: y = sign(x) * ((|x| >> shift) & (2^bits - 1)).
    Inputs: x (codes).
    Output: y (codes, type and shape of x).
    Constraints: C1 shift >= 0; C2 1 <= bits <= 16.
    """,
    inputs=("x",),
    output="y",
    attributes=(
        Attribute("shift", "int", "number of least significant steps left out"),
        Attribute("bits", "int", "number of steps kept"),
    ),
    # Integer Div truncates towards zero, so magnitudes are divided and signs kept.
    body="""\
  x32 = Cast<to = 6>(x)
  one_u = Constant<value = uint64 {1}>()
  low = Constant<value_int: int = @shift>()
  low_u = Cast<to = 13>(low)
  divisor_u = BitShift<direction = "LEFT">(one_u, low_u)
  divisor = Cast<to = 6>(divisor_u)
  kept = Constant<value_int: int = @bits>()
  kept_u = Cast<to = 13>(kept)
  modulus_u = BitShift<direction = "LEFT">(one_u, kept_u)
  modulus = Cast<to = 6>(modulus_u)
  shifted = Div(x32, divisor)
  upper = Div(shifted, modulus)
  upper_part = Mul(upper, modulus)
  digits = Sub(shifted, upper_part)
  y = CastLike(digits, x)""",
    packed=_code_slice,
    timestep=_code_slice_in_time,
)


def _charge(inputs: Sequence[Array], attrs: Attributes) -> Array:
    return inputs[0].astype(np.int32)


def _charge_in_time(inputs: Sequence[Signal], attrs: Attributes) -> Signal:
    return charge(spikes_of(inputs[0]), lambda spikes: spikes.astype(np.int32))


CHARGE = OpDef(
    name="Charge",
    dialect="spike",
    doc="""One input with weight 1: the code becomes a membrane.

    Semantics: A(0) = 0, A(t) = 2 A(t-1) + x(t); a = A(T).
    Inputs: x (codes).
    Output: a (int32, shape of x).
    """,
    inputs=("x",),
    output="a",
    attributes=(),
    body="  a = Cast<to = 6>(x)",
    packed=_charge,
    timestep=_charge_in_time,
)
