"""fold-constants, evaluate-constants and fold-shapes: what is folded, what is not, and why."""

from __future__ import annotations

import numpy as np
import onnxruntime as ort
import pytest

from snnc.ir import constant, to_bytes
from snnc.passes.canonical import DropDeadCode, EvaluateConstants, FoldConstants, FoldShapes


def test_exact_chain(parse, check, ops):
    model = parse(
        """g (float[N, 2] x) => (float[N, 2] y) <float[2] a = {1, 2}, float[2] b = {3, 5}>
        { c = Div(a, b) d = Sqrt(c) e = Unsqueeze(d, zero) y = Mul(x, e) }""".replace(
            "<float", "<int64[1] zero = {0}, float"
        )
    )
    result = check(FoldConstants(), model)
    assert ops(model) == ["Mul"]
    assert [entry.rule for entry in result.rewrites] == ["fold Div", "fold Sqrt", "fold Unsqueeze"]
    assert list(model.graph.initializers) == ["e"]


def test_quantised_weight_and_bias_as_onnxruntime_does(parse, check, ops):
    random = np.random.default_rng(4)
    weight, scale = random.standard_normal((4, 3)), random.random(4) / 20 + 0.001
    bias = random.integers(-(2**30), 2**30, 4)

    def listed(array):
        return ", ".join(repr(float(np.float32(entry))) for entry in np.reshape(array, -1))

    model = parse(
        f"""g (float[N, 3] x) => (float[4, 3] w, float[4] c)
        <float[4, 3] a = {{{listed(weight)}}}, float[4] s = {{{listed(scale)}}}, int8[4] z = {{0, 3, -5, 0}},
         int32[4] b = {{{", ".join(map(str, bias))}}}>
        {{ q = QuantizeLinear<axis = 0>(a, s, z) v = DequantizeLinear<axis = 0>(q, s, z)
           d = DequantizeLinear<axis = 0>(b, s) w = Abs(v) c = Abs(d) }}"""
    )
    check(FoldConstants(), model)
    # The integers of the weight survive behind their DequantizeLinear; the bias is a float constant.
    assert ops(model) == ["DequantizeLinear", "Abs", "Abs"]
    assert constant(model.graph[0].inputs[0]).dtype == np.int8


@pytest.mark.parametrize("op", ["Round", "Floor", "Ceil"])
def test_rounding_of_weights_stays(parse, op):
    model = parse(
        f"g (float[N, 2] x) => (float[N, 2] y) <float[2] a = {{1.4, 2.6}}> {{ c = {op}(a) y = Mul(x, c) }}"
    )
    assert not FoldConstants().run(model).rewrites
    assert not EvaluateConstants().run(model).rewrites


def test_reasons(parse):
    model = parse(
        """g (float[N, 2] x) => (float[N, 2] y, float[2] z) <float[2] a = {1, 2}, int64[1] big = {4000}>
        { c = Exp(a) z = Neg(a) e = ConstantOfShape(big) f = ReduceSum(e) g = Add(c, f) y = Mul(x, g) }"""
    )
    result = FoldConstants(max_bytes=1000).run(model)
    assert not result.rewrites
    assert {entry.node: entry.reason for entry in result.not_matched} == {
        "n_c": "Exp is not exact to the bit on every machine",
        "n_z": "the result is an output of the graph",
        "n_e": "the result takes more than 1000 bytes",
    }


def test_evaluate_constants(parse, check, ops):
    model = parse(
        """g (float[N, 2] x) => (float[N, 2] y) <float[2] a = {1, 2}>
        { c = Exp(a) d = ReduceSum(c) e = Div(c, d) y = Mul(x, e) }"""
    )
    result = check(EvaluateConstants(), model, tolerance=1e-6)
    assert ops(model) == ["Mul"]
    assert "may differ in the last bits" in result.notes[0]


@pytest.mark.parametrize(
    ("chain", "target"),
    [
        ("s = Shape(x) b = Gather(s, zero) u = Unsqueeze(b, axis) t = Concat<axis = 0>(u, rest)", [0, 12]),
        ("s = Shape<start = 0, end = 1>(x) t = Concat<axis = 0>(s, rest)", [0, 12]),
        ("s = Shape(x) u = Slice(s, axis, one) t = Concat<axis = 0>(rest, u)", [12, -1]),
        ("s = Shape<start = 1>(x) t = Identity(s)", [3, 4]),
    ],
)
def test_reshape_targets(parse, check, ops, chain, target):
    where = "x" if target != [3, 4] else "m"
    model = parse(
        f"""g (float[N, 3, 4] x, float[12] m) => (float[] y)
        <int64 zero = {{0}}, int64[1] axis = {{0}}, int64[1] one = {{1}}, int64[1] rest = {{12}}>
        {{ {chain} r = Reshape({where}, t) y = Abs(r) }}"""
    )
    inputs = {"x": np.arange(24, dtype=np.float32).reshape(2, 3, 4), "m": np.arange(12, dtype=np.float32)}
    before = ort.InferenceSession(to_bytes(model)).run(None, inputs)[0]
    FoldShapes().run(model)
    DropDeadCode().run(model)
    after = ort.InferenceSession(to_bytes(model)).run(None, inputs)[0]
    np.testing.assert_array_equal(before, after)
    reshape = next(node for node in model.graph if node.op_type == "Reshape")
    assert constant(reshape.inputs[1]).tolist() == target
    assert ops(model) == ["Reshape", "Abs"]
    assert not FoldShapes().run(model).rewrites


def test_zero_copies_the_dimension_where_the_source_allows_zeros(parse, check):
    model = parse(
        """g (float[N, 3, 4] x) => (float[N, 12] y) <int64[1] rest = {12}>
        { s = Shape<start = 0, end = 1>(x) t = Concat<axis = 0>(s, rest) y = Reshape<allowzero = 1>(x, t) }"""
    )
    check(FoldShapes(), model)
    node = model.graph[len(model.graph) - 1]
    assert constant(node.inputs[1]).tolist() == [0, 12]
    assert "allowzero" not in node.attributes


def test_two_open_dimensions(parse):
    model = parse(
        """g (float[N, M, 4] x) => (float[M, N, 4] y)
        <int64[1] four = {4}, int64[1] o = {0}, int64[1] i = {1}>
        { s = Shape(x) a = Gather(s, i) b = Gather(s, o)
          t = Concat<axis = 0>(a, b, four) y = Reshape(x, t) }"""
    )
    result = FoldShapes().run(model)
    assert [(entry.reason, entry.node) for entry in result.not_matched] == [
        ("the shape depends on more than one open dimension", "n_y")
    ]


def test_arithmetic_on_dimensions(parse, ops):
    model = parse(
        """g (float[N, 6, 8] x) => (float[N, 2] y)
        <int64[1] one = {1}, int64[1] two = {2}, int64[1] n = {-1}, int64[1] z = {0}>
        { h = Shape<start = 1, end = 2>(x) w = Shape<start = 2>(x) p = Mul(h, w) q = Div(p, two)
          r = Sub(q, one)
          e = Add(r, one) t = Concat<axis = 0>(n, e) v = Reshape(x, t)
          a = Slice(v, z, two, one) y = Abs(a) }"""
    )
    FoldShapes().run(model)
    reshape = next(node for node in model.graph if node.op_type == "Reshape")
    assert constant(reshape.inputs[1]).tolist() == [-1, 24]


def test_elements_gathered_by_a_smaller_table_of_indices(parse, check, ops):
    """Fewer indices than data on every axis, as a model cuts its buffers of positions."""
    model = parse(
        """g (float[N, 2] x) => (float[N, 2] y)
        <float[3, 4] d = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11}, int64[1, 2] i = {3, -3}>
        { p = GatherElements<axis = 1>(d, i) y = Add(x, p) }"""
    )
    FoldConstants().run(model)
    assert ops(model) == ["Add"]
    assert constant(next(iter(model.graph)).inputs[1]).tolist() == [[3, 1]]


def test_quantised_again(parse, check, ops):
    # A tool that shares equal constants makes the second weight of the first one's values.
    model = parse(
        """g (float[N, 2] x) => (float[N, 2] y, float[N, 2] z)
        <int8[2, 2] a = {1, -7, 100, 3}, float s = {0.5}, int8 o = {0}, float t = {0.25}, int8 p = {0}>
        { w = DequantizeLinear(a, s, o) y = MatMul(x, w)
          i = Identity(w) j = Transpose(i) q = QuantizeLinear(j, t, p) v = DequantizeLinear(q, t, p)
          z = MatMul(x, v) }"""
    )
    check(FoldConstants(), model)
    check(DropDeadCode(), model)
    assert ops(model) == ["DequantizeLinear", "MatMul", "DequantizeLinear", "MatMul"]
    assert constant(model.graph[2].inputs[0]).tolist() == [[2, 127], [-14, 6]]


@pytest.mark.parametrize(
    "op",
    ["InstanceNormalization(x, w, b)", "BatchNormalization(x, w, b, b, w)", "PRelu(x, w)"],
)
def test_parameters_that_were_quantised(parse, check, ops, op):
    shape = "2, 1" if op.startswith("PRelu") else "2"
    model = parse(
        f"""g (float[N, 2, 3] x) => (float[N, 2, 3] y)
        <int8[{shape}] a = {{1, 7}}, float s = {{0.5}}, int8 o = {{-1}}, float[2] b = {{1, 2}}>
        {{ w = DequantizeLinear(a, s, o) y = {op} }}"""
    )
    check(FoldConstants(), model)
    check(DropDeadCode(), model)
    assert ops(model) == [op.partition("(")[0]]
    assert constant(model.graph[0].inputs[1]).reshape(-1).tolist() == [1.0, 4.0]
