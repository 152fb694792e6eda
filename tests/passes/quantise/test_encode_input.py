"""encode-input without data: what preprocessing in the network tells, and what stands behind each reader."""

from __future__ import annotations

import numpy as np
import pytest

from snnc.errors import InternalError
from snnc.ops import attach_functions
from snnc.passes.quantise.encode_input import OFFSET, EncodeInput
from snnc.passes.quantise.insert_quantisers import InsertQuantisers
from snnc.passes.quantise.pixels import of_affine, of_samples

WEIGHTS = (
    "float[3, 1, 1] mean = {100, 110, 120}, float[3, 1, 1] std = {50, 60, 55}, float one = {1}, "
    "float two = {2}, float[4] last = {100, 110, 120, 130}, float level = {100}, float deviation = {50}, "
    "float[2, 3, 1, 1] w = {1, 2, 0.5, -1, 0.25, 1}, float[4, 2] v = {1, 2, 0.5, -1, 0.25, 1, 3, 4}, "
    "float zero = {0}, "
    "int64[8] pads = {0, 0, 1, 1, 0, 0, 1, 1}"
)
NORMALISED = "c = Sub(x, mean) p = Div(c, std) "
PIXELS = "256 pixel levels in 0..255"
ANYTHING = "multiples of 2^-8"


def encoded(parse, evaluate, body, shape="N, 3, 4, 4", tolerance=1e-5):
    """Encode the input of a model of pixels, compare the numbers; returns the model and the note."""
    model = parse(f"g (float[{shape}] x) => (float y) <{WEIGHTS}> {{ {body} }}")
    sizes = [3 if size == "N" else int(size) for size in shape.split(", ")]
    feeds = {"x": np.random.default_rng(0).integers(0, 256, sizes).astype(np.float32)}
    before = evaluate(model, feeds)["y"]
    (note,) = EncodeInput().run(model).notes
    attach_functions(model)
    found = evaluate(model, feeds)["y"]
    np.testing.assert_allclose(found, before, rtol=tolerance, atol=tolerance * np.abs(before).max())
    return model, note


@pytest.mark.parametrize(
    ("body", "offset"),
    [
        (NORMALISED + "y = Conv(p, w)", True),
        (NORMALISED + "q = Pad(p, pads) y = Conv(q, w)", True),
        # No product reads it: the constant stands in front of the reader.
        (NORMALISED + "y = Tanh(p)", True),
        ("c = Sub(x, level) n = Neg(c) m = Neg(n) p = Mul(m, two) d = Div(p, level) y = Conv(d, w)", True),
        ("c = Sub(level, x) n = Neg(c) p = Div(n, deviation) y = Conv(p, w)", True),
        (("c = Transpose<perm = [0, 2, 3, 1]>(x) d = Transpose<perm = [0, 3, 1, 2]>(c) e = Sub(d, mean) "
         "f = Cast<to = 1>(e) p = Div(f, std) y = Conv(p, w)"), True),
        (("c = Sub(x, mean) d = Transpose<perm = [0, 2, 3, 1]>(c) e = Transpose(d) f = Transpose(e) "
         "i = Transpose<perm = [0, 3, 1, 2]>(f) p = Div(i, std) y = Conv(p, w)"), True),
    ],
)  # fmt: skip
def test_pixels_behind_preprocessing(parse, evaluate, body, offset):
    model, note = encoded(parse, evaluate, body)
    assert PIXELS in note
    assert any(OFFSET in node.metadata_props for node in model.graph) == offset


@pytest.mark.parametrize(
    ("body", "shape"),
    [
        # A value of code 0 that is not zero needs constant weights behind every reader, whatever the batch.
        (NORMALISED + "t = Transpose<perm = [0, 1, 3, 2]>(p) y = MatMul(p, t)", "N, 3, 4, 4"),
        (NORMALISED + "t = Transpose<perm = [1, 0, 2, 3]>(p) y = MatMul(t, v)", "N, 3, 4, 4"),
        # A range below zero before it is scaled, which no preprocessing of pixels has.
        ("c = Add(x, one) p = Div(c, two) y = Conv(p, w)", "N, 3, 4, 4"),
        # What is no affine function of each channel tells nothing.
        ("c = Sub(x, last) y = MatMul(c, v)", "N, 3, 4, 4"),
        ("c = Sub(x, last) y = MatMul(c, v)", "N, 4, 4, 4"),
        ("c = Sub(x, mean) f = Flatten<axis = 3>(c) p = Div(f, deviation) y = Tanh(p)", "N, 3, 4, 4"),
        ("c = Add(x, one) p = Div(level, c) y = Tanh(p)", "N, 3, 4, 4"),
        ("c = Clip(x, zero, level) y = Tanh(c)", "N, 3, 4, 4"),
        # Values that are no images.
        ("y = MatMul(x, v)", "N, 4"),
        ("y = Tanh(x)", "N, 32, 40"),
        # Shapes that the host computes stay in front.
        ("s = Shape(x) f = Reshape(x, s) y = Conv(f, w)", "N, 3, 4, 4"),
    ],
)
def test_inputs_of_which_nothing_is_known(parse, evaluate, body, shape):
    _, note = encoded(parse, evaluate, body, shape, 2e-3)
    assert ANYTHING in note


def test_features_behind_preprocessing_of_each(parse, evaluate):
    _, note = encoded(parse, evaluate, "c = Sub(x, last) p = Div(c, deviation) y = MatMul(p, v)", "N, 4")
    assert PIXELS in note


@pytest.mark.parametrize("step", [EncodeInput, InsertQuantisers])
def test_a_record_without_a_tensor_is_a_bug(parse, step):
    model = parse(
        f"g (float[N, 4] x) => (float[N, 2] y) <{WEIGHTS}, float[4, 4] u = "
        "{1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1}> { a = MatMul(x, u) r = Tanh(a) y = MatMul(r, v) }"
    )
    with pytest.raises(InternalError, match="no quantiser was chosen") as caught:
        step(choices={}).run(model)
    assert caught.value.code == "SNN161"


@pytest.mark.parametrize(
    ("factor", "summand"),
    [([2.0], [1.0]), ([1 / 255], [-2.0]), ([1.0], [0.0]), ([-1.0], [3.0]), ([2.0], [0.0])],
)
def test_affine_functions_of_no_pixels(factor, summand):
    assert of_affine(np.array(factor), np.array(summand)) is None


def test_a_channel_of_one_value_has_no_grid():
    values = np.stack([np.full(512, 0.33371), np.random.default_rng(0).standard_normal(512)], axis=1)
    code = of_samples(values, 0.0, channels=True, offsets=True)
    assert "pixel" not in code.note
