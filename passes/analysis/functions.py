"""Activation functions as the compiler knows them: monotone pieces, and where each takes a given value.

Functions are real functions of a real number; their parameters are exact. Piecewise-linear ones are inverted
in exact rationals, the others in certified arbitrary precision (semantics 6.2).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from itertools import pairwise
from typing import Any

from snnc.passes.analysis import formulas
from snnc.passes.analysis.reals import INFINITE, Point, Real, Root, compare, ratio

__all__ = ["IDENTITY", "Activation", "Edge", "Piece", "Shape", "linear", "shape_of"]

Inverse = Callable[[Fraction], Point]


@dataclass(frozen=True)
class Activation:
    """A function of one real number; equal ones compare equal.

    Attributes:
        name: A name in `shape_of`'s table.
        parameters: Exact parameters.
    """

    name: str
    parameters: tuple[Fraction, ...] = ()

    @property
    def monotone(self) -> bool:
        """Whether it never falls."""
        return all(piece.direction > 0 for piece in shape_of(self).pieces)


@dataclass(frozen=True)
class Edge:
    """The value at an end of a piece.

    Attributes:
        value: The value, or the limit.
        side: 0 if it is taken there; 1 if only values above it are, as close as one likes; -1 if below.
    """

    value: Point
    side: int = 0

    def reaches(self, target: Fraction, *, closed: bool, falling: bool = False) -> bool:
        """Return whether f ≥ target (closed) or f > target (open) at this end; ``falling``: ≤ and <."""
        order = compare(self.value, target) or self.side
        if falling:
            order = -order
        return order > 0 or (order == 0 and closed)


@dataclass(frozen=True, eq=False)
class Piece:
    """An interval on which a function rises strictly, falls strictly, or jumps.

    Attributes:
        direction: 1 or -1.
        last: The value at its right end.
        inverse: Where the function takes a value that it has inside the piece.
        jump: The piece is one place, just behind which the function has changed.
        held: A jump has already happened at its place.
    """

    direction: int
    last: Edge
    inverse: Inverse
    jump: bool = False
    held: bool = False


@dataclass(frozen=True, eq=False)
class Shape:
    """A function from left to right; constant stretches between pieces need no mention.

    Attributes:
        first: The value at minus infinity.
        pieces: Its pieces.
    """

    first: Edge
    pieces: tuple[Piece, ...]


def linear(left: Fraction, right: Fraction, *points: tuple[Fraction, Fraction]) -> Activation:
    """Return a piecewise-linear function.

    Args:
        left: Slope left of the first point.
        right: Slope right of the last one.
        points: Corners (x, y), ascending in x. Of two with the same x the first is the value there, and the
            function jumps to the second just behind it.
    """
    return Activation("PiecewiseLinear", (left, right, *(number for point in points for number in point)))


IDENTITY = linear(Fraction(1), Fraction(1), (Fraction(0), Fraction(0)))


@lru_cache(maxsize=1024)
def shape_of(function: Activation) -> Shape:
    """Return the pieces of a function.

    Raises:
        KeyError: There is no function of this name.
    """
    return _SHAPES[function.name](*function.parameters)


def _sign(number: Fraction) -> int:
    return (number > 0) - (number < 0)


def _piecewise_linear(left: Fraction, right: Fraction, *numbers: Fraction) -> Shape:
    points = list(zip(numbers[::2], numbers[1::2], strict=True))
    (x, y), pieces = points[0], []

    def ray(x: Fraction, y: Fraction, slope: Fraction) -> Inverse:
        return lambda target: x + (target - y) / slope

    first = Edge(y) if left == 0 else Edge(-_sign(left) * INFINITE)
    if left != 0:
        pieces.append(Piece(_sign(left), Edge(y), ray(x, y, left)))
    # The slope behind each corner, for what lies just behind a jump.
    slopes = [(b[1] - a[1]) / (b[0] - a[0]) if b[0] > a[0] else None for a, b in pairwise(points)] + [right]
    for place, ((x0, y0), (x1, y1)) in enumerate(pairwise(points)):
        slope = slopes[place]
        if slope is None and y0 != y1:
            behind = slopes[place + 1] or Fraction(0)
            pieces.append(Piece(_sign(y1 - y0), Edge(y1, _sign(behind)), lambda _, x=x1: x, jump=True))  # type: ignore[misc]
        elif slope:
            pieces.append(Piece(_sign(slope), Edge(y1), ray(x0, y0, slope)))
    x, y = points[-1]
    if right != 0:
        pieces.append(Piece(_sign(right), Edge(_sign(right) * INFINITE), ray(x, y, right)))
    return Shape(first, tuple(pieces))


def _rising(low: float | Fraction, high: float | Fraction, inverse: Inverse) -> Callable[[], Shape]:
    """A function that rises strictly between two limits that it does not take."""
    first = Edge(low) if isinstance(low, float) else Edge(low, 1)
    last = Edge(high) if isinstance(high, float) else Edge(high, -1)
    return lambda: Shape(first, (Piece(1, last, inverse),))


def _closed_form(number: Fraction, form: Callable[[Any, Any], Any], factor: Fraction = Fraction(1)) -> Real:
    """Return factor · form(number), by functions that mpmath computes to full precision."""
    extra = max(0, math.ceil(math.log2(abs(factor)))) if factor else 0

    def compute(context: Any, bits: int) -> Any:
        context.prec += extra
        return form(context, ratio(context, number)) * ratio(context, factor)

    return Real(compute)


def _logarithm(number: Fraction, factor: Fraction = Fraction(1)) -> Point:
    """Return factor · log(number), a rational only where it is 0 (Lindemann)."""
    return Fraction(0) if number == 1 else _closed_form(number, lambda m, x: m.log(x), factor)


def _softplus_inverse(target: Fraction) -> Real:
    # log(exp(t) - 1), without the difference of two large numbers.
    return _closed_form(target, lambda m, t: t + m.log(-m.expm1(-t)))


def _erf_inverse(target: Fraction) -> Point:
    """Where erf is ``target``; by its complement, which keeps its digits where erf is nearly 1."""
    if target == 0:
        return Fraction(0)
    if target > 0:
        return Root(lambda m, x: -m.erfc(x), target - 1, True, 0.0, 1)
    return Root(lambda m, x: m.erfc(-x), target + 1, True, 0.0, -1)


def _square_root(number: Fraction) -> Fraction | None:
    """Return an exact square root, None if it is irrational."""
    top, bottom = math.isqrt(number.numerator), math.isqrt(number.denominator)
    exact = top * top == number.numerator and bottom * bottom == number.denominator
    return Fraction(top, bottom) if exact else None


def _hard_swish() -> Shape:
    """Shape of x · clip(x/6 + 1/2, 0, 1): a parabola between -3 and 3, with its turning point at -3/2."""

    def branch(sign: int) -> Inverse:
        def inverse(target: Fraction) -> Point:
            inside = 9 + 24 * target
            root = _square_root(inside)
            if root is not None:
                return (sign * root - 3) / 2
            return _closed_form(inside, lambda m, s: (sign * m.sqrt(s) - 3) / 2)

        return inverse

    return Shape(
        Edge(Fraction(0)),
        (
            Piece(-1, Edge(Fraction(-3, 8)), branch(-1)),
            Piece(1, Edge(Fraction(3)), branch(1)),
            Piece(1, Edge(INFINITE), lambda target: target),
        ),
    )


def _elu(alpha: Fraction) -> Shape:
    """Shape of x where x ≥ 0, else alpha · (exp(x) - 1)."""
    ray = Piece(1, Edge(INFINITE), lambda target: target)
    if alpha == 0:
        return Shape(Edge(Fraction(0)), (ray,))
    direction = _sign(alpha)
    tail = Piece(direction, Edge(Fraction(0)), lambda target: _logarithm(1 + target / alpha))
    return Shape(Edge(-alpha, direction), (tail, ray))


def _valley(formula: formulas.Formula, slope: formulas.Formula) -> Callable[[], Shape]:
    """A function that comes from 0 at minus infinity, falls to one turning point, and rises for ever."""

    def make() -> Shape:
        bottom = Root(slope, Fraction(0), True, 0.0, -1)

        def least(context: Any, bits: int) -> Any:
            # The slope is 0 there: an error e of the place is one of e² · |f''| / 2 of the value.
            low, high = bottom.enclose(bits // 2 + 8)
            return formula(context, ratio(context, (low + high) / 2))

        def branch(away: int) -> Inverse:
            def inverse(target: Fraction) -> Point:
                return (
                    Fraction(0)
                    if target == 0
                    else Root(formula, target, away > 0, min(float(bottom), 0.0), away)
                )

            return inverse

        return Shape(
            Edge(Fraction(0), -1),
            (Piece(-1, Edge(Real(least)), branch(-1)), Piece(1, Edge(INFINITE), branch(1))),
        )

    return make


_HALF, _ONE = Fraction(1, 2), Fraction(1)
_SHAPES: dict[str, Callable[..., Shape]] = {
    "PiecewiseLinear": _piecewise_linear,
    "HardSwish": _hard_swish,
    "Elu": _elu,
    "Sigmoid": _rising(Fraction(0), _ONE, lambda t: _logarithm(t / (1 - t))),
    "Tanh": _rising(-_ONE, _ONE, lambda t: _logarithm((1 + t) / (1 - t), _HALF)),
    "Softsign": _rising(-_ONE, _ONE, lambda t: t / (1 - abs(t))),
    "Softplus": _rising(Fraction(0), INFINITE, _softplus_inverse),
    "Exp": _rising(Fraction(0), INFINITE, _logarithm),
    "Erf": _rising(-_ONE, _ONE, _erf_inverse),
    "Gelu": _valley(formulas.gelu, formulas.gelu_slope),
    "GeluTanh": _valley(formulas.gelu_tanh, formulas.gelu_tanh_slope),
    "Silu": _valley(formulas.silu, formulas.silu_slope),
    "Mish": _valley(formulas.mish, formulas.mish_slope),
    "Bipolar": lambda: Shape(
        Edge(-_ONE), (Piece(1, Edge(_ONE), lambda target: Fraction(0), jump=True, held=True),)
    ),
}
