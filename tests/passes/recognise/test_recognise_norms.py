"""recognise-norms: every way to write layer normalisation, and what only looks like it."""

from __future__ import annotations

import numpy as np
import pytest

from snnc.ir import attributes, constant
from snnc.ops import attach_functions
from snnc.passes.recognise.recognise_norms import RecogniseNorms

CONSTANTS = (
    "float two = {2}, float eps = {0.00001}, float[4] g = {1, -2, 0, 0.5}, float[1, 1, 4] b = {1, 2, 3, 4}, "
    "float[3, 1] odd = {1, 2, 3}"
)
MEAN = "m = ReduceMean<axes = [-1], keepdims = 1>(x) d = Sub(x, m) "
VARIANCE = "p = Pow(d, two) v = ReduceMean<axes = [2]>(p) a = Add(v, eps) s = Sqrt(a) "


def model_of(parse, body, opset=17):
    header = f'<ir_version: 10, opset_import: ["" : {opset}, "ai.snnc" : 1]>\n'
    return parse(f"{header} g (float[N, 3, 4] x) => (float[N, 3, 4] y) <{CONSTANTS}> {{ {body} }}")


@pytest.mark.parametrize(
    ("body", "after", "inputs"),
    [
        (MEAN + VARIANCE + "y = Div(d, s)", ["LayerNormalization"], 2),
        (MEAN + VARIANCE + "n = Div(d, s) y = Mul(g, n)", ["LayerNormalization"], 2),
        (MEAN + VARIANCE + "n = Div(d, s) w = Mul(n, g) y = Add(w, b)", ["LayerNormalization"], 3),
        (
            MEAN
            + "e = Sub(x, m) p = Mul(e, e) v = ReduceMean<axes = [-1]>(p) a = Add(eps, v) s = Sqrt(a) "
            + "r = Reciprocal(s) n = Mul(d, r) w = Mul(n, g) y = Add(b, w)",
            ["LayerNormalization"],
            3,
        ),
        (MEAN + VARIANCE + "n = Div(d, s) y = Mul(n, odd)", ["LayerNormalization", "Mul"], 2),
    ],
)
def test_same_numbers(parse, check, ops, body, after, inputs):
    model = model_of(parse, body)
    check(RecogniseNorms(), model, tolerance=1e-5)
    assert ops(model) == after
    norm = model.graph[0]
    assert len(norm.inputs) == inputs
    assert attributes(norm)["epsilon"] == pytest.approx(1e-5)
    assert model.graph.outputs[0].name == "y"


# The variance of a sample, four elements: the mean of squares times four thirds.
SAMPLE = "p = Mul(d, d) v = ReduceMean<axes = [2]>(p) w = Mul(v, four) u = Div(w, three) "


@pytest.mark.parametrize(
    ("body", "epsilon", "size"),
    [
        (SAMPLE + "a = Add(u, eps) s = Sqrt(a) y = Div(d, s)", 0.75e-5, 1),
        (SAMPLE + "s = Sqrt(u) e = Add(s, eps) n = Div(d, e) y = Mul(n, g)", 0.75e-10, [1, -2, 0, 0.5]),
        (SAMPLE + "s = Sqrt(u) e = Add(s, eps) t = Mul(g, d) y = Div(t, e)", 0.75e-10, [1, -2, 0, 0.5]),
        (
            SAMPLE.replace("[2]>", "[2], keepdims = 0>")
            + "r = Unsqueeze(u, last) a = Add(r, eps) s = Sqrt(a) y = Div(d, s)",
            0.75e-5,
            1,
        ),
    ],
)
def test_variance_of_a_sample(parse, check, ops, body, epsilon, size):
    more = ", float four = {4}, float three = {3}, int64[1] last = {2}"
    header = '<ir_version: 10, opset_import: ["" : 17, "ai.snnc" : 1]>'
    text = f"{header} g (float[N, 3, 4] x) => (float[N, 3, 4] y) <{CONSTANTS}{more}> {{ {MEAN + body} }}"
    model = parse(text)
    check(RecogniseNorms(), model, tolerance=1e-4)
    norm = model.graph[0]
    assert norm.op_type == "LayerNormalization"
    assert attributes(norm)["epsilon"] == pytest.approx(epsilon)
    assert np.allclose(constant(norm.inputs[1]), np.asarray(size) * 0.75**0.5)


@pytest.mark.parametrize(
    "body",
    [
        SAMPLE + "s = Sqrt(u) e = Add(s, one) y = Div(d, e)",
        SAMPLE + "a = Add(u, eps) s = Sqrt(a) t = Mul(odd, d) y = Div(t, s)",
        "p = Mul(d, d) v = ReduceMean<axes = [2], keepdims = 0>(p) a = Add(v, eps) s = Sqrt(a) y = Div(d, s)",
        "p = Mul(d, d) v = ReduceMean<axes = [2]>(p) u = Div(one, v) s = Sqrt(u) y = Div(d, s)",
    ],
)
def test_what_only_looks_like_a_variance_of_a_sample(parse, ops, body):
    more = ", float four = {4}, float three = {3}, float one = {1}"
    header = '<ir_version: 10, opset_import: ["" : 17, "ai.snnc" : 1]>'
    text = f"{header} g (float[N, 4, 4] x) => (float[N, 4, 4] y) <{CONSTANTS}{more}> {{ {MEAN + body} }}"
    model = parse(text.replace("float[3, 1] odd = {1, 2, 3}", "float[4, 1] odd = {1, 2, 3, 4}"))
    RecogniseNorms().run(model)
    assert "LayerNormalization" not in ops(model)


ROOT = "p = Pow(x, two) v = ReduceMean<axes = [2]>(p) a = Add(v, eps) "


@pytest.mark.parametrize(
    ("body", "after"),
    [
        (ROOT + "s = Sqrt(a) n = Div(x, s) y = Mul(n, g)", ["RMSNorm"]),
        (ROOT + "s = Sqrt(a) r = Reciprocal(s) n = Mul(x, r) y = Mul(g, n)", ["RMSNorm"]),
        (ROOT + "s = Sqrt(a) r = Div(one, s) y = Mul(r, x)", ["RMSNorm"]),
        (ROOT + "r = Pow(a, inverse) n = Mul(x, r) w = Mul(n, g) y = Add(w, b)", ["RMSNorm", "Add"]),
        (
            "q = Mul(x, x) v = ReduceMean<axes = [-1]>(q) a = Add(v, eps) s = Pow(a, half) y = Div(x, s)",
            ["RMSNorm"],
        ),
        ("l = ReduceL2<axes = [-1]>(x) c = Clip(l, eps) y = Div(x, c)", ["RMSNorm"]),
        (
            "p = Mul(x, x) t = ReduceSum(p, last) l = Sqrt(t) c = Max(l, eps) n = Div(x, c) y = Mul(n, g)",
            ["RMSNorm"],
        ),
        ("p = Pow(x, two) t = ReduceSum(p, last) l = Pow(t, half) y = Div(x, l)", ["RMSNorm"]),
        # What is normalised is a product itself, of which the deviation is not the other factor.
        (
            ROOT.replace("Pow(x", "Pow(h").replace("p =", "h = Mul(x, half) p =")
            + "s = Sqrt(a) y = Div(h, s)",
            ["Mul", "RMSNorm"],
        ),
        (ROOT + "s = Sqrt(a) h = Mul(x, g) y = Div(h, s)", ["RMSNorm"]),
        ("l = ReduceL2<axes = [-1]>(x) c = Clip(l, eps) e = Expand(c, dims) y = Div(x, e)", ["RMSNorm"]),
        # Squares and their root in higher precision.
        (
            (
                "h = Cast<to = 11>(x) p = Mul(h, h) v = ReduceMean<axes = [2]>(p) a = Add(v, fine) "
                "s = Sqrt(a) "
                "r = Cast<to = 1>(s) y = Div(x, r)"
            ),
            ["RMSNorm"],
        ),
    ],
)
def test_root_mean_squares_and_lengths(parse, ops, evaluate, random_feeds, body, after):
    more = (
        ", float one = {1}, float half = {0.5}, float inverse = {-0.5}, int64[1] last = {2}, "
        "int64[3] dims = {1, 3, 4}, double fine = {0.00001}"
    )
    header = '<ir_version: 10, opset_import: ["" : 17, "ai.snnc" : 1]>'
    model = parse(f"{header} g (float[N, 3, 4] x) => (float[N, 3, 4] y) <{CONSTANTS}{more}> {{ {body} }}")
    feeds = random_feeds(model)
    expected = evaluate(model, feeds)["y"]
    RecogniseNorms().run(model)
    assert ops(model) == after
    attach_functions(model)
    np.testing.assert_allclose(evaluate(model, feeds)["y"], expected, rtol=2e-5, atol=2e-5)


def test_older_opset_is_raised(parse, check, ops):
    model = model_of(parse, MEAN + VARIANCE + "n = Div(d, s) y = Mul(n, g)", opset=13)
    check(RecogniseNorms(), model, tolerance=1e-5)
    assert ops(model) == ["LayerNormalization"]
    assert model.graph.opset_imports[""] == 17
    assert constant(model.graph[0].inputs[1]).tolist() == [1, -2, 0, 0.5]


@pytest.mark.parametrize(
    "body",
    [
        "s = Sqrt(x) y = Div(x, s)",
        MEAN + VARIANCE + "y = Div(x, s)",
        MEAN + VARIANCE.replace("Pow(d, two)", "Pow(d, g)") + "y = Div(d, s)",
    ],
)
def test_left_alone(parse, ops, body):
    model = model_of(parse, body)
    before = ops(model)
    assert not RecogniseNorms().run(model).rewrites
    assert ops(model) == before


IMAGE = "float[N, 4, 3, 5] x) => (float[N, 4, 3, 5] y)"
OF_IMAGES = (
    "float two = {2}, float eps = {0.00001}, float[4, 1, 1] g = {1, -2, 0, 0.5}, "
    "float[1, 4, 1, 1] b = {1, 2, 3, 4}, float[5] row = {1, 2, 3, 4, 5}"
)


def centred(axes, scale=""):
    return (
        f"m = ReduceMean<axes = {axes}>(x) d = Sub(x, m) p = Pow(d, two) v = ReduceMean<axes = {axes}>(p) "
        f"a = Add(v, eps) s = Sqrt(a) n = Div(d, s) {scale}"
    )


AFFINE = "w = Mul(n, g) y = Add(w, b)"
AROUND = ["Transpose", "LayerNormalization", "Transpose"]
FOLDED = ["Transpose", "Reshape", "LayerNormalization", "Reshape", "Transpose"]


@pytest.mark.parametrize(
    ("body", "after"),
    [
        (centred([1], AFFINE), AROUND),
        (centred([-3], "w = Mul(n, row) y = Add(w, b)"), [*AROUND, "Mul", "Add"]),
        (centred([2], AFFINE), [*AROUND, "Mul", "Add"]),
        (centred([2, 3], AFFINE), ["Reshape", "LayerNormalization", "Reshape", "Mul", "Add"]),
        (centred([1, 3], AFFINE), [*FOLDED, "Mul", "Add"]),
        (centred([-1, 1, 2], AFFINE), ["Reshape", "LayerNormalization", "Reshape", "Mul", "Add"]),
        (
            ROOT.replace("2", "1") + "s = Sqrt(a) n = Div(x, s) y = Mul(n, g)",
            ["Transpose", "RMSNorm", "Transpose"],
        ),
        ("l = ReduceL2<axes = [1]>(x) c = Clip(l, eps) y = Div(x, c)", ["Transpose", "RMSNorm", "Transpose"]),
        ("l = ReduceL2<axes = [2, 3]>(x) c = Max(l, eps) y = Div(x, c)", ["Reshape", "RMSNorm", "Reshape"]),
    ],
)
def test_other_axes(parse, evaluate, random_feeds, ops, body, after):
    header = '<ir_version: 10, opset_import: ["" : 17, "ai.snnc" : 1]>'
    model = parse(f"{header} g ({IMAGE} <{OF_IMAGES}> {{ {body} }}")
    feeds = random_feeds(model)
    expected = evaluate(model, feeds)["y"]
    RecogniseNorms().run(model)
    assert ops(model) == after
    attach_functions(model)
    np.testing.assert_allclose(evaluate(model, feeds)["y"], expected, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize(
    ("shape", "axes", "reason"),
    [
        ("[N, 4, 3, 5]", [0, 2], "it normalises the batch"),
        ("[N, 4, H, 5]", [1, 3], "its sizes are not static"),
    ],
)
def test_axes_that_stay(parse, ops, shape, axes, reason):
    header = '<ir_version: 10, opset_import: ["" : 17]>'
    body = centred(axes, "y = Mul(n, two)")
    model = parse(f"{header} g (float{shape} x) => (float{shape} y) <{OF_IMAGES}> {{ {body} }}")
    result = RecogniseNorms().run(model)
    assert not result.rewrites
    assert [entry.reason for entry in result.not_matched] == [reason]


def test_one_axis_among_open_ones(parse, ops):
    """The normalisation of channels does not ask for the size of the image."""
    header = '<ir_version: 10, opset_import: ["" : 17]>'
    body = centred([1], AFFINE)
    model = parse(f"{header} g (float[N, 4, H, W] x) => (float[N, 4, H, W] y) <{OF_IMAGES}> {{ {body} }}")
    assert RecogniseNorms().run(model).rewrites
    assert ops(model) == AROUND


DOT = "q = Mul(x, z) t = ReduceSum<keepdims = 0>(q, last) "
LENGTHS = (
    "xx = Mul(x, x) zz = Pow(z, two) sx = ReduceSum<keepdims = 0>(xx, last) "
    "sz = ReduceSum<keepdims = 0>(zz, last) "
)


@pytest.mark.parametrize(
    ("body", "norms"),
    [
        (DOT + LENGTHS + "s = Mul(sx, sz) r = Sqrt(s) m = Max(r, eps) y = Div(t, m)", 2),
        (DOT + LENGTHS + "s = Mul(sz, sx) r = Sqrt(s) y = Div(t, r)", 2),
        # The length of one vector twice, and sums over other axes, are no cosine.
        (DOT + LENGTHS + "s = Mul(sx, sx) r = Sqrt(s) m = Max(r, eps) y = Div(t, m)", 0),
    ],
)
def test_cosines(parse, ops, evaluate, random_feeds, body, norms):
    model = parse(
        '<ir_version: 10, opset_import: ["" : 17, "ai.snnc" : 1]>\n'
        "g (float[N, 3, 4] x, float[N, 3, 4] z) => (float[N, 3] y) "
        f"<float two = {{2}}, float eps = {{0.00000001}}, int64[1] last = {{-1}}> {{ {body} }}"
    )
    feeds = random_feeds(model)
    expected = evaluate(model, feeds)["y"]
    RecogniseNorms().run(model)
    assert ops(model).count("RMSNorm") == norms
    assert model.graph.outputs[0].name == "y"
    attach_functions(model)
    np.testing.assert_allclose(evaluate(model, feeds)["y"], expected, rtol=2e-5, atol=2e-5)


def lengths(parse, body, shape="N, 3, 4", opset=17):
    header = f'<ir_version: 10, opset_import: ["" : {opset}, "ai.snnc" : 1]>\n'
    more = ", float least = {0.001}"
    model = parse(f"{header} g (float[{shape}] x) => (float[{shape}] y) <{CONSTANTS}{more}> {{ {body} }}")
    attach_functions(model)
    return model


@pytest.mark.parametrize(
    ("body", "shape", "reason"),
    [
        ("l = ReduceL2<axes = [0]>(x) c = Clip(l, eps) y = Div(x, c)", "N, 3, 4", None),
        ("l = ReduceL2<axes = [-1]>(x) c = Clip(l, eps) y = Div(x, c)", "N, 3, C", None),
        # Two bounds of one length: which of them holds depends on both.
        ("l = ReduceL2<axes = [-1]>(x) a = Clip(l, eps) c = Max(a, least) y = Div(x, c)", "N, 3, 4", None),
        (
            "p = Abs(x) v = ReduceMean<axes = [2]>(p) a = Add(v, eps) s = Sqrt(a) y = Div(x, s)",
            "N, 3, 4",
            None,
        ),
        ("p = Mul(x, x) a = Add(p, x) s = Sqrt(a) y = Div(x, s)", "N, 3, 4", None),
        (MEAN + VARIANCE + "y = Div(d, s)", "N, 3, C", None),
        (
            centred([1]).replace("n = Div(d, s)", "t = Mul(d, g) y = Div(t, s)"),
            "N, 3, 4",
            "it is scaled before it is divided, not along its channels",
        ),
        (
            "p = Pow(x, two) v = ReduceMean<axes = [0]>(p) a = Add(v, eps) s = Sqrt(a) y = Div(x, s)",
            "N, 3, 4",
            None,
        ),
    ],
)
def test_what_stays(parse, ops, body, shape, reason):
    model = lengths(parse, body, shape)
    before = ops(model)
    result = RecogniseNorms().run(model)
    assert ops(model) == before and not result.rewrites
    assert reason is None or [entry.reason for entry in result.not_matched] == [reason]


def test_opsets_before_13_have_no_layer_normalisation(parse, ops):
    model = lengths(parse, MEAN + VARIANCE + "y = Div(d, s)", opset=12)
    result = RecogniseNorms().run(model)
    assert [entry.reason for entry in result.not_matched] == ["the model is of an opset before 13"]
    assert "LayerNormalization" not in ops(model) and model.opset_imports[""] == 12


@pytest.mark.parametrize(
    ("dot", "squares", "axis"),
    [
        ("keepdims = 1", "keepdims = 0", 2),
        ("keepdims = 0", "keepdims = 1", 2),
        ("keepdims = 0", "keepdims = 0", 0),
    ],
)
def test_sums_of_other_axes_are_no_cosine(parse, ops, dot, squares, axis):
    model = parse(
        "g (float[4, 4, 4] x, float[4, 4, 4] z) => (float y) "
        f"<int64[1] last = {{{axis}}}> {{ q = Mul(x, z) t = ReduceSum<{dot}>(q, last) xx = Mul(x, x) "
        f"zz = Mul(z, z) sx = ReduceSum<{squares}>(xx, last) sz = ReduceSum<{squares}>(zz, last) "
        "s = Mul(sx, sz) r = Sqrt(s) v = Div(t, r) y = ReduceSum<keepdims = 0>(v) }"
    )
    assert not RecogniseNorms().run(model).rewrites
    assert "Max" not in ops(model)
