"""Sums of many products: which they are, and steps that leave their membranes a power of two apart."""

from __future__ import annotations

import numpy as np
import pytest

from snnc.coding import CodeBook
from snnc.passes.quantise.histogram import Histogram
from snnc.passes.quantise.long_sums import LongSum, common_steps, long_sums
from snnc.passes.quantise.sites import quantiser_sites
from snnc.passes.quantise.steps import best_step


def recurrence(steps: int) -> str:
    """A state that loses and gains a share of what is new at each of some steps."""
    lines = ["a = MatMul(x, w) s0 = Sigmoid(a) b = MatMul(x, v) t = Tanh(b) c0 = Mul(s0, t)"]
    for step in range(1, steps):
        lines.append(
            f"p{step} = MatMul(x, v) s{step} = Sigmoid(p{step}) d{step} = Sub(t, c{step - 1}) "
            f"m{step} = Mul(s{step}, d{step}) c{step} = Add(c{step - 1}, m{step})"
        )
    weights = "float[2, 2] w = {1, 2, 3, 4}, float[2, 2] v = {1, 2, 3, 4}"
    text = " ".join(lines)
    return f"g (float[N, 2] x) => (float[N, 2] y) <{weights}> {{ {text} y = MatMul(c{steps - 1}, w) }}"


@pytest.mark.parametrize("steps", [4, 5])
def test_which_sums_are_long(parse, steps):
    model = parse(recurrence(steps))
    found = long_sums(model, quantiser_sites(model))
    if steps == 4:
        assert not found
        return
    (whole,) = found
    assert len(whole.products) == 5
    assert {"s0", "s4", "d1", "d4", "t"} <= whole.factors


def test_steps_of_products_are_powers_of_two_apart():
    rng = np.random.default_rng(2)
    seen = {}
    for place, scale in enumerate((0.9, 0.13, 0.7, 1.1, 2.9, 0.31)):
        values = rng.normal(0, scale, (4000, 1)).astype(np.float32)
        gate = place % 2 == 0
        counted = Histogram()
        counted.add(np.abs(values) if gate else values)
        held, book = counted.distribution(), CodeBook(8, 4, signed=not gate)
        seen["ab"[place % 2] + str(place // 2)] = held, book, best_step(held, book)
    whole = LongSum(tuple((f"a{n}", f"b{n}") for n in range(3)))
    chosen = common_steps(whole, seen)
    steps = [float(chosen[f"a{n}"].step) * float(chosen[f"b{n}"].step) for n in range(3)]
    assert {np.frexp(step)[0] for step in steps} == {np.frexp(steps[0])[0]}
    for name, choice in chosen.items():
        assert choice.decibel > seen[name][2].decibel - 6
