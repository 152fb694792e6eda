"""Rounded quotients are exact for numbers of every type that a constant may have."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from snnc.passes.analysis.exact import as_exact, rounded_quotients


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_near_ties_are_decided_by_rationals(dtype: type) -> None:
    """A step that is no power of two, and numbers at its half-multiples, which floats cannot decide."""
    step = as_exact(np.array([0.3]), 1)
    numbers = np.array([0.15, 0.45, -0.15, 0.75], dtype=dtype)
    found = rounded_quotients(numbers, step, Fraction(1, 2))
    wanted = [(2 * Fraction(float(number)) / step[0] + 1) // 2 for number in numbers]
    assert found is not None
    assert found.tolist() == wanted
