"""fold-batch-norm: each target, each reason for leaving a node alone, and the numbers."""

from __future__ import annotations

import pytest

from snnc.ir import constant
from snnc.passes.canonical.fold_batch_norm import FoldBatchNorm

NORM = "<epsilon = 0.001>(a, s, b, m, v)"
STATISTICS = (
    "float[4] s = {1.5, -0.5, 2.0, 0.25}, float[4] b = {0.1, 0.2, -0.3, 0.4}, "
    "float[4] m = {0.5, -0.5, 0.0, 1.0}, float[4] v = {1.0, 2.0, 0.5, 0.1}"
)
WEIGHT = "float[4, 2, 1, 1] w = {0.5, 1.0, -0.3, 0.2, 0.7, -0.9, 0.1, 0.6}"


@pytest.mark.parametrize("bias", ["", ", c"])
def test_into_convolution(parse, check, ops, bias):
    model = parse(
        f"""g (float[N, 2, 5, 5] x) => (float[N, 4, 5, 5] y)
        <{WEIGHT}, {STATISTICS}, float[4] c = {{1, 2, 3, 4}}>
        {{ a = Conv(x, w{bias}) y = BatchNormalization{NORM} }}"""
    )
    result = check(FoldBatchNorm(), model, tolerance=1e-6)
    assert ops(model) == ["Conv"]
    assert model.graph[0].outputs[0].name == "y"
    assert result.rewrites[0].rule == "fold-batch-norm into Conv"
    assert result.rewrites[0].removed == ("n_y",)
    assert "at most" in result.notes[0]
    assert constant(model.graph[0].inputs[1]).dtype == "float32"


def test_into_grouped_transposed_convolution(parse, check, ops):
    model = parse(
        f"""g (float[N, 2, 5, 5] x) => (float[N, 4, 6, 6] y)
        <float[2, 2, 2, 2] w = {{1, 2, 3, 4, 5, 6, 7, 8, -1, -2, -3, -4, -5, -6, -7, -8}}, {STATISTICS}>
        {{ a = ConvTranspose<group = 2>(x, w) y = BatchNormalization{NORM} }}"""
    )
    check(FoldBatchNorm(), model, tolerance=1e-6)
    assert ops(model) == ["ConvTranspose"]


@pytest.mark.parametrize(
    ("layer", "after"),
    [
        ("a = Gemm(x, k, c)", ["Gemm"]),
        ("a = Gemm<transB = 1>(x, t)", ["Gemm"]),
        ("a = MatMul(x, k)", ["MatMul", "Add"]),
        ("p = MatMul(x, k) a = Add(p, c)", ["MatMul", "Add"]),
        ("p = MatMul(x, k) a = Add(c, p)", ["MatMul", "Add"]),
    ],
)
def test_into_matrix_products(parse, check, ops, layer, after):
    model = parse(
        f"""g (float[N, 2] x) => (float[N, 4] y)
        <float[2, 4] k = {{1, 2, 3, 4, -1, -2, 0.5, 0.25}}, float[4, 2] t = {{1, 2, 3, 4, -1, -2, 0.5, 0.25}},
         float[4] c = {{0.5, 0.25, 0.125, 1}}, {STATISTICS}> {{ {layer} y = BatchNormalization{NORM} }}"""
    )
    check(FoldBatchNorm(), model, tolerance=1e-6)
    assert ops(model) == after


@pytest.mark.parametrize(
    ("integers", "zero"), [("int8", "0, 0, 0, 0"), ("int8", "1, -2, 3, -4"), ("uint8", "128, 7, 0, 255")]
)
def test_through_dequantised_weights_keeps_integers(parse, check, ops, integers, zero):
    numbers = "-128, 127, -128, 127, 5, -6, 7, 8" if integers == "int8" else "0, 255, 0, 255, 5, 6, 7, 8"
    model = parse(
        f"""g (float[N, 2, 5, 5] x) => (float[N, 4, 5, 5] y)
        <{integers}[4, 2, 1, 1] q = {{{numbers}}}, {integers}[4] z = {{{zero}}},
         float[4] d = {{0.1, 0.2, 0.3, 0.4}}, {STATISTICS}>
        {{ w = DequantizeLinear<axis = 0>(q, d, z) a = Conv(x, w) y = BatchNormalization{NORM} }}"""
    )
    before = constant(model.graph[0].inputs[0]).astype(int) - constant(model.graph[0].inputs[2]).astype(
        int
    ).reshape(4, 1, 1, 1)
    check(FoldBatchNorm(), model, tolerance=1e-6)
    assert ops(model) == ["DequantizeLinear", "Conv"]
    after = constant(model.graph[0].inputs[0]).astype(int) - constant(model.graph[0].inputs[2]).astype(
        int
    ).reshape(4, 1, 1, 1)
    # The second channel has a negative factor: its sign went into the integers, the scales stay positive.
    before[1] *= -1
    assert (before == after).all()
    assert (constant(model.graph[0].inputs[1]) > 0).all()


def test_scalar_scale_becomes_one_per_channel(parse, check, ops):
    model = parse(
        f"""g (float[N, 2, 5, 5] x) => (float[N, 4, 5, 5] y)
        <int8[4, 2, 1, 1] q = {{1, 2, 3, 4, 5, -6, 7, 8}}, float d = {{0.125}}, {STATISTICS}>
        {{ w = DequantizeLinear(q, d) a = Conv(x, w) y = BatchNormalization{NORM} }}"""
    )
    check(FoldBatchNorm(), model, tolerance=1e-6)
    assert constant(model.graph[0].inputs[1]).shape == (4,)
    assert model.graph[0].attributes["axis"].value == 0


K = "float[2, 4] k = {1, 2, 3, 4, -1, -2, 0.5, 0.25}"
Q = "int8[4, 2, 1, 1] q = {1, 2, 3, 4, 5, -6, 7, 8}"
IMAGE = ("float[4, 2, 5, 5] x", "float[4, 4, 5, 5] y")
ROW = ("float[4, 2] x", "float[N, 4] y")


@pytest.mark.parametrize(
    ("graph", "weights", "layer", "reason"),
    [
        (
            ROW,
            f"{K}, float[4, 1] c = {{1, 2, 3, 4}}",
            "a = Gemm(x, k, c)",
            "its bias is not one number per channel",
        ),
        (
            ROW,
            f"{K}, float[4, 1] c = {{1, 2, 3, 4}}",
            "p = MatMul(x, k) a = Add(p, c)",
            "its channels are not the last axis",
        ),
        (ROW, K, "a = Gemm<beta = 0.5>(x, k, d)", "its beta is not 1"),
        (ROW, K, "a = Gemm(x, k, d)", "its bias is not constant"),
        (ROW, K, "a = MatMul(x, e)", "its weight is not constant"),
        (
            ROW,
            f"{K}, float[4] c = {{1, 2, 3, 4}}",
            "p = MatMul(x, e) a = Add(p, c)",
            "its weight is not constant",
        ),
        (ROW, K, "a = Add(e, e)", "Add stands before it"),
        (ROW, K, "a = Relu(e)", "Relu stands before it"),
        (IMAGE, WEIGHT, "a = Conv(x, w, d)", "its bias is not constant"),
        (IMAGE, WEIGHT, "a = Conv(x, f)", "its weight is not constant"),
        (IMAGE, WEIGHT, "a = ConvTranspose(x, h)", "its weight is not constant"),
        (
            IMAGE,
            f"{Q}, float[2] t = {{0.5, 0.25}}",
            "w = DequantizeLinear<axis = 1>(q, t) a = Conv(x, w)",
            "the scales of its weight run along another axis",
        ),
        (
            IMAGE,
            f"{Q}, float t = {{0.5}}",
            "w = DequantizeLinear(q, t) o = Conv(x, w) a = Conv(x, w) z = Neg(o)",
            "its weight is not constant",
        ),
        (
            IMAGE,
            Q,
            "w = DequantizeLinear(q, u) a = Conv(x, w)",
            "its weight is not constant, or blocked",
        ),
        (
            ("float[4, 2] x, float[3, 4, 2] g", "float[3, 4, 4] y"),
            K,
            "a = MatMul(g, k)",
            "its channels are not the last axis",
        ),
    ],
)
def test_layers_that_take_no_factor(parse, check, ops, graph, weights, layer, reason):
    given, result = graph
    more = "float[4] d, float[2, 4] e, float[4, 2, 1, 1] f, float[2, 4, 1, 1] h, float u"
    model = parse(
        f"g ({given}, {more}) => ({result}) <{weights}, {STATISTICS}> "
        f"{{ {layer} y = BatchNormalization{NORM} }}"
    )
    result = check(FoldBatchNorm(), model, tolerance=1e-6)
    assert ops(model)[-2:] == ["Mul", "Add"]
    assert f"is not folded into a layer: {reason}" in result.not_matched[0].reason


def test_a_factor_of_zero_leaves_integers_alone(parse, check, ops):
    model = parse(
        f"""g (float[N, 2, 5, 5] x) => (float[N, 4, 5, 5] y)
        <{Q}, float d = {{0.125}}, {STATISTICS.replace("2.0, 0.25}, float[4] b", "0.0, 0.25}, float[4] b")}>
        {{ w = DequantizeLinear(q, d) a = Conv(x, w) y = BatchNormalization{NORM} }}"""
    )
    result = check(FoldBatchNorm(), model, tolerance=1e-6)
    assert ops(model) == ["DequantizeLinear", "Conv", "Mul", "Add"]
    assert "a factor is zero" in result.not_matched[0].reason


def test_four_bit_integers_keep_their_sign(parse):
    model = parse(
        f"""<ir_version: 10, opset_import: ["" : 21]>
        g (float[N, 2, 5, 5] x) => (float[N, 4, 5, 5] y)
        <int4[4, 2, 1, 1] q = {{1, 2, 3, 4, 5, -6, 7, -8}}, float d = {{0.125}}, {STATISTICS}>
        {{ w = DequantizeLinear(q, d) a = Conv(x, w) y = BatchNormalization{NORM} }}"""
    )
    result = FoldBatchNorm().run(model)
    assert "narrower than 8 bits and a factor is negative" in result.not_matched[0].reason


def test_an_input_of_unknown_rank_stays(parse, ops):
    model = parse(f"g (float[N, 4] a) => (float[N, 4] y) <{STATISTICS}> {{ y = BatchNormalization{NORM} }}")
    model.graph.inputs[0].shape = None
    result = FoldBatchNorm().run(model)
    assert ops(model) == ["BatchNormalization"]
    assert result.not_matched[-1].reason == "the rank of its input is unknown"


def test_shared_layer_becomes_mul_and_add(parse, check, ops):
    model = parse(
        f"""g (float[N, 2, 5, 5] x) => (float[N, 4, 5, 5] y, float[N, 4, 5, 5] a) <{WEIGHT}, {STATISTICS}>
        {{ a = Conv(x, w) y = BatchNormalization{NORM} }}"""
    )
    result = check(FoldBatchNorm(), model, tolerance=1e-6)
    assert ops(model) == ["Conv", "Mul", "Add"]
    assert "something else reads the layer's output" in result.not_matched[0].reason


def test_without_a_layer_before_it(parse, check, ops):
    model = parse(f"g (float[N, 4] a) => (float[N, 4] y) <{STATISTICS}> {{ y = BatchNormalization{NORM} }}")
    result = check(FoldBatchNorm(), model, tolerance=1e-6)
    assert ops(model) == ["Mul", "Add"]
    assert model.graph[1].name == "n_y"
    assert result.not_matched[0].reason.endswith("no layer stands before it")


def test_reasons(parse):
    training = parse(
        f"""g (float[N, 4] a) => (float[N, 4] y) <{STATISTICS}>
        {{ y, rm, rv = BatchNormalization<training_mode = 1>(a, s, b, m, v) }}"""
    )
    result = FoldBatchNorm().run(training)
    assert not result.rewrites and result.not_matched[0].reason == "runs in training mode"
    variable = parse(
        """g (float[N, 4] a, float[4] s, float[4] b, float[4] m, float[4] v) => (float[N, 4] y)
        { y = BatchNormalization(a, s, b, m, v) }"""
    )
    result = FoldBatchNorm().run(variable)
    assert not result.rewrites and result.not_matched[0].reason == "its statistics are not constant"
    assert result.not_matched[0].node == "n_y"
