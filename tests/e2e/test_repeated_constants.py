"""Constants that are repeated for every sample: learned queries, scales of ones; and rotary angles near"
" zero."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from snnc.compile import ConvertOptions, convert
from snnc.cost.audit import audit
from snnc.debug.verify import verify
from snnc.runtimes import NumpyPacked, NumpyTimestep, OnnxRuntime

RUNTIMES = {"numpy": NumpyPacked, "numpy-timestep": NumpyTimestep, "onnxruntime": OnnxRuntime}
HEAD = """g (float[N, 5, 6] x) => (float[N, K] y)
<float[6, 8] we = {RANDOM}, float[8, 8] wk = {RANDOM}, float[8, 8] wv = {RANDOM}, float[1, 2, 8] query =
      {RANDOM},
 float[8, 8] wq = {RANDOM}, float[8] bq = {RANDOM}, float[8] scale = {RANDOM}, float[16, 3] wo = {RANDOM},
 int64[2] rest = {2, 8}, int64[2] ones = {1, 1}, int64[4] heads = {0, -1, 2, 4}, int64[3] joined = {0, 0, 8},
 int64[3] merged = {2, -1, 4}, int64[3] keys = {5, -1, 4}, int64[3] back = {2, -1, 8}, int64[2] tail = {5, 8},
 float one = {1}, int64[1] tokens = {1}> {
  n = Shape<start = 0, end = 1>(x)
  extents = Concat<axis = 0>(n, rest)
  repeats = Concat<axis = 0>(n, ones)
  h0 = MatMul(x, we)
  h = Tanh(h0)
  k0 = MatMul(h, wk)
  v0 = MatMul(h, wv)
"""
FORMS = {
    # Projected and cut into heads after the repetition.
    "expanded": "e = Expand(query, extents) l = LayerNormalization(e, scale) q0 = MatMul(l, wq) q1 ="
    " Add(q0, bq)"
    " q2 = Reshape(q1, heads) q = Transpose<perm = [0, 2, 1, 3]>(q2)"
    " k1 = Reshape(k0, heads) k = Transpose<perm = [0, 2, 3, 1]>(k1) v1 = Reshape(v0, heads)"
    " v = Transpose<perm = [0, 2, 1, 3]>(v1) s = MatMul(q, k) p = Softmax<axis = -1>(s) z0 = MatMul(p, v)"
    " z1 = Transpose<perm = [0, 2, 1, 3]>(z0) z = Reshape(z1, joined) f = Flatten(z) y = MatMul(f, wo)",
    # torch's MultiheadAttention: tokens first, heads merged with the batch.
    "tokens first": "e = Tile(query, repeats) t = Transpose<perm = [1, 0, 2]>(e) q0 = MatMul(t, wq)"
    " q1 = Add(q0, bq) q2 = Reshape(q1, merged) q = Transpose<perm = [1, 0, 2]>(q2)"
    " kt = Transpose<perm = [1, 0, 2]>(k0) k1 = Reshape(kt, keys) k = Transpose<perm = [1, 2, 0]>(k1)"
    " vt = Transpose<perm = [1, 0, 2]>(v0) v1 = Reshape(vt, keys) v = Transpose<perm = [1, 0, 2]>(v1)"
    " s = MatMul(q, k) p = Softmax<axis = -1>(s) z0 = MatMul(p, v) z1 = Transpose<perm = [1, 0, 2]>(z0)"
    " z2 = Reshape(z1, back) z = Transpose<perm = [1, 0, 2]>(z2) f = Flatten(z) y = MatMul(f, wo)",
    # Coordinates of the places beside what a function gives.
    "beside a function": "whole = Concat<axis = 0>(n, tail) e = Expand(scale, whole)"
    " c = Concat<axis = 2>(h, e) z0 = MatMul(c, wo) z = Tanh(z0) y = Flatten(z)",
    "scale of ones": "whole = Concat<axis = 0>(n, tail) e = Expand(one, whole)"
    " m = ReduceMean<axes = [1], keepdims = 1>(e) g = Mul(k0, m) a = Add(g, v0) b = Slice(a, zero, two,"
    " tokens)"
    " f = Flatten(b) y = MatMul(f, wo)",
}


def check(source: Path, tmp_path: Path, decibel: float = 25) -> None:
    rng = np.random.default_rng(1)
    x = rng.standard_normal((32, 5, 6)).astype(np.float32)
    np.savez(tmp_path / "x.npz", x=x)
    conversion = convert(source, ConvertOptions(8, 8, calibrate=str(tmp_path / "x.npz")))
    report = verify(source, conversion.model, {"x": x[:3]}, runtimes=RUNTIMES)
    assert report.identical, report.first_mismatch()
    assert report.distances[0].decibel is not None
    assert report.distances[0].decibel > decibel
    assert audit(conversion.model).clean


@pytest.mark.parametrize("form", FORMS)
def test_repeated(network: Callable[..., Path], tmp_path: Path, form: str) -> None:
    head = HEAD.replace("float one", "int64[1] zero = {0}, int64[1] two = {2}, float one")
    check(network(head + FORMS[form] + " }"), tmp_path)


def test_rotary_angles_near_zero(tmp_path: Path) -> None:
    """A base of a million turns the last channels by a millionth: sines a million times smaller than"
    " cosines."""
    rng = np.random.default_rng(0)
    angles = np.arange(5)[:, None] * np.array([1.0, 1e-2, 1e-4, 1e-6])
    angles = np.concatenate([angles, angles], axis=1)
    arrays = {"w": rng.standard_normal((6, 8)) / 2, "v": rng.standard_normal((8, 8)) / 2}
    arrays |= {"cos": np.cos(angles), "sin": np.sin(angles)}
    weights = [numpy_helper.from_array(array.astype(np.float32), name) for name, array in arrays.items()]
    weights += [
        numpy_helper.from_array(np.array([number], dtype=np.int64), name)
        for name, number in (("zero", 0), ("half", 4), ("all", 8), ("last", 2))
    ]
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h0"], name="h0"),
        helper.make_node("Tanh", ["h0"], ["h1"], name="h1"),
        helper.make_node("MatMul", ["h1", "v"], ["h"], name="h"),
        helper.make_node("Mul", ["h", "cos"], ["a"], name="a"),
        helper.make_node("Slice", ["h", "half", "all", "last"], ["right"], name="right"),
        helper.make_node("Neg", ["right"], ["turned"], name="turned"),
        helper.make_node("Slice", ["h", "zero", "half", "last"], ["left"], name="left"),
        helper.make_node("Concat", ["turned", "left"], ["r"], axis=2, name="r"),
        helper.make_node("Mul", ["r", "sin"], ["b"], name="b"),
        helper.make_node("Add", ["a", "b"], ["y"], name="y"),
    ]
    kinds = [("x", ["N", 5, 6]), ("y", ["N", 5, 8])]
    x, y = (helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, dims) for name, dims in kinds)
    graph = helper.make_graph(nodes, "g", [x], [y], weights)
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=10), tmp_path / "rotary.onnx")
    check(tmp_path / "rotary.onnx", tmp_path)
