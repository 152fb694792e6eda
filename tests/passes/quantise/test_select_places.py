"""select-places: rows that the host chooses, as exporters write their choice, and what is no such choice."""

from __future__ import annotations

import numpy as np
import pytest

from snnc.ir import clone
from snnc.ops import attach_functions
from snnc.passes.canonical.infer_shapes import InferShapes
from snnc.passes.quantise.select_places import SelectPlaces

HEAD = """g (float[N, 6, 4] x, int64[N, 6] ids) => (float[N, WIDTH] y) <
  float[4, 5] w = {WEIGHTS}, float[5] b = {1, 2, 3, 4, 5}, float[4, 4] turn = {TURN},
  float[6, 1] each = {1, 2, 3, 4, 5, 6}, int64 zero = {0}, int64 one = {1}, int64 six = {6},
  int64[1] first = {0}, int64[1] behind = {1},
  int64[1] last = {-1}, int64[2] column = {-1, 1}, int64[3] cube = {-1, 1, 1}, int64[3] flat1 = {1, 1, 4},
  int64[2] rows = {-1, 4}, int64[1] one1 = {1}, int64[1] two = {2}> {
  place = ArgMax<axis = 1, keepdims = 0>(ids) s = Shape(x) n = Gather(s, zero) count = Range(zero, n, one) """
FLAT = "v = MatMul(x, turn) f = Reshape(v, rows)"
COUNTS = "cu = Unsqueeze(count, last) pu = Unsqueeze(place, last)"

FORMS = {
    "pairs": f"{COUNTS} p = Concat<axis = -1>(cu, pu) y = GatherND(x, p)",
    "pairs that count from the end": f"{COUNTS} q = Sub(pu, six) p = Concat<axis = 1>(cu, q)"
    " y = GatherND(x, p)",
    "numbers in another form": f"{COUNTS} cr = Reshape(count, column) p = Concat<axis = -1>(cr, pu)"
    " y = GatherND(x, p)",
    "within samples": f"{COUNTS} y = GatherND<batch_dims = 1>(x, pu)",
    "elements": "i = Reshape(place, cube) e = Expand(i, flat1) g1 = GatherElements<axis = 1>(x, e)"
    " y = Squeeze(g1, behind)",
    "rows": f"{FLAT} o = Mul(count, six) t = Add(o, place) y = Gather(f, t)",
    "rows, the other way": f"{FLAT} o = Mul(six, count) t = Add(place, o) y = Gather(f, t)",
}
LINEAR = {
    "behind a layer": ("z = MatMul(x, w) v = Add(z, b)", 5),
    "behind two layers": ("u = MatMul(x, turn) z = MatMul(u, w) v = Add(z, b)", 5),
    "behind a sum of places": ("v = Add(x, each)", 4),
}


def model(parse, body, width=4):
    rng = np.random.default_rng(0)
    numbers = {
        name: ", ".join(f"{number:.3f}" for number in rng.standard_normal(count))
        for name, count in (("WEIGHTS", 20), ("TURN", 16))
    }
    text = HEAD.replace("WIDTH", str(width))
    for name, entry in numbers.items():
        text = text.replace(name, entry)
    made = parse(text + body + " }")
    InferShapes().run(made)
    return made


def feeds():
    rng = np.random.default_rng(3)
    ids = np.array([rng.permutation(6) for _ in range(5)])
    return {"x": rng.standard_normal((5, 6, 4)).astype(np.float32), "ids": ids}


def check(made, evaluate, tolerance=0.0):
    before = evaluate(made, feeds())["y"]
    result = SelectPlaces().run(made)
    assert len(result.rewrites) == 1 and not result.not_matched
    runnable = clone(made)
    attach_functions(runnable)
    after = evaluate(runnable, feeds())["y"]
    assert after.shape == before.shape and np.abs(after - before).max() <= tolerance
    assert not SelectPlaces().run(made).rewrites


@pytest.mark.parametrize("form", FORMS)
def test_chosen_rows_are_what_a_mask_leaves(parse, evaluate, ops, form):
    made = model(parse, FORMS[form])
    check(made, evaluate, tolerance=1e-5 if "rows" in form else 0.0)
    assert ops(made).count("Gate") == 1
    assert not {"GatherND", "GatherElements"} & set(ops(made))


@pytest.mark.parametrize("layers", LINEAR)
def test_the_choice_is_made_in_front_of_layers_of_each_place(parse, evaluate, ops, layers):
    text, width = LINEAR[layers]
    made = model(parse, f"{text} {COUNTS} y = GatherND<batch_dims = 1>(v, pu)", width)
    check(made, evaluate, tolerance=1e-5)
    order = [op for op in ops(made) if op in ("Gate", "MatMul")]
    assert order == ["Gate", *["MatMul"] * text.count("MatMul")]


#: Of these no mask of one place is made: several places, places of coded values, or none of each sample.
OTHERS = {
    "places of values": "m = ArgMax<axis = 1, keepdims = 0>(x) h = Gather<axis = 1>(m, zero)"
    " v = Unsqueeze(h, last) y = GatherND<batch_dims = 1>(x, v)",
    "samples turned around": f"{COUNTS} d = Sub(n, one) t = Sub(d, count) tu = Unsqueeze(t, last)"
    " p = Concat<axis = -1>(tu, pu) y = GatherND(x, p)",
    "numbers twice as large": f"{FLAT} o = Mul(count, one) t = Add(o, place) y = Gather(f, t)",
    "numbers times themselves": f"{FLAT} o = Mul(count, count) t = Add(o, place) y = Gather(f, t)",
    "no number of samples": f"{FLAT} t = Add(place, place) y = Gather(f, t)",
    "one sum": f"{FLAT} y = Gather(f, place)",
    "elements along another axis": "v = MatMul(x, turn) i = Reshape(place, cube) e = Expand(i, flat1)"
    " g1 = GatherElements<axis = 2>(v, e) y = Squeeze(g1, behind)",
    "elements of coded places": "m = ArgMax<axis = 1, keepdims = 1>(x) q = Slice(m, first, one1, two)"
    " e = Expand(q, flat1) g1 = GatherElements<axis = 1>(x, e) y = Squeeze(g1, behind)",
    "numbers beside each other": f"{COUNTS} p = Concat<axis = 0>(cu, pu) v = MatMul(x, turn)"
    " g1 = GatherND(v, p) m = ReduceMean<axes = [1], keepdims = 0>(g1) y = Gather(m, count)",
}


@pytest.mark.parametrize("form", OTHERS)
def test_other_choices_stay(parse, ops, form):
    made = model(parse, OTHERS[form])
    before = ops(made)
    result = SelectPlaces().run(made)
    reasons = {entry.reason for entry in result.not_matched}
    assert reasons == {"its places are not one for each sample, computed by the host"}
    assert ops(made) == before
