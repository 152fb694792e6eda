"""Quantisers written as arithmetic: every variant gives the same node and the same numbers."""

from __future__ import annotations

import numpy as np
import pytest

from snnc.coding import CodeBook
from snnc.ir import attributes, constant
from snnc.passes.recognise import RecogniseQuantisers

CONSTANTS = (
    "float theta = {1.75}, float inv = {0.5714286}, float L = {8}, float half = {0.5}, float zero = {0}, "
    "float one = {1}, float invL = {0.125}, float step = {0.21875}, float scale = {4.5714283}, "
    "float big = {8.25}, "
    "float s = {0.25}, float z = {3}, float lo = {-8}, float hi = {7}, float zf = {0.3}, float minus = {-0.5}"
)
QCFS = {
    "as written": "a = Div(x, theta) b = Clip(a, zero, one) c = Mul(b, L) d = Add(c, half) e = Floor(d) "
    "f = Div(e, L) y = Mul(f, theta)",
    "inverse constants": "a = Mul(x, inv) b = Clip(a, zero, one) c = Mul(L, b) d = Add(half, c) e = Floor(d) "
    "f = Mul(e, invL) y = Mul(theta, f)",
    "folded constants": "a = Clip(x, zero, theta) b = Mul(a, scale) c = Add(b, half) d = Floor(c) y "
    "= Mul(d, step)",
    "one division": "a = Div(x, step) b = Add(a, half) d = Floor(b) e = Clip(d, zero, L) y = Mul(e, step)",
    "Relu and Min": "a = Relu(x) b = Min(a, theta) c = Div(b, step) d = Add(c, half) e = Floor(d) y "
    "= Mul(e, step)",
    "Max and Min": "a = Div(x, theta) b = Max(a, zero) c = Min(one, b) d = Mul(c, L) e = Add(d, "
    "half) f = Floor(e) "
    "g = Div(f, L) y = Mul(g, theta)",
    "clip after": "a = Div(x, step) b = Add(a, half) c = Floor(b) d = Mul(c, step) y = Clip(d, zero, theta)",
    "Sub of a negative": "a = Relu(x) b = Min(a, theta) c = Mul(b, scale) d = Sub(c, minus) e = Floor(d) "
    "y = Mul(e, step)",
}


def quantiser(model):
    """The only Quantise node, its book and its step."""
    (node,) = [entry for entry in model.graph if entry.op_type == "Quantise"]
    return attributes(node), CodeBook.from_attributes(attributes(node)), constant(node.inputs[1])


def numbers(model, spread=3.0):
    """Inputs on and around every mid-point, without those whose float division may round over it."""
    u = np.random.default_rng(1).standard_normal((4, 6)).astype(np.float32) * spread
    return {"x": u}


@pytest.mark.parametrize("name", QCFS)
def test_qcfs(parse, check, ops, name):
    model = parse(f"g (float[N, 6] x) => (float[N, 6] y) <{CONSTANTS}> {{ {QCFS[name]} }}")
    result = check(RecogniseQuantisers(), with_functions(model), feeds=numbers(model))
    assert ops(model) == ["Quantise"]
    attrs, book, step = quantiser(model)
    assert (attrs["ties"], book, step.tolist()) == ("up", CodeBook.uniform(0, 8), pytest.approx(1.75 / 8))
    assert step.dtype == np.float32
    assert model.graph[0].outputs[0].name == "y"
    assert result.rewrites[0].rule == "qcfs-chain"


def with_functions(model):
    """Attach the function of Quantise beforehand: the pass leaves it as it is."""
    from snnc.ops import function_for, get_op

    function = function_for(get_op("Quantise"), 17)
    model.functions[function.identifier()] = function
    return model


ROUND = {
    "clamp of round": ("a = Div(x, s) b = Round(a) c = Clip(b, lo, hi) y = Mul(c, s)", -8, 7),
    "round of clamp": ("a = Div(x, s) b = Clip(a, lo, hi) c = Round(b) y = Mul(c, s)", -8, 7),
    "zero point": (
        "a = Div(x, s) b = Add(a, z) c = Round(b) d = Clip(c, zero, L) e = Sub(d, z) y = Mul(e, s)",
        -3,
        5,
    ),
    "zero point, clamp first": (
        "a = Div(x, s) b = Add(z, a) c = Clip(b, zero, L) d = Round(c) e = Sub(d, z) y = Mul(e, s)",
        -3,
        5,
    ),
    "relu in front": ("r = Relu(x) a = Div(r, s) b = Round(a) c = Clip(b, lo, hi) y = Mul(c, s)", 0, 7),
    "relu behind": ("a = Div(x, s) b = Round(a) c = Clip(b, lo, hi) d = Mul(c, s) y = Relu(d)", 0, 7),
    "no scale": ("b = Round(x) y = Clip(b, lo, hi)", -8, 7),
    "bound between levels": ("a = Div(x, s) b = Clip(a, lo, big) c = Round(b) y = Mul(c, s)", -8, 8),
}


@pytest.mark.parametrize("name", ROUND)
def test_round_chains(parse, check, ops, name):
    chain, smallest, largest = ROUND[name]
    model = parse(f"g (float[N, 6] x) => (float[N, 6] y) <{CONSTANTS}> {{ {chain} }}")
    check(
        RecogniseQuantisers(), with_functions(model), feeds=numbers(model, 1.5 if name != "no scale" else 6.0)
    )
    assert ops(model) == ["Quantise"]
    attrs, book, step = quantiser(model)
    assert (attrs["ties"], book) == ("even", CodeBook.uniform(smallest, largest))
    assert float(step) == (1.0 if name == "no scale" else 0.25)


def test_ties_to_even(parse, check):
    model = parse(f"g (float[N, 6] x) => (float[N, 6] y) <{CONSTANTS}> {{ {ROUND['clamp of round'][0]} }}")
    on_ties = np.arange(-12, 12).reshape(4, 6).astype(np.float32) * 0.25 + 0.125
    check(RecogniseQuantisers(), with_functions(model), feeds={"x": on_ties})


def test_odd_zero_point_is_noted(parse):
    model = parse(f"g (float[N, 6] x) => (float[N, 6] y) <{CONSTANTS}> {{ {ROUND['zero point'][0]} }}")
    notes = RecogniseQuantisers().run(model).notes
    assert any("its zero point is odd" in note and note.startswith("y:") for note in notes)


def test_floor_without_a_half_gets_a_shift(parse, check, ops):
    model = parse(
        f"g (float[N, 6] x) => (float[N, 6] y) <{CONSTANTS}> {{ a = Div(x, s) b = Floor(a) c = "
        f"Clip(b, zero, hi) "
        "y = Mul(c, s) }"
    )
    check(RecogniseQuantisers(), with_functions(model), feeds=numbers(model))
    assert ops(model) == ["Add", "Quantise"]
    assert constant(model.graph[0].inputs[1]) == np.float32(-0.125)


def test_missing_factor_leaves_the_other_one_in_front(parse, check, ops):
    chain = QCFS["as written"].replace("f = Div(e, L) y = Mul(f, theta)", "y = Div(e, L)")
    model = parse(f"g (float[N, 6] x) => (float[N, 6] y) <{CONSTANTS}> {{ {chain} }}")
    check(RecogniseQuantisers(), with_functions(model), feeds=numbers(model))
    assert ops(model) == ["Div", "Quantise"]
    assert quantiser(model)[2] == np.float32(0.125)


def test_fractional_zero_point_goes_in_front(parse, check, ops):
    chain = "a = Div(x, s) b = Add(a, zf) c = Round(b) d = Clip(c, lo, hi) y = Mul(d, s)"
    model = parse(f"g (float[N, 6] x) => (float[N, 6] y) <{CONSTANTS}> {{ {chain} }}")
    check(RecogniseQuantisers(), with_functions(model), feeds=numbers(model))
    assert ops(model) == ["Add", "Quantise"]


def test_channel_steps(parse, check, ops):
    model = parse(
        """g (float[N, 2, 3] x) => (float[N, 2, 3] y)
        <float[2, 1] s = {0.25, 0.5}, float lo = {0}, float hi = {15}>
        { a = Div(x, s) b = Round(a) c = Clip(b, lo, hi) y = Mul(c, s) }"""
    )
    check(RecogniseQuantisers(), with_functions(model), spread=3.0)
    assert quantiser(model)[2].tolist() == [[0.25], [0.5]]


def test_longest_chain_with_inverse_factors(parse, ops):
    """A factor of the layer in front is not part of the quantiser, its own factors are."""
    model = parse(
        f"""g (float[N, 6] x) => (float[N, 6] y) <{CONSTANTS}, float gain = {{3}}>
        {{ g0 = Mul(x, gain) {QCFS["as written"].replace("(x,", "(g0,").replace("y =", "q =")} y =
          Mul(q, gain) }}"""
    )
    RecogniseQuantisers().run(model)
    assert ops(model) == ["Mul", "Quantise", "Mul"]
    assert quantiser(model)[2] == np.float32(0.21875)


@pytest.mark.parametrize(
    ("chain", "reason"),
    [
        ("a = Div(x, s) b = Round(a) y = Mul(b, s)", "no finite lower or upper bound"),
        ("a = Relu(x) b = Div(a, s) c = Floor(b) y = Mul(c, s)", "no finite lower or upper bound"),
        ("a = Round(x) b = Clip(a, zero, big) y = Mul(b, s)", "a value that is not one of its levels"),
        ("a = Round(x) y = Clip(a, zero, zero)", "a single level"),
    ],
)
def test_reasons(parse, chain, reason):
    model = parse(f"g (float[N, 6] x) => (float[N, 6] y) <{CONSTANTS}> {{ {chain} }}")
    result = RecogniseQuantisers().run(model)
    assert not result.rewrites
    assert any(reason in entry.reason for entry in result.not_matched), result.not_matched


def test_bounds_that_differ_between_channels(parse):
    model = parse(
        """g (float[N, 2] x) => (float[N, 2] y) <float[2] hi = {3, 5}, float zero = {0}>
        { a = Max(x, zero) b = Min(a, hi) y = Round(b) }"""
    )
    result = RecogniseQuantisers().run(model)
    assert result.not_matched[0].reason == "round-chain: its range differs between channels"


def test_too_many_levels(parse):
    model = parse(
        """g (float[N, 2] x) => (float[N, 2] y) <float hi = {70000}, float zero = {0}>
        { a = Clip(x, zero, hi) y = Round(a) }"""
    )
    assert "more than 16 time-steps" in RecogniseQuantisers().run(model).not_matched[0].reason


def test_inner_values_that_others_read_end_the_chain(parse, check, ops):
    """Nothing may vanish that is an output: the quantiser then starts behind it."""
    model = parse(
        f"""g (float[N, 6] x) => (float[N, 6] y, float[N, 6] b) <{CONSTANTS}>
        {{ a = Div(x, s) b = Clip(a, zero, hi) c = Round(b) y = Mul(c, s) }}"""
    )
    check(RecogniseQuantisers(), with_functions(model), feeds=numbers(model))
    assert ops(model) == ["Div", "Clip", "Round", "Mul"]
    shared = parse(
        f"""g (float[N, 6] x) => (float[N, 6] y, float[N, 6] w) <{CONSTANTS}>
        {{ r = Relu(x) a = Div(r, s) b = Round(a) c = Clip(b, lo, hi) y = Mul(c, s) w = Neg(r) }}"""
    )
    check(RecogniseQuantisers(), with_functions(shared), feeds=numbers(shared))
    assert sorted(ops(shared)) == ["Neg", "Quantise", "Relu"]


STEPS = ", float[2, 1] steps = {0.25, 0.5}, float[2, 1] up = {1, 2}, float tenth = {0.1}, float two = {2}"


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (
            "r = Round(x) m = Mul(r, steps) y = Clip(m, lo, hi)",
            "round-chain: its range differs between channels",
        ),
        (
            "m = Clip(x, lo, hi) a = Mul(m, steps) r = Round(a) y = Div(r, up)",
            "round-chain: its range differs",
        ),
        ("c = Clip(x, lo, hi) r = Round(c) a = Add(r, zf) y = Mul(a, s)", None),
        ("r = Round(x) a = Add(r, zf) y = Clip(a, lo, hi)", "round-chain: zero is not one of its levels"),
        (
            "r = Round(x) m = Mul(r, s) y = Clip(m, zero, tenth)",
            "round-chain: it clips to a value that is not",
        ),
    ],
)
def test_reasons_of_channels_and_levels(parse, body, reason):
    model = parse(f"g (float[N, 2, 3] x) => (float[N, 2, 3] y) <{CONSTANTS}{STEPS}> {{ {body} }}")
    result = RecogniseQuantisers().run(model)
    if reason is None:
        assert len(result.rewrites) == 1 and not result.not_matched
    else:
        (entry,) = result.not_matched
        assert entry.reason.startswith(reason)


def test_a_chain_of_many_factors_is_read_in_part(parse, check, ops):
    """Twelve links behind the rounding belong to it; a thirteenth, which would undo the first, stays."""
    steps = " ".join(f"m{number + 1} = Mul(m{number}, one)" for number in range(12))
    body = f"c = Clip(x, lo, hi) a = Mul(c, four) m0 = Round(a) {steps} y = Mul(m12, s)"
    model = with_functions(
        parse(f"g (float[N, 6] x) => (float[N, 6] y) <{CONSTANTS}, float four = {{4}}> {{ {body} }}")
    )
    check(RecogniseQuantisers(), model, feeds=numbers(model))
    assert ops(model) == ["Mul", "Quantise", "Mul"]
    assert constant(model.graph[0].inputs[1]) == 4 and constant(model.graph[2].inputs[1]) == 0.25
