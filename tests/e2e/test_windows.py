"""Attention in shifted windows of a padded image, as Swin and its exporters write it."""

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
#: A 6x6 map of 8 channels, padded to 8x8 by arithmetic on its shape, rolled, and cut into windows of 4x4.
HEAD = """g (float[BATCH, 3, 12, 12] x) => (float[BATCH, 5] y)
<float[8, 3, 2, 2] wp = {RANDOM}, float[8, 8] wq = {RANDOM}, float[8, 8] wk = {RANDOM}, float[8, 8] wv
 = {RANDOM},
 float[8, 8] wo = {RANDOM}, float[8, 5] wh = {RANDOM}, float[1, 16, 16] relative = {RANDOM}, float
 scale = {0.35},
 int64 zero = {0}, int64 one = {1}, int64 two = {2}, int64 four = {4}, int64[1] first = {0}, int64[1]
 minus = {-1},
 int64[2] zeros = {0, 0}, int64[2] pairs = {4, 2}, int64[1] flat = {-1}, int64[1] low = {-9000},
 int64[1] cut = {2},
 int64[1] end = {9000}, int64[1] rows = {1}, int64[1] columns = {2}, int64[1] six = {6}, int64[1] c8 = {8},
 int64[1] c16 = {16}, int64[1] n4 = {4}, int64[2] centre = {1, 2},
 float[1, 4, 16, 16] mask = {MASK}> {
  p0 = Conv<kernel_shape = [2, 2], strides = [2, 2]>(x, wp) p = Transpose<perm = [0, 2, 3, 1]>(p0)
  s = Shape(p) b = Gather<axis = 0>(s, zero) b1 = Unsqueeze(b, first)
  h = Gather<axis = 0>(s, one) h0 = Mod(h, four) h2 = Sub(four, h0) h3 = Mod(h2, four) h4 =
 Unsqueeze(h3, first)
  w = Gather<axis = 0>(s, two) w0 = Mod(w, four) w2 = Sub(four, w0) w3 = Mod(w2, four) w4 =
 Unsqueeze(w3, first)
  l = Concat<axis = 0>(zeros, first, w4, first, h4, zeros) l0 = Reshape(l, pairs)
  l2 = Slice(l0, minus, low, first, minus) l3 = Transpose<perm = [1, 0]>(l2) l4 = Reshape(l3, flat)
  e = Pad(p, l4)
  r0 = Slice(e, cut, end, rows) r1 = Slice(e, first, cut, rows) r2 = Concat<axis = 1>(r0, r1)
  r3 = Slice(r2, cut, end, columns) r4 = Slice(r2, first, cut, columns) r = Concat<axis = 2>(r3, r4)
  q0 = Shape(r) hh = Gather<axis = 0>(q0, one) hn = Div(hh, four) hn1 = Unsqueeze(hn, first)
  t = Concat<axis = 0>(b1, hn1, n4, hn1, n4, c8) a0 = Reshape(r, t) a1 = Transpose<perm = [0, 1, 3, 2,
 4, 5]>(a0)
  t1 = Concat<axis = 0>(minus, c16, c8) a = Reshape(a1, t1)
  q = MatMul(a, wq) k0 = MatMul(a, wk) k = Transpose<perm = [0, 2, 1]>(k0) v = MatMul(a, wv)
  qs = Mul(q, scale) raw = MatMul(qs, k)
"""
TAIL = """ i = Softmax<axis = -1>(z) o0 = MatMul(i, v) o = MatMul(o0, wo)
  u0 = Concat<axis = 0>(b1, hn1, hn1, n4, n4, c8) u1 = Reshape(o, u0) u2 = Transpose<perm = [0, 1, 3,
 2, 4, 5]>(u1)
  u3 = Concat<axis = 0>(b1, c8, c8, c8) u4 = Reshape(u2, u3) u5 = Slice(u4, first, six, rows)
  u6 = Slice(u5, first, six, columns) d = Add(p, u6)
  y0 = ReduceMean<axes = [1, 2], keepdims = 0>(d) y = MatMul(y0, wh) }"""
#: From `raw` [4 BATCH, 16, 16] to the scores: the windows apart, or the mask repeated for every image.
FORMS = {
    "windows apart": "m0 = Add(raw, relative) m1 = Concat<axis = 0>(b1, n4, c16, c16) m2 = Reshape(m0, m1)"
    " m3 = Add(m2, mask) m4 = Concat<axis = 0>(minus, c16, c16) z = Reshape(m3, m4)",
    "mask repeated": "m1 = Concat<axis = 0>(b1, n4, c16, c16) m2 = Expand(mask, m1)"
    " m4 = Concat<axis = 0>(minus, c16, c16) m3 = Reshape(m2, m4) m5 = Add(relative, m3) z = Add(raw, m5)",
}


def window_masks() -> str:
    """The mask of every window after rolling by two: places that were no neighbours do not see each other."""
    region = np.digitize(np.arange(8), [4, 6])
    labels = (3 * region[:, None] + region[None, :]).reshape(2, 4, 2, 4).transpose(0, 2, 1, 3).reshape(4, 16)
    apart = labels[:, :, None] != labels[:, None, :]
    return ", ".join(str(number) for number in np.where(apart, -100.0, 0.0).reshape(-1))


@pytest.mark.parametrize(
    ("form", "batch"), [("windows apart", "N"), ("mask repeated", "N"), ("mask repeated", "2")]
)
def test_shifted_windows(network: Callable[..., Path], tmp_path: Path, form: str, batch: str) -> None:
    text = (HEAD + FORMS[form] + TAIL).replace("BATCH", batch).replace("MASK", window_masks())
    source = network(text)
    rng = np.random.default_rng(3)
    np.save(tmp_path / "x.npy", rng.standard_normal((16, 3, 12, 12)).astype(np.float32))
    conversion = convert(source, ConvertOptions(8, 4, calibrate=str(tmp_path / "x.npy")))
    data = {"x": rng.standard_normal((4, 3, 12, 12)).astype(np.float32)}
    report = verify(source, conversion.model, data, runtimes=RUNTIMES)
    assert report.identical, report.first_mismatch()
    assert report.distances[0].decibel is not None
    assert report.distances[0].decibel > 20
    assert audit(conversion.model).clean
