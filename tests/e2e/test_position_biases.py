"""Position biases of attention that exporters mix with masks, and heads that are merged with the batch."""

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
HEAD = """g (int64[N, 6] ids, int64[N, 6] open) => (float[N, 6, 5] y)
<float[20, 8] words = {RANDOM}, float[8, 8] wq = {RANDOM}, float[8, 8] wk = {RANDOM},
 float[8, 8] wv = {RANDOM}, float[8] bias = {RANDOM}, float[8, 5] wo = {RANDOM}, float[1, 2, 6, 6] relative
      = {RANDOM},
 int64[4] apart = {0, 0, 2, 4}, int64[3] merged = {-1, 6, 4}, int64[4] again = {-1, 2, 6, 6},
 int64[4] split = {-1, 2, 6, 4}, int64[3] joined = {0, 0, 8}, int64[2] axes = {1, 2}, int64 one = {1},
 int64[1] rows = {1}, float[2, 1] slopes = {-0.0625, -0.25}, float zero = {0}, float closed = {-3.4e38}> {
  x = Gather<axis = 0>(words, ids)
  q0 = MatMul(x, wq)
  q1 = Reshape(q0, apart)
  q = Transpose<perm = [0, 2, 1, 3]>(q1)
  k0 = MatMul(x, wk)
  k1 = Reshape(k0, apart)
  k = Transpose<perm = [0, 2, 3, 1]>(k1)
  v0 = MatMul(x, wv)
  v1 = Add(v0, bias)
  v2 = Reshape(v1, apart)
  v = Transpose<perm = [0, 2, 1, 3]>(v2)
  raw = MatMul(q, k)
  b = Cast<to = 9>(open)
  u = Unsqueeze(b, axes)
"""
TAIL = """ p = Softmax<axis = -1>(s)
  z0 = MatMul(p, v) z1 = Transpose<perm = [0, 2, 1, 3]>(z0) z = Reshape(z1, joined) y = MatMul(z, wo) }"""
#: From `raw` [N, 2, 6, 6] and the mask `u` [N, 1, 1, 6] to the scores.
FORMS = {
    "added": "m = Where(u, zero, closed) r = Add(relative, m) s = Add(raw, r)",
    "chosen": "r = Where(u, relative, closed) s = Add(raw, r)",
    "alibi": "c = CumSum(open, one) d = Sub(c, one) e = Mul(d, open) f = Cast<to = 1>(e)"
    " h = Unsqueeze(f, rows) a0 = Mul(slopes, h) a = Unsqueeze(a0, axis) t = Add(raw, a) m = Where(u,"
    " zero, closed)"
    " s = Add(t, m)",
    "alibi-mask": "c = CumSum(open, one) f = Cast<to = 1>(c) h = Unsqueeze(f, rows) a0 = Mul(h, slopes)"
    " a = Unsqueeze(a0, axis) m = Where(u, zero, closed) r = Add(m, a) s = Add(raw, r)",
}


def samples(count: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(count)
    lengths = rng.integers(1, 7, (count, 1))
    return {"ids": rng.integers(0, 20, (count, 6)), "open": (np.arange(6) < lengths).astype(np.int64)}


def near(source: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", **samples(24))
    conversion = convert(source, ConvertOptions(8, 8, calibrate=str(tmp_path / "x.npz")))
    report = verify(source, conversion.model, samples(5), runtimes=RUNTIMES)
    assert report.identical, report.first_mismatch()
    assert report.distances[0].decibel is not None
    assert report.distances[0].decibel > 30
    assert audit(conversion.model).clean


@pytest.mark.parametrize("form", FORMS)
def test_a_bias_beside_a_mask(network: Callable[..., Path], tmp_path: Path, form: str) -> None:
    head = HEAD.replace("int64 one", "int64[1] axis = {2}, int64 one")
    near(network(head + FORMS[form] + TAIL), tmp_path)


def test_heads_merged_with_the_batch(network: Callable[..., Path], tmp_path: Path) -> None:
    body = """ q3 = Reshape(q, merged) k3 = Transpose<perm = [0, 1, 3, 2]>(k) k4 = Reshape(k3, merged)
      k5 = Transpose<perm = [0, 2, 1]>(k4) v3 = Reshape(v, merged) r = MatMul(q3, k5) r4 = Reshape(r, again)
      m = Where(u, zero, closed) s = Add(r4, m) p = Softmax<axis = -1>(s)
      w = Constant<value = int64[3] {-1, 6, 6}>() p3 = Reshape(p, w) z2 = MatMul(p3, v3)
      z0 = Reshape(z2, split) z1 = Transpose<perm = [0, 2, 1, 3]>(z0) z = Reshape(z1, joined) y = MatMul(z,
      wo) }"""
    near(network(HEAD + body), tmp_path)


def test_a_summand_that_may_mask_and_may_not_is_refused(network: Callable[..., Path], tmp_path: Path) -> None:
    body = "f = Cast<to = 1>(open) g0 = Unsqueeze(f, axes) big = Constant<value = float {-1500}>() "
    body += "g1 = CumSum(g0, one) r = Mul(g1, big) s = Add(raw, r)"
    np.savez(tmp_path / "x.npz", **samples(24))
    with pytest.raises(UnsupportedError, match="no mask: its values are"):
        convert(network(HEAD + body + TAIL), ConvertOptions(8, 8, calibrate=str(tmp_path / "x.npz")))
