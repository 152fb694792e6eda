"""remove-identity: every rule of its table, and what it must leave."""

from __future__ import annotations

import pytest

from snnc.errors import UnsupportedError
from snnc.passes.canonical.remove_identity import RULES, RemoveIdentity

CONSTANTS = (
    "float one = {1}, float[1] zero = {0}, int64[2] shape = {0, 3}, int64[4] nothing = {0, 0, 0, 0}, "
    "int64[1] begin = {0}, int64[1] end = {9223372036854775807}, int64[1] axis = {1}, bool no = {0}, "
    "float half = {0.5}, int64[2] static = {2, 3}, int64[2] once = {1, 1}, float[2, 3] m = {1, 1, 1, 1, 1, 1}"
)
REMOVED = {
    "Identity": "b = Identity(a)",
    "Dropout": "b = Dropout(a, half, no)",
    "CastLike": "b = CastLike(a, x)",
    "Cast": "b = Cast<to = 1>(a)",
    "Reshape": "b = Reshape(a, shape)",
    "Flatten": "b = Flatten(a)",
    "Expand": "b = Expand(a, static)",
    "Tile": "b = Tile(a, once)",
    "Transpose": "b = Transpose<perm = [0, 1]>(a)",
    "Pad": "b = Pad(a, nothing)",
    "Slice": "b = Slice(a, begin, end, axis)",
    "Concat": "b = Concat<axis = 0>(a)",
    "Sum": "b = Sum(a)",
    "Max": "b = Max(a)",
    "Min": "b = Min(a)",
    "Clip": "b = Clip(a)",
    "Mul": "b = Mul(one, a)",
    "Div": "b = Div(a, one)",
    "Add": "b = Add(a, zero)",
    "Sub": "b = Sub(a, zero)",
}


def test_every_rule_has_a_case():
    assert set(REMOVED) == set(RULES)


@pytest.mark.parametrize("op", REMOVED)
def test_removes(parse, check, ops, op):
    model = parse(
        f"g (float[2, 3] x) => (float[2, 3] y) <{CONSTANTS}> {{ a = Abs(x) {REMOVED[op]} y = Neg(b) }}"
    )
    result = check(RemoveIdentity(), model)
    assert ops(model) == ["Abs", "Neg"]
    assert result.rewrites[0].rule == f"remove {op}"
    assert result.rewrites[0].removed == ("n_b",)


@pytest.mark.parametrize("op", ["Identity", "Reshape", "Mul"])
def test_output_name_survives(parse, check, ops, op):
    text = REMOVED[op].replace("b =", "y =")
    model = parse(f"g (float[2, 3] x) => (float[2, 3] y) <{CONSTANTS}> {{ a = Abs(x) {text} }}")
    check(RemoveIdentity(), model)
    assert ops(model) == ["Abs"]
    assert model.graph[0].outputs[0].name == "y"


@pytest.mark.parametrize(
    "kept",
    [
        "b = Cast<to = 10>(a) c = Cast<to = 1>(b)",
        "b = Transpose<perm = [1, 0]>(a) c = Transpose<perm = [1, 0]>(b)",
        "b = Slice(a, begin, axis, axis) c = Add(b, a)",
        "b = Sub(zero, a) c = Neg(b)",
        "b = Mul(a, m) c = Neg(b)",
        "b = Dropout(a, half, t) c = Neg(b)",
        "b, k = Dropout(a) f = Cast<to = 1>(k) c = Add(b, f)",
    ],
)
def test_leaves_alone(parse, ops, kept):
    model = parse(
        f"g (float[2, 3] x, bool t) => (float[2, 3] y) <{CONSTANTS}> {{ a = Abs(x) {kept} y = Neg(c) }}"
    )
    before = ops(model)
    result = RemoveIdentity().run(model)
    assert ops(model) == before and not result.rewrites


@pytest.mark.parametrize(
    ("body", "after"),
    [
        ("b = Cast<to = 11>(a) c = Cast<to = 1>(b)", []),
        (
            "b = Cast<to = 11>(a) c = Cast<to = 1>(b) d = Sqrt(b) e = Cast<to = 1>(d) z = Neg(e)",
            ["Cast", "Sqrt"],
        ),
        ("d = ReduceSum<keepdims = 0>(a) e = Transpose(d) c = Mul(a, e)", ["ReduceSum", "Mul"]),
    ],
)
def test_what_changes_nothing_by_way_of_others(parse, check, ops, body, after):
    """A float32 that was a float64 for a while, also where others read that; an order of no axes."""
    outputs = "float[2, 3] y, float[2, 3] z" if " z =" in body else "float[2, 3] y"
    model = parse(f"g (float[2, 3] x) => ({outputs}) {{ a = Abs(x) {body} y = Neg(c) }}")
    assert check(RemoveIdentity(), model, tolerance=1e-6).rewrites
    assert [op for op in ops(model) if op not in ("Abs", "Neg")][: len(after)] == after


@pytest.mark.parametrize("body", ["b = Transpose(a)", "b = Expand(a, form)"])
def test_leaves_alone_what_may_change_a_shape(parse, ops, body):
    model = parse(f"g (float[2, 3] x, int64[2] form) => (float[A, B] y) {{ a = Abs(x) {body} y = Neg(b) }}")
    model.graph[1].outputs[0].shape = None
    assert not RemoveIdentity().run(model).rewrites


def test_symbolic_batch(parse, check, ops):
    model = parse(
        f"""g (float[N, 3] x) => (float[N, 3] y) <{CONSTANTS}>
        {{ a = Abs(x) b = Reshape(a, shape) y = Neg(b) }}"""
    )
    check(RemoveIdentity(), model)
    assert ops(model) == ["Abs", "Neg"]


def test_refuses_to_join_output_to_input(parse):
    model = parse("g (float[N] x) => (float[N] y) { y = Identity(x) }")
    with pytest.raises(UnsupportedError, match="SNN460") as caught:
        RemoveIdentity().run(model)
    assert caught.value.where.node == "n_y"


def test_a_neutral_op_may_join_output_to_input(parse):
    model = parse(f"g (float[2, 3] x) => (float[2, 3] y) <{CONSTANTS}> {{ y = Mul(x, one) }}")
    result = RemoveIdentity().run(model)
    assert not result.rewrites and result.not_matched[0].node == "n_y"
