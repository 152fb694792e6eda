"""fold-scales: LayerScale goes into the weights in front of it."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from snnc.passes.canonical.fold_scales import FoldScales

HEAD = (
    "g (float[N, 3, 4] x, float[N, 4, 5, 5] z) => (float[N, 3, 4] y, float[N, 4, 5, 5] u) "
    "<float[4, 4] w = {1, 2, 3, 4, 5, 6, 7, 8, 9, 1, 2, 3, 4, 5, 6, 7}, float[4] b = {1, -1, 2, 0.5}, "
    "float[1, 1, 4] c = {2, -1, 0.3, 0}, float[4, 1, 1] d = {2, -1, 0.3, 0}, "
    "float[4, 1, 1, 1] k = {1, 2, 3, 4}, "
    "float s = {2}, float[1, 3, 1] rows = {2, -1, 3}, float[4, 1] column = {1, -1, 2, 3}>"
)
REST = "u = Relu(z)"


@pytest.mark.parametrize(
    ("body", "after"),
    [
        (f"p = MatMul(x, w) y = Mul(p, c) {REST}", ["MatMul", "Relu"]),
        (f"p = MatMul(x, w) a = Add(b, p) y = Mul(c, a) {REST}", ["MatMul", "Add", "Relu"]),
        ("y = Relu(x) q = Conv<group = 4>(z, k, b) u = Mul(q, d)", ["Relu", "Conv"]),
    ],
)
def test_folded(parse, check, ops, body, after):
    model = parse(f"{HEAD} {{ {body} }}")
    assert len(check(FoldScales(), model, tolerance=1e-6).rewrites) == 1
    assert ops(model) == after


@pytest.mark.parametrize(
    "body",
    [
        f"p = MatMul(x, w) y = Mul(p, s) {REST}",
        f"p = MatMul(x, w) r = Mul(p, c) y = Add(r, p) {REST}",
        f"p = MatMul(x, w) r = Mul(p, c) q = MatMul(r, w) y = Add(q, b) {REST}",
        f"p = MatMul(x, w) y = Mul(p, rows) {REST}",
        f"p = Relu(x) y = Mul(p, c) {REST}",
        f"p = MatMul(x, w) a = Add(p, x) y = Mul(a, c) {REST}",
        f"p = MatMul(x, w) o = Mul(p, c) y = MatMul(o, w) {REST}",
        f"p = MatMul(x, column) y = Mul(p, c) {REST}",
        "y = Relu(x) q = Conv<group = 4>(z, k, b) a = Add(q, d) u = Mul(a, d)",
    ],
)
def test_left_alone(parse, check, ops, body):
    model = parse(f"{HEAD} {{ {body} }}")
    before = ops(model)
    check(FoldScales(), model)
    assert ops(model) == before


def test_a_factor_that_is_no_number_stays_for_who_refuses_it(parse, ops):
    model = parse(f"{HEAD} {{ p = MatMul(x, w) y = Mul(p, c) {REST} }}")
    factor = np.array([[[2, -1, np.inf, 0]]], np.float32)
    model.graph.initializers["c"].const_value = ir.tensor(factor, name="c")
    result = FoldScales().run(model)
    assert not result.rewrites and not result.not_matched
    assert ops(model) == ["MatMul", "Mul", "Relu"]
