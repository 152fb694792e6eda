"""recognise-activations: every way to write an activation function, and what only looks like one."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from snnc.ir import attributes, constant
from snnc.ops import attach_functions
from snnc.passes.recognise import RecogniseActivations
from snnc.passes.recognise.recognise_activations import FUSED, PATTERNS

NUMBERS = {
    "half": 0.5, "one": 1, "two": 2, "three": 3, "six": 6, "zero": 0, "root": 2**0.5, "inv": 0.5**0.5,
    "c": 0.044715, "k": (2 / np.pi) ** 0.5, "q": 1.702, "nq": -1.702, "sixth": 1 / 6,
    "ck": 0.044715 * (2 / np.pi) ** 0.5,
    "k2": 2 * (2 / np.pi) ** 0.5, "wrong": 0.6, "c20": 20, "halfq": 0.851, "neg": -1, "minus": -0.5,
}  # fmt: skip
WEIGHTS = ", ".join(f"float {name} = {{{value}}}" for name, value in NUMBERS.items())


def model_of(parse, body, outputs="float[N, 7] y", opset=17):
    header = (
        f'<ir_version: 10, opset_import: ["" : {opset}, "ai.snnc" : 1, "com.microsoft" : 1]>\n'
        if opset
        else ""
    )
    return parse(
        f"{header}g (float[N, 7] x, float[N, 7] z) => ({outputs}) "
        f"<{WEIGHTS}, float[7] b = {{1, 2, 3, 4, 5, 6, 7}}> {{ {body} }}"
    )


def run(parse, evaluate, body, *, opset=17, tolerance=2e-6):
    """Recognise, and compare the numbers of the result with those of the source."""
    model = model_of(parse, body, opset=opset)
    x = np.linspace(-9, 9, 35, dtype=np.float32).reshape(5, 7)
    feeds = {"x": x, "z": np.ones_like(x)}
    before = evaluate(model, feeds)["y"]
    result = RecogniseActivations().run(model)
    attach_functions(model)
    onnx.checker.check_model(ir.to_proto(model))
    assert np.abs(evaluate(model, feeds)["y"] - before).max() <= tolerance * 9
    assert not RecogniseActivations().run(model).rewrites
    return model, result


GELU_ERF = [
    "a = Div(x, root) e = Erf(a) s = Add(e, one) m = Mul(x, s) y = Mul(m, half)",
    "a = Mul(x, inv) e = Erf(a) s = Add(one, e) h = Mul(half, x) y = Mul(h, s)",
    "a = Div(x, root) e = Erf(a) s = Add(e, one) h = Mul(s, half) y = Mul(h, x)",
    "a = Div(x, root) e = Erf(a) h = Mul(e, half) s = Add(h, half) y = Mul(x, s)",
    "a = Div(x, root) e = Erf(a) s = Add(e, one) m = Mul(s, x) y = Div(m, two)",
    "h = Mul(x, half) a = Div(x, root) e = Erf(a) p = Mul(h, e) y = Add(h, p)",
    "n = Neg(x) a = Div(n, root) e = Erf(a) s = Sub(e, one) h = Mul(x, s) y = Mul(h, minus)",
]
GELU_TANH = [
    (
        "p = Pow(x, three) q1 = Mul(p, c) s = Add(x, q1) "
        "a = Mul(s, k) t = Tanh(a) u = Add(t, one) h = Mul(x, half) y = Mul(h, u)"
    ),
    (
        "x2 = Mul(x, x) x3 = Mul(x2, x) q1 = Mul(c, x3) s = Add(q1, x) "
        "a = Mul(k, s) t = Tanh(a) u = Add(one, t) m = Mul(x, u) y = Mul(half, m)"
    ),
    (
        "x2 = Mul(x, x) q1 = Mul(c, x2) w = Add(one, q1) v = Mul(x, k) "
        "a = Mul(v, w) t = Tanh(a) u = Add(one, t) m = Mul(x, u) y = Mul(half, m)"
    ),
    (
        "x2 = Pow(x, two) q1 = Mul(ck, x2) w = Add(k, q1) "
        "a = Mul(x, w) t = Tanh(a) u = Add(one, t) h = Mul(half, u) y = Mul(x, h)"
    ),
    (
        "x2 = Mul(x, x) q1 = Mul(c, x2) w = Add(one, q1) v = Mul(x, k2) "
        "a = Mul(v, w) t = Sigmoid(a) y = Mul(x, t)"
    ),
]
HARD_SWISH = [
    "a = Add(x, three) r = Clip(a, zero, six) m = Mul(x, r) y = Div(m, six)",
    "a = Add(x, three) r = Clip(a, zero, six) d = Div(r, six) y = Mul(x, d)",
    "a = Mul(x, sixth) w = Add(a, half) r = Clip(w, zero, one) y = Mul(r, x)",
    "r = HardSigmoid<alpha = 0.16666667, beta = 0.5>(x) y = Mul(x, r)",
]
MISH = [
    "s = Softplus(x) t = Tanh(s) y = Mul(x, t)",
    "e = Exp(x) w = Add(e, one) l = Log(w) t = Tanh(l) y = Mul(t, x)",
]


@pytest.mark.parametrize(
    ("body", "op", "attrs"),
    [
        *((body, "Gelu", {"tanh": 0}) for body in GELU_ERF),
        *((body, "Gelu", {"tanh": 1}) for body in GELU_TANH),
        *((body, "HardSwish", {}) for body in HARD_SWISH),
        *((body, "Mish", {}) for body in MISH),
    ],
)
def test_every_form(parse, evaluate, ops, body, op, attrs):
    model, result = run(parse, evaluate, body)
    assert ops(model) == [op]
    (node,) = model.graph
    assert attributes(node) == attrs and node.domain == "ai.snnc"
    assert node.outputs[0].name == "y" and node.inputs[0].name == "x"
    assert len(result.notes) >= 1


@pytest.mark.parametrize(
    ("body", "alpha"),
    [
        ("s = Sigmoid(x) y = Mul(x, s)", 1.0),
        ("a = Mul(x, q) s = Sigmoid(a) y = Mul(s, x)", 1.702),
        ("a = Mul(q, x) n = Neg(a) e = Exp(n) d = Add(e, one) y = Div(x, d)", 1.702),
        ("a = Mul(x, nq) e = Exp(a) d = Add(one, e) r = Reciprocal(d) y = Mul(x, r)", 1.702),
        ("a = Mul(x, halfq) t = Tanh(a) u = Add(t, one) m = Mul(x, u) y = Mul(m, half)", 1.702),
        ("y = com.microsoft.QuickGelu(x)", 1.702),
        ("y = com.microsoft.QuickGelu<alpha = 1.0>(x)", 1.0),
    ],
)
def test_silu(parse, evaluate, ops, body, alpha):
    model, _ = run(parse, evaluate, body)
    assert ops(model) == ["Silu"]
    assert float(constant(model.graph[0].inputs[1])) == pytest.approx(alpha, rel=1e-6)


@pytest.mark.parametrize(
    ("body", "opset", "attrs"),
    [
        ("y = Gelu(x)", 20, {"tanh": 0}),
        ('y = Gelu<approximate = "tanh">(x)', 20, {"tanh": 1}),
        ("y = com.microsoft.Gelu(x)", 17, {"tanh": 0}),
        ("y = com.microsoft.FastGelu(x)", 17, {"tanh": 1}),
    ],
)
def test_fused(parse, evaluate, ops, body, opset, attrs):
    model, _ = run(parse, evaluate, body, opset=opset)
    assert ops(model) == ["Gelu"] and attributes(model.graph[0]) == attrs


@pytest.mark.parametrize(("op", "tanh"), [("FastGelu", 1), ("BiasGelu", 0)])
def test_fused_bias(parse, evaluate, ops, op, tanh):
    model, _ = run(parse, evaluate, f"y = com.microsoft.{op}(x, b)", tolerance=1e-5)
    assert ops(model) == ["Add", "Gelu"] and attributes(model.graph[1]) == {"tanh": tanh}


@pytest.mark.parametrize(
    ("body", "op"),
    [
        ("e = Exp(x) w = Add(one, e) y = Log(w)", "Softplus"),
        ("a = Abs(x) w = Add(one, a) y = Div(x, w)", "Softsign"),
    ],
)
def test_standard_ops(parse, evaluate, ops, body, op):
    model, _ = run(parse, evaluate, body)
    assert ops(model) == [op] and model.graph[0].domain == ""


def test_the_variable_may_be_any_expression(parse, evaluate, ops):
    """A bias per channel or a scale in front belongs to the variable; a residual behind stays."""
    body = "v = Add(x, b) " + GELU_ERF[0].replace("x,", "v,").replace("y =", "g1 =") + " y = Add(g1, v)"
    model, _ = run(parse, evaluate, body)
    assert ops(model) == ["Add", "Gelu", "Add"]
    body = "v = Mul(x, two) s = Sigmoid(v) y = Mul(v, s)"
    model, _ = run(parse, evaluate, body, tolerance=4e-6)
    assert ops(model) == ["Mul", "Silu"]
    assert float(constant(model.graph[1].inputs[1])) == 1.0


def test_parts_that_others_read_stay(parse, evaluate, ops):
    model = model_of(parse, "s = Sigmoid(x) y = Mul(x, s) w = Neg(s)", "float[N, 7] y, float[N, 7] w")
    RecogniseActivations().run(model)
    assert sorted(ops(model)) == ["Neg", "Sigmoid", "Silu"]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (
            "a = Div(x, root) e = Erf(a) s = Add(e, one) m = Mul(x, s) y = Mul(m, wrong)",
            "gelu-erf: 0.6 stands where 0.5 should",
        ),
        (
            "a = Div(x, two) e = Erf(a) s = Add(e, one) m = Mul(x, s) y = Mul(m, half)",
            "stands where 0.7071068",
        ),
        ("a = Neg(x) s = Sigmoid(a) y = Mul(x, s)", "silu: -1 stands where a positive number should"),
        ("e = Erf(x) y = Mul(e, half)", "no GELU around it"),
    ],
)
def test_reasons(parse, ops, body, reason):
    model = model_of(parse, body)
    before = ops(model)
    result = RecogniseActivations().run(model)
    assert ops(model) == before and not result.rewrites
    assert any(reason in entry.reason for entry in result.not_matched), result.not_matched


@pytest.mark.parametrize(
    "body",
    [
        "s = Sigmoid(z) y = Mul(x, s)",
        "s = Sigmoid(x) t = Sigmoid(s) y = Mul(x, t)",
        "a = Mul(x, q) s = Sigmoid(a) r = Sigmoid(x) m = Mul(s, r) y = Mul(x, m)",
        "a = Add(x, three) r = Clip(a, one, six) m = Mul(x, r) y = Div(m, six)",
        "s = Sigmoid(x) y = Mul(s, b)",
        "a = Mul(x, b) s = Sigmoid(a) y = Mul(x, s)",
        "p = Pow(x, x) s = Sigmoid(p) y = Mul(x, s)",
        "y = com.microsoft.QuickGelu<alpha = -1.0>(x)",
    ],
)
def test_look_alikes_stay(parse, ops, body):
    model = model_of(parse, body)
    before = ops(model)
    assert not RecogniseActivations().run(model).rewrites
    assert ops(model) == before


def test_rough_constants_are_noted(parse):
    body = "a = Mul(x, rough) e = Erf(a) s = Add(e, one) m = Mul(x, s) y = Mul(m, half)"
    text = f"g (float[N, 7] x) => (float[N, 7] y) <{WEIGHTS}, float rough = {{0.70703125}}> {{ {body} }}"
    result = RecogniseActivations().run(parse(text))
    assert "within 0.0001" in result.rewrites[0].note and "within 0.0001" in result.notes[0]


def test_patterns_are_consistent():
    """Each pattern has as many numbers as its structure, and a name of its own."""
    assert len({pattern.name for pattern in PATTERNS}) == len(PATTERNS)
    assert {pattern.op_type for pattern in PATTERNS} == {
        "Gelu",
        "Silu",
        "HardSwish",
        "Mish",
        "Softplus",
        "Softsign",
    }
    assert {entry[0] for entry in FUSED.values()} == {"Gelu", "Silu"}


ELU = "e = Exp(x) d = Sub(e, one) n = Mul(d, half) "


@pytest.mark.parametrize(
    ("body", "ops"),
    [
        ("g = Greater(x, zero) y = Where(g, x, zero)", ["Relu"]),
        ("g = Less(x, zero) y = Where(g, zero, x)", ["Relu"]),
        ("g = GreaterOrEqual(x, zero) n = Mul(x, half) y = Where(g, x, n)", ["LeakyRelu"]),
        ("g = Less(zero, x) n = Div(x, six) y = Where(g, x, n)", ["LeakyRelu"]),
        ("g = Greater(x, zero) " + ELU + "y = Where(g, x, n)", ["Elu"]),
        ("g = LessOrEqual(x, zero) " + ELU + "y = Where(g, n, x)", ["Elu"]),
        ("p = Softplus(x) g = Greater(x, twenty) y = Where(g, x, p)", ["Softplus"]),
        (
            "w = Mul(x, two) s = Softplus(w) p = Div(s, two) g = Greater(w, twenty) y = Where(g, x, p)",
            ["Mul", "Softplus", "Div"],
        ),
        # What only looks like one.
        ("p = Softplus(x) g = Greater(x, two) y = Where(g, x, p)", ["Softplus", "Greater", "Where"]),
        ("g = Greater(x, two) y = Where(g, x, zero)", ["Greater", "Where"]),
        ("g = Greater(z, zero) y = Where(g, x, zero)", ["Greater", "Where"]),
        ("g = Greater(x, zero) n = Neg(x) y = Where(g, x, n)", ["Greater", "Neg", "Where"]),
        (
            "g = Greater(x, zero) e = Exp(x) d = Sub(e, half) y = Where(g, x, d)",
            ["Greater", "Exp", "Sub", "Where"],
        ),
    ],
)
def test_choices_of_branches(parse, evaluate, body, ops):
    model, _ = run(parse, evaluate, body.replace("twenty", "c20"))
    assert [node.op_type for node in model.graph] == ops


#: Five values whose squared sum has more terms than any function that is known.
MANY = (
    "a = Tanh(x) r = Erf(x) u = Sigmoid(x) d = Exp(x) e = Add(a, r) f = Add(u, d) g = Add(e, f) "
    "h = Add(g, x) "
)


@pytest.mark.parametrize(
    "body",
    [
        MANY + "y = Mul(h, h)",
        "d = Sub(x, x) t = Tanh(d) y = Mul(x, t)",
        "l = Mul(z, two) t = Clip(x, l, six) y = Mul(x, t)",
        "t = Clip(x, , six) y = Mul(x, t)",
        "t = Clip(x, half, six) y = Mul(x, t)",
        # A choice whose branches are not functions of one value, or are of another shape.
        "u = Greater(x, zero) y = Where(u, x, z)",
        "u = Greater(x, zero) m = Mul(x, halves) w = Where(u, x, m) y = Squeeze(w, front)",
    ],
)
def test_what_has_no_normal_form_stays(parse, ops, body):
    header = '<ir_version: 10, opset_import: ["" : 17, "ai.snnc" : 1]>\n'
    weights = f"{WEIGHTS}, float[1, 1, 1] halves = {{0.5}}, int64[1] front = {{0}}"
    model = parse(f"{header}g (float[N, 7] x, float[N, 7] z) => (float[N, 7] y) <{weights}> {{ {body} }}")
    before = ops(model)
    assert not RecogniseActivations().run(model).rewrites
    assert ops(model) == before
