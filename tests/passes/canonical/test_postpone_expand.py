"""postpone-expand: class tokens that are a fill over the batch plus a weight."""

from __future__ import annotations

import numpy as np
import pytest

from snnc.ir import constant
from snnc.passes.canonical.postpone_expand import PostponeExpand

FILLED = """g (float[N, 4, 3] x) => (float[N, 5, 3] y)
<float[1, 1, 3] token = {1, 2, 3}, int64 first = {0}, int64[1] axis = {0}, int64[2] rest = {1, 3},
 float half = {0.5}>
{
  size = Shape(x)
  batch = Gather<axis = 0>(size, first)
  listed = Unsqueeze(batch, axis)
  target = Concat<axis = 0>(listed, rest)
  fill = ConstantOfShape<value = float[1] {2}>(target)
  sum = Sub(token, fill)
  tokens = Mul(sum, half)
  y = Concat<axis = 1>(tokens, x)
}"""


def test_a_fill_and_what_is_added_become_one_constant(parse, check, ops):
    model = parse(FILLED)
    result = check(PostponeExpand(), model)
    assert [rewrite.rule for rewrite in result.rewrites] == [
        "fill-to-expand",
        "compute-before-expand",
        "compute-before-expand",
    ]
    assert ops(model) == ["Shape", "Gather", "Unsqueeze", "Concat", "Expand", "Concat"]
    expand = next(node for node in model.graph if node.op_type == "Expand")
    assert np.array_equal(constant(expand.inputs[0]), np.array([[[-0.5, 0.0, 0.5]]], np.float32))
    assert expand.outputs[0].name == "tokens"


@pytest.mark.parametrize(
    ("shape", "why"),
    [
        ("2, 1, 3", "it has a batch of its own"),
        ("1, 2, 3", "it makes the result larger"),
        ("1, 1, 1, 3", "rank"),
    ],
)
def test_a_constant_that_enlarges_is_added_afterwards(parse, check, ops, shape, why):
    count = int(np.prod([int(size) for size in shape.split(",")]))
    numbers = ", ".join(map(str, range(count)))
    text = f"""g (float[N, 4, 3] x) => (float[] y)
    <float[{shape}] k = {{{numbers}}}, float[1, 1, 3] c = {{1, 2, 3}}, int64 first = {{0}},
     int64[1] axis = {{0}}, int64[2] rest = {{1, 3}}>
    {{
      size = Shape(x)
      batch = Gather<axis = 0>(size, first)
      listed = Unsqueeze(batch, axis)
      target = Concat<axis = 0>(listed, rest)
      tokens = Expand(c, target)
      y = Add(tokens, k)
    }}"""
    model = parse(text.replace("float[] y", f"float[{', '.join('abcd'[: shape.count(',') + 1])}] y"))
    feeds = {"x": np.zeros((2, 4, 3), np.float32)}
    assert not check(PostponeExpand(), model, feeds=feeds).rewrites, why
    assert ops(model)[-2:] == ["Expand", "Add"]


def test_integers_and_products_that_overflow_stay(parse, check, ops):
    text = """g (float[N, 3] x) => (float[N, 3] y, int64[N, 3] z)
    <int64 first = {0}, int64[1] axis = {0}, int64[1] three = {3}, float big = {3e38},
     float[1, 3] c = {1, 1, 2}>
    {
      size = Shape(x)
      batch = Gather<axis = 0>(size, first)
      listed = Unsqueeze(batch, axis)
      target = Concat<axis = 0>(listed, three)
      z = ConstantOfShape<value = int64[1] {7}>(target)
      tokens = Expand(c, target)
      y = Mul(tokens, big)
    }"""
    model = parse(text)
    assert not check(PostponeExpand(), model).rewrites
    assert ops(model)[-3:] == ["ConstantOfShape", "Expand", "Mul"]
    smaller = parse(text.replace("3e38", "1e38"))
    assert check(PostponeExpand(), smaller).rewrites


TILED = """g (float[N, 4, 3] x) => (float[N, 2, 3] y)
<float[{shape}] c = {{1, 2, 3}}, int64 first = {{0}}, int64[1] axis = {{0}}, int64[2] rest = {{{times}}}>
{{
  size = Shape(x)
  batch = Gather<axis = 0>(size, first)
  listed = Unsqueeze(batch, axis)
  repeats = Concat<axis = 0>(listed, rest)
  y = Tile(c, repeats)
}}"""


def test_a_constant_that_is_tiled_over_the_batch_is_expanded(parse, check, ops):
    model = parse(TILED.format(shape="1, 1, 3", times="2, 1"))
    result = check(PostponeExpand(), model)
    assert [rewrite.rule for rewrite in result.rewrites] == ["tile-to-expand"]
    assert ops(model)[-2:] == ["Mul", "Expand"]


@pytest.mark.parametrize(("shape", "times"), [("1, 1, 3", "2, 2"), ("3, 1, 1", "2, 3")])
def test_a_tile_of_axes_with_several_entries_stays(parse, check, ops, shape, times):
    text = TILED.format(shape=shape, times=times).replace("float[N, 2, 3] y", "float[M, K, L] y")
    model = parse(text)
    assert not check(PostponeExpand(), model).rewrites
    assert ops(model)[-1] == "Tile"


@pytest.mark.parametrize(
    "nodes",
    [
        "y = Tile(c, given)",
        "size = Shape(x) y = Tile(c, size)",
        "size = Shape(x) y = Tile(d, size)",
        "size = Shape(x) e = Expand(c, size) y = Add(e, c)",
        "h = Concat<axis = 0>(two, one) y = Tile(c, h)",
    ],
)
def test_extents_that_are_not_seen_stay(parse, ops, nodes):
    model = parse(
        f"g (float[2, 4, 3] x, float[1, 4, 1] d, int64[2] two) => (float[A, B, C] y) "
        f"<float[1, 1, 3] c = {{1, 2, 3}}, int64[3] given = {{2, 1, 1}}, int64[1] one = {{1}}> {{ {nodes} }}"
    )
    before = ops(model)
    assert not PostponeExpand().run(model).rewrites
    assert ops(model) == before
