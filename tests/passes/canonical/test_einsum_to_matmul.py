"""einsum-to-matmul: attention's products in any order of axes, and equations that are no product."""

from __future__ import annotations

import numpy as np
import pytest

from snnc.ir import constant
from snnc.passes.canonical.einsum_to_matmul import EinsumToMatmul


@pytest.mark.parametrize(
    ("equation", "left", "right", "after"),
    [
        ("b h i d, b h j d -> b h i j", "2, 3, 4, 5", "2, 3, 6, 5", ["Transpose", "MatMul"]),
        ("bhij,bhjd->bhid", "2, 3, 4, 5", "2, 3, 5, 6", ["MatMul"]),
        ("bnhd,bmhd->bhnm", "2, 4, 3, 5", "2, 6, 3, 5", ["Transpose", "Transpose", "MatMul"]),
        ("bhij,bhjd->bihd", "2, 3, 4, 5", "2, 3, 5, 6", ["MatMul", "Transpose"]),
        ("ij,jk", "4, 5", "5, 6", ["MatMul"]),
        ("ij,jk->ki", "4, 5", "5, 6", ["MatMul", "Transpose"]),
    ],
)
def test_same_numbers(parse, check, ops, equation, left, right, after):
    text = f'y = Einsum<equation = "{equation}">(a, b)'
    rank = len(equation.split("->")[-1].replace(" ", "")) if "->" in equation else 2
    shape = ", ".join(["M"] * rank)
    model = parse(f"g (float[{left}] a, float[{right}] b) => (float[{shape}] y) {{ {text} }}")
    check(EinsumToMatmul(), model, tolerance=1e-6)
    assert ops(model) == after
    assert model.graph.outputs[0].name == "y"


def test_constant_operand_is_transposed_once(parse, check, ops):
    model = parse(
        "g (float[N, 2] a) => (float[N, 3] y) <float[3, 2] w = {1, 2, 3, 4, 5, 6}> "
        '{ y = Einsum<equation = "nc,oc->no">(a, w) }'
    )
    check(EinsumToMatmul(), model, tolerance=1e-6)
    assert ops(model) == ["MatMul"]
    assert np.array_equal(constant(model.graph[0].inputs[1]), [[1, 3, 5], [2, 4, 6]])


@pytest.mark.parametrize(
    ("equation", "why"),
    [
        ("...ij,...jk->...ik", "ellipsis"),
        ("iij,ijk->ik", "diagonal"),
        ("ijk,ijk->ijk", "no product of matrices"),
        ("ijk,ikl->ij", "no product of matrices"),
        ("ijk,ikl->jl", "no product of matrices"),
        ("ijk,kl->jl", "no product of matrices|one operand alone"),
    ],
)
def test_left_alone(parse, equation, why):
    ranks = [len(part) for part in equation.split("->")[0].replace("...", "i").split(",")]
    left, right = (", ".join(["2"] * rank) for rank in ranks)
    text = f'y = Einsum<equation = "{equation}">(a, b)'
    model = parse(f"g (float[{left}] a, float[{right}] b) => (float[M] y) {{ {text} }}")
    result = EinsumToMatmul().run(model)
    assert not result.rewrites
    assert any(part in result.not_matched[0].reason for part in why.split("|"))
