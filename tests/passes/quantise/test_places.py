"""select-places and gate-masks: the row that the host chose, masks that multiply, and what only looks so."""

from __future__ import annotations

import numpy as np
import pytest

from snnc.ops import attach_functions
from snnc.passes.quantise.gate_masks import GateMasks
from snnc.passes.quantise.select_places import SelectPlaces

SIZES = (
    "int64 zero = {0}, int64 one = {1}, int64 five = {5}, int64 six = {6}, int64[1] last = {-1}, "
    "int64[1] first = {0}, int64[2] flat = {-1, 4}, int64[3] wide = {1, 1, 4}, int64[3] two = {-1, 1, 1}, "
    "float[4, 4] w = {1, 2, 0, -1, 0.5, 1, 3, 0, -2, 1, 1, 1, 0, 0, 1, 4}, float[4] b = {0.5, -1, 2, 0}"
)
#: Numbers of the samples, as exporters count them.
COUNT = "s = Shape(x) n = Gather(s, zero) r = Range(zero, n, one) "
ROWS = COUNT + "t = Abs(x) f = Reshape(t, flat) "
PLACES = "i = Unsqueeze(r, last) p = Concat<axis = 1>(i, k) "


def numbers(model, evaluate, batch=3):
    """Outputs for inputs on a grid, whose sums and products in float32 are exact."""
    attach_functions(model)
    random = np.random.default_rng(0)
    feeds = {
        "x": np.rint(random.standard_normal((batch, 5, 4)) * 4).astype(np.float32) / 4,
        "k": random.integers(-5, 5, (batch, 1)),
    }
    return evaluate(model, feeds)["y"]


def model_of(parse, body, output="float[N, 4] y"):
    return parse(f"g (float[N, 5, 4] x, int64[N, 1] k) => ({output}) <{SIZES}> {{ {body} }}")


@pytest.mark.parametrize(
    ("body", "left"),
    [
        ("y = GatherND<batch_dims = 1>(x, k)", ""),
        ("t = Abs(x) y = GatherND<batch_dims = 1>(t, k)", "Abs"),
        ("t = Abs(x) m = MatMul(t, w) a = Add(m, b) y = GatherND<batch_dims = 1>(a, k)", "MatMul Add"),
        (COUNT + PLACES + "t = Abs(x) y = GatherND(t, p)", "Abs"),
        # What is added to each place is none of the layers: every place has its own.
        (COUNT + PLACES + "t = Abs(x) h = Add(t, x) y = GatherND(h, p)", "Add"),
        (COUNT + PLACES + "t = Abs(x) h = Sub(t, b) y = GatherND(h, p)", "Sub"),
        (("t = Abs(x) q = Reshape(k, two) e = Expand(q, wide) g = GatherElements<axis = 1>(t, e) "
         "y = Reshape(g, flat)"), "Abs"),
        (ROWS + "m = Mul(r, five) v = Squeeze(k, last) c = Mod(v, five) "
         "i = Add(c, m) y = Gather(f, i)", "Abs"),
        (ROWS + "m = Mul(five, r) v = Squeeze(k, last) c = Mod(v, five) "
         "i = Add(m, c) y = Gather(f, i)", "Abs"),
    ],
)  # fmt: skip
def test_places_that_the_host_chose(parse, evaluate, ops, body, left):
    model = model_of(parse, body)
    before = numbers(model, evaluate)
    result = SelectPlaces().run(model)
    assert len(result.rewrites) == 1 and not result.not_matched
    found = ops(model)
    assert "Gate" in found and not {"GatherND", "GatherElements"} & set(found)
    assert all(op in found for op in left.split())
    np.testing.assert_array_equal(numbers(model, evaluate), before)


@pytest.mark.parametrize(
    ("body", "output"),
    [
        # Indices that are no pairs of a sample and a place.
        ("t = Abs(x) p = Concat<axis = 1>(k, k, k) y = GatherND(t, p)", "float[N] y"),
        ("t = Abs(x) p = Tile(k, rows) y = GatherND(t, p)", "float[N, 4] y"),
        (PLACES.replace("Unsqueeze(r, last)", "Neg(k)") + "t = Abs(x) y = GatherND(t, p)", "float[N, 4] y"),
        ("p = Concat<axis = 1>(k, k) t = Abs(x) y = GatherND(t, p)", "float[N, 4] y"),
        # Another axis, an index that is not repeated, one that the network computes.
        ("t = Abs(x) q = Reshape(k, two) e = Expand(q, wide) y = GatherElements<axis = 0>(t, e)",
         "float[N, 1, 4] y"),
        ("t = Abs(x) q = Reshape(k, two) y = GatherElements<axis = 1>(t, q)", "float[N, 1, 1] y"),
        (("t = Tanh(x) a = ArgMax<axis = 1, keepdims = 1>(t) u = ReduceMax<axes = [2]>(a) "
         "e = Expand(u, wide) "
         "y = GatherElements<axis = 1>(t, e)"), "float[N, 1, 4] y"),
        # Rows of a flattened value whose number is no place plus that of the sample.
        (ROWS + "m = Mul(r, six) v = Squeeze(k, last) i = Add(v, m) y = Gather(f, i)",
         "float[N, 4] y"),
        (ROWS + "m = Sub(r, five) v = Squeeze(k, last) i = Add(v, m) y = Gather(f, i)",
         "float[N, 4] y"),
        (ROWS + "m = Mul(r, five) v = Squeeze(k, last) i = Sub(v, m) y = Gather(f, i)",
         "float[N, 4] y"),
        (COUNT + "t = Abs(x) m = Mul(r, five) v = Squeeze(k, last) i = Add(v, m) y = Gather(t, i)",
         "float[N, 5, 4] y"),
    ],
)  # fmt: skip
def test_places_that_stay(parse, ops, body, output):
    more = ", int64[2] rows = {1, 2}"
    model = parse(f"g (float[N, 5, 4] x, int64[N, 1] k) => ({output}) <{SIZES}{more}> {{ {body} }}")
    before, held = ops(model), set(model.graph.initializers)
    result = SelectPlaces().run(model)
    assert [entry.reason for entry in result.not_matched] == [
        "its places are not one for each sample, computed by the host"
    ]
    assert not result.rewrites and ops(model) == before and set(model.graph.initializers) == held


MASKED = "float[N, 5, 4] x, int64[N, 5] k, bool[N, 5] o, float[N, 5] f"
MASKS = (
    "int64[1] last = {-1}, int64[1] middle = {1}, "
    "float zero = {0}, float half = {0.5}, int64[3] four = {1, 1, 4}, int64[2] both = {1, 2}, "
    "int64[3] thin = {-1, 1, 1}, int64[3] spread = {-1, 1, 4}"
)


def masked(parse, evaluate, body, output="float[N, 5, 4] y"):
    """Numbers before and after gate-masks, which are the same; returns the model and the result."""
    model = parse(f"g ({MASKED}) => ({output}) <{MASKS}> {{ {body} }}")
    random = np.random.default_rng(0)
    opened = random.integers(0, 2, (3, 5))
    opened[:, 0] = 1
    feeds = {
        "x": np.rint(random.standard_normal((3, 5, 4)) * 4).astype(np.float32) / 4,
        "k": opened,
        "o": opened == 1,
        "f": random.standard_normal((3, 5)).astype(np.float32),
    }
    before = evaluate(model, feeds)["y"]
    result = GateMasks().run(model)
    attach_functions(model)
    np.testing.assert_allclose(evaluate(model, feeds)["y"], before, rtol=2e-7)
    return model, result


@pytest.mark.parametrize(
    ("body", "new"),
    [
        ("t = Tanh(x) u = Unsqueeze(o, last) m = Cast<to = 1>(u) y = Mul(t, m)", ["Gate"]),
        ("t = Tanh(x) c = Cast<to = 1>(k) m = Unsqueeze(c, last) y = Mul(m, t)", ["Cast", "Gate"]),
        ("t = Tanh(x) u = Unsqueeze(o, last) y = Where(u, t, zero)", ["Gate"]),
        ("t = Tanh(x) u = Unsqueeze(o, last) y = Where(u, zero, t)", ["Not", "Gate"]),
        # A count of repeated places is that of the narrow mask, unless it is summed where it was repeated.
        (
            (
                "t = Tanh(x) c = Cast<to = 1>(k) u = Unsqueeze(c, last) e = Expand(u, four) "
                "n = ReduceSum<keepdims = 1>(e, middle) y = Div(t, n)"
            ),
            ["Quantise", "ReduceSum"],
        ),
        (
            (
                "t = Tanh(x) c = Cast<to = 1>(k) u = Unsqueeze(c, last) e = Expand(u, four) "
                "n = ReduceSum<keepdims = 1>(e, both) y = Div(t, n)"
            ),
            ["Quantise", "ReduceSum"],
        ),
        (
            (
                "t = Tanh(x) c = Cast<to = 1>(k) u = Unsqueeze(c, last) e = Expand(u, four) "
                "n = ReduceSum<keepdims = 0>(e, middle) m = Reshape(n, spread) y = Div(t, m)"
            ),
            ["Quantise", "ReduceSum", "Reshape"],
        ),
        (
            (
                "t = Tanh(x) c = Cast<to = 1>(k) e = Unsqueeze(c, last) n = ReduceSum<keepdims = 0>(e, both) "
                "m = Reshape(n, thin) y = Div(t, m)"
            ),
            ["Quantise", "ReduceSum", "Reshape"],
        ),
    ],
)
def test_masks_that_become_gates(parse, evaluate, ops, body, new):
    model, result = masked(parse, evaluate, body)
    assert len(result.rewrites) == 1 and not result.not_matched
    assert all(op in ops(model) for op in new)


@pytest.mark.parametrize(
    ("body", "output", "reason"),
    [
        ("t = Tanh(x) m = ReduceMax<axes = [1]>(t) c = Cast<to = 1>(k) u = Unsqueeze(c, last) y = Mul(m, u)",
         "float[N, 5, 4] y", "a mask that is larger than what it masks"),
        ("t = Tanh(x) u = Unsqueeze(f, last) y = Mul(t, u)", "float[N, 5, 4] y",
         "a factor that is computed from the input, and no mask"),
        (("t = Tanh(x) c = Cast<to = 1>(k) h = Mul(c, half) n = ReduceSum<keepdims = 1>(h, middle) "
         "u = Unsqueeze(n, last) y = Div(t, u)"), "float[N, 5, 4] y",
         "it divides by a sum of numbers that are computed from the input, and no mask"),
        ("t = Tanh(x) s = Sigmoid(x) u = Unsqueeze(o, last) y = Where(u, t, s)", "float[N, 5, 4] y", None),
        ("t = Tanh(x) u = Unsqueeze(o, last) y = Where(u, t, half)", "float[N, 5, 4] y", None),
        ("t = Tanh(x) s = Sigmoid(x) o2 = Greater(s, half) y = Where(o2, t, zero)", "float[N, 5, 4] y", None),
    ],
)  # fmt: skip
def test_masks_that_stay(parse, evaluate, ops, body, output, reason):
    model, result = masked(parse, evaluate, body, output)
    assert not result.rewrites and "Gate" not in ops(model)
    assert [entry.reason for entry in result.not_matched] == ([reason] if reason else [])
