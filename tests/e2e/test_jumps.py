"""Functions of one value that jump or choose: a table of its code holds them."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from snnc.compile import ConvertOptions, choices_of_file, convert
from snnc.cost.audit import audit
from snnc.debug.verify import verify
from snnc.errors import InputError, UnsupportedError
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


#: Functions that jump at an end of what they read, where a code has a level on the other side.
ENDS = {
    "sign of a softmax": "b = Softmax(a) r = Sign(b)",
    "threshold at a clip": "b = Clip(a, low, one) t = ThresholdedRelu(b) r = Add(t, t)",
    "less than a clip": "b = Clip(a, low, high) m = Less(b, high) r = Where(m, b, five)",
    "equal to a clip": "b = Clip(a, low, high) m = Equal(b, high) r = Where(m, five, b)",
    "equal to its other end": "b = Clip(a, low, high) m = Equal(b, low) r = Where(m, five, b)",
    "between both ends": (
        "b = Clip(a, low, high) m = Greater(b, low) n = Less(b, high) o = And(m, n) r = Cast<to = 1>(o)"
    ),
}


@pytest.mark.parametrize("body", ENDS.values(), ids=ENDS)
def test_no_level_is_on_the_wrong_side_of_a_jump_at_an_end(network: Callable[..., Path], body: str) -> None:
    numbers = "float low = {-1}, float high = {0.7}, float one = {1}, float five = {5}, "
    source = network(HEAD.replace("float c =", numbers + "float c =") + body + " y = MatMul(r, v) }")
    data, fresh = (
        np.random.default_rng(seed).standard_normal((64, 12)).astype(np.float32) for seed in (0, 1)
    )
    conversion = convert(source, ConvertOptions(8, 8), calibration=data)
    # What levels are read as is recorded: the quantised network is made again from the file.
    report = verify(source, conversion.model, {"x": fresh}, runtimes=RUNTIMES)
    assert report.identical, report.first_mismatch()
    (distance,) = report.distances
    assert (distance.decibel or 0.0) > 30 if distance.signal else distance.largest_error == 0


def test_what_levels_are_read_as_is_checked(network: Callable[..., Path]) -> None:
    source = network(HEAD + "b = Softmax(a) r = Sign(b) y = MatMul(r, v) }")
    data = np.random.default_rng(0).standard_normal((64, 12)).astype(np.float32)
    model = convert(source, ConvertOptions(8, 8), calibration=data).model
    recorded = json.loads(model.metadata_props["snnc.quantisers"])
    assert [name for name, entry in recorded.items() if "levels" in entry] == ["b"]
    held = recorded["b"]["levels"]
    for bad in (held[:-8], base64.b64encode(np.full(256, np.nan, "<f4").tobytes()).decode(), "?", 3):
        recorded["b"]["levels"] = bad
        model.metadata_props["snnc.quantisers"] = json.dumps(recorded)
        with pytest.raises(InputError, match="SNN305"):
            choices_of_file(model)


def test_a_choice_between_two_values_stays_refused(network: Callable[..., Path]) -> None:
    source = network(HEAD + "b = MatMul(x, w) m = Greater(a, b) r = Where(m, a, nought) y = MatMul(r, v) }")
    data = np.random.default_rng(0).standard_normal((8, 12)).astype(np.float32)
    with pytest.raises(UnsupportedError, match="Where"):
        convert(source, ConvertOptions(), calibration=data)
