"""invert-divisors: a division by what is no sum of codes becomes a product with the reciprocal."""

from __future__ import annotations

import pytest

from snnc.passes.quantise.invert_divisors import InvertDivisors

LISTED = (
    'timesteps = 2, groups = 2, partition = "interleaved", signed = 0, smallest = 0, largest = 3, '
    'ties = "up", codes = [0, 1, 2, 3], twice_midpoints = [1, 3, 5], closed = [1, 1, 1]'
)
HEAD = "float s = {0.5}, float half = {0.5}, float[4, 4] w = {1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 3, 4, 5, 6, 7, 8}"


def graph(parse, body):
    text = body.replace("QUANTISE", f"ai.snnc.Quantise<{LISTED}>")
    return parse(f"g (float[N, 4] x) => (float[N, 4] y) <{HEAD}> {{ {text} }}")


@pytest.mark.parametrize(
    "body",
    [
        "q = QUANTISE(x, s) e = Exp(q) y = Div(q, e)",
        "q = QUANTISE(x, s) e = Exp(q) t = Mul(e, half) u = Add(t, half) y = Div(q, u)",
        "q = QUANTISE(x, s) p = MatMul(q, w) e = Exp(p) d = Div(half, e) y = Div(q, d)",
    ],
)
def test_a_divisor_that_is_no_sum_is_inverted(parse, ops, body):
    model = graph(parse, body)
    before = ops(model)
    result = InvertDivisors().run(model)
    assert [rewrite.rule for rewrite in result.rewrites] == ["invert a divisor"]
    assert ops(model) == [*before[:-1], "Reciprocal", "Mul"]
    assert "a product with the reciprocal of" in result.notes[0]
    assert not InvertDivisors().run(model).rewrites


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("q = QUANTISE(x, s) d = ReduceSum<keepdims = 1>(q) y = Div(q, d)", "it divides by a sum"),
        ("q = QUANTISE(x, s) y = Div(q, half)", None),
        ("q = QUANTISE(x, s) y = Div(half, q)", None),
    ],
)
def test_sums_and_constants_stay(parse, ops, body, reason):
    model = graph(parse, body)
    before = ops(model)
    result = InvertDivisors().run(model)
    assert ops(model) == before
    assert [entry.reason for entry in result.not_matched] == ([reason] if reason else [])


def test_a_divisor_of_the_host_stays(parse, ops):
    """Which any host computes from the input: it is quantised like the input itself."""
    model = graph(parse, "q = QUANTISE(x, s) d = Add(x, half) y = Div(q, d)")
    result = InvertDivisors().run(model)
    assert ops(model) == ["Quantise", "Add", "Div"] and not result.not_matched
