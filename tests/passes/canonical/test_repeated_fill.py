"""Constants that Expand repeats, seen through Identity and through cuts of known places."""

from __future__ import annotations

import numpy as np
import pytest

from snnc.passes.canonical.repeated_fill import repeated_fill

HEAD = (
    "float[1, 3, 4] c = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11}, int64[3] t = {2, 3, 4}, int64[1] one = {1}, "
    "int64[1] two = {2}, int64[1] three = {3}, int64[2] parts = {1, 3}, int64[2] places = {2, 0}, "
    "int64[2] both = {1, 2}, int64[2] zeros = {0, 0}"
)
WHOLE = np.arange(12, dtype=np.float32).reshape(1, 3, 4)


@pytest.mark.parametrize(
    ("body", "wanted"),
    [
        ("y = Identity(c)", WHOLE),
        ("e = Expand(c, t) y = Identity(e)", np.repeat(WHOLE, 2, axis=0)),
        ("e = Expand(c, t) y = Slice(e, one, three, two)", np.repeat(WHOLE, 2, axis=0)[:, :, 1:3]),
        ("e = Expand(c, t) y = Slice(e, one, three, one, two)", np.repeat(WHOLE, 2, axis=0)[:, 1:3:2]),
        ("e = Expand(c, t) y = Gather<axis = 2>(e, places)", np.repeat(WHOLE, 2, axis=0)[..., [2, 0]]),
        ("e = Expand(c, t) z, y = Split<axis = 2>(e, parts)", np.repeat(WHOLE, 2, axis=0)[..., 1:]),
        ("e = Expand(c, t) z, y = Split<axis = 2>(e)", np.repeat(WHOLE, 2, axis=0)[..., 2:]),
    ],
)
def test_what_is_repeated_and_cut_is_known(parse, evaluate, body, wanted):
    model = parse(f"g (float[N] x) => (float[A, B, C] y) <{HEAD}> {{ {body} }}")
    found = repeated_fill(model.graph.outputs[0])
    np.testing.assert_array_equal(np.broadcast_to(found, wanted.shape), wanted)
    np.testing.assert_array_equal(evaluate(model, {"x": np.zeros(2, np.float32)})["y"], wanted)


@pytest.mark.parametrize(
    "body",
    [
        "y = Relu(x)",
        "e = Expand(c, t) y = Slice(e, zeros, both, both)",
        "e = Expand(c, t) y = Slice(e, one, open, two)",
        "e = Expand(c, t) y = Gather<axis = 2>(e, open)",
        "e = Expand(c, t) y = Relu(e)",
        "y = Expand(c, shape)",
    ],
)
def test_what_is_not_known_is_none(parse, body):
    inputs = "float[N, 3, 4] x, int64[1] open, int64[3] shape"
    model = parse(f"g ({inputs}) => (float[A, B, C] y) <{HEAD}> {{ {body} }}")
    value = model.graph.outputs[0]
    if "shape)" in body:
        value.shape = None
    assert repeated_fill(value) is None
    assert repeated_fill(None) is None
