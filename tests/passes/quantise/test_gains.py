"""split-softmax and introduce-gains: attention and normalisation as neurons with a gain take them."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from snnc.ir import attributes, constant
from snnc.passes.analysis import Quotient, analyse, as_exact
from snnc.passes.quantise.introduce_gains import IntroduceGains
from snnc.passes.quantise.one_grid import _rounded
from snnc.passes.quantise.split_softmax import SplitSoftmax

TURN = "Transpose<perm = [0, 1, 3, 2]>"
ATTENTION = "g (float[N, 2, 5, 5] s, float[N, 2, 5, 3] v) => (float[N, 2, 5, 3] y) "


@pytest.mark.parametrize("opset", [13, 17, 21])
def test_softmax_of_attention(parse, ops, evaluate, random_feeds, opset):
    header = f'<ir_version: 10, opset_import: ["" : {opset}, "ai.snnc" : 1]>\n'
    model = parse(header + ATTENTION + "{ a = Softmax<axis = -1>(s) y = MatMul(a, v) }")
    feeds = random_feeds(model, spread=2.0)
    expected = evaluate(model, feeds)["y"]
    result = SplitSoftmax(8, 2).run(model)
    assert len(result.rewrites) == 1
    assert ops(model) == ["ReduceMax", "Sub", "Exp", "Quantise", "MatMul", "ReduceSum", "Div"]
    assert model.graph.outputs[0].name == "y"
    assert not SplitSoftmax(8, 2).run(model).rewrites
    from snnc.ops import attach_functions

    attach_functions(model)
    found = evaluate(model, feeds)["y"]
    # The code has 25 levels, the smallest gap between which is 1/192 of the largest.
    assert np.abs(found - expected).max() < 0.2
    assert np.corrcoef(found.reshape(-1), expected.reshape(-1))[0, 1] > 0.99


@pytest.mark.parametrize(
    ("body", "kinds"),
    [
        # Over another axis than the product sums, and read twice: the probabilities are the quotient.
        ("a = Softmax<axis = 2>(s) y = MatMul(a, v)", "Quantise ReduceSum Div MatMul"),
        (
            "a = Softmax(s) w = MatMul(a, v) u = MatMul(a, v) y = Add(u, w)",
            "Quantise ReduceSum Div MatMul MatMul Add",
        ),
        # Through layouts, and as the second operand: the product is divided.
        (
            f"a = Softmax(s) b = {TURN}(a) c = {TURN}(v) d = MatMul(c, b) y = {TURN}(d)",
            "Quantise Transpose Transpose MatMul ReduceSum Div Transpose",
        ),
        (
            "a = Softmax<axis = 2>(s) b = Transpose<perm = [0, 1, 3, 2]>(a) y = MatMul(b, v)",
            "Quantise Transpose MatMul ReduceSum Div",
        ),
    ],
)
def test_where_the_quotient_is_taken(parse, ops, evaluate, random_feeds, body, kinds):
    model = parse(f"{ATTENTION} {{ {body} }}")
    feeds = random_feeds(model, spread=2.0)
    expected = evaluate(model, feeds)["y"]
    SplitSoftmax(8, 8).run(model)
    assert ops(model)[-len(kinds.split()) :] == kinds.split()
    from snnc.ops import attach_functions

    attach_functions(model)
    assert np.abs(evaluate(model, feeds)["y"] - expected).max() < 0.03


def test_softmax_over_several_axes_is_left_alone(parse):
    header = '<ir_version: 7, opset_import: ["" : 11, "ai.snnc" : 1]>'
    model = parse(f"{header} {ATTENTION} {{ a = Softmax<axis = 2>(s) y = MatMul(a, v) }}")
    result = SplitSoftmax().run(model)
    assert not result.rewrites
    assert "several axes" in result.not_matched[0].reason


QUANTISE = (
    'Quantise<timesteps = 4, groups = 4, partition = "interleaved", signed = 0, smallest = 0, largest = 15, '
    'ties = "away", codes = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15], '
    "twice_midpoints = [1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29], "
    "closed = [1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1]>"
)


def norm_model(parse, numerators: str, extra: str = ""):
    """A code, integer weights with one step for each of 4 channels, a bias, and a normalisation."""
    return parse(
        f"""g (float[N, 3] x) => (float[N, 4] y) <float step = {{0.25}},
        int8[3, 4] w = {{5, -3, 7, 1, 2, 2, -9, 4, 1, 0, 3, -2}},
        double[1, 4] num = {{{numerators}}}, double den = {{0.25}}, float[4] bias = {{0.3, -0.7, 0, 1.3}},
        float[4] scale = {{1, -2, 0, 0.5}}, float[4] offset = {{0.5, 0, 1, 2}}> {{
          c = ai.snnc.{QUANTISE}(x, step)
          k = ai.snnc.Weight(w, num, den)
          p = MatMul(c, k)
          u = Add(p, bias)
          {extra} y = LayerNormalization<epsilon = 0.001>(u, scale, offset)
        }}"""
    )


@pytest.mark.parametrize(
    "numerators",
    [
        "0.125, 0.125, 0.125, 0.125",
        "0.125, 0.25, 0.0625, 0.125",
        "0.1, 0.13, 0.07, 0.1",
        "0.125, 1.3e-8, 0.07, 3e-9",
        "0.125, 0.00000000011641532182693481, 0.125, 0.125",
    ],
    ids=["one step", "powers of two", "any steps", "any steps, far apart", "powers of two, far apart"],
)
def test_normalisation_of_a_membrane(parse, evaluate, numerators):
    from snnc.ops import attach_functions

    model = norm_model(parse, numerators)
    attach_functions(model)
    feeds = {"x": np.random.default_rng(0).uniform(0, 4, (9, 3)).astype(np.float32)}
    expected = evaluate(model, feeds)["y"]
    result = IntroduceGains().run(model)
    assert [entry.rule for entry in result.rewrites] == ["gain of a normalisation"]
    norm = next(node for node in model.graph if node.op_type == "Normalise")
    assert constant(norm.inputs[1]).tolist() == [1, -1, 1, 1]
    assert attributes(norm)["axes"] == [1]
    assert isinstance(analyse(model).kind(model.graph.outputs[0]), Quotient)
    attach_functions(model)
    found = evaluate(model, feeds)["y"]
    # The bias is rounded to a step, which is coarse here beside a deviation of about one.
    assert np.abs(found - expected).max() < 0.25
    assert np.abs(found - expected)[:, 2].max() == 0.0


def test_statistics_read_elsewhere(parse):
    text = "float[4] a = {1, 1, 1, 1}"
    model = parse(
        f"g (float[N, 4] x) => (float[N, 4] y, float[N, 1] z) <{text}> "
        "{ y, mean = LayerNormalization(x, a) z = Relu(mean) }"
    )
    result = IntroduceGains().run(model)
    assert not result.rewrites
    assert "read elsewhere" in result.not_matched[0].reason


def test_ratios_round_in_float64_as_exact_numbers_do() -> None:
    random = np.random.default_rng(0)
    plain = random.integers(1, 2**20, 200) / 2.0 ** random.integers(0, 24, 200)
    for bits in (0, 3, 24):
        for ratios in (as_exact(plain), as_exact(plain) / 3, as_exact(np.array([2.0**40, 0.5, 1.5, 2.5]))):
            wanted = [min(round(Fraction(ratio) * 2**bits), 2**31 - 1) for ratio in ratios.tolist()]
            assert _rounded(ratios, bits).tolist() == wanted


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("y = Div(x, z)", "it divides values without a code"),
        ("y = LayerNormalization(x, z)", "its scale or bias is not constant"),
        ("y = LayerNormalization(x, ones, z)", "its scale or bias is not constant"),
        (
            "y = LayerNormalization(x, ones)",
            "its input carries no code: a normalisation of the network input has no form",
        ),
    ],
)
def test_reasons_of_values_without_a_code(parse, ops, body, reason):
    model = parse(
        "g (float[N, 4] x, float[N, 4] z) => (float[N, 4] y) <float[4] ones = {1, 1, 1, 1}> { " + body + " }"
    )
    before = ops(model)
    result = IntroduceGains().run(model)
    assert [entry.reason for entry in result.not_matched] == [reason]
    assert ops(model) == before and not result.rewrites


@pytest.mark.parametrize(
    ("numerators", "attributes_of_norm", "reason"),
    [
        ("0.125, 0.25, 0.0625, 0.125", "axis = 0", "it normalises the batch"),
        ("0.125, 0.25, 0, 0.125", "axis = -1", "a channel of its input is always zero"),
        ("0.1, 0.13, 0.07, 0.1", "epsilon = 1e30", "its epsilon is too large for the grid of its input"),
    ],
)
def test_reasons_of_a_normalisation_leave_nothing_behind(parse, ops, numerators, attributes_of_norm, reason):
    text = f"z = LayerNormalization<{attributes_of_norm}>(u, scale, offset)"
    model = norm_model(parse, numerators, text)
    norms = [node for node in model.graph if node.op_type == "LayerNormalization"]
    norms[1].outputs[0].replace_all_uses_with(norms[0].outputs[0], replace_graph_outputs=True)
    model.graph.remove(norms[1], safe=True)
    before, held = ops(model), set(model.graph.initializers)
    result = IntroduceGains().run(model)
    assert [entry.reason for entry in result.not_matched] == [reason]
    assert ops(model) == before and set(model.graph.initializers) == held and not result.rewrites


@pytest.mark.parametrize(
    ("body", "kinds"),
    [
        # What looks at the probabilities before they are summed: the quotient is taken at once.
        (
            "a = Softmax(s) r = Reshape(a, flat) q = Reshape(r, back) y = MatMul(q, v)",
            "Quantise ReduceSum Div",
        ),
        ("a = Softmax(s) r = Relu(a) y = MatMul(r, v)", "Quantise ReduceSum Div Relu MatMul"),
        # Operators that keep the rows are passed.
        (
            "a = Softmax(s) r = Identity(a) i = Dropout(r) y = MatMul(i, v)",
            "Quantise Identity Dropout MatMul",
        ),
    ],
)
def test_ways_from_a_softmax_to_its_product(parse, ops, evaluate, random_feeds, body, kinds):
    from snnc.ops import attach_functions

    header = ATTENTION.replace("g (", "g (").rstrip()
    model = parse(f"{header} <int64[3] flat = {{0, 0, 25}}, int64[4] back = {{0, 0, 5, 5}}> {{ {body} }}")
    feeds = random_feeds(model, spread=2.0)
    expected = evaluate(model, feeds)["y"]
    SplitSoftmax(8, 8).run(model)
    found = " ".join(op for op in ops(model) if op not in ("ReduceMax", "Sub", "Exp"))
    assert kinds in found
    attach_functions(model)
    assert np.abs(evaluate(model, feeds)["y"] - expected).max() < 0.03


def test_a_guard_that_asks_for_something_else_stays(parse, ops):
    body = "a = Softmax(s) o = Greater(s, v0) g = Where(o, zero, a) y = MatMul(g, v)"
    model = parse(
        "g (float[N, 2, 5, 5] s, float[N, 2, 5, 3] v) => (float[N, 2, 5, 3] y) "
        f"<float zero = {{0}}, float v0 = {{9}}> {{ {body} }}"
    )
    SplitSoftmax(8, 8).run(model)
    assert "Where" in ops(model)


def test_a_code_of_probabilities_without_positive_levels_is_none(parse, ops):
    text = QUANTISE.replace(
        "signed = 0, smallest = 0, largest = 15", "signed = 1, smallest = -1, largest = 0"
    )
    codes = "codes = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]"
    text = text.replace(codes, "codes = [-1, 0]")
    model = parse(
        f"{ATTENTION} <float step = {{0.1}}> {{ a = Softmax(s) "
        f"c = ai.snnc.{text}(a, step) y = MatMul(c, v) }}"
    )
    SplitSoftmax(8, 8).run(model)
    # The quantiser stays behind the quotient.
    assert ops(model)[-3:] == ["Div", "Quantise", "MatMul"]


def test_a_softmax_of_unknown_rank_stays(parse, ops):
    header = '<ir_version: 10, opset_import: ["" : 17, "my.own" : 1, "ai.snnc" : 1]>'
    model = parse(f"{header} {ATTENTION} {{ t = my.own.Thing(s) a = Softmax(t) y = MatMul(a, v) }}")
    before = ops(model)
    assert not SplitSoftmax(8, 8).run(model).rewrites and ops(model) == before


def test_an_operand_of_unknown_shape_is_summed_all_the_same(parse, ops):
    header = '<ir_version: 10, opset_import: ["" : 17, "my.own" : 1, "ai.snnc" : 1]>'
    model = parse(f"{header} {ATTENTION} {{ u = my.own.Thing(v) a = Softmax(s) y = MatMul(a, u) }}")
    SplitSoftmax(8, 8).run(model)
    assert ops(model)[-2:] == ["ReduceSum", "Div"]
