"""take-branches: an If that shapes or a constant decide becomes a branch."""

from __future__ import annotations

import numpy as np
import pytest

from snnc.passes.canonical.take_branches import TakeBranches

IF = """If <then_branch = one () => (float[a, b] u) { u = Neg(r) },
            else_branch = two () => (float[a, b] v) <float h = {0.5}> { w = Mul(r, h) v = Add(w, r) }>"""
HEAD = """g (float[N, 6] x) => (float[N, 6] y)
  <int64[1] none = {0}, int64[1] axis = {1}, int64[1] six = {6}, int64[1] three = {3}> """
#: What decides, the node that is left of the branch, and why nothing is done.
CONDITIONS = {
    "no elements": ("s = Shape(x) n = ReduceProd<keepdims = 1>(s) c = Equal(n, none)", "Add"),
    "features": ("s = Shape(x) n = Gather(s, axis) c = Equal(n, six)", "Neg"),
    "constant": ("c = Constant<value = bool[1] {1}>()", "Neg"),
}


@pytest.mark.parametrize(("condition", "kept"), CONDITIONS.values(), ids=CONDITIONS)
def test_decided(parse, ops, evaluate, condition, kept):
    model = parse(HEAD + f"{{ {condition} r = Relu(x) z = {IF}(c) y = Identity(z) }}")
    x = np.random.default_rng(0).standard_normal((3, 6)).astype(np.float32)
    before = evaluate(model, {"x": x})["y"]
    result = TakeBranches().run(model)
    assert len(result.rewrites) > 0
    assert "If" not in ops(model)
    assert kept in ops(model)
    assert ({"Neg", "Add"} - {kept}).isdisjoint(ops(model))
    assert np.array_equal(evaluate(model, {"x": x})["y"], before)
    assert not TakeBranches().run(model).rewrites


def test_a_branch_that_gives_an_outer_value_and_is_an_output(parse, ops, evaluate):
    branches = """If <then_branch = one () => (float[a, b] u) { u = Identity(r) },
                       else_branch = two () => (float[a, b] v) { v = Neg(r) }>"""
    model = parse(
        HEAD + f"{{ s = Shape(x) n = Gather(s, axis) c = Equal(n, six) r = Relu(x) y = {branches}(c) }}"
    )
    x = np.random.default_rng(0).standard_normal((3, 6)).astype(np.float32)
    TakeBranches().run(model)
    assert "If" not in ops(model)
    assert model.graph.outputs[0].name == "y"
    assert np.array_equal(evaluate(model, {"x": x})["y"], np.maximum(x, 0))


@pytest.mark.parametrize(
    "condition",
    ["m = ReduceSum<keepdims = 0>(x) zero = Constant<value = float {0}>() c = Greater(m, zero)",
     "s = Shape(x) first = Gather(s, none) c = Equal(first, three)"],
    ids=["data", "batch"],
)  # fmt: skip
def test_undecided(parse, ops, condition):
    model = parse(HEAD + f"{{ {condition} r = Relu(x) z = {IF}(c) y = Identity(z) }}")
    result = TakeBranches().run(model)
    assert not result.rewrites
    assert "If" in ops(model)
    (left,) = result.not_matched
    assert "condition" in left.reason
