"""Activation functions of the quant dialect that the standard of opset 17 does not have.

They stand between a membrane and its quantiser only: a neuron holds them in its table (semantics 6.2), so
their floats are never part of a converted network. Their bodies make dumps runnable.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from snnc.ops.schema import Array, Attribute, Attributes, OpDef, integer, same_in_time

__all__ = ["GELU", "HARD_SWISH", "MISH", "SILU"]

_erf = np.frompyfunc(math.erf, 1, 1)


def _sigmoid(x: Array) -> Array:
    # exp(-|x|) does not overflow.
    e = np.exp(-np.abs(x))
    return np.asarray(np.where(x >= 0, 1 / (1 + e), e / (1 + e)))


def _gelu(inputs: Sequence[Array], attrs: Attributes) -> Array:
    x = inputs[0].astype(np.float64)
    if integer(attrs, "tanh", 0):
        gate = np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))
    else:
        gate = np.asarray(_erf(x / math.sqrt(2)), dtype=np.float64)
    return np.asarray((x * 0.5 * (1 + gate)).astype(inputs[0].dtype))


GELU = OpDef(
    name="Gelu",
    dialect="quant",
    doc="""Gaussian error linear unit.

    Semantics: y = x / 2 * (1 + erf(x / sqrt 2)), or with tanh = 1
    y = x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3))), as real functions.
    Inputs: x (float32).
    Output: y (float32, shape of x).
    Constraints: C1 y is read by quantisers, through constant factors, summands and layout ops at most.
    """,
    inputs=("x",),
    output="y",
    attributes=(Attribute("tanh", "int", "1 for the form with tanh", default=0, required=False),),
    body="""\
  one = Constant<value = float {1}>()
  half = Constant<value = float {0.5}>()
  inverse_root = Constant<value = float {0.70710678118654752}>()
  narrow = Mul(x, inverse_root)
  by_erf = Erf(narrow)
  cubic = Constant<value = float {0.044715}>()
  scale = Constant<value = float {0.79788456080286536}>()
  square = Mul(x, x)
  share = Mul(square, cubic)
  stretch = Add(share, one)
  bent = Mul(x, stretch)
  inner = Mul(bent, scale)
  by_tanh = Tanh(inner)
  choice = Constant<value_int: int = @tanh>()
  chosen = Cast<to = 9>(choice)
  gate = Where(chosen, by_tanh, by_erf)
  raised = Add(gate, one)
  halved = Mul(x, half)
  y = Mul(halved, raised)""",
    packed=_gelu,
    timestep=same_in_time(_gelu),
)


def _silu(inputs: Sequence[Array], attrs: Attributes) -> Array:
    x, alpha = (array.astype(np.float64) for array in inputs)
    return np.asarray((x * _sigmoid(alpha * x)).astype(inputs[0].dtype))


SILU = OpDef(
    name="Silu",
    dialect="quant",
    doc="""Sigmoid-weighted linear unit: SiLU, Swish, and the QuickGELU of CLIP.

    Semantics: y = x * sigmoid(alpha * x), as a real function.
    Inputs: x (float32); alpha (float32, one positive number, constant).
    Output: y (float32, shape of x).
    Constraints: C1 y is read by quantisers, through constant factors, summands and layout ops at most.
    """,
    inputs=("x", "alpha"),
    output="y",
    attributes=(),
    body="""\
  inner = Mul(x, alpha)
  gate = Sigmoid(inner)
  y = Mul(x, gate)""",
    packed=_silu,
    timestep=same_in_time(_silu),
)


def _mish(inputs: Sequence[Array], attrs: Attributes) -> Array:
    x = inputs[0].astype(np.float64)
    return np.asarray((x * np.tanh(np.logaddexp(0.0, x))).astype(inputs[0].dtype))


MISH = OpDef(
    name="Mish",
    dialect="quant",
    doc="""Mish, standard ONNX from opset 18 only.

    Semantics: y = x * tanh(log(1 + exp(x))), as a real function.
    Inputs: x (float32).
    Output: y (float32, shape of x).
    Constraints: C1 y is read by quantisers, through constant factors, summands and layout ops at most.
    """,
    inputs=("x",),
    output="y",
    attributes=(),
    body="""\
  soft = Softplus(x)
  gate = Tanh(soft)
  y = Mul(x, gate)""",
    packed=_mish,
    timestep=same_in_time(_mish),
)


def _hard_swish(inputs: Sequence[Array], attrs: Attributes) -> Array:
    x = inputs[0].astype(np.float64)
    return np.asarray((x * np.clip(x / 6 + 0.5, 0, 1)).astype(inputs[0].dtype))


HARD_SWISH = OpDef(
    name="HardSwish",
    dialect="quant",
    doc="""Hard swish of MobileNetV3, standard ONNX from opset 14 only.

    Semantics: y = x * clip(x / 6 + 1 / 2, 0, 1), as a real function.
    Inputs: x (float32).
    Output: y (float32, shape of x).
    Constraints: C1 y is read by quantisers, through constant factors, summands and layout ops at most.
    """,
    inputs=("x",),
    output="y",
    attributes=(),
    body="""\
  sixth = Constant<value = float {0.16666666666666667}>()
  half = Constant<value = float {0.5}>()
  zero = Constant<value = float {0}>()
  one = Constant<value = float {1}>()
  narrow = Mul(x, sixth)
  raised = Add(narrow, half)
  gate = Clip(raised, zero, one)
  y = Mul(x, gate)""",
    packed=_hard_swish,
    timestep=same_in_time(_hard_swish),
)
