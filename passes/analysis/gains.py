"""Kinds of what a neuron with a gain reads: quotients, normalised values, and the maximum of a row."""

from __future__ import annotations

from fractions import Fraction
from math import isqrt, prod
from typing import Any

import numpy as np
import numpy.typing as npt

from snnc.passes.analysis.exact import ExactArray, as_exact, collapse, exact, same
from snnc.passes.analysis.kinds import Constant, FloatValue, Kind, Membrane, Quotient, as_membrane

__all__ = ["floor_quotient", "largest", "masked", "normalise", "scaled", "shifted"]

_INT32 = 2**31 - 1
_RADICAND = 2**62
_MOST_ELEMENTS = 2**22


def largest(kind: Kind, axes: list[int], *, keep: bool) -> Kind:
    """Kind of ReduceMax over one axis that is kept."""
    base = as_membrane(kind)
    if base is None or base.host:
        return FloatValue("a maximum of a value without a code")
    if len(axes) != 1 or not keep:
        return FloatValue("a maximum over other than one axis that is kept")
    axis = axes[0]
    if base.step.shape[axis] != 1 or base.bias.shape[axis] != 1:
        return FloatValue("a maximum over an axis along which step or bias changes")
    if bool(np.any(base.step <= 0)):
        return FloatValue("a maximum over a membrane with a negative step")
    low, high = (array.max(axis=axis, keepdims=True) for array in (base.low, base.high))
    return Membrane(base.step, base.bias, low, high)


def masked(kind: Kind, axis: int) -> Kind:
    """Kind of scores whose masked places take the smallest of their row along an axis."""
    base = as_membrane(kind)
    if base is None or base.host:
        return FloatValue("a mask on a value without a code")
    if base.step.shape[axis] != 1 or base.bias.shape[axis] != 1 or bool(np.any(base.step <= 0)):
        return FloatValue("a mask over an axis along which step or bias changes, or with a negative step")
    low, high = (np.broadcast_to(array, base.low.shape) for array in (base.low, base.high))
    lowest, highest = low.min(axis=axis, keepdims=True), high.max(axis=axis, keepdims=True)
    return Membrane(base.step, base.bias, lowest, highest)


def floor_quotient(numerator: Kind, gain: Kind, bits: int, bounds: tuple[int, int] | None) -> Kind:
    """Kind of a membrane divided by a sum of codes, rounded down to 2^-bits.

    Args:
        numerator: What is divided.
        gain: What divides, of one step along every axis along which it is repeated.
        bits: Fraction bits of the quotient of the integers.
        bounds: Smallest and largest quotient of the integers, if their origin proves it.
    """
    top, bottom = as_membrane(numerator), as_membrane(gain)
    if top is None or bottom is None or top.host or bottom.host:
        return FloatValue("a quotient of values without a code")
    if not same(top.bias, exact(0)) or not same(bottom.bias, exact(0)):
        return FloatValue("a quotient of membranes with a bias")
    if bool(np.any(top.step <= 0)) or bool(np.any(bottom.step <= 0)):
        return FloatValue("a quotient of membranes with a negative step")
    if bool(np.any(bottom.low < 0)):
        return FloatValue("a quotient by a sum that may be negative: only sums of what never is can divide")
    low, high = bounds if bounds is not None else (-top.bound, top.bound)
    if max(-low, high) << bits >= _INT32:
        return FloatValue("a quotient that may leave 32 bits")
    step = collapse(np.asarray(top.step / bottom.step / 2**bits, dtype=object))
    return Quotient(_fixed(step, low << bits, high << bits))


def _fixed(step: ExactArray, low: int, high: int) -> Membrane:
    form = (1,) * step.ndim
    return Membrane(step, exact(0, step.ndim), np.full(form, low, np.int64), np.full(form, high, np.int64))


def normalise(kind: Kind, shape: tuple[int, ...], attrs: dict[str, Any]) -> Kind:
    """Kind of ``Normalise``: C · r - Σr over the integer root of its variance, rounded down to 2^-F."""
    base = as_membrane(kind)
    if base is None or base.host:
        return FloatValue("a normalisation of a value without a code")
    if base.step.size != 1 or bool(base.step.reshape(-1)[0] <= 0) or not same(base.bias, exact(0)):
        return FloatValue("a normalisation of a membrane that is not on one grid")
    count, epsilon = prod(shape[axis] for axis in attrs["axes"]), int(attrs["epsilon"])
    reach = count * base.bound
    if reach >= 2**31 or count >= _MOST_ELEMENTS or reach * reach + epsilon >= _RADICAND:
        return FloatValue("a normalisation whose sums of squares leave 62 bits")
    bits = int(attrs["fraction_bits"])
    # v² ≤ C · radicand, and the root rounded down is at least half of the root.
    limit = 2 * (isqrt(count) + 1) << bits
    rank = len(shape)
    return Quotient(_fixed(exact(Fraction(1, 2**bits), rank), -limit, limit))


def shifted(kind: Quotient, offset: Constant, sign: int) -> Kind:
    """Kind of a quotient plus or minus a constant."""
    base = kind.membrane
    bias = collapse(np.asarray(base.bias + sign * as_exact(offset.array), dtype=object))
    return Quotient(Membrane(base.step, bias, base.low, base.high))


def scaled(kind: Quotient, factor: npt.NDArray[np.object_]) -> Kind:
    """Kind of a quotient times a constant that is not negative."""
    if bool(np.any(factor < 0)):
        return FloatValue("a quotient times a negative constant")
    base = kind.membrane
    step, bias = (collapse(np.asarray(part * factor, dtype=object)) for part in (base.step, base.bias))
    return Quotient(Membrane(step, bias, base.low, base.high))
