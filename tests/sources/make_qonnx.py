"""Make the source models in the dialects of Brevitas: QONNX ``Quant`` and QCDQ (Q -> Clip -> DQ).

Built node by node after the conventions of brevitas.export.export_qonnx and export_onnx_qcdq (Brevitas itself
is not needed): ``Quant`` in domain qonnx.custom_op.general with scale, zero point and bit width as inputs,
weights quantised in the graph and transposed for Gemm, biases through ``Quant`` of 16 bits, four-bit
activations as Clip between QuantizeLinear and DequantizeLinear.

Run: python tests/sources/make_qonnx.py
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

HERE = Path(__file__).parent
DOMAIN = "qonnx.custom_op.general"


class Builder:
    """Collects nodes and weights of one model."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[TensorProto] = []
        self.random = np.random.default_rng(23)

    def tensor(self, name: str, array: npt.ArrayLike, dtype: npt.DTypeLike = np.float32) -> str:
        self.weights.append(numpy_helper.from_array(np.asarray(array, dtype=dtype), name))
        return name

    def weight(self, name: str, *shape: int) -> str:
        fan_in = max(1, int(np.prod(shape[1:])))
        return self.tensor(name, self.random.standard_normal(shape) * (2.0 / fan_in) ** 0.5)

    def node(self, op: str, inputs: list[str], output: str, domain: str = "", **attrs: object) -> str:
        self.nodes.append(
            helper.make_node(op, inputs, [output], name=f"{op}_{len(self.nodes)}", domain=domain, **attrs)
        )
        return output

    def norm(self, source: str, name: str) -> str:
        parts = [
            self.tensor(f"{name}.gamma", self.random.random(8) + 0.5),
            self.tensor(f"{name}.beta", self.random.standard_normal(8) * 0.2),
            self.tensor(f"{name}.mean", self.random.standard_normal(8) * 0.1),
            self.tensor(f"{name}.var", self.random.random(8) + 0.5),
        ]
        return self.node("BatchNormalization", [source, *parts], f"{name}.out")

    def save(self, name: str, imports: dict[str, int], value_info: list[onnx.ValueInfoProto]) -> None:
        graph = helper.make_graph(
            self.nodes,
            name,
            [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, 8, 8])],
            [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 10])],
            self.weights,
            value_info=value_info,
        )
        opsets = [helper.make_opsetid(domain, version) for domain, version in imports.items()]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=10, producer_name="snnc tests")
        onnx.save(model, HERE / f"{name}.onnx")


Quantiser = Callable[[Builder, str, str, float, int, bool], str]


def quant(b: Builder, source: str, name: str, scale: float, bits: int, signed: bool) -> str:
    """One QONNX Quant node on an activation."""
    inputs = [
        source,
        b.tensor(f"{name}.scale", scale),
        b.tensor(f"{name}.zero", 0.0),
        b.tensor(f"{name}.bits", float(bits)),
    ]
    return b.node(
        "Quant", inputs, f"{name}.quant", DOMAIN, signed=int(signed), narrow=0, rounding_mode="ROUND"
    )


def quant_weight(b: Builder, name: str, shape: tuple[int, ...], bits: int) -> str:
    """A weight and its Quant: signed, narrow, one scale per output channel."""
    b.weight(name, *shape)
    array = numpy_helper.to_array(b.weights[-1])
    peak = np.abs(array.reshape(shape[0], -1)).max(axis=1)
    scale = (peak / (2 ** (bits - 1) - 1)).reshape(shape[0], *[1] * (len(shape) - 1))
    inputs = [
        name,
        b.tensor(f"{name}.scale", scale),
        b.tensor(f"{name}.zero", 0.0),
        b.tensor(f"{name}.bits", float(bits)),
    ]
    return b.node("Quant", inputs, f"{name}.quant", DOMAIN, signed=1, narrow=1, rounding_mode="ROUND")


def qcdq(b: Builder, source: str, name: str, scale: float, bits: int, signed: bool) -> str:
    """QuantizeLinear -> Clip -> DequantizeLinear, as Brevitas writes quantisers below eight bits."""
    kind = np.int8 if signed else np.uint8
    held = b.tensor(f"{name}.scale", scale)
    zero = b.tensor(f"{name}.zero", 0, kind)
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    q = b.node("QuantizeLinear", [source, held, zero], f"{name}.q")
    if bits < 8:
        bounds = [b.tensor(f"{name}.low", low, kind), b.tensor(f"{name}.high", high, kind)]
        q = b.node("Clip", [q, *bounds], f"{name}.clip")
    return b.node("DequantizeLinear", [q, held, zero], f"{name}.dq")


def qcdq_weight(b: Builder, name: str, shape: tuple[int, ...], bits: int) -> str:
    """A weight as integers (below eight bits clipped in the file) behind DequantizeLinear."""
    array = b.random.standard_normal(shape)
    peak = np.abs(array.reshape(shape[0], -1)).max(axis=1)
    scale = peak / (2 ** (bits - 1) - 1)
    integers = np.rint(array / scale.reshape(shape[0], *[1] * (len(shape) - 1)))
    inputs = [
        b.tensor(f"{name}.int", integers, np.int8),
        b.tensor(f"{name}.scale", scale * (2.0 / max(1, int(np.prod(shape[1:])))) ** 0.5),
        b.tensor(f"{name}.zero", np.zeros(shape[0]), np.int8),
    ]
    return b.node("DequantizeLinear", inputs, f"{name}.dq", axis=0)


def network(name: str, activation: Quantiser, weight: Callable[..., str], imports: dict[str, int]) -> None:
    """The residual network of the other source models, quantised."""
    b = Builder()
    x = activation(b, "image", "in", 1 / 255, 8, False)
    x = b.node("Conv", [x, weight(b, "stem.w", (8, 3, 3, 3), 8)], "a0", pads=[1] * 4)
    x = b.node("Relu", [b.norm(x, "n1")], "a1")
    x = activation(b, x, "act1", 0.17, 4, False)
    y = b.node("Conv", [x, weight(b, "deep.w", (8, 1, 3, 3), 4)], "b0", pads=[1] * 4, group=8)
    y = activation(b, b.norm(y, "n2"), "act2", 0.21, 4, True)
    bias = b.tensor("point.b", b.random.standard_normal(8) * 0.1)
    y = b.node("Conv", [y, weight(b, "point.w", (8, 8, 1, 1), 4), bias], "c0")
    x = b.node("Relu", [b.node("Add", [y, x], "c1")], "c2")
    x = activation(b, x, "act3", 0.23, 4, False)
    x = b.node("MaxPool", [x], "d0", kernel_shape=[2, 2], strides=[2, 2])
    x = b.node("GlobalAveragePool", [x], "d1")
    x = activation(b, x, "act4", 0.05, 6, False)
    x = b.node("Flatten", [x], "d2")
    w = b.node("Transpose", [weight(b, "head.w", (10, 8), 8)], "head.w.t", perm=[1, 0])
    x = b.node("MatMul", [x, w], "e0")
    b.node("Add", [x, b.tensor("head.b", b.random.standard_normal(10))], "logits")
    # Brevitas runs its own shape inference before it saves, so the shapes of custom nodes are in the file.
    shapes = {"in.quant": ["batch", 3, 8, 8], "act1.quant": ["batch", 8, 8, 8]}
    known = [
        helper.make_tensor_value_info(key, TensorProto.FLOAT, shape)
        for key, shape in shapes.items()
        if any(key in node.output for node in b.nodes)
    ]
    b.save(name, imports, known)


def main() -> None:
    """Write both models beside this script."""
    network("qonnx_quant", quant, quant_weight, {"": 17, DOMAIN: 2})
    network("brevitas_qcdq", qcdq, qcdq_weight, {"": 18})


if __name__ == "__main__":
    main()
