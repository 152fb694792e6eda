"""The oracle's functions: what float64 decides and what exact arithmetic decides are one code."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from snnc.coding import CodeBook
from snnc.runtimes import curves

#: Operator, attributes, other inputs.
FUNCTIONS: list[tuple[str, dict[str, Any], list[Any]]] = [
    *((name, {}, []) for name in sorted(set(curves.FUNCTIONS) - {"Clip", "PRelu", "Table", "Silu", "Swish"})),
    ("Gelu", {"approximate": "tanh"}, []),
    ("LeakyRelu", {"alpha": -0.25}, []),
    ("ThresholdedRelu", {"alpha": 0.5}, []),
    ("Clip", {"min": -0.5, "max": 1.5}, []),
    ("Clip", {}, [None, np.array(0.75, np.float32)]),
    ("PRelu", {}, [np.array([[0.25], [-0.5]], np.float32)]),
    ("Silu", {}, [np.array(1.5, np.float32)]),
    ("Swish", {"alpha": 0.5}, []),
    ("Table", {"smallest": -3}, [np.array(0.5), np.array([-2.0, 3.0, 0.0, 0.5, 0.5, 1.0, -1.0])]),
]


def exactly(number: Any) -> Any:
    return np.array([[Fraction(number)]], dtype=object)


@pytest.mark.parametrize(("name", "attrs", "others"), FUNCTIONS)
@pytest.mark.parametrize("gain", [1, Fraction(-5, 3)])
def test_exact_arithmetic_decides_as_float64_does(
    monkeypatch: pytest.MonkeyPatch, name: str, attrs: dict[str, Any], others: list[Any], gain: Any
) -> None:
    """With doubt everywhere exact arithmetic decides all places, else float64 those far from a tie."""
    function = curves.FUNCTIONS[name](attrs, others)
    integers = np.arange(-46, 46).reshape(2, 46)
    curve = curves.Curve(
        integers, exactly(Fraction(3, 37)), exactly(Fraction(1, 7)), np.atleast_2d(function), exactly(gain),
        exactly(Fraction(1, 11)),
    )  # fmt: skip
    book, step = CodeBook(4, 4, signed=True), exactly(Fraction(2, 13))
    found = curves.codes_of(curve, step, book, "away")
    assert len(np.unique(found)) > 1
    monkeypatch.setattr(curves, "_DOUBT", 1e6)
    assert np.array_equal(curves.codes_of(curve, step, book, "away"), found)


@pytest.mark.parametrize(
    ("ties", "codes"),
    [("away", [-3, -2, -2, -1, -1, 0, 1, 1, 2, 2, 3]), ("even", [-2, -2, -2, -1, 0, 0, 0, 1, 2, 2, 2])],
)
def test_values_half_way_between_two_codes(ties: Any, codes: list[int]) -> None:
    """Clip between bounds that nothing reaches gives u itself: halves are ties, decided by the rule."""
    wide = curves.FUNCTIONS["Clip"]({"min": -100.0, "max": 100.0}, [])
    integers = np.arange(-5, 6).reshape(1, 11)
    curve = curves.Curve(
        integers, exactly(Fraction(1, 2)), exactly(0), wide.reshape(1, 1), exactly(1), exactly(0)
    )
    book = CodeBook.uniform(-4, 4)
    assert curves.codes_of(curve, exactly(1), book, ties).reshape(-1).tolist() == codes


def test_exponentials_beyond_all_numbers() -> None:
    """A masked score of -3e38, times a step, has an exponential with 10^38 digits: it is zero."""
    function = curves.FUNCTIONS["Exp"]({}, [])
    integers = np.array([[-3, -1, 0]])
    curve = curves.Curve(
        integers, exactly(10**38), exactly(0), function.reshape(1, 1), exactly(1), exactly(0)
    )
    found = curves.codes_of(curve, exactly(Fraction(1, 2)), CodeBook.uniform(0, 255), "away")
    assert found.reshape(-1).tolist() == [0, 0, 2]
