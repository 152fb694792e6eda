"""Make the source models that onnxruntime's own quantiser writes, from the float model of make_torch.py.

Run: python tests/sources/make_ort.py
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_dynamic,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process

HERE = Path(__file__).parent


class Reader(CalibrationDataReader):
    """64 random images, one at a time."""

    def __init__(self) -> None:
        images = np.random.default_rng(5).random((64, 3, 8, 8), dtype=np.float32)
        self.feeds: Iterator[dict[str, NDArray[np.float32]]] = iter({"image": x[None]} for x in images)

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        return next(self.feeds, None)


def float_model() -> onnx.ModelProto:
    """A residual network of Conv, BatchNormalization, Relu, depthwise Conv, Add, pooling and Gemm."""
    random = np.random.default_rng(3)
    weights: list[TensorProto] = []

    def weight(name: str, *shape: int, low: float | None = None) -> str:
        if low is not None:
            array = random.random(shape) + low
        else:
            array = random.standard_normal(shape) * (2.0 / max(1, int(np.prod(shape[1:])))) ** 0.5
        weights.append(numpy_helper.from_array(array.astype(np.float32), name))
        return name

    def norm(source: str, name: str, target: str) -> onnx.NodeProto:
        parts = [weight(f"{name}.gamma", 8, low=0.5), weight(f"{name}.beta", 8)]
        parts += [weight(f"{name}.mean", 8), weight(f"{name}.var", 8, low=0.5)]
        return helper.make_node("BatchNormalization", [source, *parts], [target], name=name)

    def conv(inputs: list[str], target: str, name: str, pads: int, group: int = 1) -> onnx.NodeProto:
        return helper.make_node("Conv", inputs, [target], name=name, pads=[pads] * 4, group=group)

    nodes = [
        conv(["image", weight("stem.w", 8, 3, 3, 3)], "a0", "stem", 1),
        norm("a0", "stem_norm", "a1"),
        helper.make_node("Relu", ["a1"], ["a2"], name="relu1"),
        conv(["a2", weight("deep.w", 8, 1, 3, 3)], "b0", "deep", 1, group=8),
        norm("b0", "deep_norm", "b1"),
        helper.make_node("Clip", ["b1", "zero", "six"], ["b2"], name="relu6"),
        conv(["b2", weight("point.w", 8, 8, 1, 1), weight("point.b", 8)], "c0", "point", 0),
        helper.make_node("Add", ["c0", "a2"], ["c1"], name="skip"),
        helper.make_node("Relu", ["c1"], ["c2"], name="relu2"),
        helper.make_node("MaxPool", ["c2"], ["d0"], name="pool", kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("GlobalAveragePool", ["d0"], ["d1"], name="average"),
        helper.make_node("Flatten", ["d1"], ["d2"], name="flatten"),
        helper.make_node(
            "Gemm", ["d2", weight("head.w", 10, 8), weight("head.b", 10)], ["logits"], name="head", transB=1
        ),
    ]
    weights.append(numpy_helper.from_array(np.float32(0), "zero"))
    weights.append(numpy_helper.from_array(np.float32(6), "six"))
    graph = helper.make_graph(
        nodes,
        "residual",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, 8, 8])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 10])],
        weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)


def main() -> None:
    """Write every model beside this script."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "float.onnx"
        onnx.save(float_model(), source)
        quant_pre_process(str(source), str(source.with_name("ready.onnx")))
        ready = str(source.with_name("ready.onnx"))
        static: dict[str, dict[str, object]] = {
            "ort_qdq_u8s8": {},
            "ort_qdq_s8s8": {
                "activation_type": QuantType.QInt8,
                "extra_options": {"ActivationSymmetric": True},
            },
            "ort_qdq_u8u8": {"weight_type": QuantType.QUInt8, "per_channel": False},
            "ort_qdq_s8s4": {"weight_type": QuantType.QInt4, "activation_type": QuantType.QInt8},
            "ort_qdq_u16s8": {"activation_type": QuantType.QUInt16},
            "ort_qoperator": {"quant_format": QuantFormat.QOperator},
        }
        for name, options in static.items():
            settings: dict[str, object] = {
                "quant_format": QuantFormat.QDQ,
                "activation_type": QuantType.QUInt8,
                "weight_type": QuantType.QInt8,
                "per_channel": True,
                **options,
            }
            quantize_static(ready, str(HERE / f"{name}.onnx"), Reader(), **settings)
        quantize_dynamic(ready, str(HERE / "ort_dynamic.onnx"))


if __name__ == "__main__":
    main()
