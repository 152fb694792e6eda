"""gemm-to-matmul: transposes, alpha, beta, and weights that are not plain constants."""

from __future__ import annotations

import pytest

from snnc.ir import constant
from snnc.passes.canonical.gemm_to_matmul import GemmToMatmul

WEIGHTS = (
    "float[3, 2] k = {1, 2, 3, 4, -1, -2}, float[2, 3] t = {1, 2, 3, 4, -1, -2}, float[2] c = {0.5, 0.25}, "
    "int8[2, 3] q = {1, 2, 3, 4, 5, 6}, float d = {0.5}"
)


@pytest.mark.parametrize(
    ("gemm", "after"),
    [
        ("y = Gemm(x, k)", ["MatMul"]),
        ("y = Gemm(x, k, c)", ["MatMul", "Add"]),
        ("y = Gemm<transB = 1>(x, t, c)", ["MatMul", "Add"]),
        ("y = Gemm<alpha = 0.5, beta = 3.0>(x, k, c)", ["MatMul", "Mul", "Add"]),
        ("u = Transpose(x) y = Gemm<transA = 1>(u, k)", ["Transpose", "Transpose", "MatMul"]),
        (
            "w = DequantizeLinear(q, d) y = Gemm<transB = 1>(x, w, c)",
            ["DequantizeLinear", "Transpose", "MatMul", "Add"],
        ),
    ],
)
def test_same_numbers(parse, check, ops, gemm, after):
    model = parse(f"g (float[N, 3] x) => (float[N, 2] y) <{WEIGHTS}> {{ {gemm} }}")
    check(GemmToMatmul(), model, tolerance=1e-6)
    assert ops(model) == after
    assert model.graph.outputs[0].name == "y"


def test_weight_is_transposed_once(parse, check):
    model = parse(f"g (float[N, 3] x) => (float[N, 2] y) <{WEIGHTS}> {{ y = Gemm<transB = 1>(x, t) }}")
    check(GemmToMatmul(), model, tolerance=1e-6)
    assert constant(model.graph[0].inputs[1]).tolist() == [[1, 4], [2, -1], [3, -2]]
    assert model.graph[0].name == "n_y"
    assert "t" not in model.graph.initializers
