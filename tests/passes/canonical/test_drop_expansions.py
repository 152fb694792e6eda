"""drop-expansions: repetitions that broadcasting does anyway."""

from __future__ import annotations

import pytest

from snnc.passes.canonical.drop_expansions import DropExpansions

HEAD = (
    "g (float[N, 3, 4] x) => (float[N, 3, 4] y) <int64[3] all = {1, 3, 4}, float[1, 1, 4] c = {1, 2, 3, 4}>"
)
BATCH = "s = Shape(x) e = Expand(c, s) "


@pytest.mark.parametrize(
    "body", [BATCH + "y = Add(x, e)", BATCH + "y = Sub(e, x)", "e = Expand(c, all) y = Mul(x, e)"]
)
def test_dropped(parse, check, ops, body):
    model = parse(f"{HEAD} {{ {body} }}")
    check(DropExpansions(), model)
    assert "Expand" not in ops(model)


def test_what_repeats_nothing_is_no_node(parse, check, ops):
    """Whoever reads it: MViTv2 expands its scores to their own shape."""
    model = parse(f"{HEAD} {{ r = Relu(x) s = Shape(x) e = Expand(r, s) y = Softmax<axis = -1>(e) }}")
    check(DropExpansions(), model)
    assert "Expand" not in ops(model)


def test_a_repetition_that_is_needed_stays(parse, check, ops):
    text = HEAD.replace("float[N, 3, 4] x", "float[N, 1, 4] x")
    model = parse(f"{text} {{ e = Expand(c, all) y = Add(x, e) }}")
    check(DropExpansions(), model)
    assert "Expand" in ops(model)


def test_other_readers_keep_it(parse, check, ops):
    more = HEAD.replace("<", "<int64[1] one = {1}, int64[1] four = {4}, ")
    body = BATCH + "a = Add(x, e) k = Concat<axis = 1>(e, a) y = Slice(k, one, four, one)"
    model = parse(f"{more} {{ {body} }}")
    check(DropExpansions(), model)
    assert "Expand" in ops(model)
