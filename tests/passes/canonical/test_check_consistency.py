"""check-consistency: what no definition allows is named, and what is open or unusual is no contradiction."""

from __future__ import annotations

from typing import Any

import pytest

from snnc.errors import InputError
from snnc.passes.canonical.check_consistency import CheckConsistency

WEIGHTS = (
    "float[3, 2, 1, 1] k = {1, 2, 3, 4, 5, 6}, float[2] s = {1, 1}, float[2] m = {0, 0}, float one = {1}, "
    "float none = {0}, float many = {1e9}, uint8 z = {0}"
)
IMAGE = "float[N, 2, 4, 5] x"


@pytest.mark.parametrize(
    ("inputs", "body", "text"),
    [
        ("float[N, 4, 4, 5] x", "y = Conv<group = 2>(x, k)", "cannot share 3 channels among 2 groups"),
        (IMAGE, "y = MaxPool<kernel_shape = [2, 0]>(x)", "kernel_shape is [2, 0]"),
        (IMAGE, "y = MaxPool<kernel_shape = [2, 7]>(x)", "a window of 7 does not fit into the 5 elements"),
        (IMAGE, "y = MaxPool<kernel_shape = [2, 2], pads = [1, 1]>(x)", "MaxPool"),
        (IMAGE, "r = Range(none, many, one) y = Relu(x)", "Range makes 1e+09 elements"),
    ],
)
def test_contradictions_are_named(parse: Any, inputs: str, body: str, text: str) -> None:
    model = parse(f"g ({inputs}) => (float[A, B, C, D] y) <{WEIGHTS}> {{ {body} }}")
    with pytest.raises(InputError, match="SNN303") as caught:
        CheckConsistency().run(model)
    assert any(text in problem.message for problem in caught.value.problems), caught.value.problems


@pytest.mark.parametrize(
    ("inputs", "body"),
    [
        (IMAGE, "y = Conv(x, k)"),
        (f"{IMAGE}, float[2] v", "y = BatchNormalization(x, s, m, m, v)"),
        (f"{IMAGE}, float t", "q = QuantizeLinear(x, t, z) y = DequantizeLinear(q, t, z)"),
        (IMAGE, "r = Range(none, one, one) y = Add(x, r)"),
    ],
)
def test_what_is_open_is_no_contradiction(parse: Any, inputs: str, body: str) -> None:
    model = parse(f"g ({inputs}) => (float[A, B, C, D] y) <{WEIGHTS}> {{ {body} }}")
    assert not CheckConsistency().run(model).rewrites
