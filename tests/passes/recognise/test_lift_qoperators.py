"""lift-qoperators: integer operators become float operators between quantisers."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest

from snnc.ir import constant
from snnc.passes.recognise import LiftQoperators

HEADER = '<ir_version: 10, opset_import: ["" : 17, "com.microsoft" : 1]>'
MATRIX = ", ".join(str(100 + 7 * i % 61) for i in range(96))
CONSTANTS = ", ".join(
    [
        "float s = {0.0625}, uint8 z = {128}, float r = {0.125}, uint8 o = {120}, int64[2] dims = {0, 32}",
        "int8[3, 2, 1, 1] w = {1, -2, 3, 4, -5, 6}, float[3] ws = {0.5, 0.25, 0.125}",
        "int8[3] wz = {0, 0, 0}, int32[3] b = {10, -20, 30}",
        f"uint8[32, 3] m = {{{MATRIX}}}, float ms = {{0.03125}}, uint8 mz = {{130}}",
        "int32[3] mb = {100, 0, -7}",
        "float[2] steps = {0.5, 0.25}, uint8[2] points = {1, 2}",
        "int64[8] pads = {0, 0, 1, 0, 0, 0, 0, 1}, uint8 seven = {7}, float[4] twice = {1, 1, 2, 2}",
    ]
)


def graph(body, outputs="float[N, 2, 4, 4] y", opset=17, more=""):
    """A model whose integers i come from x; j is to be dequantised to y."""
    inputs = f"float[N, 2, 4, 4] x{more}"
    text = f"g ({inputs}) => ({outputs}) <{CONSTANTS}> {{ i = QuantizeLinear(x, s, z) {body} }}"
    proto = onnx.parser.parse_model(f"{HEADER.replace('17', str(opset))} {text}")
    for number, node in enumerate(proto.graph.node):
        node.name = f"n{number}"
    return ir.from_proto(proto)


INPUT = np.random.default_rng(2).uniform(-9, 9, (5, 2, 4, 4)).astype(np.float32)
END = "y = DequantizeLinear(j, r, o)"
BODIES = {
    "conv": (f"j = QLinearConv(i, s, z, w, ws, wz, r, o, b) {END}", "float[N, 3, 4, 4] y", "Conv"),
    "matmul": (
        f"f = Reshape(i, dims) j = QLinearMatMul(f, s, z, m, ms, mz, r, o) {END}",
        "float[N, 3] y",
        "MatMul",
    ),
    "gemm": (
        f"f = Flatten(i) j = com.microsoft.QGemm(f, s, z, m, ms, mz, mb, r, o) {END}",
        "float[N, 3] y",
        "Gemm",
    ),
    "gemm to float": (
        "f = Flatten(i) y = com.microsoft.QGemm(f, s, z, m, ms, mz, mb)",
        "float[N, 3] y",
        "Gemm",
    ),
    "places": (
        (
            "f = Flatten(i) j = com.microsoft.QGemm(f, s, z, m, ms, mz, mb, r, o) "
            "k = ArgMax<axis = 1>(j) l = ArgMin<axis = 1>(f) a = Add(k, l) y = Cast<to = 1>(a)"
        ),
        "float[N, 1] y",
        "ArgMin",
    ),
    "add": (f"j = com.microsoft.QLinearAdd(i, s, z, i, s, z, r, o) {END}", None, "Add"),
    "mul": (f"j = com.microsoft.QLinearMul(i, s, z, i, s, z, r, o) {END}", None, "Mul"),
    "average": (
        f"j = com.microsoft.QLinearAveragePool<kernel_shape = [2, 2], strides = [2, 2]>(i, s, z, r, o) {END}",
        "float[N, 2, 2, 2] y",
        "AveragePool",
    ),
    "global": (
        f"j = com.microsoft.QLinearGlobalAveragePool<channels_last = 0>(i, s, z, r, o) {END}",
        "float[N, 2, 1, 1] y",
        "GlobalAveragePool",
    ),
    "leaky": (f"j = com.microsoft.QLinearLeakyRelu<alpha = 0.25>(i, s, z, r, o) {END}", None, "LeakyRelu"),
    "sigmoid": (f"j = com.microsoft.QLinearSigmoid(i, s, z, r, o) {END}", None, "Sigmoid"),
    "concat": (
        f"j = com.microsoft.QLinearConcat<axis = 1>(r, o, i, s, z, i, s, z) {END}",
        "float[N, 4, 4, 4] y",
        "Concat",
    ),
    "rows of a table": (
        (
            "a = ArgMax<axis = 3, keepdims = 0>(x) e = Gather<axis = 0>(m, a) "
            "t = Transpose<perm = [0, 3, 2, 1]>(e) "
            f"j = com.microsoft.QLinearAdd(t, ms, mz, t, ms, mz, r, o) {END}"
        ),
        "float[N, 3, 4, 2] y",
        "Add",
    ),
    "joined rows of a table": (
        (
            "a = ArgMax<axis = 3, keepdims = 0>(x) e = Gather<axis = 0>(m, a) "
            f"j = com.microsoft.QLinearConcat<axis = 1>(r, o, e, ms, mz, e, ms, mz) {END}"
        ),
        "float[N, 4, 4, 3] y",
        "Concat",
    ),
    "moves": (
        (
            "k = MaxPool<kernel_shape = [2, 2]>(i) t = Transpose<perm = [0, 2, 3, 1]>(k) "
            f"u, v = Split<axis = 3>(t) j = com.microsoft.QLinearAdd(u, s, z, v, s, z, r, o) {END}"
        ),
        "float[N, 3, 3, 1] y",
        "Add",
    ),
    "pads": (
        (
            "k = Pad(i, pads, seven) l = Pad(k, pads) "
            f"j = com.microsoft.QLinearAdd(l, s, z, l, s, z, r, o) {END}"
        ),
        "float[N, 2, 6, 6] y",
        "Pad",
    ),
    "grown": (
        (
            'k = Resize<mode = "nearest">(i, , twice) '
            f"j = com.microsoft.QLinearAdd(k, s, z, k, s, z, r, o) {END}"
        ),
        "float[N, 2, 8, 8] y",
        "Resize",
    ),
}


def run(model):
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    session = ort.InferenceSession(ir.to_proto(model).SerializeToString(), options)
    return session.run(None, {"x": INPUT})[0]


@pytest.mark.parametrize("name", BODIES)
def test_means_the_same(name):
    body, outputs, op_type = BODIES[name]
    model = graph(body, outputs or "float[N, 2, 4, 4] y")
    before = run(model)
    result = LiftQoperators().run(model)
    ops = [node.op_type for node in model.graph]
    assert op_type in ops
    assert not any(op.startswith("Q") and op != "QuantizeLinear" for op in ops)
    for node in model.graph:
        if node.op_type == "DequantizeLinear":
            assert (
                constant(node.inputs[0]) is not None or node.inputs[0].producer().op_type == "QuantizeLinear"
            )
    # Steps are powers of two here: no product of scales is rounded, and ties fall alike.
    np.testing.assert_array_equal(run(model), before)
    assert result.notes
    assert not LiftQoperators().run(model).rewrites


def test_a_softmax_is_within_two_levels():
    """onnxruntime's integer kernel looks the exponential up in a table of integers."""
    end = END.replace("r, o", "ms, mz")
    model = graph(f"j = com.microsoft.QLinearSoftmax<axis = -1, opset = 17>(i, s, z, ms, mz) {end}")
    before = run(model)
    LiftQoperators().run(model)
    assert "Softmax" in [node.op_type for node in model.graph]
    assert np.abs(run(model) - before).max() <= 2 * 0.03125


def test_interpolated_integers_are_within_a_level():
    """onnxruntime's integer kernel cuts the fractions off, a quantiser rounds them."""
    body = 'k = Resize<mode = "linear">(i, , twice) j = com.microsoft.QLinearAdd(k, s, z, k, s, z, r, o)'
    model = graph(f"{body} {END}", "float[N, 2, 8, 8] y")
    before = run(model)
    LiftQoperators().run(model)
    floats = [node for node in model.graph if node.op_type == "Resize"]
    assert floats[0].inputs[0].producer().op_type == "DequantizeLinear"
    # One level of s is half a level of r, twice.
    assert np.abs(run(model) - before).max() <= 0.125


@pytest.mark.parametrize("opset", [17, 18])
def test_means_over_axes(opset):
    """From opset 18 on ReduceMean reads its axes as an input."""
    body = f"j = com.microsoft.QLinearReduceMean<axes = [2], keepdims = 1>(i, s, z, r, o) {END}"
    model = graph(body, "float[N, 2, 1, 4] y", opset)
    assert LiftQoperators().run(model).rewrites
    (mean,) = [node for node in model.graph if node.op_type == "ReduceMean"]
    assert len(mean.inputs) == (2 if opset == 18 else 1)
    # onnxruntime names the operator but has no kernel for it: its definition.
    codes = np.clip(np.rint(INPUT / 0.0625), -128, 127) * 0.0625
    expected = np.clip(np.rint(codes.mean(axis=2, keepdims=True) / 0.125), -120, 135) * 0.125
    np.testing.assert_array_equal(run(model), expected.astype(np.float32))


def test_constants_that_are_split_are_dequantised_behind_it():
    body = (
        "f = Reshape(i, dims) g, h = Split<axis = 1>(f) u, v = Split<axis = 0>(m) "
        f"j = QLinearMatMul(g, s, z, v, ms, mz, r, o) {END}"
    )
    model = graph(body, "float[N, 3] y")
    before = run(model)
    assert LiftQoperators().run(model).rewrites
    assert not any(node.op_type == "QLinearMatMul" for node in model.graph)
    np.testing.assert_array_equal(run(model), before)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("j = com.microsoft.QLinearAdd(i, s, z, , s, z, r, o)", "an operand or its scale is missing"),
        ("j = com.microsoft.QLinearConcat<axis = 1>(r, o, i, , z)", "an operand or its scale is missing"),
        ("j = com.microsoft.QLinearConcat<axis = 1>(, o, i, s, z)", "the scale of its result is missing"),
        (
            "k = Pad(i, pads, given) j = com.microsoft.QLinearAdd(k, s, z, k, s, z, r, o)",
            "what it pads with, or its scale, is not constant",
        ),
        (
            (
                "c = QuantizeLinear<axis = 1>(x, steps, points) k = Pad(c, pads, seven) "
                "j = com.microsoft.QLinearAdd(i, s, z, i, s, z, r, o)"
            ),
            "its scales differ",
        ),
        (
            "k = Flatten(i) j = com.microsoft.QLinearAdd(i, s, z, i, s, z, r, o)",
            "its integers are an output of the graph",
        ),
    ],
)
def test_operands_that_have_no_float_form(body, reason):
    outputs = "float[N, 2, P, Q] y" + (", uint8[N, 32] k" if "Flatten" in body else "")
    model = graph(f"{body} {END}", outputs, more=", uint8 given")
    result = LiftQoperators().run(model)
    assert [entry.reason for entry in result.not_matched] == [reason]


def test_a_quantiser_without_a_scale_tells_nothing():
    body = (
        "h = com.microsoft.QuantizeLinear(x, , z) k = Flatten(h) "
        "j = com.microsoft.QLinearAdd(i, s, z, i, s, z, r, o)"
    )
    model = graph(f"{body} {END}", "float[N, 2, 4, 4] y, uint8[N, 32] k")
    result = LiftQoperators().run(model)
    assert not result.not_matched and len(result.rewrites) == 1
    assert next(node for node in model.graph if node.op_type == "Flatten").inputs[0].name == "h"


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (
            "j = com.microsoft.QLinearGlobalAveragePool<channels_last = 1>(i, s, z, r, o)",
            "its channels are last",
        ),
        ("d = Mul(s, r) j = QLinearConv(i, d, z, w, ws, wz, r, o, b)", "its bias or a scale is not constant"),
    ],
)
def test_leaves_alone(body, reason):
    model = graph(f"{body} {END}")
    result = LiftQoperators().run(model)
    assert [entry.reason for entry in result.not_matched] == [reason]


def test_networks_without_integer_operators_stay():
    model = graph(f"j = MaxPool<kernel_shape = [2, 2]>(i) {END}")
    assert not LiftQoperators().run(model).rewrites
