"""Rationals behave as Fractions do, whatever they meet."""

import operator
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from snnc.passes.analysis.rational import Rational

NUMBERS = st.one_of(
    st.fractions(max_denominator=2**70),
    st.integers(-(2**80), 2**80),
    st.floats(allow_nan=False, allow_infinity=False, width=32).map(Fraction),
)
OPERATORS = [operator.add, operator.sub, operator.mul, operator.truediv]
COMPARISONS = [operator.eq, operator.ne, operator.lt, operator.le, operator.gt, operator.ge]


def outcome(operation, left, right):
    try:
        return operation(left, right)
    except ZeroDivisionError:
        return ZeroDivisionError


@given(NUMBERS, NUMBERS)
def test_arithmetic_and_order_are_those_of_fractions(left: Fraction, right: Fraction) -> None:
    one, two = Rational.of(left), Rational.of(right)
    for operation in OPERATORS:
        wanted = outcome(operation, Fraction(left), Fraction(right))
        for pair in ((one, two), (one, right), (left, two)):
            found = outcome(operation, *pair)
            assert found == wanted
            if isinstance(wanted, Fraction):
                assert type(found) is Rational
                assert (found.numerator, found.denominator) == (wanted.numerator, wanted.denominator)
    for operation in COMPARISONS:
        for pair in ((one, two), (one, right), (left, two)):
            assert operation(*pair) == operation(left, right)


@given(NUMBERS)
def test_single_numbers_are_those_of_fractions(value: Fraction) -> None:
    number, same = Rational.of(value), Fraction(value)
    assert hash(number) == hash(same) and bool(number) == bool(same) and float(number) == float(same)
    assert (
        -number == -same and abs(number) == abs(same) and number.as_integer_ratio() == same.as_integer_ratio()
    )
    assert type(-number) is type(abs(number)) is Rational and round(number) == round(same)
    assert number // 1 == same // 1 and number**2 == same**2


def test_floats_are_taken_exactly_and_mixed_as_fractions_are() -> None:
    assert Rational.of(0.1) == Fraction(0.1)
    assert Rational.of(1.5) + 0.25 == 1.75 and isinstance(Rational.of(1.5) * 0.5, float)
    assert 0.25 - Rational.of(1.5) == -1.25 and Rational.of(3) / 2.0 == 1.5 and 3.0 / Rational.of(2) == 1.5
    with pytest.raises(ValueError, match="NaN"):
        Rational.of(float("nan"))
