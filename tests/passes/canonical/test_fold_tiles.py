"""fold-tiles: constants repeated for every sample along an axis merged with the batch."""

from __future__ import annotations

import pytest

from snnc.ir import constant
from snnc.passes.canonical.fold_tiles import FoldTiles

#: Four windows an image, and a mask for each: repeated for every image, then merged as the windows are.
HEAD = """g (float[N, 4, 2, 3] x) => (float[M, 2, 3] y)
<float[1, 4, 2, 3] mask = {MASK}, int64[3] merged = {-1, 2, 3}, int64 zero = {0}, int64[1] first = {0},
 int64[3] rest = {4, 2, 3}, float[1, 2, 3] bias = {1, -2, 3, -4, 5, -6},
 int64[1] four = {4}, int64[2] ones = {1, 1}> {
  s = Shape(x) b = Gather<axis = 0>(s, zero) b1 = Unsqueeze(b, first) w = Reshape(x, merged)
"""
HEAD = HEAD.replace("MASK", ", ".join(str(number / 4) for number in range(-12, 12)))
EXPANDED = "t = Concat<axis = 0>(b1, rest) e = Expand(mask, t) m = Reshape(e, merged) "
TILED = "k = Reshape(mask, merged) t = Concat<axis = 0>(b1, ones) m = Tile(k, t) "


@pytest.mark.parametrize("repeated", [EXPANDED, TILED])
@pytest.mark.parametrize(
    "join", ["y = Add(w, m)", "y = Sub(m, w)", "y = Mul(w, m)", "c = Add(bias, m) y = Add(w, c)"]
)
def test_repeated_masks_get_an_axis_of_their_own(parse, check, ops, repeated, join):
    model = parse(HEAD + repeated + join + "}")
    check(FoldTiles(), model)
    assert [op for op in ops(model) if op in ("Add", "Sub", "Mul", "Reshape")][-3:] == [
        "Reshape",
        "Add" if "Add" in join else join[4:7],
        "Reshape",
    ]


@pytest.mark.parametrize(
    "body",
    [
        # Windows outside, images inside: no repetition of a list of windows.
        "t = Concat<axis = 0>(rest, b1) u = Unsqueeze(mask, minus) e = Expand(u, t) y = Identity(w)",
        "m = Expand(bias, ones3) y = Add(w, m)",
    ],
)
def test_others_stay(parse, check, ops, body):
    head = HEAD.replace("int64 zero", "int64[1] minus = {-1}, int64[3] ones3 = {1, 1, 1}, int64 zero")
    model = parse(head + body + "}")
    before = ops(model)
    check(FoldTiles(), model)
    assert ops(model) == before


def test_the_second_sample_is_not_the_first(parse, ops):
    """A mask that grows from sample to sample."""
    body = """n1 = Identity(b) k = Range(zero, b, one) f = Cast<to = 1>(k) u = Unsqueeze(f, behind)
      e = Expand(mask, t) a = Add(e, u) m = Reshape(a, merged) y = Add(w, m) }"""
    head = HEAD.replace("int64 zero", "int64 one = {1}, int64[3] behind = {1, 2, 3}, int64 zero")
    model = parse(head + "t = Concat<axis = 0>(b1, rest) " + body)
    before = ops(model)
    result = FoldTiles().run(model)
    assert [entry.reason for entry in result.not_matched] == ["it does not repeat itself for every sample"]
    assert ops(model) == before


def test_what_is_moved_after_its_repetition_broadcasts(parse, check):
    body = """t = Concat<axis = 0>(b1, rest) e = Expand(mask, t) u = Transpose<perm = [0, 1, 3, 2]>(e)
      v = Transpose<perm = [0, 1, 3, 2]>(x) a = Add(v, u) z = Transpose<perm = [0, 1, 3, 2]>(a)
      y = Reshape(z, merged) }"""
    model = parse(HEAD + body)
    check(FoldTiles(), model)
    assert any(node.op_type == "Add" and constant(node.inputs[1]) is not None for node in model.graph)


def test_tile_of_axes_of_one_element_is_expand(parse, check, ops):
    model = parse("""g (float[N, 4] x) => (float[N, 4] y)
      <int64 zero = {0}, int64[1] first = {0}, int64[1] one = {1}, float[1, 4] c = {1, 2, 3, 4}> {
        s = Shape(x) b = Gather<axis = 0>(s, zero) b1 = Unsqueeze(b, first) t = Concat<axis = 0>(b1, one)
        r = Exp(c) m = Tile(r, t) y = Add(x, m) }""")
    check(FoldTiles(), model)
    assert "Tile" not in ops(model)
    assert "Expand" in ops(model)
