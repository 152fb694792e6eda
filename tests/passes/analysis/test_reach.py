"""Bounds of what the host computes from masks: no value lies outside, for any mask of zeros and ones."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from snnc.ir import tensor
from snnc.passes.analysis.reach import reach_of

CONSTANTS = (
    "float k = {-10000}, float half = {0.5}, float third = {-0.25}, float[2] pair = {-3, 5}, "
    "int64 last = {1}, int64[4] wide = {0, 1, 0, 1}"
)


@pytest.mark.parametrize(
    ("body", "bounds"),
    [
        ("f = Cast<to = 1>(m) y = Mul(f, k)", (-10000, 0)),
        ("f = Cast<to = 1>(m) i = Sub(half, f) y = Mul(i, k)", (-5000, 5000)),
        ("f = Cast<to = 1>(m) n = Neg(f) y = Add(n, pair)", (-4, 5)),
        ("b = Equal(m, m) y = Where(b, k, half)", (-10000, 0.5)),
        ("f = Cast<to = 1>(m) a = Max(f, half) y = Min(a, pair)", (-3, 1)),
        ("f = Cast<to = 1>(m) y = Concat<axis = 1>(f, f)", (0, 1)),
        ("c = CumSum(m, last) y = Cast<to = 1>(c)", (0, 2)),
        ("f = Cast<to = 1>(m) c = CumSum(f, last) s = Sub(c, f) t = Transpose(s) y = Transpose(t)", (-1, 2)),
        ("f = Cast<to = 1>(m) s = Mul(f, half) i = Cast<to = 6>(s) y = Cast<to = 1>(i)", (0, 1)),
        ("f = Cast<to = 1>(m) s = Mul(f, k) i = Cast<to = 9>(s) y = Cast<to = 1>(i)", (0, 1)),
        ("f = Cast<to = 1>(m) t = Mul(f, k) r = Relu(t) y = Add(r, half)", (0.5, 0.5)),
        ("f = Cast<to = 1>(m) a = Add(f, half) y = Div(pair, a)", (-6, 10)),
        ("f = Cast<to = 1>(m) t = Mul(f, k) y = Clip(t, third, half)", (-0.25, 0)),
        ("f = Cast<to = 1>(m) e = Exp(f) n = Neg(e) y = Clip(n, third, half)", (-0.25, 0.5)),
        ("f = Cast<to = 1>(m) a = Add(f, half) y = Pad(a, wide)", (0, 1.5)),
        ("f = Cast<to = 1>(m) y = Pad(f, wide, k)", (-10000, 1)),
        ("s = Not(b0) o = Or(s, b0) y = Cast<to = 1>(o)", (0, 1)),
    ],
)
def test_bounds_hold_for_every_mask(parse, evaluate, body, bounds):
    rows = "M, K" if "Concat" in body or "Pad" in body else "N, 2"
    model = parse(f"g (int64[N, 2] m, bool[N, 2] b0) => (float[{rows}] y) <{CONSTANTS}> {{ {body} }}")
    found = reach_of(model.graph.outputs[0])
    assert found == bounds
    masks = np.array(list(product([0, 1], repeat=2)))
    result = evaluate(model, {"m": masks, "b0": masks > 0})["y"]
    assert found[0] <= result.min() and result.max() <= found[1]


@pytest.mark.parametrize(
    "body",
    [
        "y = Add(x, half)",
        "f = Cast<to = 1>(m) y = Exp(f)",
        "f = Cast<to = 1>(m) a = Add(f, x) y = Mul(a, k)",
        "f = Cast<to = 1>(m) y = CumSum<exclusive = 1>(f, last)",
        "f = Cast<to = 1>(o) y = CumSum(f, last)",
        "f = Cast<to = 1>(m) y = Sum(f, f, f)",
        "f = ai.snnc.Quantise(half, half) y = Add(f, f)",
        "y = CumSum(x, last)",
        "y = Relu(x)",
        "y = Clip(x, half)",
        "y = Clip(x, half, x)",
        "f = Cast<to = 1>(m) y = Div(f, f)",
        "f = Cast<to = 1>(m) a = Mul(f, endless) y = Sub(a, a)",
    ],
)
def test_what_is_not_bounded_is_not_known(parse, body):
    model = parse(
        f"g (int64[N, 2] m, float[N, 2] x, int64[N, K] o) => (float[N, L] y) "
        f"<{CONSTANTS}, float endless = {{0}}> {{ {body} }}"
    )
    model.graph.initializers["endless"].const_value = tensor(np.array(np.inf, np.float32), name="endless")
    assert reach_of(model.graph.outputs[0]) is None


def test_inputs_of_floats_may_be_given_bounds(parse):
    text = "g (float[N] x) => (float[N] y) <float e = {-4}> { a = Mul(x, e) y = Add(a, x) }"
    assert reach_of(parse(text).graph.outputs[0], floats=(-1.0, 1.0)) == (-5, 5)
    assert reach_of(parse(text).graph.outputs[0]) is None


def test_absent_and_empty_values_are_not_known(parse):
    assert reach_of(None) is None
    model = parse("g (float[N] x) => (float[N] y) <float e = {1}> { y = Add(x, e) }")
    model.graph.initializers["e"].const_value = tensor(np.zeros(0, np.float32), name="e")
    assert reach_of(model.graph.initializers["e"]) is None
