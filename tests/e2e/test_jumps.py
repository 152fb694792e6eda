"""Functions of one value that jump or choose: a table of its code holds them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from snnc.compile import ConvertOptions, convert
from snnc.cost.audit import audit
from snnc.debug.verify import verify
from snnc.errors import UnsupportedError
from snnc.runtimes import NumpyPacked, NumpyTimestep, OnnxRuntime

RUNTIMES = {"numpy": NumpyPacked, "numpy-timestep": NumpyTimestep, "onnxruntime": OnnxRuntime}
HEAD = """g (float[N, 12] x) => (float[N, 4] y) <float[12, 24] w = {RANDOM}, float[24, 4] v = {RANDOM},
  float c = {0.3}, float d = {-0.3}, float four = {4}, float tenth = {0.1}, float nought = {0},
  float[24] k = {RANDOM}, float[24] l = {RANDOM}> {
    a = MatMul(x, w) """
#: What is written, and the least decibel: jumps between few levels lose most.
FUNCTIONS = {
    "hardshrink": ("m = Greater(a, c) n = Less(a, d) o = Or(m, n) r = Where(o, a, nought)", 20),
    "softshrink": ("r = Shrink<lambd = 0.3, bias = 0.3>(a)", 25),
    "threshold": ("m = Greater(a, c) r = Where(m, a, tenth)", 20),
    "choice of functions": (
        "m = Greater(a, c) p = Clip(a, tenth) s = Sqrt(p) t = Mul(a, four) r = Where(m, s, t)",
        20,
    ),
    "sign": ("r = Sign(a)", 12),
    "rounded": ("s = Mul(a, four) t = Round(s) r = Div(t, four)", 15),
    "rounded down": ("s = Mul(a, four) t = Floor(s) r = Div(t, four)", 15),
    "rounded up": ("r = Ceil(a)", 15),
    "truth values as floats": ("m = Greater(a, c) n = Less(a, d) o = Or(m, n) r = Cast<to = 1>(o)", 12),
    "a constant of each channel": ("m = Greater(a, c) r = Where(m, a, k)", 15),
    "a constant of each channel first": ("m = Less(a, c) t = Tanh(a) r = Where(m, k, t)", 15),
    "a number or a constant of each channel": ("m = Less(a, c) r = Where(m, k, tenth)", 15),
    "constants of each channel": ("m = Less(a, c) r = Where(m, k, l)", 15),
    "function of a product of functions": ("p = Cos(a) e = Exp(p) q = Mul(p, e) r = Exp(q)", 25),
    "choice, read elsewhere too": ("m = Greater(a, c) s = Sin(a) q = Where(m, s, a) r = Add(q, s)", 25),
}


@pytest.mark.parametrize(("body", "least"), FUNCTIONS.values(), ids=FUNCTIONS)
def test_functions(network: Callable[..., Path], body: str, least: float) -> None:
    source = network(HEAD + body + " y = MatMul(r, v) }")
    data = np.random.default_rng(0).standard_normal((64, 12)).astype(np.float32) / 3
    conversion = convert(source, ConvertOptions(8, 8), calibration=data)
    report = verify(source, conversion.model, {"x": data[:16]}, runtimes=RUNTIMES)
    assert report.identical, report.first_mismatch()
    assert report.distances[0].decibel is not None
    assert report.distances[0].decibel > least
    assert audit(conversion.model).clean


def test_a_choice_between_two_values_stays_refused(network: Callable[..., Path]) -> None:
    source = network(HEAD + "b = MatMul(x, w) m = Greater(a, b) r = Where(m, a, nought) y = MatMul(r, v) }")
    data = np.random.default_rng(0).standard_normal((8, 12)).astype(np.float32)
    with pytest.raises(UnsupportedError, match="Where"):
        convert(source, ConvertOptions(), calibration=data)
