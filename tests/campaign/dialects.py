"""Random quantised networks as training frameworks export them: the same network in each dialect.

Choices do not depend on the dialect, so that one seed gives one network in all of them, and once more in
float64, where it says what the others mean.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.campaign.floats import Choose, Shape

Array = npt.NDArray[Any]
QONNX = "qonnx.custom_op.general"
#: What the file says a quantiser is. ``qcfs`` has no signed form: its networks have unsigned codes only.
DIALECTS = ("qcdq", "qonnx", "round-clamp", "clamp-round", "qcfs")
UNSIGNED = frozenset({"qcfs"})


@dataclass
class Dressed:
    """A quantised network under construction.

    Attributes:
        choose: Draws a number between two, both included.
        dialect: How quantisers are written.
        unsigned: Whether all activation codes are unsigned, and round halves up.
        wide: Whether constants are float64: the reference.
        permuted: Whether hidden channels stand in another order.
        power: Hidden layers are scaled by 2 to this power, and back.
        rounded: Inputs of all roundings, by which a sample is known to lie on an edge.
    """

    choose: Choose
    dialect: str
    unsigned: bool = False
    wide: bool = False
    permuted: bool = False
    power: int = 0
    opset: int = 17
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    weights: list[TensorProto] = field(default_factory=list)
    rounded: list[tuple[str, int, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.random = np.random.default_rng(self.choose(0, 2**16))

    @property
    def written(self) -> int:
        """Opset of the file; the reference evaluator of ONNX has another BatchNormalization before 14."""
        return 17 if self.wide else self.opset

    def one_of(self, *options: Any) -> Any:
        return options[self.choose(0, len(options) - 1)]

    def op(self, kind: str, inputs: list[str], *, domain: str = "", **attrs: Any) -> str:
        name = f"{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(
            helper.make_node(kind, inputs, [name], f"n{len(self.nodes)}_{kind}", domain=domain, **attrs)
        )
        return name

    def const(self, array: npt.ArrayLike, dtype: npt.DTypeLike = np.float32) -> str:
        held = np.asarray(array, dtype=dtype)
        if self.wide and held.dtype == np.float32:
            held = held.astype(np.float64)
        name = f"c{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(held, name))
        return name

    # --- quantisers ---

    def scale(self) -> np.float32:
        """Steps of training are any numbers; powers of two make ties that are no accident."""
        step, power = np.float32(self.random.uniform(0.03, 0.5)), self.one_of(0.125, 0.25, 0.5)
        return np.float32(power if self.choose(0, 4) == 0 else step)

    def code(self, x: str, *, signed: bool | None = None, factor: float = 1.0) -> str:
        """Quantise an activation."""
        bits = self.one_of(2, 3, 4, 4, 6, 8)
        choice = self.choose(0, 1) == 1
        signed = not self.unsigned and (choice if signed is None else signed)
        step = np.float32(self.scale() * factor)
        low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
        if self.wide and self.unsigned:
            return self.floored(x, step, high)
        return self.quantiser(x, step, bits, low, high, signed=signed)

    def floored(self, x: str, step: np.float32, high: int) -> str:
        """As QCFS: halves round up."""
        threshold = self.const(np.float32(step * np.float32(high)))
        ratio = self.op("Div", [x, threshold])
        ratio = self.op("Clip", [ratio, self.const(0.0), self.const(1.0)])
        shifted = self.op("Add", [self.op("Mul", [ratio, self.const(float(high))]), self.const(0.5)])
        self.rounded.append((shifted, 0, high))
        levels = self.op("Div", [self.op("Floor", [shifted]), self.const(float(high))])
        return self.op("Mul", [levels, threshold])

    def quantiser(self, x: str, step: np.float32, bits: int, low: int, high: int, *, signed: bool) -> str:
        if self.dialect == "qcfs":
            return self.floored(x, step, high)
        if self.dialect == "qonnx":
            inputs = [x, self.const(step), self.const(0.0), self.const(float(bits))]
            return self.op("Quant", inputs, domain=QONNX, signed=int(signed), narrow=0, rounding_mode="ROUND")
        if self.dialect == "qcdq":
            kind: Any = np.int8 if signed else np.uint8
            ends = [self.const(step), self.const(0, kind)]
            q = self.op("QuantizeLinear", [x, *ends])
            if bits < 8:
                q = self.op("Clip", [q, self.const(low, kind), self.const(high, kind)])
            return self.op("DequantizeLinear", [q, *ends])
        ratio = self.op("Div", [x, self.const(step)])
        bounds = [self.const(float(low)), self.const(float(high))]
        if self.dialect == "clamp-round":
            ratio = self.op("Round", [self.op("Clip", [ratio, *bounds])])
        else:
            self.rounded.append((ratio, low, high))
            ratio = self.op("Clip", [self.op("Round", [ratio]), *bounds])
        return self.op("Mul", [ratio, self.const(step)])

    def weight(self, *shape: int, axis: int, change: Any = None) -> str:
        """Integers and a scale for each output channel; ``change`` is applied to the real numbers' shape."""
        bits = self.one_of(4, 8)
        high = 2 ** (bits - 1) - 1
        fan = int(np.prod([size for place, size in enumerate(shape) if place != axis]))
        integers = np.clip(np.rint(self.random.standard_normal(shape) * high / 2.5), -high, high)
        # As training does it: the largest weight of a channel is the largest integer.
        first = [slice(None) if place == axis else 0 for place in range(len(shape))]
        integers[tuple(first)] = high
        scales = (self.random.uniform(0.7, 1.4, shape[axis]) * 2.5 / high * fan**-0.5).astype(np.float32)
        if change is not None:
            integers, scales = change(integers, scales)
        wide = scales.reshape([-1 if place == axis else 1 for place in range(len(shape))])
        if self.wide:
            return self.const((integers * wide.astype(np.float64)), np.float64)
        if self.dialect == "qcdq":
            zero = self.const(np.zeros(len(scales)), np.int8)
            return self.op(
                "DequantizeLinear", [self.const(integers, np.int8), self.const(scales), zero], axis=axis
            )
        if self.dialect == "qonnx":
            inputs = [self.const(integers * wide), self.const(wide), self.const(0.0), self.const(float(bits))]
            return self.op("Quant", inputs, domain=QONNX, signed=1, narrow=1, rounding_mode="ROUND")
        ratio = self.op("Div", [self.const(integers * wide), self.const(wide)])
        bounds = [self.const(float(-high)), self.const(float(high))]
        return self.op("Mul", [self.op("Clip", [self.op("Round", [ratio]), *bounds]), self.const(wide)])

    # --- layers ---

    def norm(self, x: str, width: int) -> str:
        parts = [
            self.random.uniform(0.5, 1.5, width) * self.one_of(1, 1, -1),
            self.random.standard_normal(width) * 0.3,
            self.random.standard_normal(width) * 0.2,
            self.random.uniform(0.5, 1.5, width),
        ]
        return self.op("BatchNormalization", [x, *map(self.const, parts)])

    def activation(self, x: str) -> str:
        kind = self.one_of(
            "Relu",
            "Relu",
            "none",
            "clip",
            "LeakyRelu",
            "HardSwish",
            "HardSigmoid",
            "Sigmoid",
            "Tanh",
            "gelu",
            "silu",
        )
        if kind == "none" or (kind == "HardSwish" and self.opset < 14):
            return x
        if kind == "clip":
            return self.op("Clip", [x, self.const(0.0), self.const(1.5)])
        if kind == "silu":
            return self.op("Mul", [x, self.op("Sigmoid", [x])])
        if kind == "gelu":
            erf = self.op("Erf", [self.op("Div", [x, self.const(2**0.5)])])
            half = self.op("Mul", [x, self.op("Add", [erf, self.const(1.0)])])
            return self.op("Mul", [half, self.const(0.5)])
        return self.op(kind, [x])

    def conv(self, x: str, inside: int, outside: int, kernel: int, *, group: int = 1, stride: int = 1) -> str:
        weight = self.weight(outside, inside // group, kernel, kernel, axis=0)
        bias = [self.const(self.random.standard_normal(outside) * 0.2)] if self.choose(0, 1) else []
        attrs: dict[str, Any] = {"kernel_shape": [kernel] * 2, "strides": [stride] * 2, "group": group}
        return self.op("Conv", [x, weight, *bias], pads=[kernel // 2] * 4, **attrs)

    def linear(self, x: str, inside: int, outside: int, change: Any = None, bias_change: Any = None) -> str:
        y = self.op("MatMul", [x, self.weight(inside, outside, axis=1, change=change)])
        bias = self.random.standard_normal(outside) * 0.2
        if self.choose(0, 2):
            y = self.op("Add", [y, self.const(bias if bias_change is None else bias_change(bias))])
        return y

    def images(self) -> tuple[str, Shape]:
        channels, side, width = self.one_of(1, 3), self.one_of(6, 8), self.one_of(4, 6)
        x = self.code("x", signed=True)
        x = self.conv(x, channels, width, 3)
        x = self.code(self.activation(self.norm(x, width) if self.choose(0, 1) else x))
        for _ in range(self.choose(1, 3)):
            kind = self.one_of("plain", "residual", "residual", "depthwise", "max", "average")
            if kind == "plain":
                x = self.code(self.activation(self.norm(self.conv(x, width, width, 3), width)))
            elif kind == "depthwise":
                y = self.code(self.activation(self.conv(x, width, width, 3, group=width)))
                x = self.code(self.activation(self.norm(self.conv(y, width, width, 1), width)))
            elif kind == "residual":
                y = self.code(self.activation(self.norm(self.conv(x, width, width, 3), width)))
                y = self.conv(y, width, width, 3)
                y = self.code(y) if self.choose(0, 1) and not self.unsigned else y
                other = self.conv(x, width, width, 1) if self.choose(0, 1) else x
                x = self.code(self.op("Relu", [self.op("Add", [y, other])]), signed=False)
            elif kind == "max":
                x = self.op("MaxPool", [x], kernel_shape=[2, 2], strides=[1, 1])
            else:
                x = self.code(self.op("AveragePool", [x], kernel_shape=[2, 2], strides=[1, 1]))
        x = self.code(self.op("GlobalAveragePool", [x]))
        return self.linear(self.op("Flatten", [x]), width, 5), (channels, side, side)

    def tokens(self) -> tuple[str, Shape]:
        count, size, width = self.one_of(3, 4), self.one_of(4, 6), 8
        stream = self.linear(self.code("x", signed=True), size, width)
        for _ in range(self.choose(1, 2)):
            coded = self.code(stream)
            if self.choose(0, 1):
                stream = self.op("Add", [stream, self.attention(coded, count, width)])
            else:
                stream = self.op("Add", [stream, self.hidden(coded, width)])
        coded = self.code(stream)
        if self.written < 18:
            pooled = self.op("ReduceMean", [coded], axes=[1], keepdims=0)
        else:
            pooled = self.op("ReduceMean", [coded, self.const([1], np.int64)], keepdims=0)
        return self.linear(self.code(pooled), width, 5), (count, size)

    def attention(self, x: str, count: int, width: int) -> str:
        heads = self.one_of(1, 2)
        deep = width // heads
        parts = []
        for place in range(3):
            y = self.code(self.linear(x, width, width))
            y = self.op("Reshape", [y, self.const([0, 0, heads, deep], np.int64)])
            parts.append(self.op("Transpose", [y], perm=[0, 2, 3, 1] if place == 1 else [0, 2, 1, 3]))
        scores = self.op("Mul", [self.op("MatMul", parts[:2]), self.const(deep**-0.5)])
        scores = self.op(self.one_of("Relu", "Sigmoid", "HardSigmoid"), [scores])
        held = self.op("MatMul", [self.code(scores, signed=False), parts[2]])
        joined = self.op(
            "Reshape", [self.op("Transpose", [held], perm=[0, 2, 1, 3]), self.const([0, 0, width], np.int64)]
        )
        return self.linear(self.code(joined), width, width)

    def hidden(self, x: str, width: int) -> str:
        """Two layers with hidden channels between them, whose order and (behind a ReLU) scale are free."""
        inner = self.one_of(6, 10)
        # Drawn either way, so that all variants draw the same.
        order = self.random.permutation(inner)
        kept = order if self.permuted else np.arange(inner)
        factor = 2.0**self.power
        y = self.linear(
            x, width, inner, lambda w, s: (w[:, kept], (s * factor)[kept]), lambda b: (b * factor)[kept]
        )
        y = self.code(self.op("Relu", [y]), signed=False, factor=factor)
        return self.linear(y, inner, width, lambda w, s: (w[kept], s / np.float32(factor)))

    def build(self, *, tokens: bool) -> onnx.ModelProto:
        kind = TensorProto.DOUBLE if self.wide else TensorProto.FLOAT
        output, shape = self.tokens() if tokens else self.images()
        self.shape = shape
        inputs = [helper.make_tensor_value_info("x", kind, ["N", *shape])]
        outputs = [helper.make_tensor_value_info(output, kind, ["N", 5])]
        graph = helper.make_graph(self.nodes, "g", inputs, outputs, self.weights)
        opsets = [helper.make_opsetid("", self.written)]
        if self.dialect == "qonnx" and not self.wide:
            opsets.append(helper.make_opsetid(QONNX, 2))
        return helper.make_model(graph, opset_imports=opsets, ir_version=10)
