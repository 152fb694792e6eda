"""recognise-weights: integers behind every kind of quantiser, for every kind of reader."""

from __future__ import annotations

import numpy as np
import pytest

from snnc.ir import constant, tensor
from snnc.ops import attach_functions
from snnc.passes.canonical import DropDeadCode, FoldConstants
from snnc.passes.recognise import RecogniseQuantisers, RecogniseWeights
from snnc.passes.recognise.weights import Integers

QONNX = '<ir_version: 10, opset_import: ["" : 17, "qonnx.custom_op.general" : 1]>\n'


def weight(model):
    """Integers, numerator and denominator of the only Weight node."""
    (node,) = [entry for entry in model.graph if entry.op_type == "Weight"]
    return [constant(value) for value in node.inputs]


def run(model):
    """Run the pass and attach the function of Weight."""
    result = RecogniseWeights().run(model)
    attach_functions(model)
    return result


@pytest.mark.parametrize(
    ("kind", "numbers", "zero", "axis"),
    [
        ("int8", "-128, 127, 0, 5, -6, 7", "0, 0", 0),
        ("int8", "-128, 127, 0, 5, -6, 7", "3, -4", 0),
        ("uint8", "0, 255, 7, 128, 9, 1", "128, 128", 0),
        ("int8", "-128, 127, 0, 5, -6, 7", "", None),
    ],
)
def test_dequantised(parse, evaluate, random_feeds, ops, kind, numbers, zero, axis):
    scales = "float[2] s = {0.01, 0.03}" if axis is not None else "float s = {0.01}"
    point = f", {kind}[2] z = {{{zero}}}" if zero else ""
    model = parse(
        f"""g (float[N, 3, 4, 4] x) => (float[N, 2, 4, 4] y) <{kind}[2, 3, 1, 1] q = {{{numbers}}},
          {scales}{point}>
        {{ w = DequantizeLinear<axis = 0>(q, s{", z" if zero else ""}) y = Conv(x, w) }}"""
    )
    feeds = random_feeds(model)
    before = evaluate(model, feeds)["y"]
    run(model)
    np.testing.assert_array_equal(evaluate(model, feeds)["y"], before)
    assert ops(model) == ["Weight", "Conv"]
    integers, numerator, denominator = weight(model)
    points = np.array([int(entry) for entry in zero.split(",")]).reshape(2, 1, 1, 1) if zero else 0
    expected = np.array([int(entry) for entry in numbers.split(",")]).reshape(2, 3, 1, 1) - points
    np.testing.assert_array_equal(integers, expected)
    assert integers.dtype == (np.int8 if abs(expected + 0.5).max() <= 127.5 else np.int16)
    assert numerator.dtype == denominator.dtype == np.float64 and denominator == 1
    assert numerator.shape == ((2, 1, 1, 1) if axis is not None else ())
    assert numerator.reshape(-1)[0] == np.float64(np.float32(0.01))


def test_layout_between_weight_and_product(parse, evaluate, random_feeds, ops):
    model = parse(
        """g (float[N, 3] x) => (float[N, 2] y) <int8[2, 3] q = {1, 2, 3, 4, 5, 6}, float[2] s = {0.5, 0.25}>
        { w = DequantizeLinear<axis = 0>(q, s) t = Transpose<perm = [1, 0]>(w) y = MatMul(x, t) }"""
    )
    feeds = random_feeds(model)
    before = evaluate(model, feeds)["y"]
    run(model)
    np.testing.assert_array_equal(evaluate(model, feeds)["y"], before)
    assert ops(model) == ["Weight", "MatMul"]
    integers, numerator, _ = weight(model)
    assert integers.tolist() == [[1, 4], [2, 5], [3, 6]]
    assert numerator.tolist() == [[0.5, 0.25]]


def test_readers_that_are_no_product_get_floats(parse, evaluate, random_feeds, ops):
    model = parse(
        """g (float[N, 2] x) => (float[N, 2] y) <int8[2, 2] q = {1, 2, 3, 4}, float s = {0.1},
          int8[2] b = {5, 6}>
        { w = DequantizeLinear(q, s) c = DequantizeLinear(b, s) m = MatMul(x, w) a = Add(m, c) r = Add(a, x)
          k = MatMul(r, w) y = Add(k, c) }"""
    )
    feeds = random_feeds(model)
    before = evaluate(model, feeds)["y"]
    run(model)
    np.testing.assert_array_equal(evaluate(model, feeds)["y"], before)
    # One Weight serves both products, one float constant both sums.
    assert ops(model) == ["Weight", "MatMul", "Add", "Add", "MatMul", "Add"]
    assert constant(model.graph[2].inputs[1]).tolist() == np.float32([0.5, 0.6]).tolist()


@pytest.mark.parametrize(("scale", "sign"), [("-0.5", -1), ("0.0", 0)])
def test_scales_that_are_not_positive(parse, scale, sign):
    model = parse(
        f"""g (float[N, 1] x) => (float[N, 2] y) <int8[1, 2] q = {{-128, 3}}, float[2] s = {{{scale}, 0.25}}>
        {{ w = DequantizeLinear<axis = 1>(q, s) y = MatMul(x, w) }}"""
    )
    run(model)
    integers, numerator, _ = weight(model)
    assert integers.tolist() == [[-128 * sign, 3]]
    assert (numerator > 0).all()


@pytest.mark.parametrize(
    ("op", "attrs", "expected"),
    [
        ("Quant", 'signed = 1, narrow = 1, rounding_mode = "ROUND"', [[2, -2], [4, -7], [0, 7]]),
        ("Quant", 'signed = 1, narrow = 0, rounding_mode = "FLOOR"', [[2, -3], [3, -8], [0, 7]]),
        ("BipolarQuant", "", [[1, -1], [1, -1], [1, 1]]),
    ],
)
def test_qonnx(parse, op, attrs, expected):
    extra = ", z, b" if op == "Quant" else ""
    model = parse(
        QONNX
        + f"""g (float[N, 3] x) => (float[N, 2] y)
        <float[3, 2] f = {{0.625, -0.625, 0.875, -9, 0, 9}}, float s = {{0.25}}, float z = {{0}},
          float b = {{4}}>
        {{ w = qonnx.custom_op.general.{op}<{attrs}>(f, s{extra}) y = MatMul(x, w) }}""".replace("<>", "")
    )
    run(model)
    integers, numerator, _ = weight(model)
    assert integers.tolist() == expected and numerator == 0.25


def test_chain(parse, evaluate, random_feeds, ops):
    model = parse(
        """g (float[N, 3] x) => (float[N, 2] y)
        <float[3, 2] f = {2.4, -3.6, 3.5, -9, 0.1, 9}, float[2] s = {0.1, 0.3}, float lo = {-7},
          float hi = {7}>
        { r = Round(f) c = Clip(r, lo, hi) w = Mul(c, s) y = MatMul(x, w) }"""
    )
    feeds = random_feeds(model)
    before = evaluate(model, feeds)["y"]
    result = run(model)
    np.testing.assert_array_equal(evaluate(model, feeds)["y"], before)
    assert ops(model) == ["Weight", "MatMul"]
    integers, numerator, _ = weight(model)
    assert integers.tolist() == [[2, -4], [4, -7], [0, 7]]
    assert numerator.tolist() == np.float64(np.float32([0.1, 0.3])).tolist()
    assert not result.notes


def test_a_weight_that_is_split_and_turned_between_quantisers(parse, evaluate, random_feeds, ops):
    """As in_proj_weight of nn.MultiheadAttention, cut for cross-attention, comes from quantize_static."""
    model = parse(
        """g (float[N, 3] x) => (float[N, 2] y)
          <int8[4, 3] q = {-128, 127, 1, 2, 3, 4, 50, 60, -70, 80, 7, 8},
          float s = {0.01}, int8 z = {3}, int64[2] n = {2, 2}>
        { w = DequantizeLinear(q, s, z) a, b = Split<axis = 0>(w, n)
          c = QuantizeLinear(a, s, z) d = DequantizeLinear(c, s, z) t = Transpose<perm = [1, 0]>(d)
          e = QuantizeLinear(t, s, z) f = DequantizeLinear(e, s, z) y = MatMul(x, f) }"""
    )
    feeds = random_feeds(model)
    before = evaluate(model, feeds)["y"]
    RecogniseQuantisers().run(model)
    for _ in range(2):
        RecogniseWeights().run(model)
        FoldConstants().run(model)
    DropDeadCode().run(model)
    attach_functions(model)
    assert ops(model) == ["Weight", "MatMul"]
    np.testing.assert_array_equal(evaluate(model, feeds)["y"], before)
    integers, numerator, _ = weight(model)
    np.testing.assert_array_equal(integers, np.array([[-131, -1], [124, 0], [-2, 1]]))
    assert numerator == np.float64(np.float32(0.01))


def test_chain_that_rounds_more_than_once_is_noted(parse):
    model = parse(
        """g (float[N, 1] x) => (float[N, 2] y) <float[1, 2] f = {2, 4}, float t = {0.3}, float n = {3}>
        { r = Round(f) a = Div(r, n) w = Mul(a, t) y = MatMul(x, w) }"""
    )
    assert "changes the weights by at most" in run(model).notes[0]


def test_reasons(parse):
    model = parse(
        """<ir_version: 10, opset_import: ["" : 21]>
        g (float[N, 4] x, float t) => (float[N, 2] y)
        <int8[4, 2] q = {1, 2, 3, 4, 5, 6, 7, 8}, float[2, 2] s = {1, 2, 3, 4}>
        { w = DequantizeLinear<axis = 0, block_size = 2>(q, s) v = DequantizeLinear(q, t) a = Add(w, v)
          y = MatMul(x, a) }"""
    )
    result = RecogniseWeights().run(model)
    assert [entry.reason for entry in result.not_matched] == ["its scale is not constant"]
    # A scale per block is no scale per channel: those weights go on as the floats they stand for.
    assert all(node.op_type != "Weight" for node in model.graph)


QUANT = "qonnx.custom_op.general"


@pytest.mark.parametrize(
    ("body", "weights", "reason"),
    [
        (
            "w = DequantizeLinear(q, s)",
            "int8[3, 2] q = {1, 2, 3, 4, 5, 6}, float s = {-999}",
            "its scale is not finite",
        ),
        (
            f"w = {QUANT}.Quant(f, s, p, p)",
            "float s = {1}",
            "its scale, zero point or bit width is not constant",
        ),
        (
            f'w = {QUANT}.Quant<rounding_mode = "RANDOM">(f, s, z, b)',
            "float s = {1}, float z = {0}, float b = {4}",
            "its rounding mode RANDOM is not known",
        ),
        (f"w = {QUANT}.BipolarQuant(f, p)", "float s = {1}", "its scale is not constant"),
    ],
)
def test_more_reasons(parse, ops, body, weights, reason):
    held = f"float[3, 2] f = {{1.5, -2, 3, 4.25, 5, 6}}, {weights}"
    model = parse(
        f"{QONNX} g (float[N, 2, 3] x, float p) => (float[N, 2, 2] y) <{held}> {{ {body} y = MatMul(x, w) }}"
    )
    if "999" in weights:
        model.graph.initializers["s"].const_value = tensor(np.array(np.inf, np.float32))
    before = ops(model)
    result = RecogniseWeights().run(model)
    assert [entry.reason for entry in result.not_matched] == [reason]
    assert ops(model) == before


@pytest.mark.parametrize(
    ("body", "left"),
    [
        # An offset that is no multiple of the step, and a factor of more axes, stay behind the integers.
        ("r = Round(f) a = Mul(r, odd) w = Add(a, third)", ["Add", "MatMul"]),
        ("r = Round(f) w = Mul(r, tall)", ["Mul", "MatMul"]),
    ],
)
def test_a_chain_ends_where_its_values_leave_the_grid(parse, evaluate, random_feeds, ops, body, left):
    held = (
        "float[3, 2] f = {1.5, -2, 3, 4.25, 5, 6}, float odd = {0.7}, float third = {0.3}, "
        "float[2, 3, 2] tall = {1, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1}"
    )
    model = parse(f"g (float[2, 2, 3] x) => (float[2, 2, 2] y) <{held}> {{ {body} y = MatMul(x, w) }}")
    feeds = random_feeds(model)
    before = evaluate(model, feeds)["y"]
    run(model)
    assert ops(model) == left
    np.testing.assert_array_equal(evaluate(model, feeds)["y"], before)


def test_an_empty_constant_stays(parse, ops):
    model = parse(
        "g (float[N, 2, 3] x) => (float[N, 2, 0] y) <int8[3, 0] q = {}, float s = {1}> "
        "{ w = DequantizeLinear(q, s) y = MatMul(x, w) }"
    )
    result = RecogniseWeights().run(model)
    assert [entry.reason for entry in result.not_matched] == ["it is empty"]
    assert ops(model) == ["DequantizeLinear", "MatMul"]


def test_integers_beyond_32_bits_stay_64(parse):
    wide = Integers(
        np.array([2**31, -1]),
        np.array(1.0),
        parse("g (float x) => (float y) { y = Neg(x) }").graph.inputs[0],
        (),
    )
    assert wide.narrow().dtype == np.int64
    assert wide.narrow().tolist() == [2**31, -1]


def test_a_blocked_constant_that_is_a_result_stays(parse, ops):
    header = '<ir_version: 10, opset_import: ["" : 21]>\n'
    model = parse(
        f"{header}g (float[N, 2] x) => (float[N, 2] y, float[2, 2] w) <int8[2, 2] q = {{1, 2, 3, 4}}, "
        "float[1, 2] s = {0.5, 0.25}> { w = DequantizeLinear<axis = 0, block_size = 2>(q, s) "
        "y = MatMul(x, w) }"
    )
    held = set(model.graph.initializers)
    result = RecogniseWeights().run(model)
    assert [entry.reason for entry in result.not_matched] == ["its result is an output of the graph"]
    assert ops(model) == ["DequantizeLinear", "MatMul"] and set(model.graph.initializers) == held


def test_a_layout_that_is_computed_reads_floats(parse, evaluate, random_feeds, ops):
    model = parse(
        "g (float[N, 2, 3] x, int64[2] dims) => (float[N, 2, M] y) <int8[3, 2] q = {1, 2, 3, 4, 5, 6}, "
        "float s = {0.5}> { w = DequantizeLinear(q, s) r = Reshape(w, dims) y = MatMul(x, r) }"
    )
    feeds = {"x": random_feeds(model)["x"], "dims": np.array([3, 2])}
    before = evaluate(model, feeds)["y"]
    run(model)
    assert ops(model) == ["Reshape", "MatMul"]
    np.testing.assert_array_equal(evaluate(model, feeds)["y"], before)
