"""Formulas of activation functions that have no closed inverse, for ``math`` and mpmath alike.

Each is written without cancellation, so that its relative error is that of the functions it is made of.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from snnc.passes.analysis.reals import Formula

__all__ = [
    "Formula",
    "gelu",
    "gelu_slope",
    "gelu_tanh",
    "gelu_tanh_slope",
    "mish",
    "mish_slope",
    "silu",
    "silu_slope",
]

# Hendrycks and Gimpel (arXiv 1606.08415): the decimal number, not its float32.
_CUBIC = Fraction(44715, 10**6)


def gelu(m: Any, x: Any) -> Any:
    """Return x · Φ(x), Φ the normal distribution function."""
    return x * m.erfc(-x / m.sqrt(2)) / 2


def gelu_slope(m: Any, x: Any) -> Any:
    """Return Φ(x) + x · φ(x)."""
    return m.erfc(-x / m.sqrt(2)) / 2 + x * m.exp(-x * x / 2) / m.sqrt(2 * m.pi)


def _logistic(m: Any, x: Any) -> Any:
    e = m.exp(-abs(x))
    return 1 / (1 + e) if x > 0 else e / (1 + e)


def silu(m: Any, x: Any) -> Any:
    """Return x · σ(x)."""
    return x * _logistic(m, x)


def silu_slope(m: Any, x: Any) -> Any:
    """Return σ(x) · (1 + x · σ(-x))."""
    return _logistic(m, x) * (1 + x * _logistic(m, -x))


def _inner(m: Any, x: Any) -> tuple[Any, Any]:
    """2 · √(2/π) · (x + 0.044715 x³), and its derivative."""
    scale = m.sqrt(8 / m.pi)
    square = x * x * _CUBIC.numerator / _CUBIC.denominator
    return scale * x * (1 + square), scale * (1 + 3 * square)


def gelu_tanh(m: Any, x: Any) -> Any:
    """Return x / 2 · (1 + tanh(√(2/π) · (x + 0.044715 x³)))."""
    return x * _logistic(m, _inner(m, x)[0])


def gelu_tanh_slope(m: Any, x: Any) -> Any:
    """Derivative of `gelu_tanh`."""
    z, change = _inner(m, x)
    return _logistic(m, z) * (1 + x * change * _logistic(m, -z))


def _mish_terms(m: Any, x: Any) -> tuple[Any, Any]:
    """Return y² + 2y and 2 for y = exp(x), over y² if x > 0: n, d with tanh(log(1 + y)) = n / (n + d)."""
    e = m.exp(-abs(x))
    if x > 0:
        n, d = 1 + 2 * e, 2 * e * e
    else:
        n, d = e * e + 2 * e, 2
    return n, d


def mish(m: Any, x: Any) -> Any:
    """Return x · tanh(log(1 + exp(x)))."""
    n, d = _mish_terms(m, x)
    return x * (n / (n + d))


def mish_slope(m: Any, x: Any) -> Any:
    """Return t + x · σ(x) · (1 - t²), t = tanh(log(1 + exp(x)))."""
    n, d = _mish_terms(m, x)
    t = n / (n + d)
    return t + x * _logistic(m, x) * (d / (n + d)) * (1 + t)
