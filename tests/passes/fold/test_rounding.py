"""Rounding in float64: the right integer wherever it is not said to be in doubt, and little doubt."""

from __future__ import annotations

from fractions import Fraction
from math import isnan

import numpy as np
import pytest

from snnc.passes.fold.rounding import FAR, float_column, float_quotient, rounded_up
from snnc.passes.fold.thresholds import integer_threshold

POINTS = [-1001, -3, -1, 1, 7, 12345]
#: None of the quotients is near an integer; the large ones are beyond every potential.
LINES = [(0.3, 0.44), (7.7, 0.25), (1e6, 0.5), (2.0**-150, 0.5), (2.0**150, 0.5), (0.3, 2.0**150)]


@pytest.mark.parametrize("closed", [True, False])
@pytest.mark.parametrize(("slope", "offset"), LINES)
def test_what_float64_decides_is_not_in_doubt(slope: float, offset: float, closed: bool) -> None:
    """Exact rationals are a hundred times slower: only what is next to an integer is left to them."""
    found, doubtful = rounded_up(
        np.array([POINTS]), np.array([[slope]]), np.array([[offset]]), np.array([[closed] * len(POINTS)])
    )
    assert doubtful == []
    for point, result in zip(POINTS, found[0].tolist(), strict=True):
        exactly = integer_threshold(point * Fraction(slope), Fraction(1), Fraction(offset), closed=closed)
        assert result == min(max(exactly, -FAR), FAR)


@pytest.mark.parametrize("size", [2.0**-30, 1.0, 2.0**30])
@pytest.mark.parametrize("nudge", [-2, -1, 0, 1, 2])
def test_what_is_next_to_an_integer_is_in_doubt(size: float, nudge: int) -> None:
    """3 · slope - offset is 5 or off it by units in the last place of its larger term."""
    slope = (5.0 + size) / 3
    offset = size + nudge * float(np.spacing(5.0 + size))
    for closed in (True, False):
        _, doubtful = rounded_up(
            np.array([[1, 3]]),
            np.array([[0.3], [slope]]),
            np.array([[0.2], [offset]]),
            np.array([[closed] * 2]),
        )
        assert (1, 1) in doubtful and not {(0, 0), (0, 1)} & set(doubtful)


@pytest.mark.parametrize(
    ("slope", "offset"), [(np.nan, 0.5), (np.inf, 0.5), (0.3, np.nan), (0.3, -np.inf), (2.0**300, 2.0**300)]
)
def test_what_float64_does_not_hold_is_in_doubt(slope: float, offset: float) -> None:
    _, doubtful = rounded_up(np.array([[1]]), np.array([[slope]]), np.array([[offset]]), np.array([[True]]))
    assert doubtful == [(0, 0)]


def test_columns_of_full_precision() -> None:
    """What float64 has no number of full precision for is NaN, and spoils no other row; zero is zero."""
    numbers = [Fraction(1, 3), Fraction(0), Fraction(1, 2**1000), -Fraction(1, 2**1070), Fraction(-2, 7)]
    for column in (numbers, [*numbers, Fraction(2) ** 1030]):
        found = float_column(column)
        assert found.shape == (len(column), 1) and found.dtype == np.float64
        assert found[[0, 1, 4], 0].tolist() == [1 / 3, 0.0, -2 / 7]
        assert all(isnan(number) for number in [*found[2:4, 0], *found[5:, 0]])


def test_quotients_of_columns() -> None:
    above, below = (
        float_column([Fraction(6), Fraction(1), Fraction(0)]),
        float_column([Fraction(3), Fraction(0), Fraction(5)]),
    )
    assert float_quotient(above, below).ravel().tolist() == [2.0, 0.0, 0.0]
