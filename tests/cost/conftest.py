"""Hand-made spike models, and the simplest way to run them: op by op through the reference of each op."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from snnc.coding import CodeBook
from snnc.ir import AI_SNNC, Model, attributes, constant, load
from snnc.ops import LAYOUT, OPS

BOOK = CodeBook(4, 2)


class Builder:
    """Collects nodes and weights of a model."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []

    def weight(self, name: str, array: Any) -> str:
        self.weights.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def op(self, op: str, name: str, *inputs: str, **attrs: Any) -> str:
        domain = AI_SNNC if op in OPS else ""
        self.nodes.append(helper.make_node(op, list(inputs), [name], name=f"/{name}", domain=domain, **attrs))
        return name

    def neuron(self, name: str, source: str, channels: int, book: CodeBook = BOOK, *, width: int = 20) -> str:
        depth = book.comparisons
        thresholds = np.full((channels, 2**depth - 1), 2**31 - 1, np.int32)
        thresholds[:, : book.levels - 1] = width * np.arange(1, book.levels) - width // 2
        taus = self.weight(f"{name}_tau", thresholds)
        rows = self.weight(f"{name}_rows", np.arange(channels, dtype=np.int32).reshape(1, channels, 1, 1))
        code_type = helper.np_dtype_to_tensor_dtype(book.dtype)
        return self.op(
            "ExpGIF",
            name,
            source,
            taus,
            rows,
            codes=book.codes.tolist(),
            code_type=code_type,
            depth=depth,
            **book.to_attributes(),
        )

    def model(
        self,
        inputs: Mapping[str, tuple[int, Sequence[Any]]],
        outputs: Mapping[str, tuple[int, int]],
        path: Path,
    ) -> Model:
        graph = helper.make_graph(
            self.nodes,
            "hand-made",
            [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in inputs.items()],
            [
                helper.make_tensor_value_info(name, kind, [None] * rank)
                for name, (kind, rank) in outputs.items()
            ],
            self.weights,
        )
        opsets = [helper.make_opsetid("", 17), helper.make_opsetid(AI_SNNC, 1)]
        onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=10), path)
        return load(path)


def _residual_cnn(path: Path) -> Model:
    """A network with every op that costs something on images: host layer, depthwise, join, pools, head."""
    rng = np.random.default_rng(3)

    def weights(*shape: int) -> Any:
        return rng.integers(-7, 8, shape, dtype=np.int8)

    b = Builder()
    b.op("FixedPointEncode", "fixed", "image", fraction_bits=12, bits=24)
    b.op("HostConv", "stem", "fixed", b.weight("w_stem", weights(4, 2, 3, 3)), pads=[1, 1, 1, 1])
    b.op("MembraneRound", "stem32", "stem", shift=12)
    b.neuron("a0", "stem32", 4, width=2)
    b.op("SpikeConv", "deep", "a0", b.weight("w_deep", weights(4, 1, 3, 3)), pads=[1, 1, 1, 1], group=4)
    b.neuron("a1", "deep", 4)
    b.op("SpikeConv", "point", "a1", b.weight("w_point", weights(4, 4, 1, 1)))
    b.op("Charge", "skip", "a0")
    b.op("MembraneScale", "skip8", "skip", b.weight("eleven", np.array([11], np.int32)))
    b.op("MembraneAdd", "join", "point", "skip8")
    b.op("MembraneMaxPool", "join_max", "join", kernel_shape=[2, 2], strides=[2, 2])
    b.neuron("a2", "join_max", 4)
    b.op("SpikeMaxPool", "a2_max", "a2", kernel_shape=[3, 3], pads=[1, 1, 1, 1])
    b.op(
        "SpikeConv",
        "down",
        "a2_max",
        b.weight("w_down", weights(6, 2, 3, 3)),
        strides=[2, 2],
        pads=[0, 1, 1, 0],
        group=2,
    )
    b.op("MembraneSumPool", "smooth", "down", kernel_shape=[2, 2], pads=[1, 1, 0, 0])
    b.neuron("a3", "smooth", 6)
    b.op("Charge", "held", "a3")
    b.op("MembraneSum", "mean", "held", axes=[2, 3], keepdims=1)
    b.neuron("a4", "mean", 6)
    b.op("Flatten", "flat", "a4", axis=1)
    b.op("SpikeMatMul", "head", "flat", b.weight("w_head", weights(6, 3)))
    scale, bias = b.weight("scale", np.float32([0.5])), b.weight("bias", np.zeros(3, np.float32))
    b.op("Readout", "logits", "head", scale, bias)
    return b.model(
        {"image": (onnx.TensorProto.FLOAT, ["N", 2, 9, 8])}, {"logits": (onnx.TensorProto.FLOAT, 2)}, path
    )


def _evaluate(model: Model, inputs: Mapping[str, Any], taps: Sequence[str]) -> dict[str, Any]:
    """Run a model op by op and return the tapped tensors."""
    values = dict(inputs)
    for node in model.graph:
        arrays = [values[v.name] if constant(v) is None else np.asarray(constant(v)) for v in node.inputs]
        if node.domain == AI_SNNC:
            results = [OPS[node.op_type].packed(arrays, attributes(node))]
        else:
            results = LAYOUT[node.op_type].packed(arrays, attributes(node), len(node.outputs))
        values.update(zip((value.name for value in node.outputs), results, strict=True))
    return {name: values[name] for name in taps}


@pytest.fixture(scope="session")
def cnn(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return _residual_cnn(tmp_path_factory.mktemp("cost") / "cnn.onnx")


@pytest.fixture(scope="session")
def evaluate() -> Callable[..., dict[str, Any]]:
    return _evaluate


@pytest.fixture
def builder() -> Builder:
    return Builder()
