"""Where an axis comes from: each operator keeps, moves, splits or loses its places."""

from __future__ import annotations

import numpy as np
import pytest

from snnc.ir import concrete_shapes
from snnc.passes.attention.origin import Axis, kinds, origins


def ones(name: str, *shape: int) -> str:
    return f"float[{', '.join(map(str, shape))}] {name} = {{{', '.join(['1'] * int(np.prod(shape)))}}}"


def numbers(name: str, *held: int) -> str:
    return f"int64[{len(held)}] {name} = {{{', '.join(map(str, held))}}}"


HELD = ", ".join(
    [
        ones("w", 5, 5), ones("words", 7, 5), ones("point", 5, 5, 1, 1), ones("patch", 8, 5, 2, 2),
        numbers("map", 0, 4, 6, 5), numbers("join", 0, 24, 5), numbers("heads", 0, 24, 1, 5),
        numbers("odd", 0, 5, 24), numbers("whole", 1, 24, 5), numbers("zero", 0), numbers("one", 1),
        numbers("two", 2), numbers("end", 20), numbers("back", -4), numbers("last", 100),
        numbers("parts", 4, 20), numbers("run", 3, 4, 5), numbers("mixed", 3, 5, 4),
        "int64[2, 2] square = {1, 2, 3, 4}",
    ]
)  # fmt: skip


def followed(parse, body, out, axis, size=None, inner=1):
    """Origins of an axis of ``y``; ``x`` has 24 places, ``image`` is a map of 4 x 6, of 5 channels each."""
    inputs = "float[N, 24, 5] x, float[N, 5, 4, 6] image, int64[N, 24] ids, int64[1] open"
    model = parse(f"g ({inputs}) => (float[{out}] y) <{HELD}> {{ {body} }}")
    shapes = concrete_shapes(model, 3)
    return origins(Axis(model.graph.outputs[0], axis, inner, size or shapes["y"][axis]), shapes)


@pytest.mark.parametrize(
    ("body", "out", "axis", "expected"),
    [
        ("y = Relu(x)", "N, 24, 5", 1, [("input", 24, 0)]),
        ("y = Transpose<perm = [0, 2, 1]>(x)", "N, 5, 24", 2, [("input", 24, 0)]),
        ("y = Transpose(x)", "5, 24, N", 0, [("input", 5, 0)]),
        ("y = MatMul(x, w)", "N, 24, 5", 1, [("input", 24, 0)]),
        ("y = MatMul(x, w)", "N, 24, 5", 2, [("channels", 5, 0)]),
        ("y = MatMul(x, w)", "N, 24, 5", 0, [("input", 3, 0)]),
        ("t = Transpose<perm = [0, 2, 1]>(x) y = MatMul(x, t)", "N, 24, 24", 2, [("input", 24, 0)]),
        ("y = Softmax(x)", "N, 24, 5", 1, [("input", 24, 0)]),
        ("a = Add(x, x) y = Mul(a, two)", "N, 24, 5", 1, [("input", 24, 0)]),
        ("y = ReduceMean<axes = [2]>(x)", "N, 24, 1", 1, [("input", 24, 0)]),
        ("y = ReduceMean<axes = [2], keepdims = 0>(x)", "N, 24", 1, [("unknown", 24, 0)]),
        ("y = Gather(words, ids)", "N, 24, 5", 1, [("words", 24, 0)]),
        ("c = Concat<axis = 1>(x, x) y = Relu(c)", "N, 48, 5", 1, [("input", 24, 24), ("input", 24, 0)]),
        ("y = Concat<axis = 2>(x, x)", "N, 24, 10", 1, [("input", 24, 0)]),
        ("y = Slice(x, one, end, one)", "N, 19, 5", 1, [("input", 24, -1)]),
        ("y = Slice(x, back, last, one)", "N, 4, 5", 1, [("input", 24, -20)]),
        ("y = Slice(x, zero, two, two)", "N, 24, 2", 1, [("input", 24, 0)]),
        ("y = Slice(x, zero, last, one, two)", "N, 12, 5", 1, [("unknown", 12, 0)]),
        ("z, y = Split<axis = 1>(x, parts)", "N, 20, 5", 1, [("input", 24, -4)]),
        ("z, y = Split<axis = 1>(x, parts)", "N, 20, 5", 2, [("input", 5, 0)]),
        ("y = Gather<axis = 1>(x, run)", "N, 3, 5", 1, [("input", 24, -3)]),
        ("y = Gather<axis = 1>(x, run)", "N, 3, 5", 2, [("input", 5, 0)]),
        ("y = Gather<axis = 2>(x, run)", "N, 24, 3", 1, [("input", 24, 0)]),
        ("y = Gather<axis = 1>(x, mixed)", "N, 3, 5", 1, [("unknown", 3, 0)]),
        ("y = Gather<axis = 1>(x, square)", "N, 2, 2, 5", 3, [("input", 5, 0)]),
        ("y = Gather<axis = 1>(x, square)", "N, 2, 2, 5", 1, [("unknown", 2, 0)]),
        ("y = Conv(image, point)", "N, 5, 4, 6", 2, [("input", 4, 0)]),
        ("y = Conv(image, point)", "N, 5, 4, 6", 1, [("channels", 5, 0)]),
        ("y = Conv<strides = [2, 2]>(image, patch)", "N, 8, 2, 3", 3, [("row", 3, 0)]),
        ("y = MaxPool<kernel_shape = [2, 2]>(image)", "N, 5, 3, 5", 1, [("input", 5, 0)]),
        ("y = Conv(image, point)", "N, 5, 4, 6", 0, [("input", 3, 0)]),
        ("m = Reshape(x, map) y = Reshape(m, join)", "N, 24, 5", 1, [("cut", 24, 0), ("input", 24, 0)]),
        ("m = Reshape(x, heads) y = Reshape(m, join)", "N, 24, 5", 1, [("input", 24, 0)]),
        ("y = Reshape(x, odd)", "N, 5, 24", 1, [("unknown", 5, 0)]),
        ("y = Expand(x, whole)", "N, 24, 5", 1, [("input", 24, 0)]),
        ("t = Transpose<perm = [0, 2, 1]>(x) y = MatMul(w, t)", "N, 5, 24", 1, [("unknown", 5, 0)]),
        ("y = ai.snnc.Relu(x)", "N, 24, 5", 1, [("input", 24, 0)]),
        ("y = CumSum(x, one)", "N, 24, 5", 1, [("unknown", 24, 0)]),
    ],
)
def test_places_are_kept_moved_or_lost(parse, body, out, axis, expected):
    found = followed(parse, body, out, axis)
    assert [(origin.kind, origin.size, origin.front) for origin in found] == expected


def test_a_shape_that_is_not_known_loses_the_axis(parse):
    (origin,) = followed(parse, "y = Slice(x, open, end, one)", "N, K, 5", 1, size=24)
    assert (origin.kind, origin.node.op_type) == ("unknown", "Slice")


def test_a_merged_axis_names_its_parts(parse):
    (origin,) = followed(
        parse, "t = Transpose<perm = [0, 2, 3, 1]>(image) y = Reshape(t, join)", "N, 24, 5", 1
    )
    assert origin.kind == "merged"
    assert [(part.axis, part.size) for part in origin.parts] == [(1, 4), (2, 6)]


def test_part_of_an_axis_is_followed_into_the_axis_it_came_from(parse):
    """Every sixth place of 24 is a row of the map, the six within a row are its columns."""
    body = "t = Transpose<perm = [0, 2, 3, 1]>(image) y = Reshape(t, join)"
    (rows,) = followed(parse, body, "N, 24, 5", 1, size=4, inner=6)
    (columns,) = followed(parse, body, "N, 24, 5", 1, size=6, inner=1)
    assert [(found.kind, found.size) for found in (rows, columns)] == [("input", 4), ("input", 6)]
    (across,) = followed(parse, body, "N, 24, 5", 1, size=8, inner=1)
    assert across.kind == "unknown"


def test_kinds_of_several_ways(parse):
    model = parse(
        f"g (float[N, 4] x) => (float[N, 4] y) <{ones('w', 4, 4)}> {{ m = MatMul(x, w) y = Add(m, x) }}"
    )
    assert kinds(Axis(model.graph.outputs[0], 1, 1, 4), concrete_shapes(model, 3)) == {"channels", "input"}
