"""Trunc and BipolarQuant of QONNX: against their definitions, on every integer that may arrive."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest

from snnc.ir import infer_shapes, to_bytes
from snnc.ops import attach_functions
from snnc.passes.recognise import RecogniseQuantisers

HEADER = '<ir_version: 10, opset_import: ["" : 17, "qonnx.custom_op.general" : 2]>'
SCALE = 0.25
ROUND = {"FLOOR": np.floor, "CEIL": np.ceil, "ROUND": np.rint}


def recognised(body, signed=0):
    text = (
        "g (float[N] x) => (float[N] y) <float s = {0.25}, float z = {0}, float b8 = {8}, float b4 = {4}, "
        f"float s2 = {{2}}, float one = {{1}}> "
        f"{{ q = qonnx.custom_op.general.Quant<signed = {signed}, narrow = 0>(x, s, z, b8) {body} }}"
    )
    proto = onnx.parser.parse_model(HEADER + text)
    for number, node in enumerate(proto.graph.node):
        node.name = f"n{number}"
    model = ir.from_proto(proto)
    for node in model.graph:
        node.outputs[0].type, node.outputs[0].shape = ir.TensorType(ir.DataType.FLOAT), ir.Shape(["N"])
    return model, RecogniseQuantisers().run(model)


def run(model, x):
    attach_functions(model)
    infer_shapes(model)
    return ort.InferenceSession(to_bytes(model), providers=["CPUExecutionProvider"]).run(None, {"x": x})[0]


@pytest.mark.parametrize("signed", [0, 1])
@pytest.mark.parametrize("mode", ROUND)
def test_version_one(mode, signed):
    """Four of eight bits stay; the scale is that of the input."""
    model, result = recognised(
        f'y = qonnx.custom_op.general.Trunc<rounding_mode = "{mode}">(q, s, z, b8, b4)', signed
    )
    assert not result.not_matched
    codes = np.arange(-128, 128) if signed else np.arange(256)
    found = run(model, (codes * SCALE).astype(np.float32))
    expected = ROUND[mode](codes / 16) * SCALE
    # Without a sign in the node, four bits end at 15; with one at 7: rounding up ends there too.
    low, high = (-8, 7) if signed else (0, 15)
    np.testing.assert_array_equal(found, np.clip(expected, low * SCALE, high * SCALE))


@pytest.mark.parametrize("mode", ["DOWN", "ROUND_TO_ZERO"])
def test_towards_zero_is_downwards_where_nothing_is_negative(mode):
    model, result = recognised(
        f't = Mul(q, s2) u = Div(t, s2) y = qonnx.custom_op.general.Trunc<rounding_mode = "{mode}">'
        "(u, s, z, b8, b4)"
    )
    assert not result.not_matched
    codes = np.arange(256)
    found = run(model, (codes * SCALE).astype(np.float32))
    np.testing.assert_array_equal(found, np.trunc(codes / 16) * SCALE)


@pytest.mark.parametrize("mode", ROUND)
def test_version_two(mode):
    """The scales say how many bits go: from 1/4 to 2 these are three."""
    model, result = recognised(
        f'y = qonnx.custom_op.general.Trunc<rounding_mode = "{mode}", signed = 1, narrow = 1>'
        "(q, s, z, b8, s2, b4)",
        1,
    )
    assert not result.not_matched
    codes = np.arange(-128, 128)
    found = run(model, (codes * SCALE).astype(np.float32))
    np.testing.assert_array_equal(found, np.clip(ROUND[mode](codes / 8), -7, 7) * 2)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("y = qonnx.custom_op.general.Trunc(q, s, one, b8, b4)", "its zero point is not 0"),
        (
            'y = qonnx.custom_op.general.Trunc<rounding_mode = "UP">(q, s, z, b8, b4)',
            "its rounding mode UP, 4 dropped bits or 4 bits that stay have no code",
        ),
        (
            "y = qonnx.custom_op.general.Trunc(q, s, z, b4, b8)",
            "its rounding mode FLOOR, -4 dropped bits or 8 bits that stay have no code",
        ),
        ("y = qonnx.custom_op.general.Trunc(s, s, z, b8, b4)", "its input is a constant"),
        ("y = qonnx.custom_op.general.Trunc(q, z, z, b8, b4)", "its scale is not positive"),
        ("y = qonnx.custom_op.general.Trunc(q, s, z, b8, z, b4)", "its scale is not positive"),
        (
            'y = qonnx.custom_op.general.Trunc<rounding_mode = "DOWN">(x, s, z, b8, b4)',
            "its rounding mode DOWN, 4 dropped bits or 4 bits that stay have no code",
        ),
        (
            'n = Neg(q) y = qonnx.custom_op.general.Trunc<rounding_mode = "DOWN">(n, s, z, b8, b4)',
            "its rounding mode DOWN, 4 dropped bits or 4 bits that stay have no code",
        ),
        ("y = qonnx.custom_op.general.BipolarQuant(s, s)", "its input is a constant"),
        (
            "t = Add(s, x) y = qonnx.custom_op.general.BipolarQuant(q, t)",
            "its scale is not a positive constant",
        ),
        ("y = qonnx.custom_op.general.BipolarQuant(q, z)", "its scale is not a positive constant"),
        (
            "t = Add(s, x) y = qonnx.custom_op.general.Trunc(q, t, z, b8, b4)",
            "its scale, zero point or bit widths are not constant numbers",
        ),
    ],
)
def test_leaves_alone(body, reason):
    _, result = recognised(body)
    kind = "bipolar-quant" if "Bipolar" in body else "qonnx-trunc"
    assert [entry.reason for entry in result.not_matched] == [f"{kind}: {reason}"]


def test_bipolar_has_two_levels_and_zero_is_positive():
    model, result = recognised("d = Sub(q, one) y = qonnx.custom_op.general.BipolarQuant(d, s2)", 1)
    assert not result.not_matched
    x = np.array([-3, 0.75, 1, 1.25, 5], dtype=np.float32)
    np.testing.assert_array_equal(run(model, x), [-2, -2, 2, 2, 2])
