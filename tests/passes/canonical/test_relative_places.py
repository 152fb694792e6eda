"""Scores taken by relative places, as DeBERTa does: places made of sizes, through logarithms, and tiled."""

from __future__ import annotations

import numpy as np
import pytest

from snnc.passes.canonical.evaluate_constants import EvaluateConstants
from snnc.passes.canonical.fold_tiles import FoldTiles
from snnc.passes.canonical.infer_shapes import InferShapes
from snnc.passes.canonical.write_out_moves import WriteOutMoves

PLACES = "int64[1, 1, 3, 2] p = {0, -1, 2, 1, 3, 3}"


def fed(shapes):
    rng = np.random.default_rng(4)
    return {name: rng.normal(0, 1, shape).astype(np.float32) for name, shape in shapes.items()}


@pytest.mark.parametrize(("axis", "size"), [(-1, "3, 4"), (2, "5, 2")])
def test_elements_by_places_of_all_samples(parse, evaluate, axis, size):
    model = parse(
        f"g (float[N, 2, {size}] x) => (float[N, 2, 3, 2] y) <{PLACES}, int64[4] t = {{1, 2, 1, 1}}, "
        "int64[1] z = {0}, int64[3] r = {2, 3, 2}> "
        "{ s = Shape(x) n = Gather(s, z) e = Concat<axis = 0>(n, r) "
        f"i = Expand(p, e) y = GatherElements<axis = {axis}>(x, i) }}"
    )
    InferShapes().run(model)
    feeds = fed({"x": (3, 2, *map(int, size.split(",")))})
    before = evaluate(model, feeds)["y"]
    assert len(WriteOutMoves().run(model).rewrites) == 1
    assert not any(node.op_type == "GatherElements" for node in model.graph)
    assert np.array_equal(evaluate(model, feeds)["y"], before)


def test_places_of_each_sample_stay(parse):
    model = parse(
        "g (float[N, 4] x, int64[N, 2] i) => (float[N, 2] y) { y = GatherElements<axis = 1>(x, i) }"
    )
    found = WriteOutMoves().run(model)
    assert not found.rewrites and "places are not constant" in found.not_matched[0].reason


@pytest.mark.parametrize(("kind", "folds"), [(7, True), (3, False), (1, False)])
def test_rounded_distances_are_places(parse, kind, folds):
    """What ends in int64 is a place; a weight that is rounded to int8, or stays a float, is a quantiser's."""
    model = parse(
        "g (float[N, 4] x) => (float[N, 4] y) <float[4] w = {1, 2, 3, 4}, float one = {1}> "
        f"{{ l = Log(w) c = Ceil(l) a = Add(c, one) i = Cast<to = {kind}>(a) "
        "f = Cast<to = 1>(i) y = Mul(x, f) }"
    )
    EvaluateConstants().run(model)
    assert any(node.op_type == "Ceil" for node in model.graph) != folds


def test_a_product_with_what_is_tiled(parse, evaluate):
    """Heads are merged with the batch, and keys of places are repeated for every sample."""
    model = parse(
        "g (float[N, 2, 3, 4] x) => (float[M, 3, 5] y) <float[2, 4, 5] k = {RANDOM}, int64[1] z = {0}, "
        "int64[3] m = {-1, 3, 4}, int64[2] o = {1, 1}> { h = Reshape(x, m) s = Shape(x) n = Gather(s, z) "
        "e = Concat<axis = 0>(n, o) t = Tile(k, e) y = MatMul(h, t) }".replace(
            "RANDOM", ", ".join(map(str, range(40)))
        )
    )
    InferShapes().run(model)
    feeds = fed({"x": (3, 2, 3, 4)})
    before = evaluate(model, feeds)["y"]
    assert FoldTiles().run(model).rewrites
    assert np.allclose(evaluate(model, feeds)["y"], before, rtol=1e-6)
    assert not any(node.op_type == "Tile" for node in model.graph)
