"""Kinds of activation functions: what each operator makes of a membrane, and what may follow it.

Inner and outer factors of a function go into the membrane's step and into the gain, so that one SiLU stands
for all x · σ(αx) and one ELU for SELU.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from snnc.passes.analysis.exact import ExactArray, as_exact, collapse, exact
from snnc.passes.analysis.functions import IDENTITY, Activation, linear
from snnc.passes.analysis.kinds import Activated, Constant, FloatValue, Kind, Membrane, as_membrane

__all__ = ["ACTIVATION_OPS", "activate", "as_activated", "scaled", "shifted"]

_ZERO, _ONE, _HALF = Fraction(0), Fraction(1), Fraction(1, 2)
#: float32 values of the standard's defaults.
_SELU = (1.67326319217681884765625, 1.05070102214813232421875)
_FIFTH, _HUNDREDTH = float(np.float32(0.2)), float(np.float32(0.01))


@dataclass(frozen=True)
class _Form:
    """outer · f(inner · x), f one function or one for each channel."""

    function: Activation | npt.NDArray[np.object_]
    inner: Fraction = _ONE
    outer: Fraction = _ONE


Maker = Callable[[dict[str, Any], Sequence[npt.NDArray[Any] | None]], _Form | str]


def _plain(name: str) -> Maker:
    return lambda attrs, constants: _Form(Activation(name))


def _kink(slope: Fraction) -> Activation:
    """Return x where x ≥ 0, else slope · x."""
    return linear(slope, _ONE, (_ZERO, _ZERO))


def _leaky_relu(attrs: dict[str, Any], constants: Sequence[npt.NDArray[Any] | None]) -> _Form | str:
    return _Form(_kink(Fraction(attrs.get("alpha", _HUNDREDTH))))


def _prelu(attrs: dict[str, Any], constants: Sequence[npt.NDArray[Any] | None]) -> _Form | str:
    slopes = constants[0] if constants else None
    if slopes is None:
        return "its slope is not constant"
    exactly = as_exact(slopes)
    functions = np.empty(exactly.shape, dtype=object)
    for index in np.ndindex(exactly.shape):
        slope: Fraction = exactly[index]  # type: ignore[assignment]
        functions[index] = _kink(slope)
    return _Form(functions)


def _clip(attrs: dict[str, Any], constants: Sequence[npt.NDArray[Any] | None]) -> _Form | str:
    bounds: list[Fraction | None] = []
    for place, name in enumerate(("min", "max")):
        held: Any = constants[place] if len(constants) > place else attrs.get(name)
        number = float(np.asarray(held).reshape(-1)[0]) if held is not None else np.inf
        bounds.append(Fraction(number) if np.isfinite(number) else None)
    low, high = bounds
    if low is not None and high is not None:
        # The standard's Clip is min(max(x, low), high).
        corners = [(low, low), (high, high)] if low < high else [(high, high)]
        return _Form(linear(_ZERO, _ZERO, *corners))
    if low is not None:
        return _Form(linear(_ZERO, _ONE, (low, low)))
    return _Form(linear(_ONE, _ZERO, (high, high)) if high is not None else IDENTITY)


def _hard_sigmoid(attrs: dict[str, Any], constants: Sequence[npt.NDArray[Any] | None]) -> _Form | str:
    alpha, beta = Fraction(attrs.get("alpha", _FIFTH)), Fraction(attrs.get("beta", 0.5))
    if alpha == 0:
        return _Form(linear(_ZERO, _ZERO, (_ZERO, min(max(beta, _ZERO), _ONE))))
    corners = sorted([(-beta / alpha, _ZERO), ((1 - beta) / alpha, _ONE)])
    return _Form(linear(_ZERO, _ZERO, *corners))


def _thresholded_relu(attrs: dict[str, Any], constants: Sequence[npt.NDArray[Any] | None]) -> _Form | str:
    alpha = Fraction(attrs.get("alpha", 1.0))
    return _Form(linear(_ZERO, _ONE, (alpha, _ZERO), (alpha, alpha)))


def _elu(attrs: dict[str, Any], constants: Sequence[npt.NDArray[Any] | None]) -> _Form | str:
    return _Form(Activation("Elu", (Fraction(attrs.get("alpha", 1.0)),)))


def _selu(attrs: dict[str, Any], constants: Sequence[npt.NDArray[Any] | None]) -> _Form | str:
    alpha, gamma = Fraction(attrs.get("alpha", _SELU[0])), Fraction(attrs.get("gamma", _SELU[1]))
    return _Form(Activation("Elu", (alpha,)), outer=gamma)


def _celu(attrs: dict[str, Any], constants: Sequence[npt.NDArray[Any] | None]) -> _Form | str:
    alpha = Fraction(attrs.get("alpha", 1.0))
    if alpha <= 0:
        return "its alpha is not positive"
    return _Form(Activation("Elu", (_ONE,)), inner=1 / alpha, outer=alpha)


def _gelu(attrs: dict[str, Any], constants: Sequence[npt.NDArray[Any] | None]) -> _Form | str:
    tanh = attrs.get("tanh", 0) == 1 or attrs.get("approximate", "none") == "tanh"
    return _Form(Activation("GeluTanh" if tanh else "Gelu"))


def _silu(attrs: dict[str, Any], constants: Sequence[npt.NDArray[Any] | None]) -> _Form | str:
    given = constants[0] if constants else np.asarray(attrs.get("alpha", 1.0))
    if given is None or given.size != 1:
        return "its alpha is not one constant number"
    alpha = Fraction(float(given.reshape(-1)[0]))
    if alpha <= 0:
        return "its alpha is not positive"
    return _Form(Activation("Silu"), inner=alpha, outer=1 / alpha)


def _table(attrs: dict[str, Any], constants: Sequence[npt.NDArray[Any] | None]) -> _Form | str:
    """Steps half-way between the multiples of a step: what reads the function are codes of that step."""
    step, values = constants
    if step is None or values is None:
        return "its step or its values are not constant"
    unit, first = Fraction(float(step.reshape(-1)[0])), int(attrs["smallest"])
    heights = [Fraction(number) for number in values.tolist()]
    corners = [
        ((first + place + _HALF) * unit, height)
        for place, pair in enumerate(pairwise(heights))
        if pair[0] != pair[1]
        for height in pair
    ]
    return _Form(linear(_ZERO, _ZERO, *(corners or [(_ZERO, heights[0])])))


_MAKERS: dict[str, Maker] = {
    "Relu": lambda attrs, constants: _Form(_kink(_ZERO)),
    "LeakyRelu": _leaky_relu,
    "PRelu": _prelu,
    "ThresholdedRelu": _thresholded_relu,
    "Abs": lambda attrs, constants: _Form(_kink(-_ONE)),
    "Clip": _clip,
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": _plain("HardSwish"),
    "Elu": _elu,
    "Selu": _selu,
    "Celu": _celu,
    "Sigmoid": _plain("Sigmoid"),
    "Tanh": _plain("Tanh"),
    "Softplus": _plain("Softplus"),
    "Softsign": _plain("Softsign"),
    "Erf": _plain("Erf"),
    "Exp": _plain("Exp"),
    "Gelu": _gelu,
    "Silu": _silu,
    "Swish": _silu,
    "Mish": _plain("Mish"),
    "Bipolar": _plain("Bipolar"),
    "Table": _table,
}
#: Elementwise functions of one value that a neuron can hold in its table.
ACTIVATION_OPS = frozenset(_MAKERS)


def activate(
    op_type: str, kind: Kind, attrs: dict[str, Any], constants: Sequence[npt.NDArray[Any] | None], rank: int
) -> Kind:
    """Kind of an activation function.

    Args:
        op_type: One of `ACTIVATION_OPS`.
        kind: Kind of its input.
        attrs: Attributes of the node.
        constants: Its other inputs; None for one that is absent.
        rank: Number of axes of the tensor.
    """
    if isinstance(kind, Activated):
        return FloatValue("an activation function of another one: put a quantiser between the two")
    base = as_membrane(kind)
    if base is None:
        return FloatValue("an activation function of a value without a code")
    if base.host:
        return FloatValue("an activation function of an accumulator of the host that was not rounded")
    form = _MAKERS[op_type](attrs, constants)
    if isinstance(form, str):
        return FloatValue(form)
    if isinstance(form.function, Activation):
        function = np.empty((1,) * rank, dtype=object)
        function[...] = form.function
    else:
        function = form.function.reshape((1,) * (rank - form.function.ndim) + form.function.shape)
    inner = Membrane(base.step * form.inner, base.bias * form.inner, base.low, base.high)
    return Activated(inner, function, exact(form.outer, rank), exact(0, rank))


def as_activated(kind: Kind) -> Activated | None:
    """See a value as an activation function of a membrane: one, or the membrane itself."""
    if isinstance(kind, Activated):
        return kind
    base = as_membrane(kind)
    if base is None:
        return None
    rank = base.step.ndim
    function = np.empty((1,) * rank, dtype=object)
    function[...] = IDENTITY
    return Activated(base, function, exact(1, rank), exact(0, rank))


def shifted(kind: Activated, constant: Constant, sign: int = 1, *, turned: bool = False) -> Activated:
    """Kind of kind + sign · constant; ``turned``: of constant - kind."""
    offset = as_exact(constant.array)
    if turned:
        return Activated(kind.membrane, kind.function, -kind.gain, _exactly(offset - kind.offset))
    return Activated(kind.membrane, kind.function, kind.gain, _exactly(kind.offset + sign * offset))


def scaled(kind: Activated, factor: ExactArray) -> Activated:
    """Kind of kind · factor."""
    return Activated(
        kind.membrane, kind.function, _exactly(kind.gain * factor), _exactly(kind.offset * factor)
    )


def _exactly(array: npt.NDArray[Any]) -> ExactArray:
    return collapse(np.asarray(array, dtype=object))
