"""Parts of quantisers written as arithmetic: which nodes are links of a chain, and what a link does."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from snnc.ir import tensor
from snnc.passes.recognise.affine import Affine, link_of

CONSTANTS = (
    "float two = {2}, float minus = {-2}, float endless = {1}, float half = {0.5}, float zero = {0}, "
    "float six = {6}, float[3, 1, 1] deep = {1, 2, 3}, float[5, 3] rows = "
    "{1, 2, 3, 1, 2, 3, 1, 2, 3, 1, 2, 3, 1, 2, 3}, float[3] own = {1, 2, 3}, int64 many = {2}"
)


def link(parse, body):
    model = parse(
        f"g (float[N, 3] x, float[N, 3] z, float[1] p) => (float[N, 3] y) <{CONSTANTS}> {{ {body} }}"
    )
    model.graph.initializers["endless"].const_value = tensor(np.array(np.inf, np.float32))
    return link_of(model.graph[-1])


@pytest.mark.parametrize(
    "body",
    [
        "y = Mul(x, minus)",
        "y = Mul(x, zero)",
        "y = Mul(x, endless)",
        "y = Mul(x, deep)",
        "y = Mul(x, rows)",
        "y = Mul(x, z)",
        "y = Div(x, minus)",
        "y = Div(two, x)",
        "y = Div(x, z)",
        "y = Add(x, z)",
        "y = Sub(two, x)",
        "y = Sub(x, z)",
        "y = Relu(two)",
        "y = Clip(x, p, six)",
        "y = Clip(x, zero, p)",
        "y = Min(x, six, two)",
        "y = Max(x, z)",
        "y = Tanh(x)",
        "y = my.own.Mul(x, two)",
    ],
)
def test_no_link(parse, body):
    assert link(parse, body) is None


@pytest.mark.parametrize(
    ("body", "factor", "offset", "low", "high"),
    [
        ("y = Mul(two, x)", 2, 0, None, None),
        ("y = Div(x, two)", Fraction(1, 2), 0, None, None),
        ("y = Add(half, x)", 1, Fraction(1, 2), None, None),
        ("y = Sub(x, half)", 1, Fraction(-1, 2), None, None),
        ("y = Clip(x, , six)", 1, 0, None, 6),
        ("y = Clip(x, zero, endless)", 1, 0, 0, None),
        ("y = Min(six, x)", 1, 0, None, 6),
        ("y = Max(x, half)", 1, 0, Fraction(1, 2), None),
    ],
)
def test_links(parse, body, factor, offset, low, high):
    found = link(parse, body)
    assert found is not None and found.source.name == "x"
    affine = found.step(Affine.identity())
    assert (affine.a.item(), affine.b.item()) == (factor, offset)
    bounds = float("-inf") if low is None else low, float("inf") if high is None else high
    assert (affine.low.item(), affine.high.item()) == bounds


def test_a_constant_for_each_channel_stays_one(parse):
    found = link(parse, "y = Mul(x, own)")
    assert found is not None and found.step(Affine.identity()).a.tolist() == [1, 2, 3]
