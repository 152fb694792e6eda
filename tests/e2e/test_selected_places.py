"""One place of each sample, chosen by the host: the last token, the end of a text."""

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
HEAD = """g (int64[N, 6] ids, int64[N, 6] open) => (float[N, K] y)
<float[20, 8] words = {RANDOM}, float[8, 8] w = {RANDOM}, float[8, 5] v = {RANDOM}, int64[1] last = {-1},
 float[8] bias = {RANDOM}, int64 zero = {0}, int64 one = {1}, int64 six = {6}, int64[1] tokens = {1},
 int64[2] behind = {1, 2}, int64[2] rows = {-1, 8}, int64[3] wide = {1, 1, 8}> {
  x0 = Gather<axis = 0>(words, ids)
  x1 = MatMul(x0, w)
  x2 = Add(x1, bias)
  x = Tanh(x2)
  n = Shape<start = 0, end = 1>(ids)
  n0 = Squeeze(n)
  numbers = Range(zero, n0, one)
  count = ReduceSum<keepdims = 0>(open, tokens)
  end = Sub(count, one)
  top = ArgMax<axis = 1, keepdims = 0>(ids)
"""
PAIR = "a = Unsqueeze(numbers, last) "
#: How exporters take one token of each sample: h [N, 8], or y at once.
FORMS = {
    "pairs": PAIR + "b = Unsqueeze(top, last) p = Concat<axis = -1>(a, b) h = GatherND(x, p) y ="
    " MatMul(h, v)",
    "from the end": PAIR + "k = Sub(zero, count) b = Unsqueeze(k, last) p = Concat<axis = -1>(a, b)"
    " h = GatherND(x, p) y = MatMul(h, v)",
    "behind a layer": PAIR + "b = Unsqueeze(end, last) p = Concat<axis = -1>(a, b) z = MatMul(x, v)"
    " y = GatherND(z, p)",
    "batch dimension": "b = Unsqueeze(end, last) h = GatherND<batch_dims = 1>(x, b) y = MatMul(h, v)",
    "rows": "f = Reshape(x, rows) o = Mul(numbers, six) p = Add(end, o) h = Gather<axis = 0>(f, p)"
    " y = MatMul(h, v)",
    "elements": "b = Unsqueeze(end, behind) e = Expand(b, wide) h3 = GatherElements<axis = 1>(x, e)"
    " h = Squeeze(h3, tokens) y = MatMul(h, v)",
}


def samples(count: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(count)
    lengths = rng.integers(1, 7, (count, 1))
    return {"ids": rng.integers(0, 20, (count, 6)), "open": (np.arange(6) < lengths).astype(np.int64)}


@pytest.mark.parametrize("form", FORMS)
def test_one_place_of_each_sample(network: Callable[..., Path], tmp_path: Path, form: str) -> None:
    source = network(HEAD + FORMS[form] + " }")
    np.savez(tmp_path / "x.npz", **samples(32))
    conversion = convert(source, ConvertOptions(8, 8, calibrate=str(tmp_path / "x.npz")))
    report = verify(source, conversion.model, samples(6), runtimes=RUNTIMES)
    assert report.identical, report.first_mismatch()
    assert report.distances[0].decibel is not None
    assert report.distances[0].decibel > 30
    assert audit(conversion.model).clean


def test_places_of_the_network_itself_are_refused(network: Callable[..., Path], tmp_path: Path) -> None:
    body = PAIR + "m = ReduceMean<axes = [2], keepdims = 0>(x) i = ArgMax<axis = 1, keepdims = 0>(m)"
    body += " b = Unsqueeze(i, last) p = Concat<axis = -1>(a, b) h = GatherND(x, p) y = MatMul(h, v)"
    np.savez(tmp_path / "x.npz", **samples(32))
    with pytest.raises(UnsupportedError, match="n_h"):
        convert(network(HEAD + body + " }"), ConvertOptions(8, 8, calibrate=str(tmp_path / "x.npz")))
