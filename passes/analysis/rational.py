"""Rational numbers that are cheap to combine: `Fraction` without the dispatch on operand types."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from math import gcd
from typing import Any

__all__ = ["Rational", "rationals"]

_new = object.__new__


def _make(numerator: int, denominator: int) -> Rational:
    """Return a number given in lowest terms, the denominator positive."""
    made: Any = _new(Rational)
    made._numerator, made._denominator = numerator, denominator
    return made  # type: ignore[no-any-return]


def rationals(numbers: Iterable[Fraction | float]) -> list[Rational]:
    """Return integers, finite floats or Fractions as Rationals; quicker than one at a time.

    Raises:
        OverflowError, ValueError: One of them is infinite or NaN.
    """
    found: list[Rational] = []
    for number in numbers:
        made: Any = _new(Rational)
        made._numerator, made._denominator = number.as_integer_ratio()
        found.append(made)
    return found


class Rational(Fraction):
    """A `Fraction` whose arithmetic takes a quarter of the time, and whose results are of its own kind.

    Exact steps and biases are combined by the hundred thousand. A number is equal to, and hashes as, the
    Fraction of the same value; with a float it behaves as a Fraction does.
    """

    __slots__ = ()
    # The slots of Fraction, under the names that they have there.
    _numerator: int
    _denominator: int

    @staticmethod
    def of(number: Fraction | float) -> Rational:
        """Return an integer, a finite float (its exact value) or a Fraction as a Rational.

        Raises:
            OverflowError, ValueError: It is infinite or NaN.
        """
        if type(number) is Rational:
            return number
        return _make(*number.as_integer_ratio())

    def __mul__(self, other: Any) -> Any:
        """Return the product."""
        if type(other) is not Rational:
            if not isinstance(other, int | Fraction):
                return Fraction.__mul__(self, other)
            other = Rational.of(other)
        na, da, nb, db = self._numerator, self._denominator, other._numerator, other._denominator
        g = gcd(na, db)
        if g > 1:
            na, db = na // g, db // g
        g = gcd(nb, da)
        if g > 1:
            nb, da = nb // g, da // g
        return _make(na * nb, da * db)

    def __truediv__(self, other: Any) -> Any:
        """Return the quotient."""
        if type(other) is not Rational:
            if not isinstance(other, int | Fraction):
                return Fraction.__truediv__(self, other)
            other = Rational.of(other)
        if not other._numerator:
            raise ZeroDivisionError(f"{self} / 0")
        na, da, nb, db = self._numerator, self._denominator, other._numerator, other._denominator
        g = gcd(na, nb)
        if g > 1:
            na, nb = na // g, nb // g
        g = gcd(db, da)
        if g > 1:
            db, da = db // g, da // g
        return _make(na * db, nb * da) if nb > 0 else _make(-na * db, -nb * da)

    def __add__(self, other: Any) -> Any:
        """Return the sum."""
        if type(other) is not Rational:
            if not isinstance(other, int | Fraction):
                return Fraction.__add__(self, other)
            other = Rational.of(other)
        return _sum(self._numerator, self._denominator, other._numerator, other._denominator)

    def __sub__(self, other: Any) -> Any:
        """Return the difference."""
        if type(other) is not Rational:
            if not isinstance(other, int | Fraction):
                return Fraction.__sub__(self, other)
            other = Rational.of(other)
        return _sum(self._numerator, self._denominator, -other._numerator, other._denominator)

    def __radd__(self, other: Any) -> Any:
        """Return the sum."""
        return self + other if isinstance(other, int | Fraction) else Fraction.__radd__(self, other)

    def __rmul__(self, other: Any) -> Any:
        """Return the product."""
        return self * other if isinstance(other, int | Fraction) else Fraction.__rmul__(self, other)

    def __rsub__(self, other: Any) -> Any:
        """Return the difference."""
        if isinstance(other, int | Fraction):
            return Rational.of(other) - self
        return Fraction.__rsub__(self, other)

    def __rtruediv__(self, other: Any) -> Any:
        """Return the quotient."""
        if isinstance(other, int | Fraction):
            return Rational.of(other) / self
        return Fraction.__rtruediv__(self, other)

    def __neg__(self) -> Rational:
        """Return the number with the other sign."""
        return _make(-self._numerator, self._denominator)

    def __abs__(self) -> Rational:
        """Return the magnitude."""
        return _make(abs(self._numerator), self._denominator)

    def __eq__(self, other: object) -> bool:
        """Return whether two numbers are equal."""
        if type(other) is not Rational:
            return Fraction.__eq__(self, other)
        return self._numerator == other._numerator and self._denominator == other._denominator

    __hash__ = Fraction.__hash__

    def __lt__(self, other: Any) -> bool:
        """Return whether the number is smaller."""
        if type(other) is not Rational:
            if type(other) is int:
                return self._numerator < other * self._denominator
            return Fraction.__lt__(self, other)
        return self._numerator * other._denominator < other._numerator * self._denominator

    def __le__(self, other: Any) -> bool:
        """Return whether the number is not larger."""
        if type(other) is not Rational:
            if type(other) is int:
                return self._numerator <= other * self._denominator
            return Fraction.__le__(self, other)
        return self._numerator * other._denominator <= other._numerator * self._denominator

    def __gt__(self, other: Any) -> bool:
        """Return whether the number is larger."""
        if type(other) is not Rational:
            if type(other) is int:
                return self._numerator > other * self._denominator
            return Fraction.__gt__(self, other)
        return self._numerator * other._denominator > other._numerator * self._denominator

    def __ge__(self, other: Any) -> bool:
        """Return whether the number is not smaller."""
        if type(other) is not Rational:
            if type(other) is int:
                return self._numerator >= other * self._denominator
            return Fraction.__ge__(self, other)
        return self._numerator * other._denominator >= other._numerator * self._denominator

    def __bool__(self) -> bool:
        """Return whether the number is not zero."""
        return bool(self._numerator)

    def __float__(self) -> float:
        """Return the nearest float."""
        return self._numerator / self._denominator

    def as_integer_ratio(self) -> tuple[int, int]:
        """Return numerator and denominator."""
        return self._numerator, self._denominator


def _sum(na: int, da: int, nb: int, db: int) -> Rational:
    if da == db == 1:
        return _make(na + nb, 1)
    g = gcd(da, db)
    if g == 1:
        return _make(na * db + nb * da, da * db)
    part = da // g
    top = na * (db // g) + nb * part
    h = gcd(top, g)
    return _make(top, part * db) if h == 1 else _make(top // h, part * (db // h))
