"""Products with a constant on the left: the same numbers from one with the constant on the right."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from snnc.compile import ConvertOptions, convert
from snnc.cost.audit import audit
from snnc.debug.verify import verify
from snnc.ir import constant
from snnc.passes.canonical.infer_shapes import InferShapes
from snnc.passes.canonical.turn_products import TurnProducts

NUMBERS = [f"{number:.3f}" for number in np.random.default_rng(1).normal(0, 1, 40)]


def product(weight: str, value: str, result: str) -> str:
    count = int(np.prod([int(size) for size in weight.split(",")]))
    held = f"float[{weight}] w = {{{', '.join(NUMBERS[:count])}}}"
    return f"g (float[{value}] x) => (float[{result}] y) <{held}> {{ y = MatMul(w, x) }}"


@pytest.mark.parametrize(
    ("weight", "value", "result"),
    [
        ("5, 4", "N, 4, 3", "N, 5, 3"),
        ("2, 5, 4", "N, 2, 4, 3", "N, 2, 5, 3"),
        ("2, 5, 4", "N, 1, 4, 3", "N, 2, 5, 3"),
    ],
)
def test_the_same_numbers(parse, check, weight, value, result):
    model = parse(product(weight, value, result))
    InferShapes().run(model)
    assert check(TurnProducts(), model, tolerance=1e-6).rewrites
    (node,) = [node for node in model.graph if node.op_type == "MatMul"]
    assert constant(node.inputs[1]) is not None


@pytest.mark.parametrize(
    ("scale", "axis"),
    [
        ("float s = {0.25}", ""),
        ("float[5] s = {0.25, 0.5, 0.125, 1, 2}", ""),
        ("float[4] s = {0.25, 0.5, 0.125, 1}", "<axis = 2>"),
    ],
)
def test_a_dequantised_matrix(parse, check, scale, axis):
    integers = ", ".join(str(7 * place % 41 - 20) for place in range(40))
    model = parse(
        f"g (float[N, 2, 4, 3] x) => (float[N, 2, 5, 3] y) <int8[2, 5, 4] i = {{{integers}}}, {scale}> "
        f"{{ w = DequantizeLinear{axis}(i, s) y = MatMul(w, x) }}"
    )
    InferShapes().run(model)
    assert check(TurnProducts(), model, tolerance=1e-6).rewrites
    (node,) = [node for node in model.graph if node.op_type == "MatMul"]
    assert constant(node.inputs[1].producer().inputs[0]).shape == (2, 4, 5)


def test_more_axes_stay(parse):
    model = parse(product("2, 5, 4", "4, N", "2, 5, N"))
    assert TurnProducts().run(model).not_matched


def test_converts(tmp_path):
    """Tokens mixed by a matrix in front of them, behind an activation function."""
    held = f"float[5, 4] w = {{{', '.join(NUMBERS[:20])}}}, float[3, 3] v = {{{', '.join(NUMBERS[20:29])}}}"
    text = f"""<ir_version: 10, opset_import: ["" : 17]>
    g (float[N, 4, 3] x) => (float[N, 5, 3] y) <{held}> {{
        a = MatMul(x, v) b = Tanh(a) y = MatMul(w, b) }}"""
    onnx.save(onnx.parser.parse_model(text), tmp_path / "net.onnx")
    samples = np.random.default_rng(3).standard_normal((16, 4, 3)).astype(np.float32)
    np.save(tmp_path / "x.npy", samples)
    conversion = convert(tmp_path / "net.onnx", ConvertOptions(groups=4, calibrate=str(tmp_path / "x.npy")))
    assert audit(conversion.model).clean
    found = verify(tmp_path / "net.onnx", conversion.model, {"x": samples[:3]})
    assert found.identical and (found.distances[0].decibel or 0) > 30
