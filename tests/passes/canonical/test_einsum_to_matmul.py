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


#: Equation, shapes of the operands (the first axis of those in capitals is open), ops afterwards.
EQUATIONS = {
    "ellipsis": ("...ij,...jk->...ik", ["N 3 4 5", "N 3 5 6"], ["MatMul"]),
    "two ellipses": ("i...,...ij->...j", ["4 3", "3 4 5"], None),
    "no arrow": ("...ij,jk", ["N 4 5", "5 6"], ["MatMul"]),
    "pixels": ("bhwc,cd->bhwd", ["N 3 4 5", "5 6"], ["MatMul"]),
    "channels": ("bchw,dc->bdhw", ["N 5 3 4", "6 5"], ["Transpose", "MatMul", "Transpose"]),
    "two columns": ("bsd,dhk->bshk", ["N 4 5", "5 2 3"], ["MatMul", "Reshape"]),
    "two sums": ("bshk,hkd->bsd", ["N 4 2 3", "2 3 5"], ["Reshape", "MatMul"]),
    "rows joined": (
        "bhwc,bnc->bhwn", ["N 3 4 5", "N 6 5"], ["Transpose", "Reshape", "MatMul", "Reshape"],
    ),
    "dot": ("bnd,bnd->bn", ["N 4 5", "N 4 5"], ["Reshape", "Reshape", "MatMul", "Reshape"]),
    "outer": ("bi,bj->bij", ["N 4", "N 5"], ["Unsqueeze", "Unsqueeze", "Mul"]),
    "elements": ("bnd,bnd->bnd", ["N 4 5", "N 4 5"], ["Mul"]),
    "factor of channels": ("bchw,c->bchw", ["N 4 3 2", "4"], ["Mul"]),
    "turned": ("bij->bji", ["N 4 5"], ["Transpose"]),
    "sum": ("bij->bj", ["N 4 5"], ["ReduceSum"]),
    "sum of all but one": (
        "bij,bj->b", ["N 4 5", "N 5"], ["ReduceSum", "Reshape", "Reshape", "MatMul", "Reshape"],
    ),
    "three": ("bnd,de,ef->bnf", ["N 4 5", "5 6", "6 3"], ["MatMul", "MatMul"]),
    "bilinear": ("bi,ijk,bj->bk", ["N 3", "3 4 5", "N 4"], None),
    "weights of heads": ("bhsd,hde->bhse", ["N 2 4 3", "2 3 5"], ["MatMul"]),
    "two constants": ("ij,jk,bk->bi", ["3 4", "4 5", "N 5"], ["MatMul"]),
    "a constant summed": ("bi,jk->bi", ["N 3", "4 5"], ["Mul"]),
    "one for all samples": ("bn,bn->b", ["N 3", "1 3"], None),
    "one for all heads": ("bhnd,bhde->bhne", ["N 2 4 3", "1 1 3 5"], ["MatMul"]),
    "one for all elements": ("bnd,bnd->bnd", ["N 4 5", "1 1 5"], ["Mul"]),
    "one for all in a sum": ("nd,bnd->bd", ["1 5", "N 4 5"], None),
    "one of the varying": ("bnd,bnd->bnd", ["N 1 5", "N 4 1"], None),
}  # fmt: skip


#: Whether what holds no batch is a constant; where every operand is without a batch, nothing would be read.
CASES = {
    f"{name}, {'constant' if held else 'read'}": (*case, held)
    for name, case in EQUATIONS.items()
    for held in (False, True)
    if not held or any("N" in shape for shape in case[1])
}


@pytest.mark.parametrize(("equation", "shapes", "after", "held"), CASES.values(), ids=CASES)
def test_any_equation(parse, evaluate, ops, equation, shapes, after, held):
    random = np.random.default_rng(1)
    arrays = {
        name: random.standard_normal([2 if size == "N" else int(size) for size in shape.split()])
        for name, shape in zip("xyz", shapes, strict=False)
    }
    kept = {name for name, shape in zip("xyz", shapes, strict=False) if not held or "N" in shape}
    inputs = ", ".join(
        f"float[{', '.join(shape.split())}] {name}"
        for name, shape in zip("xyz", shapes, strict=False) if name in kept
    )  # fmt: skip
    rank = np.einsum(equation, *arrays.values()).ndim
    text = f'r = Einsum<equation = "{equation}">({", ".join(arrays)})'
    outside = {name: array for name, array in arrays.items() if name not in kept}
    constants = ", ".join(
        f"float[{','.join(map(str, array.shape))}] {name} = {{{', '.join(map(str, array.ravel()))}}}"
        for name, array in outside.items()
    )
    model = parse(f"g ({inputs}) => (float[{', '.join('M' * rank)}] r) <{constants}> {{ {text} }}")
    feeds = {name: arrays[name].astype(np.float32) for name in kept}
    expected = evaluate(model, feeds)["r"]
    np.testing.assert_allclose(np.einsum(equation, *arrays.values()), expected, rtol=1e-4, atol=1e-5)
    assert EinsumToMatmul().run(model).rewrites
    if held and after is not None:
        assert ops(model) == after
    assert not [node for node in model.graph if node.op_type == "Einsum"]
    np.testing.assert_allclose(evaluate(model, feeds)["r"], expected, rtol=1e-5, atol=1e-5)
    assert model.graph.outputs[0].name == "r"


@pytest.mark.parametrize(
    ("equation", "left", "right", "why"),
    [
        ("iij,ijk->ik", "2, 2, 3", "2, 3, 4", "takes a diagonal"),
        ("bhwuv,bxyuv->bhwxy", *["N, H, W, U, V"] * 2, "more than one of the sizes that it joins is open"),
        ("ij,jk->ik", "3, 4", "5, 6", "a letter has two sizes"),
        ("ij->ji", "3, 4", "5, 6", "the number of axes of an operand is not known"),
        ("...ijk,jk->ik", "3, 4", "5, 6", "its equation does not fit the axes of its operands"),
        ("ij,jkl->ik", "3, 4", "4, 6", "its equation does not fit the axes of its operands"),
        ("ij,jk->il", "3, 4", "4, 6", "its equation does not fit the axes of its operands"),
    ],
)
def test_left_alone(parse, ops, equation, left, right, why):
    text = f'y = Einsum<equation = "{equation}">(a, b)'
    model = parse(f"g (float[{left}] a, float[{right}] b) => (float[N, M] y) {{ {text} }}")
    result = EinsumToMatmul().run(model)
    assert not result.rewrites
    assert why in result.not_matched[0].reason
    assert ops(model) == ["Einsum"]


def test_of_constants_alone_is_a_constant(parse, check, ops):
    model = parse(
        "g (float[N, 2] x) => (float[N, 2] y) <float[3, 2] v = {1, 2, 3, 4, 5, 6}, float[3] w = {7, 8, 9}> "
        '{ e = Einsum<equation = "ij,i->j">(v, w) y = Add(x, e) }'
    )
    check(EinsumToMatmul(), model)
    assert ops(model) == ["Add"]
    assert np.array_equal(constant(model.graph[0].inputs[1]), [76, 100])
