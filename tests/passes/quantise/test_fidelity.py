"""The note on what integer weights lose."""

from __future__ import annotations

import numpy as np
import pytest

from snnc.passes.quantise.grids import WeightFormat, integer_grid
from snnc.passes.quantise.integer_weights import _fidelity


def exactly(w: np.ndarray, integers: np.ndarray, step: np.ndarray) -> float:
    wide = w.astype(np.longdouble)
    noise = ((integers * step.astype(np.longdouble) - wide) ** 2).sum()
    return float(10 * np.log10((wide**2).sum() / noise))


@pytest.mark.parametrize("scale", [1e-30, 1e-20, 1e-16, 0.02, 1e9, 1e25])
@pytest.mark.parametrize("form", ["int4", "int8", "int16", "wide"])
@pytest.mark.parametrize("rows", [1, 300])
def test_it_is_that_of_exact_numbers(scale: float, form: str, rows: int) -> None:
    rng = np.random.default_rng(0)
    w = (rng.standard_normal((300, 400)) * scale).astype(np.float32)
    divisor = np.exp2(rng.uniform(-6, 2, (rows, 1)))
    integers, step = integer_grid(w, (0,), WeightFormat(form), 15, powers_of_two=False, times=divisor)
    found = _fidelity(w, integers, step, divisor)
    assert found.startswith("signal to noise ")
    assert float(found.split()[3]) == pytest.approx(exactly(w, integers, step / divisor), abs=0.051)


def test_what_float32_cannot_tell_from_nothing_is_told() -> None:
    w = np.full((64, 64), 0.1, dtype=np.float32)
    one = np.ones((1, 1))
    assert _fidelity(w, np.ones((64, 64), np.int8), np.full((1, 64), 0.1), one) == "signal to noise 156.5 dB"
    step = np.full((1, 64), np.float64(np.float32(0.1)))
    assert _fidelity(w, np.ones((64, 64), np.int8), step, one) == "no error"
    assert _fidelity(np.zeros_like(w), np.ones((64, 64), np.int8), step, one) == "all zero"
