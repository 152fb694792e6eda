"""to-float32: other float types become float32 inside, and stay where the user meets them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnxruntime.transformers.float16 import convert_float_to_float16

from snnc.compile import ConvertOptions, convert
from snnc.cost.audit import audit
from snnc.debug.verify import verify
from snnc.ir import DataType, attributes, constant
from snnc.passes.canonical.to_float32 import ToFloat32
from snnc.runtimes import NumpyPacked, OnnxRuntime

SOURCES = Path(__file__).resolve().parents[2] / "sources"


def types_of(model: Any) -> set[Any]:
    return {value.dtype for node in model.graph for value in node.outputs}


def test_float16_inside(parse: Any, evaluate: Any, random_feeds: Any, ops: Any) -> None:
    model = parse(
        "g (float[N, 4] x) => (float[N, 2] y) "
        "<float16[4, 2] w = {15361, 15400, 48135, 16384, 0, 12345, 15000, 47000}> "
        "{ h = Cast<to = 10>(x) m = MatMul(h, w) y = Cast<to = 1>(m) }"
    )
    weights = constant(model.graph[1].inputs[1])
    feeds = random_feeds(model)
    expected = evaluate(model, feeds)["y"]
    result = ToFloat32().run(model)
    assert result.notes == [
        "float16 is computed in float32: between its operators the source rounds to another type"
    ]
    assert types_of(model) == {DataType.FLOAT}
    assert attributes(model.graph[0])["to"] == DataType.FLOAT
    held = constant(model.graph[1].inputs[1])
    assert held.dtype == np.float32 and np.array_equal(held, weights.astype(np.float32))
    # Eleven bits of each of the four products.
    np.testing.assert_allclose(evaluate(model, feeds)["y"], expected, rtol=5e-3, atol=5e-3)
    assert not ToFloat32().run(model).rewrites


@pytest.mark.parametrize(("kind", "dtype"), [("float16", DataType.FLOAT16), ("double", DataType.DOUBLE)])
def test_inputs_and_outputs_keep_their_type(parse: Any, ops: Any, kind: str, dtype: DataType) -> None:
    model = parse(
        f"g ({kind}[N, 4] x) => ({kind}[N, 4] y, {kind}[N, 4] z) <{kind} w = {{3}}> "
        "{ y = Mul(x, w) z = Add(y, x) }"
    )
    assert ToFloat32().run(model).rewrites
    assert ops(model) == ["Cast", "Mul", "Cast", "Add", "Cast"]
    graph = model.graph
    assert [(value.name, value.dtype) for value in [*graph.inputs, *graph.outputs]] == [
        ("x", dtype), ("y", dtype), ("z", dtype)
    ]  # fmt: skip
    assert {value.dtype for value in graph.initializers.values()} == {DataType.FLOAT}
    # The network goes on with what was not rounded.
    assert graph[3].inputs[0] is graph[1].outputs[0]
    assert not ToFloat32().run(model).rewrites


def test_bfloat16_becomes_float32_everywhere(parse: Any, ops: Any) -> None:
    model = parse(
        "g (bfloat16[N, 4] x) => (bfloat16[N, 4] y) <int64[1] n = {4}> "
        "{ c = ConstantOfShape<value = bfloat16[1] {2}>(n) y = Mul(x, c) }"
    )
    assert ToFloat32().run(model).rewrites
    assert ops(model) == ["ConstantOfShape", "Mul"]
    assert {model.graph.inputs[0].dtype, model.graph.outputs[0].dtype} == {DataType.FLOAT}
    assert attributes(model.graph[0])["value"].dtype == np.float32


def test_float64_of_data_inside_a_model_of_float32(parse: Any, evaluate: Any, random_feeds: Any) -> None:
    """A norm that is computed in float64 is one in float32; constants that meet it are cast."""
    model = parse(
        "g (float[N, 4] x) => (float[N, 4] y) <double a = {3}> { d = Cast<to = 11>(x) "
        "e = Constant<value = double {0.5}>() m = Mul(d, a) n = Add(e, m) y = Cast<to = 1>(n) z = Add(a, e) }"
    )
    feeds = random_feeds(model)
    expected = evaluate(model, feeds)["y"]
    result = ToFloat32().run(model)
    assert result.notes == [
        "float64 is computed in float32: between its operators the source rounds to another type"
    ]
    held = {node.outputs[0].name: node.outputs[0].dtype for node in model.graph}
    assert held["d"] == held["m"] == held["n"] == DataType.FLOAT
    # What does not depend on data keeps its precision.
    assert held["z"] == held["e"] == model.graph.initializers["a"].dtype == DataType.DOUBLE
    np.testing.assert_allclose(evaluate(model, feeds)["y"], expected, rtol=1e-6)
    assert not ToFloat32().run(model).rewrites


def test_float64_of_sizes_stays(parse: Any) -> None:
    """Sizes are computed in it, which must not be rounded."""
    model = parse(
        "g (float[N, 4] x) => (float[N, M] y) <double a = {0.7}, float one = {1}> { s = Shape<start = 1>(x) "
        "d = Cast<to = 11>(s) m = Mul(d, a) f = Floor(m) i = Cast<to = 7>(f) z = Expand(one, i) "
        "y = Mul(z, one) }"
    )
    assert not ToFloat32().run(model).rewrites
    assert DataType.DOUBLE in types_of(model)


@pytest.mark.parametrize("opset", [13, 18])
def test_a_norm_in_float64(tmp_path: Path, opset: int) -> None:
    mean = "ReduceMean<axes = [-1]>(q)" if opset < 18 else "ReduceMean(q, last)"
    proto = onnx.parser.parse_model(
        f'<ir_version: 8, opset_import: ["" : {opset}]> g (float[N, 8] x) => (float[N, 4] y) '
        "<double e = {1e-6}, int64[1] last = {-1}, double two = {2}, float[8, 4] w> { d = Cast<to = 11>(x) "
        f"q = Pow(d, two) m = {mean} v = Add(m, e) r = Sqrt(v) i = Reciprocal(r) n = Mul(d, i) "
        "f = Cast<to = 1>(n) y = MatMul(f, w) }"
    )
    random = np.random.default_rng(4)
    weights = random.standard_normal((8, 4)).astype(np.float32)
    proto.graph.initializer.append(onnx.numpy_helper.from_array(weights, "w"))
    onnx.save(proto, tmp_path / "norm.onnx")
    np.savez(tmp_path / "x.npz", x=random.standard_normal((64, 8)).astype(np.float32))
    conversion = convert(tmp_path / "norm.onnx", ConvertOptions(8, 8, calibrate=str(tmp_path / "x.npz")))
    feeds = {"x": random.standard_normal((16, 8)).astype(np.float32)}
    report = verify(tmp_path / "norm.onnx", conversion.model, feeds, runtimes={"numpy": NumpyPacked})
    assert report.identical and (report.distances[0].decibel or 0) > 30


def test_no_change_without_such_types(parse: Any) -> None:
    result = ToFloat32().run(parse("g (float[N, 4] x) => (float[N, 4] y) { y = Relu(x) }"))
    assert not result.rewrites and not result.notes


@pytest.mark.parametrize("keep", [True, False], ids=["float32 outside", "float16 outside"])
def test_a_network_in_float16(tmp_path: Path, keep: bool) -> None:
    path = tmp_path / "half.onnx"
    half = convert_float_to_float16(onnx.load(SOURCES / "float_dynamo.onnx"), keep_io_types=keep)
    onnx.save(half, path)
    image = np.random.default_rng(3).random((12, 3, 8, 8), dtype=np.float32)
    np.savez(tmp_path / "x.npz", image=image)
    conversion = convert(path, ConvertOptions(8, 8, calibrate=str(tmp_path / "x.npz")))
    feeds = {"image": image[:4].astype(np.float32 if keep else np.float16)}
    runtimes = {"numpy": NumpyPacked, "onnxruntime": OnnxRuntime}
    report = verify(path, conversion.model, feeds, runtimes=runtimes)
    assert report.identical, report.first_mismatch()
    assert (report.distances[0].decibel or 0) > 40
    assert audit(conversion.model).clean
    found = NumpyPacked(conversion.model).run(feeds)["logits"]
    assert found.dtype == (np.float32 if keep else np.float16)
