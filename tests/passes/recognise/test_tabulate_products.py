"""tabulate-products: what depends on one code is a table of its values."""

from __future__ import annotations

import numpy as np
import onnxruntime as ort
import pytest

from snnc.coding import CodeBook
from snnc.ir import attributes, clone, constant, to_bytes
from snnc.ops import attach_functions
from snnc.passes.recognise import TabulateProducts
from snnc.passes.recognise.uniform import quantise_attributes

CONSTANTS = (
    "float s = {0.25}, float t = {0.0625}, float h = {0.5}, float one = {1}, float[2, 1, 1] c = {1, 2}"
)
SEVERAL = "its operands come from more than one code"


def listed(low: int, high: int) -> str:
    attrs = quantise_attributes(CodeBook.uniform(low, high), "even")
    return ", ".join(
        f"{key} = {list(value) if not isinstance(value, str | int) else repr(value)}"
        for key, value in attrs.items()
    ).replace("'", '"')


def q(u: str, y: str, step: str = "s", low: int = -8, high: int = 7) -> str:
    return f"{y} = ai.snnc.Quantise<{listed(low, high)}>({u}, {step})"


def numbers(model):
    """Outputs of a model in onnxruntime for random inputs that reach every code."""
    copy = clone(model)
    attach_functions(copy)
    feeds = {"x": (np.random.default_rng(1).standard_normal((3, 2, 4, 4)) * 2).astype(np.float32)}
    session = ort.InferenceSession(to_bytes(copy), providers=["CPUExecutionProvider"])
    return session.run(None, feeds)


def graph(parse, body, outputs="float[N, 2, 4, 4] y"):
    return parse(f"g (float[N, 2, 4, 4] x) => ({outputs}) <{CONSTANTS}> {{ {body} }}")


@pytest.mark.parametrize(
    "inner",
    [
        f"e = Sigmoid(a) {q('e', 'f', 't', 0, 15)} y = Mul(a, f)",
        (
            f"d = Mul(a, h) e = Erf(d) {q('e', 'f', 't')} g = Add(f, one) {q('g', 'i', 't', 0, 31)} "
            f"j = Mul(a, i) {q('j', 'k')} y = Mul(k, h)"
        ),
        "y = Mul(a, a)",
        # Constants of one element with axes, as torch writes the slope of a PReLU.
        f"e = PRelu(a, slope) {q('e', 'f', 't')} y = Mul(f, f)",
        "e = Abs(a) f = Add(e, one) y = Div(a, f)",
        "y = Pow(a, three)",
        "e = Pow(a, three) f = Mul(e, h) g = Add(a, f) i = Tanh(g) y = Mul(a, i)",
    ],
)
def test_a_function_of_one_code_becomes_a_table(parse, inner):
    body = inner.replace("three", "cube")
    model = parse(
        f"g (float[N, 2, 4, 4] x) => (float[N, 2, 4, 4] z) <{CONSTANTS}, float cube = {{3}}, "
        "float[1, 1] slope = {0.25}> "
        f"{{ {q('x', 'a')} {body} {q('y', 'z')} }}"
    )
    before = numbers(model)
    result = TabulateProducts().run(model)
    np.testing.assert_array_equal(numbers(model), before)
    assert not TabulateProducts().run(model).rewrites
    # What comes behind the outermost product may stay.
    assert "Table" in [node.op_type for node in model.graph]
    assert sum(node.op_type in ("Mul", "Div", "Pow", "Sigmoid", "Erf") for node in model.graph) <= 1
    assert result.notes


@pytest.mark.parametrize(
    "move",
    [
        "b = Transpose<perm = [0, 1, 3, 2]>(a)",
        "b = Pad(a, widths)",
        "b = MaxPool<kernel_shape = [2, 2]>(a)",
        "v = Transpose<perm = [0, 1, 3, 2]>(a) b = Pad(v, widths)",
    ],
)
def test_codes_that_were_moved_are_codes(parse, move):
    """A Pow behind a Pad was left over, and refused."""
    model = parse(
        f"g (float[N, 2, 4, 4] x) => (float[N, 2, P, Q] z) <{CONSTANTS}, float cube = {{3}}, "
        f"int64[8] widths = {{0, 0, 1, 0, 0, 0, 0, 1}}> "
        f"{{ {q('x', 'a')} {move} y = Pow(b, cube) {q('y', 'z')} }}"
    )
    before = numbers(model)
    result = TabulateProducts().run(model)
    np.testing.assert_array_equal(numbers(model), before)
    assert result.rewrites and "Pow" not in [node.op_type for node in model.graph]


def test_the_values_are_those_of_each_code(parse):
    model = graph(parse, f"{q('x', 'a')} y = Mul(a, a)")
    TabulateProducts().run(model)
    (table,) = [node for node in model.graph if node.op_type == "Table"]
    codes = np.arange(-8, 8) * 0.25
    assert attributes(table)["smallest"] == -8
    np.testing.assert_array_equal(constant(table.inputs[2]), codes**2)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (
            f"{q('x', 'a')} n = Neg(x) {q('n', 'b')} y = Mul(a, b)",
            SEVERAL,
        ),
        ("y = Mul(x, x)", SEVERAL),
        (f"{q('x', 'a', 'c')} y = Mul(a, a)", "the step of its code differs between channels"),
        (f"{q('x', 'a')} b = Sub(a, a) y = Div(one, b) ", None),
        (f"{q('x', 'a')} b = Mul(a, c) y = Mul(a, b)", SEVERAL),
        (f"{q('x', 'a')} b = Log(a) y = Mul(a, b)", "a value of it is not a number"),
        (f"{q('x', 'a')} y = Pow(a, c)", "a constant of it differs between elements"),
        (
            f"{q('x', 'a')} b = GlobalAveragePool(a) y = Mul(a, b)",
            SEVERAL,
        ),
    ],
)
def test_leaves_alone(parse, body, reason):
    model = graph(parse, body)
    result = TabulateProducts().run(model)
    assert not result.rewrites
    assert [entry.reason for entry in result.not_matched][:1] == ([reason] if reason else [])


def test_a_pole_reads_the_nearest_level(parse):
    model = graph(parse, f"{q('x', 'a', low=0, high=15)} y = Reciprocal(a)")
    result = TabulateProducts().run(model)
    (table,) = [node for node in model.graph if node.op_type == "Table"]
    codes = np.maximum(np.arange(16), 1) * 0.25
    np.testing.assert_array_equal(constant(table.inputs[2]), np.float32(1) / codes.astype(np.float32))
    assert "1 levels read the value of the nearest one" in result.notes[0]


def test_long_code(parse):
    model = graph(parse, "a = Identity(x) y = Mul(a, a)")
    node = model.graph.node(0)
    from snnc.ir.rewrite import set_attribute

    node.op_type, node.domain = "Quantise", "ai.snnc"
    node.resize_inputs(2)
    node.replace_input_with(1, model.graph.initializers["s"])
    for key, value in quantise_attributes(CodeBook.uniform(0, 5000), "even").items():
        set_attribute(node, key, value)
    result = TabulateProducts().run(model)
    assert [entry.reason for entry in result.not_matched] == ["its code has more than 4096 levels"]


def test_inner_products_that_others_read_stay(parse):
    body = f"{q('x', 'a')} b = Mul(a, a) {q('b', 'd')} e = Mul(a, d) {q('e', 'y')} n = Neg(d) {q('n', 'w')}"
    model = graph(parse, body, "float[N, 2, 4, 4] y, float[N, 2, 4, 4] w")
    before = numbers(model)
    TabulateProducts().run(model)
    np.testing.assert_array_equal(numbers(model), before)
    assert [node.op_type for node in model.graph].count("Table") == 2
