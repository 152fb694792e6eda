"""The graph of spikes under construction: what typing proved nothing about, and what is asked for twice."""

from __future__ import annotations

import numpy as np
import pytest

from snnc.errors import InternalError, UnsupportedError
from snnc.passes.analysis import analyse
from snnc.passes.lower.builder import machine_type
from snnc.passes.lower.expand import _all_of
from snnc.passes.lower.folding import WIDEST
from snnc.passes.lower.kernels import Buffer, View
from snnc.passes.lower.synapses import book_behind
from snnc.passes.spike.builder import SpikeBuilder
from snnc.passes.spike.products import _bits_for


@pytest.fixture
def build(parse):
    model = parse(
        "g (float[N, 3] x) => (float[N, 3] y, float[N, N] p) { y = Neg(x) t = Transpose(x) p = MatMul(x, t) }"
    )
    return SpikeBuilder(model, analyse(model)), {
        value.name.partition(" ")[0]: value for node in model.graph for value in node.outputs
    }


def test_what_has_no_integers_is_our_bug(build):
    builder, values = build
    node = values["y"].producer()
    for ask in (builder.get, builder.gain):
        with pytest.raises(InternalError) as caught:
            ask(values["y"])
        assert caught.value.code == "SNN154"
    with pytest.raises(InternalError, match="neither spikes nor membrane") as caught:
        builder.membrane(values["y"], node)
    assert caught.value.code == "SNN155"


def test_two_axes_that_grow_with_the_batch_have_no_reshape(build):
    builder, values = build
    assert builder.target(values["y"]) == [-1, 3]
    assert builder.target(values["t"]) == [3, -1]
    with pytest.raises(UnsupportedError, match="more than one axis grows with the batch") as caught:
        builder.target(values["p"])
    assert (caught.value.code, caught.value.where.tensor) == ("SNN440", "p")


def test_samples_are_counted_once(build):
    builder, values = build
    node = values["y"].producer()
    assert builder.batch(node) is builder.batch(node)


def test_an_output_that_is_an_input_is_refused(parse):
    model = parse("g (float[N, 3] x) => (float[N, 3] y) { y = Neg(x) }")
    model.graph.outputs[0] = model.graph.inputs[0]
    with pytest.raises(UnsupportedError, match="an output that is an input") as caught:
        SpikeBuilder(model, analyse(model)).readouts()
    assert (caught.value.code, caught.value.where.tensor) == ("SNN442", "x")


@pytest.mark.parametrize("load", [1, 3, 255, 2**12, 2**23 - 1])
def test_bits_of_a_factor_keep_sums_exact(build, load):
    _, values = build
    bits = _bits_for(load, values["y"].producer())
    assert load * (2**bits - 1) < 2**24 <= load * (2 ** (bits + 1) - 1)


def test_no_bit_is_left_beside_a_load_of_all_of_float32(build):
    _, values = build
    with pytest.raises(UnsupportedError, match="leave no room for exact float32 sums") as caught:
        _bits_for(2**24, values["y"].producer())
    assert (caught.value.code, caught.value.where.node) == ("SNN444", "n_y")


# --- instructions ---


def test_types_that_the_machine_has_not():
    assert machine_type(np.zeros(1, np.int32)) == "i32"
    with pytest.raises(UnsupportedError, match="the machine has no float64") as caught:
        machine_type(np.zeros(1), "n")
    assert (caught.value.code, caught.value.where.node) == ("SNN472", "n")


@pytest.mark.parametrize(
    ("shape", "joined"),
    [
        ((2, 3, 4), (24,)),
        ((WIDEST, 3), (WIDEST, 3)),
        ((3, WIDEST), (3, WIDEST)),
        ((2, 4, WIDEST // 8, 8), (8, WIDEST)),
    ],
)
def test_axes_are_joined_as_far_as_an_extent_allows(shape, joined):
    buffer = Buffer("b", "i8", int(np.prod(shape)), "SMEM", "activation")
    ref = _all_of(View.whole(buffer, shape))
    found = tuple(extent for extent in ref.shape if extent != 1)
    assert int(np.prod(found)) == int(np.prod(shape)) and all(extent <= WIDEST for extent in found)
    assert found == joined and len(ref.shape) == 4


def test_what_no_neuron_fired_has_no_book(parse):
    model = parse("g (float[N, 3] x) => (float[N, 3] y) { r = Identity(x) y = Neg(r) }")
    assert book_behind(None) is None
    assert book_behind(model.graph.inputs[0]) is None
    assert book_behind(model.graph.outputs[0]) is None
