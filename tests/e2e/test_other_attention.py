"""Attention that is rewritten, in whole conversions: every runtime, the audit, the refusals."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from snnc.compile import ConvertOptions, convert
from snnc.cost.audit import audit
from snnc.debug.verify import verify
from snnc.errors import UnsupportedError


def test_burst_attention_with_a_channel_of_values_that_is_constant(
    network: Callable[..., Path],
) -> None:
    source = network(
        """g (float[N, 6, 4, 4] x) => (float[N, 17, 6] y)
        <int64[3] flat = {0, 6, 16}, float[1, 1, 6] cls = {RANDOM},
         float[6, 6] wq = {RANDOM}, float[6, 6] wk = {RANDOM}, float[6, 5] wv = {RANDOM},
         float[6, 6] wo = {RANDOM}, float[6] bv = {RANDOM}, int64[4] apart = {0, 0, 2, 3},
         int64[3] joined = {0, 0, 6}, float[6, 1] none = {0, 0, 0, 0, 0, 0}> {
          f = Reshape(x, flat) p = Transpose<perm = [0, 2, 1]>(f)
          t0 = ReduceMean<axes = [1], keepdims = 1>(p) z = Sub(t0, t0) c = Add(z, cls)
          t = Concat<axis = 1>(c, p)
          wv6 = Concat<axis = 1>(wv, none)
          q0 = MatMul(t, wq) q1 = Reshape(q0, apart) q = Transpose<perm = [0, 2, 1, 3]>(q1)
          k0 = MatMul(t, wk) k1 = Reshape(k0, apart) k = Transpose<perm = [0, 2, 3, 1]>(k1)
          v0 = MatMul(t, wv6) vb = Add(v0, bv) v1 = Reshape(vb, apart) v = Transpose<perm = [0, 2, 1, 3]>(v1)
          r = MatMul(q, k) s = Softmax<axis = -1>(r) m = MatMul(s, v) o = Transpose<perm = [0, 2, 1, 3]>(m)
          j = Reshape(o, joined) e = MatMul(j, wo) y = Add(t, e) }"""
    )
    samples = np.random.default_rng(0).standard_normal((12, 6, 4, 4)).astype(np.float32)
    conversion = convert(source, ConvertOptions(attention="burst", window=3), calibration=samples)
    assert verify(source, conversion.model, {"x": samples[:3]}).identical


#: From queries, keys (turned) and values to the result, for 16 patches and two heads of three.
FORMS = {
    "biases that the network computes": (
        "b0 = MatMul(q, rel) b = Reshape(b0, by_row) r0 = MatMul(q, k) w = Reshape(r0, by_side) a = Add(w, b)"
        " r = Reshape(a, square) s = Softmax<axis = -1>(r) m = MatMul(s, v)"
    ),
    "values on the left": (
        "vt = Transpose<perm = [0, 1, 3, 2]>(v) r = MatMul(q, k) s = Softmax<axis = -1>(r)"
        " st = Transpose<perm = [0, 1, 3, 2]>(s) mt = MatMul(vt, st) m = Transpose<perm = [0, 1, 3, 2]>(mt)"
    ),
    "one head of keys and values": (
        "k2 = Gather<axis = 1>(k, first) v2 = Gather<axis = 1>(v, first) r = MatMul(q, k2)"
        " s = Softmax<axis = -1>(r) m = MatMul(s, v2)"
    ),
}


@pytest.mark.parametrize("kind", ["grouped", "adjacent"])
@pytest.mark.parametrize("form", FORMS)
def test_forms_of_attention(network: Callable[..., Path], form: str, kind: str) -> None:
    source = network(
        f"""g (float[N, 6, 4, 4] x) => (float[N, 16, 6] y)
        <int64[3] flat = {{0, 6, 16}}, int64[4] apart = {{0, 0, 2, 3}}, int64[3] joined = {{0, 0, 6}},
         int64[1] first = {{0}}, int64[6] by_row = {{0, 2, 4, 4, 4, 1}},
         int64[6] by_side = {{0, 2, 4, 4, 4, 4}}, int64[4] square = {{0, 2, 16, 16}},
         float[2, 3, 4] rel = {{RANDOM}}, float[6, 6] wq = {{RANDOM}},
         float[6, 6] wk = {{RANDOM}}, float[6, 6] wv = {{RANDOM}}, float[6, 6] wo = {{RANDOM}}> {{
          f = Reshape(x, flat) t = Transpose<perm = [0, 2, 1]>(f)
          q0 = MatMul(t, wq) q1 = Reshape(q0, apart) q = Transpose<perm = [0, 2, 1, 3]>(q1)
          k0 = MatMul(t, wk) k1 = Reshape(k0, apart) k = Transpose<perm = [0, 2, 3, 1]>(k1)
          v0 = MatMul(t, wv) v1 = Reshape(v0, apart) v = Transpose<perm = [0, 2, 1, 3]>(v1)
          {FORMS[form]} o = Transpose<perm = [0, 2, 1, 3]>(m) j = Reshape(o, joined) y = MatMul(j, wo) }}"""
    )
    samples = np.random.default_rng(0).standard_normal((12, 6, 4, 4)).astype(np.float32)
    conversion = convert(source, ConvertOptions(attention=kind), calibration=samples)
    rewritten = [len(each.rewrites) for each in conversion.records if each.name.endswith("-attention")]
    assert rewritten == [1]
    assert verify(source, conversion.model, {"x": samples[:3]}).identical
    assert audit(conversion.model).clean


def test_attention_of_sam_converts(network: Callable[..., Path]) -> None:
    """Queries, keys and values are merged with the batch at once; biases are computed from queries."""
    source = network(
        """g (float[N, 6, 4, 4] x) => (float[N, 16, 6] y)
        <int64[3] flat = {0, 6, 16}, int64[5] five = {0, 16, 3, 2, 3}, int64[4] fold = {3, -1, 16, 3},
         int64[3] ones = {1, 1, 1}, int64[1] zero = {0}, int64[4] rows = {-1, 4, 4, 3},
         int64[5] wide = {-1, 4, 4, 4, 1}, int64[3] square = {-1, 16, 16}, int64[5] sides = {-1, 4, 4, 4, 4},
         int64[4] join = {-1, 2, 16, 3}, int64[3] back = {0, 16, 6}, float[6, 18] w = {RANDOM},
         float[18] b = {RANDOM}, float[4, 3, 4] rel = {RANDOM}, float[6, 6] wo = {RANDOM}> {
          f = Reshape(x, flat) t = Transpose<perm = [0, 2, 1]>(f) a0 = MatMul(t, w) a = Add(a0, b)
          a5 = Reshape(a, five) p = Transpose<perm = [2, 0, 3, 1, 4]>(a5) m = Reshape(p, fold)
          q3, k3, v3 = Split<axis = 0>(m, ones) q = Squeeze(q3, zero) v = Squeeze(v3, zero)
          k0 = Squeeze(k3, zero) k = Transpose<perm = [0, 2, 1]>(k0) s0 = MatMul(q, k) s1 = Reshape(s0, sides)
          qr = Reshape(q, rows) r0 = MatMul(qr, rel) r = Reshape(r0, wide) s2 = Add(s1, r)
          s = Reshape(s2, square) u = Softmax<axis = -1>(s) o = MatMul(u, v) o4 = Reshape(o, join)
          ot = Transpose<perm = [0, 2, 1, 3]>(o4) oj = Reshape(ot, back) y = MatMul(oj, wo) }"""
    )
    samples = np.random.default_rng(0).standard_normal((12, 6, 4, 4)).astype(np.float32)
    for kind in ("global", "grouped"):
        conversion = convert(source, ConvertOptions(attention=kind), calibration=samples)
        assert verify(source, conversion.model, {"x": samples[:3]}).identical


def test_words_have_no_grid_and_bursts_need_none(network: Callable[..., Path]) -> None:
    source = network(
        """g (int64[N, 8] ids) => (float[N, 8, 6] y)
        <float[12, 6] table = {RANDOM}, int64[4] apart = {0, 0, 2, 3}, int64[3] joined = {0, 0, 6},
         float[6, 6] wq = {RANDOM}, float[6, 6] wk = {RANDOM}, float[6, 6] wv = {RANDOM}> {
          t = Gather(table, ids) q0 = MatMul(t, wq) q1 = Reshape(q0, apart)
          q = Transpose<perm = [0, 2, 1, 3]>(q1) k0 = MatMul(t, wk) k1 = Reshape(k0, apart)
          k = Transpose<perm = [0, 2, 3, 1]>(k1) v0 = MatMul(t, wv) v1 = Reshape(v0, apart)
          v = Transpose<perm = [0, 2, 1, 3]>(v1) r = MatMul(q, k) s = Softmax<axis = -1>(r) m = MatMul(s, v)
          o = Transpose<perm = [0, 2, 1, 3]>(m) y = Reshape(o, joined) }"""
    )
    ids = np.random.default_rng(0).integers(0, 12, (12, 8))
    with pytest.raises(UnsupportedError, match=r"sequence of words, no grid(.|\n)*--attention burst"):
        convert(source, ConvertOptions(attention="grouped"), calibration=ids)
    conversion = convert(source, ConvertOptions(attention="burst"), calibration=ids)
    assert verify(source, conversion.model, {"ids": ids[:3]}).identical
