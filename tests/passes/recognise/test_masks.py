"""Masks on the scores of a softmax: a gate in front of bare scores gives the bits that the mask gave."""

from __future__ import annotations

import numpy as np
import pytest

from snnc.passes.editing import Editor
from snnc.passes.recognise.masks import Masks

#: Rows of scores that see what is not behind them, and rows that see every other place.
CAUSAL = ", ".join("0" if column <= row else "-1e9" for row in range(4) for column in range(4))
BIASED = ", ".join("0.5" if column <= row else "-1e9" for row in range(4) for column in range(4))
AGAINST = ", ".join("0.5" if column <= row else "1e9" for row in range(4) for column in range(4))
OPEN = ", ".join("1" if column <= row else "0" for row in range(4) for column in range(4))
WEIGHTS = (
    f"float[4, 4] causal = {{{CAUSAL}}}, float[4, 4] biased = {{{BIASED}}}, "
    f"float[4, 4] against = {{{AGAINST}}}, "
    f"float[4, 4] open = {{{OPEN}}}, float[4] even = {{0, -1e9, 0, -1e9}}, float[4] slope = {{1, 2, 3, 4}}, "
    "float low = {-1e9}, float high = {1e9}, float zero = {0}, float half = {0.5}, float one = {1}, "
    "float few = {-5}, float five = {5}, float[4] mixed = {0, -1e9, -1e9, -1e9}, int64 axis = {1}, "
    "int64[1] middle = {1}"
)
INPUTS = "float[N, 4, 4] x, bool[M, 1, 4] b, int64[N, 4] k, float[N, 4, 4] f"


def feeds():
    random = np.random.default_rng(0)
    truth = random.integers(0, 2, (3, 1, 4)) == 1
    truth[..., 0] = True
    return {
        "x": random.standard_normal((3, 4, 4)).astype(np.float32),
        "b": truth,
        "k": random.integers(0, 2, (3, 4)),
        "f": random.standard_normal((3, 4, 4)).astype(np.float32),
    }


def taken_off(parse, evaluate, body):
    """Take the masks off, put the gate in front of the softmax, compare bits; returns reason or op types."""
    model = parse(f"g ({INPUTS}) => (float[N, 4, 4] y) <{WEIGHTS}> {{ {body} y = Softmax<axis = -1>(m) }}")
    before = evaluate(model, feeds())
    editor = Editor(model)
    softmax = next(node for node in model.graph if node.op_type == "Softmax")
    gate = Masks(editor).take_off(softmax)
    if isinstance(gate, str):
        return gate
    left = []
    value = softmax.inputs[0]
    while (node := value.producer()) is not None:
        left.insert(0, node.op_type)
        value = node.inputs[0]
    if gate is not None:
        closed = editor.constant("closed", np.float32(-np.inf))
        scores = softmax.inputs[0]
        softmax.replace_input_with(0, editor.add(softmax, "Where", [gate, scores, closed], name="gated"))
    np.testing.assert_array_equal(evaluate(model, feeds())["y"], before["y"])
    return gate, left


@pytest.mark.parametrize(
    ("body", "left"),
    [
        ("s = Tanh(x) m = Add(s, causal)", ["Tanh"]),
        ("s = Tanh(x) m = Add(biased, s)", ["Add"]),
        ("s = Tanh(x) m = Sub(s, against)", ["Tanh", "Sub"]),
        ("s = Tanh(x) a = Add(s, causal) m = Add(a, even)", ["Tanh"]),
        ("s = Tanh(x) a = Add(s, causal) o = Mul(a, open) m = Add(o, causal)", ["Tanh"]),
        ("s = Tanh(x) m = Where(b, s, low)", ["Tanh"]),
        ("s = Tanh(x) n = Not(b) m = Where(n, low, s)", ["Tanh"]),
        ("s = Tanh(x) a = Add(s, causal) m = Where(b, a, low)", ["Tanh"]),
        ("s = Tanh(x) a = Where(b, s, low) n = Not(b) m = Where(n, low, a)", ["Tanh"]),
        ("s = Tanh(x) a = Add(s, causal) m = Max(a, low)", ["Tanh"]),
        ("s = Tanh(x) a = Add(s, causal) m = Max(low, a)", ["Tanh"]),
        ("s = Tanh(x) a = Add(s, causal) m = Clip(a, low, high)", ["Tanh"]),
        ("s = Tanh(x) a = Add(s, causal) m = Div(a, half)", ["Tanh", "Div"]),
        ("s = Tanh(x) c = Where(b, zero, low) m = Add(s, c)", ["Tanh"]),
        ("s = Tanh(x) n = Not(b) c = Where(n, low, zero) m = Add(s, c)", ["Tanh"]),
        ("s = Tanh(x) c = Where(b, zero, mixed) m = Add(s, c)", ["Tanh"]),
        ("s = Tanh(x) c = Where(b, zero, high) m = Sub(s, c)", ["Tanh"]),
        (
            (
                "s = Tanh(x) d = Shape(k) z = ConstantOfShape<value = int64[1] {0}>(d) e = Cast<to = 1>(z) "
                "h = Unsqueeze(e, middle) c = Where(b, h, low) m = Add(s, c)"
            ),
            ["Tanh"],
        ),
    ],
)
def test_what_is_closed_becomes_a_gate(parse, evaluate, body, left):
    gate, found = taken_off(parse, evaluate, body)
    assert gate is not None and found == left


@pytest.mark.parametrize(
    ("body", "left"),
    [
        # Scores of the host, of which neither summand masks the other.
        ("h = Cast<to = 1>(b) s = Sub(h, slope) t = Add(s, f) m = Add(t, causal)", None),
        ("s = Tanh(x) t = Sigmoid(x) m = Where(b, s, t)", None),
        ("s = Tanh(x) t = Sigmoid(x) m = Max(s, t, low)", ["Tanh", "Max"]),
        ("s = Tanh(x) m = Max(s, few)", ["Tanh", "Max"]),
        ("s = Tanh(x) m = Clip(s, few, five)", ["Tanh", "Clip"]),
        ("s = Tanh(x) m = Mul(s, slope)", ["Tanh", "Mul"]),
        ("s = Tanh(x) m = Mul(s, open)", ["Tanh", "Mul"]),
        ("s = Tanh(x) m = Add(s, slope)", ["Tanh", "Add"]),
        ("s = Tanh(x) p = Add(f, f) m = Add(s, p)", ["Tanh", "Add"]),
        ("s = Tanh(x) g = Mul(f, f) c = Clip(g, , five) m = Add(s, c)", ["Tanh", "Add"]),
    ],
)
def test_what_closes_nothing_stays(parse, evaluate, body, left):
    gate, found = taken_off(parse, evaluate, body)
    assert gate is None and (left is None or found == left)


MISPLACED = "a mask that enlarges the scores, or stands in front of a change of their layout"


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("s = Tanh(x) a = Add(s, causal) m = Transpose<perm = [0, 2, 1]>(a)", MISPLACED),
        ("s = Tanh(x) r = ReduceMax<axes = [1]>(s) m = Add(r, causal)", MISPLACED),
        ("s = Tanh(x) r = ReduceMax<axes = [2]>(s) c = Where(b, zero, low) m = Add(r, c)", MISPLACED),
        ("s = Tanh(x) r = ReduceMax<axes = [2]>(s) m = Where(b, r, low)", MISPLACED),
        ("s = Tanh(x) m = Where(b, s, half)", "a choice between scores and numbers that do not mask"),
        (
            "s = Tanh(x) t = Sigmoid(x) o = Greater(t, half) m = Where(o, s, low)",
            "a mask that depends on coded values",
        ),
        (
            (
                "s = Tanh(x) i = CumSum(k, axis) e = Cast<to = 1>(i) p = Unsqueeze(e, middle) "
                "q = Mul(p, low) "
                "r = Add(q, p) m = Sub(s, r)"
            ),
            "a summand that is computed from the input, and no mask: its values are unknown",
        ),
        (
            (
                "s = Tanh(x) i = CumSum(k, axis) e = Cast<to = 1>(i) p = Unsqueeze(e, middle) "
                "q = Mul(p, low) "
                "r = Where(b, q, half) m = Add(s, r)"
            ),
            "a summand that is computed from the input, and no mask: its values are unknown",
        ),
    ],
)
def test_reasons(parse, evaluate, body, reason):
    assert taken_off(parse, evaluate, body) == reason
