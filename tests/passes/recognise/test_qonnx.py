"""Quant of QONNX on activations, against its definition in numpy."""

from __future__ import annotations

import numpy as np
import pytest

from snnc.coding import CodeBook
from snnc.ir import attributes, constant
from snnc.ops import attach_functions
from snnc.passes.recognise import RecogniseQuantisers

HEADER = '<ir_version: 10, opset_import: ["" : 17, "{domain}" : 1]>\n'
MODES = {
    "ROUND": np.rint,
    "HALF_EVEN": np.rint,
    "FLOOR": np.floor,
    "DOWN": np.trunc,
    "ROUND_TO_ZERO": np.trunc,
    "HALF_UP": lambda x: np.sign(x) * np.floor(np.abs(x) + 0.5),
}


def source(
    parse, op="Quant", scale="float s = {0.25}", zero=0, bits=4, domain="qonnx.custom_op.general", **attrs
):
    listed = ", ".join(
        f'{key} = "{value}"' if isinstance(value, str) else f"{key} = {value}" for key, value in attrs.items()
    )
    return parse(
        HEADER.format(domain=domain)
        + f"""g (float[N, 2, 3] x) => (float[N, 2, 3] y) <{scale}, float z = {{{zero}}}, float b = {{{bits}}}>
        {{ q = {domain}.{op}<{listed}>(x, s, z, b) y = Identity(q) }}"""
    )


def definition(u, scale, zero, bits, signed, narrow, mode):
    half = 2 ** (bits - 1)
    low, high = (-half + narrow, half - 1) if signed else (0, 2 * half - 1 - narrow)
    return (np.clip(MODES[mode](u / scale + zero), low, high) - zero) * scale


@pytest.mark.parametrize("domain", ["qonnx.custom_op.general", "onnx.brevitas", "finn.custom_op.general"])
@pytest.mark.parametrize(("signed", "narrow", "zero"), [(1, 0, 0), (1, 1, 0), (0, 0, 0), (0, 1, 2)])
def test_ranges(parse, evaluate, domain, signed, narrow, zero):
    model = source(parse, zero=zero, domain=domain, signed=signed, narrow=narrow, rounding_mode="ROUND")
    result = RecogniseQuantisers().run(model)
    assert result.rewrites[0].rule == "qonnx-quant"
    attach_functions(model)
    u = np.arange(-30, 30).reshape(10, 2, 3).astype(np.float32) * 0.13
    expected = definition(u, np.float32(0.25), zero, 4, signed, narrow, "ROUND")
    np.testing.assert_array_equal(evaluate(model, {"x": u})["y"], expected)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("signed", [0, 1])
def test_rounding_modes(parse, evaluate, ops, mode, signed):
    model = source(parse, signed=signed, narrow=0, rounding_mode=mode)
    result = RecogniseQuantisers().run(model)
    if signed and mode in ("DOWN", "ROUND_TO_ZERO"):
        assert "changes its direction" in result.not_matched[0].reason
        return
    attach_functions(model)
    # Every multiple of an eighth: all mid-points are among them, all exact in float32.
    u = np.arange(-36, 36).reshape(12, 2, 3).astype(np.float32) * 0.0625
    expected = definition(u, 0.25, 0, 4, signed, 0, mode)
    np.testing.assert_array_equal(evaluate(model, {"x": u})["y"], expected)


def test_channel_scales(parse, ops):
    model = source(parse, scale="float[1, 2, 1] s = {0.25, 0.5}", signed=0, narrow=0, rounding_mode="ROUND")
    RecogniseQuantisers().run(model)
    assert constant(model.graph[0].inputs[1]).tolist() == [[[0.25], [0.5]]]
    assert CodeBook.from_attributes(attributes(model.graph[0])) == CodeBook.uniform(0, 15)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"rounding_mode": "CEIL"}, "its rounding mode CEIL is not rounding to the nearest level"),
        ({"rounding_mode": "UP"}, "its rounding mode UP is not rounding to the nearest level"),
        ({"zero": 0.5}, "its zero point is not one integer"),
        ({"bits": 2.5}, "its bit width is not one integer"),
        ({"bits": 18}, "its codes -131072 to 131071 do not fit into 1 to 16 time-steps"),
        ({"scale": "float s = {-1}"}, "its scale is not positive"),
    ],
)
def test_reasons(parse, options, reason):
    model = source(parse, **{"signed": 1, "narrow": 0, "rounding_mode": "ROUND", **options})
    result = RecogniseQuantisers().run(model)
    assert not result.rewrites
    assert result.not_matched[0].reason == f"qonnx-quant: {reason}"


QUANT = "y = qonnx.custom_op.general.Quant(x, s, z, b)"


@pytest.mark.parametrize(
    ("inputs", "weights", "reason"),
    [
        (
            "float[N, 6] x, float s",
            "float z = {0}, float b = {4}",
            "its scale, zero point or bit width is not constant",
        ),
        (
            "float[N, 6] x",
            "float[2, 1, 1] s = {0.5, 0.25}, float z = {0}, float b = {4}",
            "its scale has more dimensions than its input",
        ),
    ],
)
def test_scales_that_have_no_form(parse, ops, inputs, weights, reason):
    header = HEADER.format(domain="qonnx.custom_op.general")
    model = parse(f"{header} g ({inputs}) => (float[N, 6] y) <{weights}> {{ {QUANT} }}")
    result = RecogniseQuantisers().run(model)
    assert [entry.reason for entry in result.not_matched] == [f"qonnx-quant: {reason}"]
    assert ops(model) == ["Quant"]


@pytest.mark.parametrize(("zero", "noted"), [(0, False), (3, True), (4, False)])
def test_an_odd_zero_point_is_noted(parse, zero, noted):
    result = RecogniseQuantisers().run(source(parse, zero=zero, signed=0, rounding_mode="ROUND"))
    assert len(result.rewrites) == 1
    assert any("its zero point is odd" in note for note in result.notes) == noted
