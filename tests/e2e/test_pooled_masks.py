"""Sums, means and maxima over the open places of a mask, as sentence embeddings and encoders have them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from snnc.compile import ConvertOptions, convert
from snnc.cost.audit import audit
from snnc.debug.verify import verify
from snnc.runtimes import NumpyPacked, NumpyTimestep, OnnxRuntime

RUNTIMES = {"numpy": NumpyPacked, "numpy-timestep": NumpyTimestep, "onnxruntime": OnnxRuntime}
HEAD = """g (int64[N, 6] ids, int64[N, 6] open) => (float[N, K] y)
<float[20, 8] words = {RANDOM}, float[8, 8] w = {RANDOM}, float[8, 5] v = {RANDOM}, int64[1] last = {-1},
 int64[1] tokens = {1}, float tiny = {0.000000001}, float zero = {0}, int64[1] first = {0}> {
  x0 = Gather<axis = 0>(words, ids)
  x1 = MatMul(x0, w)
  x = Tanh(x1)
  f = Cast<to = 1>(open)
  u = Unsqueeze(f, last)
"""
#: What sentence-transformers and others write: h [N, 8] from x [N, 6, 8] and the mask.
FORMS = {
    "expanded": "s = Shape(x) e = Expand(u, s) p = Mul(x, e) t = ReduceSum<keepdims = 0>(p, tokens)"
    " n = ReduceSum<keepdims = 0>(e, tokens) c = Clip(n, tiny) h = Div(t, c)",
    "narrow": "p = Mul(u, x) t = ReduceSum<keepdims = 0>(p, tokens) n = ReduceSum<keepdims = 1>(f, tokens)"
    " h = Div(t, n)",
    "integers": "p = Mul(x, u) t = ReduceSum<keepdims = 0>(p, tokens) i"
    " = ReduceSum<keepdims = 0>(open, tokens) j = Cast<to = 1>(i) n = Unsqueeze(j, last) c = Add(n, tiny)"
    " h = Div(t, c)",
    "where": "b = Cast<to = 9>(open) d = Unsqueeze(b, last) p = Where(d, x, zero)"
    " t = ReduceSum<keepdims = 0>(p, tokens) n = ReduceSum<keepdims = 0>(u, tokens) c = Max(n, tiny)"
    " h = Div(t, c)",
    "where-not": "b = Cast<to = 9>(open) d = Unsqueeze(b, last) o = Not(d) p = Where(o, zero, x)"
    " t = ReduceSum<keepdims = 0>(p, tokens) n = ReduceSum<keepdims = 0>(u, tokens) h = Div(t, n)",
    "sum": "p = Mul(x, u) h = ReduceSum<keepdims = 0>(p, tokens)",
    "taken": "p = Mul(x, u) q = Slice(p, tokens, last, tokens) h = ReduceMean<axes = [1], keepdims = 0>(q)",
}


def samples(count: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(count)
    lengths = rng.integers(1, 7, (count, 1))
    return {"ids": rng.integers(0, 20, (count, 6)), "open": (np.arange(6) < lengths).astype(np.int64)}


@pytest.mark.parametrize("form", FORMS)
def test_pooled_tokens(network: Callable[..., Path], tmp_path: Path, form: str) -> None:
    source = network(HEAD + FORMS[form] + " y = MatMul(h, v) }", opset=17)
    np.savez(tmp_path / "x.npz", **samples(40))
    conversion = convert(source, ConvertOptions(8, 8, calibrate=str(tmp_path / "x.npz")))
    report = verify(source, conversion.model, samples(6), runtimes=RUNTIMES)
    assert report.identical, report.first_mismatch()
    assert report.distances[0].decibel is not None
    assert report.distances[0].decibel > 30
    assert audit(conversion.model).clean


def test_a_sentence_without_a_token_is_zero(network: Callable[..., Path], tmp_path: Path) -> None:
    source = network(HEAD + FORMS["expanded"] + " y = MatMul(h, v) }")
    np.savez(tmp_path / "x.npz", **samples(40))
    conversion = convert(source, ConvertOptions(8, 8, calibrate=str(tmp_path / "x.npz")))
    closed = {**samples(2), "open": np.zeros((2, 6), dtype=np.int64)}
    assert not NumpyPacked(conversion.model).run(closed)["y"].any()


def test_a_factor_that_is_no_mask_is_coded(network: Callable[..., Path], tmp_path: Path) -> None:
    more = "one = Constant<value = float {1}>() m = Add(u, one) p = Mul(x, m) "
    source = network(HEAD + more + "h = ReduceSum<keepdims = 0>(p, tokens) y = MatMul(h, v) }")
    np.savez(tmp_path / "x.npz", **samples(40))
    conversion = convert(source, ConvertOptions(8, 8, calibrate=str(tmp_path / "x.npz")))
    report = verify(source, conversion.model, samples(6), runtimes=RUNTIMES)
    assert report.identical, report.first_mismatch()
    assert report.distances[0].decibel is not None
    assert report.distances[0].decibel > 30


def test_a_masked_mean_behind_an_encoded_input(network: Callable[..., Path], tmp_path: Path) -> None:
    """The mask opens gates as it does elsewhere: it is no input to be encoded."""
    text = """g (float[N, 6, 4] x, int64[N, 6] open) => (float[N, K] y)
    <float[4, 8] w = {RANDOM}, float[8, 5] v = {RANDOM}, int64[1] last = {-1}, int64[1] tokens = {1},
     float tiny = {0.000000001}> {
      p0 = MatMul(x, w) f = Cast<to = 1>(open) u = Unsqueeze(f, last) p = Mul(p0, u)
      t = ReduceSum<keepdims = 0>(p, tokens) n = ReduceSum<keepdims = 0>(u, tokens) c = Clip(n, tiny)
      h = Div(t, c) y = MatMul(h, v) }"""
    source = network(text, opset=17)
    feeds = {name: array for name, array in samples(40).items() if name == "open"}
    feeds["x"] = np.random.default_rng(0).standard_normal((40, 6, 4)).astype(np.float32)
    conversion = convert(source, ConvertOptions(8, 8, encode_input=True), calibration=feeds)
    few = {name: array[:6] for name, array in feeds.items()}
    report = verify(source, conversion.model, few, runtimes=RUNTIMES)
    assert report.identical, report.first_mismatch()
    assert report.distances[0].decibel is not None and report.distances[0].decibel > 25
    assert audit(conversion.model).clean
