"""fold-shapes: extents computed from shapes are the constants that onnxruntime computes."""

from __future__ import annotations

import numpy as np
import pytest

from snnc.passes.canonical.fold_shapes import FoldShapes

WEIGHTS = ", ".join(
    [
        "int64 zero = {0}, int64 one = {1}, int64 two = {2}, int64 minus = {-1}, int64[1] axis = {0}",
        "int64[1] rest = {-1}, int64[1] first = {1}, int64[1] last = {3}, int64[1] back = {-2}",
        "int64[2] ends = {1, 2}, int64[1] step = {-1}",
    ]
)


def shaped(parse, body):
    text = f"s = Shape(x) {body} y = Reshape(x, e)"
    return parse(f"g (float[N, 7, 4] x) => (float[A, B] y) <{WEIGHTS}> {{ {text} }}")


JOIN = "q = Unsqueeze(p, axis) e = Concat<axis = 0>(rest, q)"


@pytest.mark.parametrize(
    ("body", "last"),
    [
        (f"p = Gather(s, one) {JOIN}", 7),
        (f"h = Gather(s, one) w = Gather(s, two) p = Mul(h, w) {JOIN}", 28),
        (f"h = Gather(s, one) k = Mul(h, minus) d = Div(k, two) p = Mul(d, minus) {JOIN}", 3),
        (f"h = Gather(s, one) d = Div(h, two) t = Mul(d, two) p = Add(t, one) {JOIN}", 7),
        (
            (
                f"h = Gather(s, two) d = Sub(h, two) p = Div(d, minus) k = Mul(p, minus) p2 = Identity(k) "
                f"{JOIN.replace('(p,', '(p2,')}"
            ),
            2,
        ),
        (
            (
                "t = Slice(s, first, last) p = ReduceProd<axes ="
                " [0], keepdims = 1>(t) e = Concat<axis = 0>(rest, p)"
            ),
            28,
        ),
        ("t = Slice(s, back, last) q = Gather(t, axis) e = Concat<axis = 0>(rest, q)", 7),
        ("t = Gather(s, ends) p = ReduceProd<keepdims = 1>(t) e = Concat<axis = 0>(rest, p)", 28),
        (f"h = Gather(s, one) w = Gather(s, two) c = Equal(h, w) p = Where(c, h, w) {JOIN}", 4),
        (
            (
                f"n = Gather(s, zero) c = Equal(n, minus) h ="
                f" Gather(s, one) w = Gather(s, two) p = Where(c, h, w) {JOIN}"
            ),
            4,
        ),
        (
            (
                "o = ConstantOfShape<value = int64[1] {1}>(first) w = Shape<start = 2>(x) p = Mul(o, w) "
                "e = Concat<axis = 0>(rest, p)"
            ),
            4,
        ),
        (
            (
                f"h = Shape<start = 1, end = 2>(x) i = Cast<to ="
                f" 6>(h) j = Cast<to = 7>(i) p = Squeeze(j, axis) {JOIN}"
            ),
            7,
        ),
    ],
)
def test_extents_are_those_of_onnxruntime(parse, check, body, last):
    model = shaped(parse, body)
    check(FoldShapes(), model, feeds={"x": np.arange(84, dtype=np.float32).reshape(3, 7, 4)})
    folded = [
        value.const_value.numpy().reshape(-1)[-1]
        for value in model.graph.initializers.values()
        if value.name in ("e", "p", "q", "p2")
    ]
    assert folded and folded[-1] == last


@pytest.mark.parametrize(
    "body",
    [
        "n = Gather(s, zero) p = Mul(n, two) q = Unsqueeze(p, axis) e = Concat<axis = 0>(rest, q)",
        "t = Slice(s, last, axis, axis, step) p = ReduceProd<keepdims = 1>(t) e = Concat<axis = 0>(rest, p)",
        (
            "n = Gather(s, zero) h = Gather(s, one) c = Equal(n, h) p = Where(c, h, n) "
            "q = Unsqueeze(p, axis) e = Concat<axis = 0>(rest, q)"
        ),
    ],
)
def test_what_depends_on_the_batch_is_computed(parse, check, ops, body):
    model = shaped(parse, body)
    check(FoldShapes(), model, feeds={"x": np.arange(84, dtype=np.float32).reshape(3, 7, 4)})
    assert "Concat" in ops(model)
