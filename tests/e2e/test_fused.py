"""Networks made of fused operators: a BERT layer as onnxruntime writes it, a decoder as its builder does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from snnc.compile import ConvertOptions, convert
from snnc.cost.audit import audit
from snnc.debug.verify import verify
from snnc.runtimes import NumpyPacked, NumpyTimestep, OnnxRuntime

TOKENS, HIDDEN, HEADS, WORDS = 7, 16, 4, 20
RUNTIMES = {"numpy": NumpyPacked, "numpy-timestep": NumpyTimestep, "onnxruntime": OnnxRuntime}
MICROSOFT = "com.microsoft"
Tensor = onnx.TensorProto


class Layers:
    """Nodes and random weights, one after the other."""

    def __init__(self, opset: int) -> None:
        self.random = np.random.default_rng(3)
        self.opset = opset
        self.nodes: list[onnx.NodeProto] = []
        self.held: list[onnx.TensorProto] = []

    def const(self, array: Any, dtype: Any = np.float32) -> str:
        name = f"c{len(self.held)}"
        self.held.append(numpy_helper.from_array(np.asarray(array, dtype), name))
        return name

    def weight(self, *shape: int) -> str:
        return self.const(self.random.standard_normal(shape) * 1.5 / np.sqrt(shape[0]))

    def scale(self) -> str:
        return self.const(self.random.uniform(0.5, 1.5, HIDDEN))

    def op(
        self, kind: str, inputs: list[str], outputs: int = 1, domain: str = MICROSOFT, **attrs: Any
    ) -> Any:
        names = [f"t{len(self.nodes)}_{place}" for place in range(outputs)]
        self.nodes.append(helper.make_node(kind, inputs, names, name=names[0], domain=domain, **attrs))
        return names[0] if outputs == 1 else names

    def matmul(self, x: str, *shape: int) -> str:
        return str(self.op("MatMul", [x, self.weight(*shape)], domain=""))

    def save(self, path: Path, inputs: dict[str, list[Any]], output: str, width: int) -> Path:
        entries = [helper.make_tensor_value_info(name, Tensor.INT32, dims) for name, dims in inputs.items()]
        result = helper.make_tensor_value_info(output, Tensor.FLOAT, ["N", TOKENS, width])
        graph = helper.make_graph(self.nodes, "fused", entries, [result], self.held)
        opsets = [helper.make_opsetid("", self.opset), helper.make_opsetid(MICROSOFT, 1)]
        onnx.save(helper.make_model(graph, ir_version=8, opset_imports=opsets), path)
        return path


def bert(path: Path, mask: str) -> Path:
    """Embeddings, masked attention, a hidden layer with FastGelu; ``mask`` is how attention gets its mask."""
    net = Layers(opset=12)
    inputs = ["ids", "kinds", net.weight(WORDS, HIDDEN), net.weight(TOKENS, HIDDEN), net.weight(2, HIDDEN)]
    x, counts = net.op(
        "EmbedLayerNormalization", [*inputs, net.scale(), net.weight(HIDDEN), "mask"], 2, epsilon=1e-6
    )
    given = {"counts": counts, "raw": "mask"}[mask]
    weights = [net.weight(HIDDEN, 3 * HIDDEN), net.weight(3 * HIDDEN)]
    y = net.op("Attention", [x, *weights, given], num_heads=HEADS)
    y = net.matmul(y, HIDDEN, HIDDEN)
    bias = [net.scale(), net.weight(HIDDEN), net.weight(HIDDEN)]
    x = net.op("SkipLayerNormalization", [y, x, *bias], epsilon=1e-6)
    y = net.op("FastGelu", [net.matmul(x, HIDDEN, 2 * HIDDEN), net.weight(2 * HIDDEN)])
    y = net.matmul(y, 2 * HIDDEN, HIDDEN)
    x = net.op("SkipLayerNormalization", [y, x, net.scale(), net.weight(HIDDEN)], epsilon=1e-6)
    inputs_of: dict[str, list[Any]] = {key: ["N", TOKENS] for key in ("ids", "kinds", "mask")}
    return net.save(path, inputs_of, net.matmul(x, HIDDEN, 3), 3)


def decoder(path: Path) -> Path:
    """A layer with grouped queries, rotary positions and a gated hidden layer."""
    net = Layers(opset=21)
    x = net.op("Gather", [net.weight(WORDS, HIDDEN), "ids"], domain="")
    y = net.op("SimplifiedLayerNormalization", [x, net.scale()], domain="", epsilon=1e-5, axis=-1)
    head = 16
    sizes = [HEADS * head, 2 * head, 2 * head]
    operands = [net.matmul(y, HIDDEN, size) for size in sizes]
    angles = np.arange(TOKENS)[:, None] * 0.7 ** np.arange(head // 2)
    last, total = net.const(TOKENS, np.int32), net.const([TOKENS - 1], np.int32)
    last_of_all = net.op("Expand", [total, net.op("Shape", ["ids"], domain="", end=1)], domain="")
    caches = [net.const(np.cos(angles)), net.const(np.sin(angles))]
    y = net.op(
        "GroupQueryAttention", [*operands, "", "", last_of_all, last, *caches],
        num_heads=HEADS, kv_num_heads=2, do_rotary=1,
    )  # fmt: skip
    y = net.matmul(y, HEADS * head, HIDDEN)
    y, _, _, x = net.op("SkipSimplifiedLayerNormalization", [y, x, net.scale()], 4, epsilon=1e-5)
    gate = net.op("QuickGelu", [net.matmul(y, HIDDEN, 24)], alpha=1.0)
    y = net.op("Mul", [gate, net.matmul(y, HIDDEN, 24)], domain="")
    y = net.op("SkipSimplifiedLayerNormalization", [net.matmul(y, 24, HIDDEN), x, net.scale()], epsilon=1e-5)
    return net.save(path, {"ids": ["N", TOKENS]}, net.matmul(y, HIDDEN, 3), 3)


def check(path: Path, feeds: dict[str, Any], decibel: float) -> None:
    data = path.with_suffix(".npz")
    np.savez(data, **feeds)
    conversion = convert(path, ConvertOptions(8, 8, calibrate=str(data)))
    report = verify(path, conversion.model, {name: x[:2] for name, x in feeds.items()}, runtimes=RUNTIMES)
    assert report.identical, report.first_mismatch()
    assert audit(conversion.model).clean
    assert report.distances and (report.distances[0].decibel or 0) > decibel


def tokens(count: int = 12) -> dict[str, Any]:
    random = np.random.default_rng(1)
    lengths = random.integers(2, TOKENS + 1, (count, 1))
    return {
        "ids": random.integers(0, WORDS, (count, TOKENS)).astype(np.int32),
        "kinds": random.integers(0, 2, (count, TOKENS)).astype(np.int32),
        "mask": (np.arange(TOKENS) < lengths).astype(np.int32),
    }


@pytest.mark.parametrize("mask", ["counts", "raw"])
def test_bert(tmp_path: Path, mask: str) -> None:
    check(bert(tmp_path / "bert.onnx", mask), tokens(), 28)


def test_decoder(tmp_path: Path) -> None:
    check(decoder(tmp_path / "decoder.onnx"), {"ids": tokens()["ids"]}, 24)
