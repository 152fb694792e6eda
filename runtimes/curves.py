"""Activation functions of the oracle, evaluated as real numbers by code of its own.

A value under a function is kept as the grid below it; a quantiser evaluates the function in float64 and,
wherever a mid-point is near, again in exact rationals or in as many digits as decide the comparison.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import mpmath
import numpy as np
import numpy.typing as npt

from snnc.coding import CodeBook, Ties
from snnc.errors import InternalError

__all__ = ["FUNCTIONS", "Curve", "Function", "codes_of"]

Array = npt.NDArray[Any]
Exact = npt.NDArray[np.object_]
_DOUBT = 2.0**-45
_FIRST_BITS, _MOST_BITS = 160, 1 << 14
#: Exponent of two far beyond what separates any two codes, with any float32 as gain and step.
_FARTHEST = 1 << 16
_ZERO, _ONE = Fraction(0), Fraction(1)
_LOCAL = threading.local()


@dataclass(frozen=True)
class Function:
    """One real function with its parameters.

    Attributes:
        name: A name in `FUNCTIONS`, or ``GeluTanh``.
        numbers: Exact parameters.
    """

    name: str
    numbers: tuple[Fraction, ...] = ()


@dataclass(frozen=True, eq=False)
class Curve:
    """A tensor gain · f(scale · integers + bias) + offset; everything broadcasts against the integers.

    Attributes:
        integers: Integers.
        scale: Exact.
        bias: Exact.
        function: `Function` objects.
        gain: Exact.
        offset: Exact.
    """

    integers: Array
    scale: Exact
    bias: Exact
    function: npt.NDArray[np.object_]
    gain: Exact
    offset: Exact


def _relu(u: Fraction, slope: Fraction = _ZERO) -> Fraction:
    return u if u >= 0 else slope * u


def _clip(u: Fraction, low: Fraction | None, high: Fraction | None) -> Fraction:
    if low is not None and u < low:
        u = low
    return high if high is not None and u > high else u


def _at_zero(value: Fraction) -> Callable[..., Fraction | None]:
    """The only rational argument at which a transcendental function is known to be rational."""
    return lambda u, *numbers: value if u == 0 else None


def _from_zero(factor: int | None = None) -> Callable[..., Fraction | None]:
    """Linear from zero on: by 1, or by the parameter of that number."""
    return lambda u, *numbers: None if u < 0 else (u if factor is None else numbers[factor] * u)


_EXACT: Mapping[str, Callable[..., Fraction | None]] = {
    "Relu": _relu,
    "LeakyRelu": _relu,
    "PRelu": _relu,
    "Abs": abs,
    "Clip": _clip,
    "ThresholdedRelu": lambda u, alpha: u if u > alpha else _ZERO,
    "HardSigmoid": lambda u, alpha, beta: _clip(alpha * u + beta, _ZERO, _ONE),
    "HardSwish": lambda u: u * _clip(u / 6 + Fraction(1, 2), _ZERO, _ONE),
    "Softsign": lambda u: u / (1 + abs(u)),
    "Elu": _from_zero(),
    "Celu": _from_zero(),
    "Selu": _from_zero(1),
    "Sigmoid": _at_zero(Fraction(1, 2)),
    "Exp": _at_zero(_ONE),
    "Softplus": lambda u: None,
    "Bipolar": lambda u: _ONE if u >= 0 else -_ONE,
    "Table": lambda u, step, first, *values: values[
        min(max(math.ceil(u / step - Fraction(1, 2)) - int(first), 0), len(values) - 1)
    ],
    **dict.fromkeys(("Tanh", "Erf", "Gelu", "GeluTanh", "Silu", "Mish"), _at_zero(_ZERO)),
}


def _logistic(m: Any, u: Any) -> Any:
    return 1 / (1 + m.exp(-u))


def _gelu_tanh(m: Any, u: Any) -> Any:
    inner = m.sqrt(2 / m.pi) * (u + m.mpf(44715) / 1000000 * u**3)
    return u / 2 * (1 + m.tanh(inner))


#: In arbitrary precision, at arguments where no exact value is known.
_PRECISE: Mapping[str, Callable[..., Any]] = {
    "Elu": lambda m, u, alpha: alpha * m.expm1(u),
    "Celu": lambda m, u, alpha: alpha * m.expm1(u / alpha),
    "Selu": lambda m, u, alpha, gamma: gamma * alpha * m.expm1(u),
    "Sigmoid": _logistic,
    "Tanh": lambda m, u: m.tanh(u),
    "Softplus": lambda m, u: m.log1p(m.exp(u)),
    "Exp": lambda m, u: m.exp(u),
    "Erf": lambda m, u: m.erf(u),
    "Gelu": lambda m, u: u / 2 * (1 + m.erf(u / m.sqrt(2))),
    "GeluTanh": _gelu_tanh,
    "Silu": lambda m, u, alpha: u * _logistic(m, alpha * u),
    "Mish": lambda m, u: u * m.tanh(m.log1p(m.exp(u))),
}

_erf, _erfc = (np.frompyfunc(function, 1, 1) for function in (math.erf, math.erfc))


def _sigmoid64(u: Array) -> Array:
    e = np.exp(-np.abs(u))
    return np.where(u >= 0, 1 / (1 + e), e / (1 + e))


def _tail64(u: Array, alpha: float, inner: float = 1.0) -> Array:
    return np.where(u >= 0, u, alpha * np.expm1(np.minimum(u, 0) * inner))


#: In float64: the function, and the parameter-dependent bound of its slope (of f'/(1 + |f|) for Exp).
_FLOAT64: Mapping[str, tuple[Callable[..., Array], Callable[..., float]]] = {
    "Relu": (lambda u: np.maximum(u, 0), lambda: 1.0),
    "LeakyRelu": (lambda u, a: np.where(u >= 0, u, a * u), lambda a: max(1.0, abs(a))),
    "PRelu": (lambda u, a: np.where(u >= 0, u, a * u), lambda a: max(1.0, abs(a))),
    "Abs": (np.abs, lambda: 1.0),
    "Clip": (
        lambda u, low, high: np.minimum(
            np.maximum(u, -np.inf if low is None else low), np.inf if high is None else high
        ),
        lambda low, high: 1.0,
    ),
    "ThresholdedRelu": (lambda u, a: np.where(u > a, u, 0.0), lambda a: 1.0),
    "HardSigmoid": (lambda u, a, b: np.clip(a * u + b, 0, 1), lambda a, b: abs(a)),
    "HardSwish": (lambda u: u * np.clip(u / 6 + 0.5, 0, 1), lambda: 1.5),
    "Softsign": (lambda u: u / (1 + np.abs(u)), lambda: 1.0),
    "Elu": (_tail64, lambda a: max(1.0, abs(a))),
    "Celu": (lambda u, a: _tail64(u, a, 1 / a), lambda a: 1.0),
    "Selu": (lambda u, a, g: g * _tail64(u, a), lambda a, g: abs(g) * max(1.0, abs(a))),
    "Sigmoid": (_sigmoid64, lambda: 0.25),
    "Tanh": (np.tanh, lambda: 1.0),
    "Softplus": (lambda u: np.logaddexp(0.0, u), lambda: 1.0),
    "Exp": (lambda u: np.exp(np.minimum(u, 700.0)), lambda: 1.0),
    "Erf": (lambda u: np.asarray(_erf(u), dtype=np.float64), lambda: 1.13),
    "Gelu": (lambda u: u * np.asarray(_erfc(-u / math.sqrt(2)), dtype=np.float64) / 2, lambda: 1.13),
    "GeluTanh": (
        lambda u: u * _sigmoid64(2 * math.sqrt(2 / math.pi) * (u + 0.044715 * u**3)),
        lambda: 1.13,
    ),
    "Silu": (lambda u, a: u * _sigmoid64(a * u), lambda a: 1.1),
    "Mish": (lambda u: u * np.tanh(np.logaddexp(0.0, u)), lambda: 1.1),
    "Bipolar": (lambda u: np.where(u >= 0, 1.0, -1.0), lambda: 0.0),
    "Table": (
        lambda u, step, first, *values: np.asarray(values)[
            np.clip(np.ceil(u / step - 0.5) - first, 0, len(values) - 1).astype(np.int64)
        ],
        lambda step, first, *values: 0.0,
    ),
}


def _number(attrs: Mapping[str, Any], name: str, default: float) -> Fraction:
    return Fraction(float(attrs.get(name, np.float32(default))))


def _one(function: Function) -> npt.NDArray[np.object_]:
    array = np.empty((), dtype=object)
    array[()] = function
    return array


def _clip_function(attrs: Mapping[str, Any], others: Sequence[Any]) -> npt.NDArray[np.object_]:
    bounds: list[Fraction | None] = []
    for place, name in ((0, "min"), (1, "max")):
        given = others[place] if len(others) > place else attrs.get(name)
        number = float(np.asarray(given).reshape(-1)[0]) if given is not None else math.inf
        bounds.append(Fraction(number) if math.isfinite(number) else None)
    return _one(Function("Clip", tuple(bounds)))  # type: ignore[arg-type]


def _prelu_function(attrs: Mapping[str, Any], others: Sequence[Any]) -> npt.NDArray[np.object_]:
    slopes = np.asarray(others[0])
    flat = np.empty(slopes.size, dtype=object)
    flat[:] = [Function("PRelu", (Fraction(number),)) for number in slopes.reshape(-1).tolist()]
    return flat.reshape(slopes.shape)


def _silu_function(attrs: Mapping[str, Any], others: Sequence[Any]) -> npt.NDArray[np.object_]:
    given = float(np.asarray(others[0]).reshape(-1)[0]) if others else float(attrs.get("alpha", 1.0))
    return _one(Function("Silu", (Fraction(given),)))


def _table_function(attrs: Mapping[str, Any], others: Sequence[Any]) -> npt.NDArray[np.object_]:
    step, values = (np.asarray(other, dtype=np.float64).reshape(-1).tolist() for other in others)
    return _one(Function("Table", tuple(map(Fraction, (step[0], attrs["smallest"], *values)))))


def _with(name: str, **defaults: float) -> Callable[..., npt.NDArray[np.object_]]:
    def make(attrs: Mapping[str, Any], others: Sequence[Any]) -> npt.NDArray[np.object_]:
        numbers = tuple(_number(attrs, key, default) for key, default in defaults.items())
        return _one(Function(name, numbers))

    return make


def _gelu_function(attrs: Mapping[str, Any], others: Sequence[Any]) -> npt.NDArray[np.object_]:
    tanh = attrs.get("approximate") == "tanh" or attrs.get("tanh") == 1
    return _one(Function("GeluTanh" if tanh else "Gelu"))


#: For each operator, from its attributes and other inputs: its function, or one for each channel.
FUNCTIONS: Mapping[str, Callable[..., npt.NDArray[np.object_]]] = {
    **{
        name: _with(name)
        for name in (
            "Relu",
            "Abs",
            "HardSwish",
            "Softsign",
            "Sigmoid",
            "Tanh",
            "Softplus",
            "Exp",
            "Erf",
            "Mish",
        )
    },
    "LeakyRelu": _with("LeakyRelu", alpha=0.01),
    "PRelu": _prelu_function,
    "ThresholdedRelu": _with("ThresholdedRelu", alpha=1.0),
    "Clip": _clip_function,
    "HardSigmoid": _with("HardSigmoid", alpha=0.2, beta=0.5),
    "Elu": _with("Elu", alpha=1.0),
    "Celu": _with("Celu", alpha=1.0),
    "Selu": _with("Selu", alpha=1.67326319217681884765625, gamma=1.05070102214813232421875),
    "Gelu": _gelu_function,
    "Silu": _silu_function,
    "Bipolar": _with("Bipolar"),
    "Table": _table_function,
    "Swish": _silu_function,
}


def codes_of(curve: Curve, step: Exact, book: CodeBook, ties: Ties) -> Array:
    """Return the codes nearest to a curve, int64.

    Args:
        curve: The real numbers.
        step: Exact step of the code, broadcastable.
        book: Admitted codes.
        ties: Rule at mid-points.
    """
    points = book.break_points(ties)
    middles = np.array([point.twice_midpoint / 2 for point in points], dtype=np.float64)
    scaled = curve.integers.astype(np.float64) * curve.scale.astype(np.float64)
    bias = curve.bias.astype(np.float64)
    potential, error = scaled + bias, _DOUBT * (np.abs(scaled) + np.abs(bias))
    value, margin = _evaluated(curve.function, potential, error)
    unit = step.astype(np.float64)
    gain, offset = curve.gain.astype(np.float64), curve.offset.astype(np.float64)
    number = (gain * value + offset) / unit
    margin = (np.abs(gain) * (margin + _DOUBT * np.abs(value)) + _DOUBT * np.abs(offset)) / unit + _DOUBT
    index = np.searchsorted(middles, number, side="right")
    doubt = np.zeros(number.shape, dtype=bool)
    for neighbour in (index - 1, index):
        inside = (neighbour >= 0) & (neighbour < len(middles))
        distance = np.abs(number - middles[np.clip(neighbour, 0, len(middles) - 1)])
        doubt |= inside & (distance <= margin)
    # A jump of the function may pass over a mid-point that is not near.
    doubt |= np.isinf(margin)
    parts = [
        np.broadcast_to(array, doubt.shape).reshape(-1)
        for array in (curve.integers, curve.scale, curve.bias, curve.function, curve.gain, curve.offset, step)
    ]
    known: dict[tuple[Any, ...], int] = {}
    flat = index.reshape(-1)
    for position in np.flatnonzero(doubt):
        integer, scale, low, function, factor, summand, size = (part[position] for part in parts)
        key = (int(integer), *map(id, (scale, low, function, factor, summand, size)))
        if key not in known:
            u = scale * int(integer) + low
            known[key] = _level(function, u, factor / size, summand / size, points)
        flat[position] = known[key]
    return np.asarray(book.codes[flat.reshape(doubt.shape)], dtype=np.int64)


def _evaluated(functions: npt.NDArray[np.object_], potential: Array, error: Array) -> tuple[Array, Array]:
    """Return f(u) in float64 and how wrong it may be."""
    kinds = {id(function): function for function in functions.reshape(-1)}
    value, margin = np.zeros(potential.shape), np.zeros(potential.shape)
    labels = np.vectorize(id, otypes=[np.int64])(functions)
    for label, function in kinds.items():
        formula, slope = _FLOAT64[function.name]
        numbers = [None if number is None else float(number) for number in function.numbers]
        here = np.broadcast_to(labels == label, potential.shape)
        u = potential[here]
        found = formula(u, *numbers)
        away = (
            error[here] * slope(*numbers) * (1 + (np.abs(found) if function.name == "Exp" else 0.0)) + _DOUBT
        )
        if function.name in ("ThresholdedRelu", "Bipolar"):
            jump = numbers[0] if numbers else 0.0
            away = np.where(np.abs(u - jump) <= error[here] + _DOUBT, np.inf, away)
        if function.name == "Table":
            # Half-way between two codes the value jumps.
            ratio = u / numbers[0]
            near = np.abs(ratio - np.floor(ratio) - 0.5) <= error[here] / numbers[0] + _DOUBT
            away = np.where(near, np.inf, away)
        value[here], margin[here] = found, away
    return value, margin


def _level(function: Function, u: Fraction, gain: Fraction, offset: Fraction, points: Sequence[Any]) -> int:
    """Number of mid-points that gain · f(u) + offset has reached, decided exactly."""
    exactly = _EXACT[function.name](u, *function.numbers)
    if exactly is not None or gain == 0:
        return _reached(gain * exactly + offset if exactly is not None else offset, points)
    context = getattr(_LOCAL, "context", None)
    if context is None:
        context = _LOCAL.context = mpmath.mp.clone()
    bits = _FIRST_BITS
    while bits <= _MOST_BITS:
        context.prec = bits
        numbers = [context.mpf(number.numerator) / number.denominator for number in (u, *function.numbers)]
        found = _PRECISE[function.name](context, *numbers)
        # The formulas lose digits where they subtract: half of them are kept for that.
        middle = _fraction(found)
        radius = (abs(middle) + abs(u) + 1) / 2 ** (bits // 2)
        ends = {_reached(gain * (middle + sign * radius) + offset, points) for sign in (-1, 1)}
        if len(ends) == 1:
            return ends.pop()
        bits *= 2
    raise InternalError("SNN146", f"{_MOST_BITS} bits of {function.name} do not decide a comparison")


def _fraction(number: Any) -> Fraction:
    """Return a number as a fraction; those beyond 2^±_FARTHEST, as e^-3e38 is, as zero or as that bound."""
    negative, mantissa, exponent, _ = map(int, number._mpf_)
    if abs(exponent) > _FARTHEST:
        mantissa, exponent = (1, _FARTHEST) if exponent > 0 and mantissa else (0, 0)
    whole = Fraction(-mantissa if negative else mantissa)
    return whole * (1 << exponent) if exponent >= 0 else whole / (1 << -exponent)


def _reached(value: Fraction, points: Sequence[Any]) -> int:
    count = 0
    for point in points:
        middle = Fraction(point.twice_midpoint, 2)
        if value < middle or (value == middle and not point.closed):
            break
        count += 1
    return count
