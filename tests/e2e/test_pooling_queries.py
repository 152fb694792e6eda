"""Attention whose query is a learned constant, repeated for every sample: pooling by attention."""

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
NETWORK = """g (float[N, 6, 8] x) => (float[N, 1, 5] y)
<float[8, 8] wi = {RANDOM}, float[1, 1, 8] latent = {RANDOM}, float[8, 8] wq = {RANDOM},
 float[8] bq = {RANDOM}, float scale = {0.2}, float[8, 8] wk = {RANDOM},
 float[8, 8] wv = {RANDOM}, float[8, 5] wo = {RANDOM},
 int64 zero = {0}, int64[1] first = {0}, int64[2] rest = {1, 8}> {
  h = MatMul(x, wi) s = Shape(h) b = Gather<axis = 0>(s, zero) b1 = Unsqueeze(b, first)
  t = Concat<axis = 0>(b1, rest) l = Expand(latent, t)
  QUERY
  k0 = MatMul(h, wk) k = Transpose<perm = [0, 2, 1]>(k0) v = MatMul(h, wv)
  r0 = MatMul(q, k) r = Mul(r0, scale) p = Softmax<axis = -1>(r) o = MatMul(p, v) y = MatMul(o, wo)
}"""


@pytest.mark.parametrize("query", ["q0 = MatMul(l, wq) q = Add(q0, bq)", "q = Identity(l)"])
def test_a_learned_query(network: Callable[..., Path], tmp_path: Path, query: str) -> None:
    source = network(NETWORK.replace("QUERY", query))
    rng = np.random.default_rng(0)
    np.save(tmp_path / "x.npy", rng.standard_normal((32, 6, 8)).astype(np.float32))
    conversion = convert(source, ConvertOptions(8, 8, calibrate=str(tmp_path / "x.npy")))
    data = {"x": rng.standard_normal((5, 6, 8)).astype(np.float32)}
    report = verify(source, conversion.model, data, runtimes=RUNTIMES)
    assert report.identical, report.first_mismatch()
    assert report.distances[0].decibel is not None
    assert report.distances[0].decibel > 10
    assert audit(conversion.model).clean
