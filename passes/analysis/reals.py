"""Real numbers that are known to any precision asked for: break points of transcendental functions.

A root is found in floating point, refined in arbitrary precision, and certified: the function lies on
different sides of the target at both ends of the interval that is handed out, by more than the error of its
evaluation. No platform's libm is trusted with a decision (semantics 6.2).
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import mpmath

from snnc.errors import InternalError

__all__ = ["INFINITE", "Formula", "Point", "Real", "Root", "compare", "ratio", "threshold"]

#: ``formula(m, x)``: a function written for ``math`` (x a float) and for mpmath (x an mpf) alike.
Formula = Callable[[Any, Any], Any]

INFINITE = math.inf
# Of the first interval: what float64 finds is certified as it is.
_FIRST_BITS = 44
_MOST_BITS = 1 << 14
_HALVINGS, _NEWTON_STEPS = 8, 8
_GUARD = 32
_FARTHEST = 2.0**200

_LOCAL = threading.local()


@contextmanager
def _precision(bits: int) -> Iterator[Any]:
    """Give out this thread's mpmath context, which nobody else's settings reach, at some precision."""
    context = getattr(_LOCAL, "context", None)
    if context is None:
        context = _LOCAL.context = mpmath.mp.clone()
    before, context.prec = context.prec, bits
    try:
        yield context
    finally:
        context.prec = before


def ratio(context: Any, number: Fraction) -> Any:
    """Return a rational number as an mpf, rounded once or twice."""
    return context.mpf(number.numerator) / number.denominator


def _fraction(number: Any) -> Fraction:
    sign, mantissa, exponent, _ = number._mpf_
    whole = -int(mantissa) if sign else int(mantissa)
    return Fraction(whole << exponent) if exponent >= 0 else Fraction(whole, 1 << -exponent)


class Real:
    """A real number, given by a way to compute it.

    Args:
        compute: ``compute(context, bits)`` returns an mpf of the context that is nearer to the number than
            2^-bits · max(1, |number|).
    """

    def __init__(self, compute: Callable[[Any, int], Any]) -> None:
        self._compute = compute
        self._known: dict[int, tuple[Fraction, Fraction]] = {}

    def enclose(self, bits: int) -> tuple[Fraction, Fraction]:
        """Return an interval that holds the number, about 2^-bits · max(1, |number|) to either side."""
        if bits not in self._known:
            with _precision(bits + _GUARD) as context:
                middle = _fraction(self._compute(context, bits))
            radius = max(Fraction(1), abs(middle)) / 2**bits
            self._known[bits] = (middle - radius, middle + radius)
        return self._known[bits]

    def __float__(self) -> float:
        """Return the number in float64; wrong by 2^-43 · max(1, |number|) at most."""
        low, high = self.enclose(_FIRST_BITS)
        return float((low + high) / 2)

    def narrower(self) -> Iterator[tuple[Fraction, Fraction]]:
        """Yield intervals that hold the number, each half as many digits wide as the one before.

        Raises:
            InternalError: SNN157, 2^14 bits do not decide the question that is asked.
        """
        bits = _FIRST_BITS
        while bits <= _MOST_BITS:
            yield self.enclose(bits)
            bits *= 2
        raise InternalError("SNN157", f"{_MOST_BITS} bits of a break point do not decide a comparison")


@dataclass(eq=False)
class Root(Real):
    """Where a function takes a value on a piece on which it is strictly monotone.

    Attributes:
        formula: The function.
        target: The value, strictly inside the function's range on the piece.
        rising: Whether the function rises there.
        start: End of the piece from which the search starts; need not be exact, but inside the piece.
        away: +1 if the piece extends from ``start`` upward, -1 downward.
    """

    formula: Formula
    target: Fraction
    rising: bool
    start: float
    away: int
    _known: dict[int, tuple[Fraction, Fraction]] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        self._compute = self._refine

    def _refine(self, context: Any, bits: int) -> Any:
        """Newton's method from a float64 root, its slope a difference quotient; then the certificate."""
        limit = context.mpf(2) ** -bits
        target = ratio(context, self.target)
        found = self._rough()
        if found is not None:
            x, slope = context.mpf(found[0]), found[1]
            if bits <= _FIRST_BITS and self._certified(context, x, limit * max(1, abs(x)), target):
                return x
            for _ in range(4 + bits // 16):
                move = (self.formula(context, x) - target) / slope
                x = x - move
                small = limit * max(1, abs(x)) / 16
                # A step gains 25 bits at least, or the certificate below will not be had.
                if abs(move) < small * 2**24:
                    if self._certified(context, x, small * 16, target):
                        return x
                    if abs(move) < small * 2**-16:
                        break
        return self._halve(context, limit, target)

    def _side(self, context: Any, x: Any, target: Any) -> int:
        """Return 1 where the root lies below x for certain, -1 where above, 0 where rounding decides."""
        value = self.formula(context, x)
        slack = (abs(value) + abs(target)) * context.mpf(2) ** (16 - context.prec)
        if abs(value - target) <= slack:
            return 0
        return 1 if (value > target) == self.rising else -1

    def _certified(self, context: Any, x: Any, radius: Any, target: Any) -> bool:
        low, high = self._side(context, x - radius, target), self._side(context, x + radius, target)
        return low < 0 < high

    def _rough(self) -> tuple[float, float] | None:
        """Return a float64 root and the slope there; None where float64 cannot find them."""
        target = float(self.target)

        def beyond(x: float) -> bool:
            # Whether x lies on the far side of the root, seen from the start.
            return (_float(self.formula, x) > target) == (self.rising == (self.away > 0))

        reach = 1.0
        while not beyond(self.start + self.away * reach):
            reach *= 2
            if reach > _FARTHEST:
                return None
        near, far = self.start, self.start + self.away * reach
        for _ in range(_HALVINGS):
            middle = (near + far) / 2
            near, far = (near, middle) if beyond(middle) else (middle, far)
        x, slope = (near + far) / 2, math.nan
        for _ in range(_NEWTON_STEPS):
            h = max(abs(x), 2.0**-20) * 2.0**-20
            slope = (_float(self.formula, x + h) - _float(self.formula, x - h)) / (2 * h)
            if not math.isfinite(slope) or slope == 0 or (slope > 0) != self.rising:
                return None
            move = (_float(self.formula, x) - target) / slope
            x -= move
            if abs(move) <= abs(x) * 2.0**-40:
                break
        return x, slope

    def _halve(self, context: Any, limit: Any, target: Any) -> Any:
        """Bisection in arbitrary precision, for roots beside a turning point or far out."""
        context.prec *= 2
        reach = context.mpf(1)
        while self._side(context, self.start + self.away * reach, target) != self.away:
            reach *= 2
            if reach > _FARTHEST:
                raise InternalError("SNN157", f"no root of {self.target} is in reach")
        near, far = context.mpf(self.start), self.start + self.away * reach
        while abs(far - near) > limit * max(1, abs(far)):
            middle = (near + far) / 2
            side = self._side(context, middle, target)
            if side == 0:
                context.prec *= 2
                if context.prec > 4 * _MOST_BITS:
                    raise InternalError("SNN157", f"the root of {self.target} cannot be told apart")
            elif side == self.away:
                far = middle
            else:
                near = middle
        return (near + far) / 2


def _float(formula: Formula, x: float) -> float:
    try:
        return float(formula(math, x))
    except OverflowError:
        return math.inf


#: A place on the axis of potentials: exact, known to any precision, or infinite.
Point = Fraction | Real | float


def compare(point: Point, number: Fraction) -> int:
    """Return the sign of point - number; a `Real` is taken to be irrational.

    Raises:
        InternalError: SNN157, no precision tells the two apart.
    """
    if isinstance(point, float):
        return 1 if point > 0 else -1
    if isinstance(point, Fraction):
        return (point > number) - (point < number)
    for low, high in point.narrower():
        if number < low or number > high:
            return 1 if low > number else -1
    raise InternalError("SNN157", "a comparison was left undecided")


def threshold(point: Point, step: Fraction, bias: Fraction, *, closed: bool) -> int:
    """Return the smallest integer v with step · v + bias ≥ point (closed) or > point (open), step > 0.

    Args:
        point: Finite; a `Real` is taken to be irrational, so that closed and open are the same.
        step: Step of the membrane.
        bias: Its bias.
        closed: Whether the point itself counts as reached.
    """
    if isinstance(point, Fraction):
        x = (point - bias) / step
        return -(-x.numerator // x.denominator) if closed else x.numerator // x.denominator + 1
    if isinstance(point, float):
        raise InternalError("SNN153", "an infinite break point has no threshold")
    for ends in point.narrower():
        low, high = ((end - bias) / step for end in ends)
        below = low.numerator // low.denominator
        if below == high.numerator // high.denominator and low > below:
            return below + 1
    raise InternalError("SNN157", "a threshold was left undecided")
