"""round-tables, require-integers, and what passes ask of a value: is it the host's, does it meet a batch?"""

from __future__ import annotations

import numpy as np
import pytest

from snnc.errors import InputError, UnsupportedError
from snnc.ir import constant, tensor
from snnc.passes.quantise.require_integers import RequireIntegers
from snnc.passes.quantise.round_tables import RoundTables
from snnc.passes.quantise.sites import host_values
from snnc.passes.quantise.streams import merges_with_batch

TABLES = (
    "g (int64[N, 3] i, int64[N, 3] j) => (float[N, 3, 2] y) "
    "<float[4, 2] t = {0.1, 0.2, 0.3, -0.4, 0.5, 0.6, 0.7, 0.8}, float[4, 2] u = {1, 2, 3, 4, 5, 6, 7, 8}> "
    "{ a = Gather(t, i) b = Gather(t, j) c = Gather(u, i) d = Add(a, b) y = Add(c, d) }"
)


def test_a_table_is_rounded_once_for_all_who_read_it(parse, ops):
    model = parse(TABLES)
    result = RoundTables(bits=6).run(model)
    assert len(result.rewrites) == 2 and ops(model).count("RoundMembrane") == 2
    readers = [node.inputs[0] for node in model.graph if node.op_type == "Gather"]
    assert readers[0] is readers[1] is not readers[2]
    assert constant(readers[0].producer().inputs[1]) == 2.0**-6


@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_a_table_of_no_numbers_is_refused(parse, number):
    model = parse(TABLES)
    held = np.ones((4, 2), np.float32)
    held[2, 1] = number
    model.graph.initializers["t"].const_value = tensor(held)
    with pytest.raises(InputError, match="reads a table that is not finite") as caught:
        RoundTables().run(model)
    assert (caught.value.code, caught.value.where.node) == ("SNN323", "n_a")


CODED = (
    'c = ai.snnc.Quantise<timesteps = 2, groups = 2, partition = "interleaved", signed = 0, smallest = 0, '
    'largest = 3, ties = "away", codes = [0, 1, 2, 3], twice_midpoints = [1, 3, 5], closed = [1, 1, 1]>'
    "(x, step) k = ai.snnc.Weight(w, one, one) m = MatMul(c, k) "
)


@pytest.mark.parametrize(
    ("end", "message"),
    [
        ("y = Tanh(m)", "this output is an activation function that no quantiser follows"),
        ("y = Neg(m)", None),
    ],
)
def test_what_an_output_may_be(parse, end, message):
    model = parse(
        "g (float[N, 3] x) => (float[N, 2] y) <float step = {0.25}, int8[3, 2] w = {1, 2, 3, 4, 5, 6}, "
        f"double one = {{1}}> {{ {CODED} {end} }}"
    )
    if message is None:
        assert not RequireIntegers().run(model).rewrites
        return
    with pytest.raises(UnsupportedError, match=message) as caught:
        RequireIntegers().run(model)
    assert caught.value.code == "SNN401"


def test_values_of_the_host_with_and_without_clips(parse):
    model = parse(
        "g (float[N, 3] x) => (float[N, 3] y, float[N, 2] m) <float[3, 2] w = {1, 2, 3, 4, 5, 6}> "
        "{ a = Neg(x) r = Relu(a) y = Neg(r) m = MatMul(x, w) }"
    )
    names = {id(value): value.name for node in model.graph for value in node.outputs}
    names |= {id(value): value.name for value in model.graph.inputs}
    assert {names[key] for key in host_values(model)} == {"x", "a"}
    assert {names[key] for key in host_values(model, clipped=True)} == {"x", "a", "r", "y"}


@pytest.mark.parametrize(
    ("body", "merges"),
    [
        ("r = Reshape(a, rows) y = Neg(r)", True),
        ("r = Reshape(a, same) y = Neg(r)", False),
        ("t = Transpose<perm = [0, 2, 1]>(a) r = Reshape(t, rows) y = Neg(r)", True),
        ("r = Tanh(a) y = Reshape(r, rows)", False),
    ],
)
def test_what_meets_the_batch(parse, body, merges):
    model = parse(
        "g (float[N, 3, 4] x) => (float y) <int64[2] rows = {-1, 4}, int64[2] same = {0, 12}> "
        f"{{ a = Neg(x) {body} }}"
    )
    assert merges_with_batch(model.graph[0].outputs[0]) == merges
