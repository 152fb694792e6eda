"""lift-dynamic: products of dynamically quantised operands become float products with integer weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic

from snnc.ir import constant
from snnc.passes.recognise import LiftDynamic

RANDOM = np.random.default_rng(5)


def floats(*shape: int) -> Any:
    return RANDOM.standard_normal(shape).astype(np.float32)


def network(nodes: list[Any], inputs: dict[str, Any], held: dict[str, Any], shape: list[Any]) -> Any:
    """A model of named nodes whose last value is y."""
    kinds = {"float32": TensorProto.FLOAT, "int64": TensorProto.INT64, "int32": TensorProto.INT32}
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(name, kinds[str(x.dtype)], x.shape) for name, x in inputs.items()],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(array, name) for name, array in held.items()],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def node(op_type: str, inputs: str, outputs: str = "y", domain: str = "", **attrs: Any) -> Any:
    ends = [name if name != "_" else "" for name in inputs.split()]
    return helper.make_node(op_type, ends, outputs.split(), name=f"n_{op_type}", domain=domain, **attrs)


def run(model: Any, feeds: dict[str, Any]) -> Any:
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    return ort.InferenceSession(model.SerializeToString(), options).run(["y"], feeds)[0]


def lifted(proto: Any) -> tuple[Any, Any]:
    model = ir.from_proto(proto)
    result = LiftDynamic().run(model)
    assert not LiftDynamic().run(model).rewrites
    return result, model


def check(proto: Any, feeds: dict[str, Any], decibel: float = 34.0) -> Any:
    """Lift everything; the numbers change by no more than activations of 8 bits were rounded."""
    result, model = lifted(proto)
    assert result.rewrites and result.notes and not result.not_matched
    ops = [entry.op_type for entry in model.graph]
    assert not [op for op in ops if "Integer" in op or op.startswith(("DynamicQ", "QA", "QE"))]
    before, after = run(proto, feeds), run(ir.to_proto(model), feeds)
    error = float(((before - after) ** 2).sum())
    assert 10 * np.log10(float((before**2).sum()) / max(error, 1e-30)) > decibel
    return model


FLOAT_NETWORKS: dict[str, tuple[Any, dict[str, Any]]] = {
    "product and convolution": (
        network(
            [
                helper.make_node("Conv", ["x", "k", "b"], ["c"], "conv", pads=[1, 1, 1, 1], group=2),
                helper.make_node("Flatten", ["c"], ["f"], "flat"),
                helper.make_node("MatMul", ["f", "w"], ["m"], "left"),
                helper.make_node("MatMul", ["f", "v"], ["n"], "right"),
                helper.make_node("Add", ["m", "n"], ["y"], "sum"),
            ],
            {"x": floats(3, 4, 5, 5)},
            {"k": floats(6, 2, 3, 3), "b": floats(6), "w": floats(150, 3), "v": floats(150, 3)},
            [3, 3],
        ),
        {"x": floats(3, 4, 5, 5)},
    ),
    "two activations": (
        network(
            [
                helper.make_node("MatMul", ["x", "w"], ["q"], "query"),
                helper.make_node("Transpose", ["q"], ["t"], "turn", perm=[0, 2, 1]),
                helper.make_node("MatMul", ["x", "t"], ["y"], "scores"),
            ],
            {"x": floats(2, 6, 8)},
            {"w": floats(8, 8)},
            [2, 6, 6],
        ),
        {"x": floats(2, 6, 8)},
    ),
    "recurrent": (
        network(
            [
                helper.make_node("LSTM", ["x", "w", "r", "b"], ["z", "", ""], "lstm", hidden_size=4),
                helper.make_node("Squeeze", ["z", "axes"], ["y"], "squeeze"),
            ],
            {"x": floats(5, 2, 3)},
            {"w": floats(1, 16, 3), "r": floats(1, 16, 4), "b": floats(1, 32), "axes": np.array([1])},
            [5, 2, 4],
        ),
        {"x": floats(5, 2, 3)},
    ),
    "rows of a table": (
        network(
            [
                helper.make_node("Gather", ["table", "i"], ["e"], "rows"),
                helper.make_node("MatMul", ["e", "w"], ["y"], "product"),
            ],
            {"i": np.zeros((2, 3), np.int64)},
            {"table": floats(9, 8), "w": floats(8, 5)},
            [2, 3, 5],
        ),
        {"i": RANDOM.integers(0, 9, (2, 3))},
    ),
}


@pytest.mark.parametrize("weights", ["QInt8", "QUInt8"])
@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("name", FLOAT_NETWORKS)
def test_what_quantize_dynamic_writes(tmp_path: Path, name: str, per_channel: bool, weights: str) -> None:
    proto, feeds = FLOAT_NETWORKS[name]
    onnx.save(proto, tmp_path / "float.onnx")
    quantize_dynamic(
        str(tmp_path / "float.onnx"),
        str(tmp_path / "dynamic.onnx"),
        per_channel=per_channel,
        weight_type=QuantType[weights],
        extra_options={"MatMulConstBOnly": False},
    )
    model = check(onnx.load(tmp_path / "dynamic.onnx"), feeds, 30.0)
    if name != "recurrent":
        # The integers of the weights are kept; tables are of uint8 always.
        products = [entry for entry in model.graph if entry.op_type in ("Conv", "MatMul")]
        makers = [value.producer() for entry in products for value in entry.inputs[1:2]]
        held = [constant(maker.inputs[0]) for maker in makers if maker.op_type == "DequantizeLinear"]
        assert held and {str(array.dtype) for array in held} == {weights[1:].lower()}


def integers(*shape: int) -> Any:
    return RANDOM.integers(-100, 101, shape).astype(np.int8)


QUANTISE = node("DynamicQuantizeLinear", "x", "q s z")
STEPS = {"ws": (RANDOM.random(5) / 50 + 0.01).astype(np.float32), "wz": integers(5), "b": floats(5)}
ONE = {"us": np.float32(0.01), "uz": np.int8(3)}


@pytest.mark.parametrize(
    ("op_type", "inputs"),
    [("DynamicQuantizeMatMul", "x w ws wz b"), ("DynamicQuantizeMatMul", "x w us"),
     ("MatMulIntegerToFloat", "q w s ws z wz b"), ("MatMulIntegerToFloat", "q w s us z")],
)  # fmt: skip
def test_fused_products(op_type: str, inputs: str) -> None:
    before = [QUANTISE] if inputs.startswith("q") else []
    feeds = {"x": floats(4, 8)}
    proto = network([*before, node(op_type, inputs, domain="com.microsoft")], feeds,
                    {"w": integers(8, 5), **STEPS, **ONE}, [4, 5])  # fmt: skip
    check(proto, feeds)


def test_fused_attention_and_embeddings() -> None:
    feeds = {"x": floats(2, 5, 8)}
    held = {"w": integers(8, 24), "b": floats(24), **ONE}
    attention = node("QAttention", "q w b s us _ z uz", domain="com.microsoft", num_heads=2)
    model = check(network([QUANTISE, attention], feeds, held, [2, 5, 8]), feeds, 30.0)
    assert [entry.op_type for entry in model.graph] == ["DequantizeLinear", "Attention"]

    ids = {"i": RANDOM.integers(0, 9, (2, 5)).astype(np.int32)}
    tables = {name: RANDOM.integers(0, 256, shape).astype(np.uint8)
              for name, shape in {"word": (9, 8), "place": (5, 8), "g": (8,), "o": (8,)}.items()}  # fmt: skip
    scales = {f"{name}{k}": np.float32(0.01 + k / 500) for k, name in enumerate("sssss")}
    zeros = {f"z{k}": np.uint8(100 + k) for k in range(5)}
    inputs = "i i word place word g o _ s0 s1 s2 s3 s4 z0 z1 z2 z3 z4"
    embed = node("QEmbedLayerNormalization", inputs, "y mask", "com.microsoft", epsilon=1e-5)
    check(network([embed], ids, {**tables, **scales, **zeros}, [2, 5, 8]), ids, 100.0)


PRODUCT = [QUANTISE, node("MatMulInteger", "q w z uz", "p"), node("Cast", "p", "f", to=1)]


@pytest.mark.parametrize(
    ("nodes", "reason"),
    [
        (
            [*PRODUCT, node("Mul", "f s", "g"), node("Mul", "g s")],
            "the scale or zero point of an operand depends on the data",
        ),
        (
            [*PRODUCT, node("Add", "f s", "g"), node("Mul", "g us")],
            "its result is not multiplied by the scales of its operands, once each",
        ),
        (
            [*PRODUCT[:2], node("Abs", "p", "f"), node("Cast", "f", "y", to=1)],
            "its integers are read by something else than a Cast",
        ),
        (
            [*PRODUCT, node("Mul", "f s", "g"), node("Mul", "g wide")],
            "its scales do not stand for the channels of its weights",
        ),
        (
            [QUANTISE, node("MatMulIntegerToFloat", "q w s us", domain="com.microsoft")],
            "its scale or zero point is not that of its operand",
        ),
        (
            [QUANTISE, node("DynamicQuantizeMatMul", "x w s", domain="com.microsoft")],
            "the scale or zero point of an operand depends on the data",
        ),
    ],
)
def test_leaves_alone(nodes: list[Any], reason: str) -> None:
    held = {"w": integers(8, 5), "wide": floats(4, 1), **ONE}
    result, model = lifted(network(nodes, {"x": floats(4, 8)}, held, [4, 5]))
    assert [entry.reason for entry in result.not_matched] == [reason]
    assert not result.rewrites and not result.notes
    assert "DynamicQuantizeLinear" in [entry.op_type for entry in model.graph]


def test_moved_integers() -> None:
    feeds = {"x": floats(2, 4, 8)}
    moved = [QUANTISE, node("Reshape", "q dims", "r"), node("DequantizeLinear", "r s z")]
    model = check(network(moved, feeds, {"dims": np.array([8, 8])}, [8, 8]), feeds)
    assert [entry.op_type for entry in model.graph] == ["Reshape"]


def test_rows_of_an_integer_table() -> None:
    """Embeddings of quantize_dynamic: a Gather of integers in front of DequantizeLinear."""
    feeds = {"i": RANDOM.integers(0, 9, (2, 5))}
    rows = [node("Gather", "w i", "e"), node("DequantizeLinear", "e us uz")]
    model = check(network(rows, feeds, {"w": integers(9, 8), **ONE}, [2, 5, 8]), feeds, 200.0)
    assert [entry.op_type for entry in model.graph] == ["DequantizeLinear", "Gather"]
    assert constant(model.graph[0].inputs[0]).dtype == np.int8


def test_networks_without_such_operators_stay() -> None:
    feeds = {"x": floats(2, 4)}
    result, _ = lifted(network([node("Relu", "x")], feeds, {}, [2, 4]))
    assert not result.rewrites and not result.notes
