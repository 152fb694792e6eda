"""Random float networks, drawn op by op.

Convolutions, linear layers, norms, activation functions in several forms, attention with masks, pools, gates,
joins, layouts: what networks hold, put together at random.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

Choose = Callable[[int, int], int]
Shape = tuple[int, ...]


@dataclass
class Builder:
    """A network under construction; `choose` draws a number between two, both included."""

    choose: Choose
    tokens: bool
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    weights: list[onnx.TensorProto] = field(default_factory=list)
    inputs: dict[str, Any] = field(default_factory=dict)
    log: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.random = np.random.default_rng(self.choose(0, 2**16))

    def op(self, kind: str, inputs: list[str], *, outputs: int = 1, **attrs: Any) -> Any:
        names = [
            f"{kind.lower()}_{len(self.nodes)}" + (f"_{i}" if outputs > 1 else "") for i in range(outputs)
        ]
        self.nodes.append(helper.make_node(kind, inputs, names, name=f"n{len(self.nodes)}_{kind}", **attrs))
        return names if outputs > 1 else names[0]

    def const(self, array: Any, dtype: Any = np.float32) -> str:
        name = f"c{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.asarray(array, dtype=dtype), name))
        return name

    def whole(self, *numbers: int) -> str:
        return self.const(numbers, np.int64)

    def normal(self, *shape: int, scale: float = 1.0) -> Any:
        return self.random.standard_normal(shape) * scale

    def one_of(self, *options: Any) -> Any:
        return options[self.choose(0, len(options) - 1)]

    # Pieces, each from a value and its shape (without the batch) to a value and its shape.

    def linear(self, x: str, shape: Shape, width: int | None = None) -> tuple[str, Shape]:
        width = width or self.one_of(4, 6, 8)
        y = self.op("MatMul", [x, self.const(self.normal(shape[-1], width, scale=shape[-1] ** -0.5))])
        if self.choose(0, 2):
            y = self.op("Add", [y, self.const(self.normal(width, scale=0.3))])
        return y, (*shape[:-1], width)

    def convolution(self, x: str, shape: Shape) -> tuple[str, Shape]:
        channels, *space = shape
        depthwise = self.choose(0, 3) == 0
        width = channels if depthwise else self.one_of(4, 6, 8)
        kernel = [self.one_of(1, 3) if size >= 3 else 1 for size in space]
        stride = self.one_of(1, 1, 2)
        dilation = 2 if min(space) >= 5 and self.choose(0, 3) == 0 else 1
        pads = [dilation * (k // 2) for k in kernel]
        fan = int(np.prod(kernel)) * (1 if depthwise else channels)
        w = self.const(self.normal(width, 1 if depthwise else channels, *kernel, scale=fan**-0.5))
        bias = [self.const(self.normal(width, scale=0.3))] if self.choose(0, 1) else []
        group = channels if depthwise else 1
        attrs: dict[str, Any] = {"kernel_shape": kernel, "strides": [stride] * len(space), "group": group}
        y = self.op("Conv", [x, w, *bias], pads=pads * 2, dilations=[dilation] * len(space), **attrs)
        return y, (width, *[(size - 1) // stride + 1 for size in space])

    def activation(self, x: str, shape: Shape) -> tuple[str, Shape]:
        kind = self.one_of(
            "Relu", "Sigmoid", "Tanh", "LeakyRelu", "Elu", "Selu", "Softplus", "HardSwish", "HardSigmoid",
            "Softsign", "Celu", "mish", "PRelu", "gelu", "gelu-tanh", "silu", "quick-gelu", "clip", "Abs",
        )  # fmt: skip
        self.log.append(kind)
        if kind == "PRelu":
            form = [shape[0], *[1] * (len(shape) - 1)] if not self.tokens else [shape[-1]]
            return self.op("PRelu", [x, self.const(self.random.uniform(0.05, 0.4, form))]), shape
        if kind == "clip":
            return self.op("Clip", [x, self.const(-0.5), self.const(1.5)]), shape
        if kind in ("silu", "quick-gelu"):
            inner = self.op("Mul", [x, self.const(1.702)]) if kind == "quick-gelu" else x
            return self.op("Mul", [x, self.op("Sigmoid", [inner])]), shape
        if kind == "mish":
            return self.op("Mul", [x, self.op("Tanh", [self.op("Softplus", [x])])]), shape
        if kind == "gelu":
            erf = self.op("Erf", [self.op("Div", [x, self.const(2**0.5)])])
            half = self.op("Mul", [x, self.op("Add", [erf, self.const(1.0)])])
            return self.op("Mul", [half, self.const(0.5)]), shape
        if kind == "gelu-tanh":
            cubed = self.op("Mul", [self.op("Pow", [x, self.const(3.0)]), self.const(0.044715)])
            inner = self.op("Mul", [self.op("Add", [x, cubed]), self.const((2 / np.pi) ** 0.5)])
            half = self.op("Mul", [x, self.const(0.5)])
            tanh = self.op("Add", [self.op("Tanh", [inner]), self.const(1.0)])
            return self.op("Mul", [half, tanh]), shape
        return self.op(kind, [x]), shape

    def norm(self, x: str, shape: Shape) -> tuple[str, Shape]:
        width = shape[0] if not self.tokens else shape[-1]
        scale, shift = self.random.uniform(0.5, 1.5, width), self.normal(width, scale=0.3)
        if not self.tokens:
            rest = [self.const(self.normal(width, scale=0.3)), self.const(self.random.uniform(0.5, 2, width))]
            return self.op("BatchNormalization", [x, self.const(scale), self.const(shift), *rest]), shape
        kind = self.one_of("op", "parts", "rms")
        self.log.append(f"norm {kind}")
        if kind == "op":
            return self.op("LayerNormalization", [x, self.const(scale), self.const(shift)], axis=-1), shape
        centred = x
        if kind == "parts":
            centred = self.op("Sub", [x, self.op("ReduceMean", [x], axes=[-1])])
        square = self.op("ReduceMean", [self.op("Pow", [centred, self.const(2.0)])], axes=[-1])
        root = self.op("Sqrt", [self.op("Add", [square, self.const(1e-5)])])
        y = self.op("Mul", [self.op("Div", [centred, root]), self.const(scale)])
        return (self.op("Add", [y, self.const(shift)]) if kind == "parts" else y), shape

    def attention(self, x: str, shape: Shape) -> tuple[str, Shape]:
        tokens, _ = shape
        heads, deep = self.one_of(1, 2), 4
        parts = []
        for place in range(3):
            y, _ = self.linear(x, shape, heads * deep)
            y = self.op("Reshape", [y, self.whole(0, 0, heads, deep)])
            perm = [0, 2, 3, 1] if place == 1 else [0, 2, 1, 3]
            parts.append(self.op("Transpose", [y], perm=perm))
        scores = self.op("Mul", [self.op("MatMul", parts[:2]), self.const(deep**-0.5)])
        mask = self.one_of("none", "causal", "input")
        self.log.append(f"attention {heads} {mask}")
        if mask == "causal":
            closed = np.triu(np.ones((tokens, tokens), dtype=bool), 1)
            scores = self.op("Add", [scores, self.const(np.where(closed, -1e9, 0.0))])
        elif mask == "input":
            truth = self.op("Cast", [self.mask(tokens)], to=onnx.TensorProto.BOOL)
            truth = self.op("Unsqueeze", [truth, self.whole(1, 2)])
            scores = self.op("Where", [truth, scores, self.const(-3.4e38)])
        held = self.op("MatMul", [self.op("Softmax", [scores], axis=-1), parts[2]])
        joined = self.op("Transpose", [held], perm=[0, 2, 1, 3])
        y = self.op("Reshape", [joined, self.whole(0, 0, heads * deep)])
        return self.linear(y, (tokens, heads * deep))

    def mask(self, tokens: int) -> str:
        name = f"open{tokens}"
        self.inputs[name] = (onnx.TensorProto.INT64, ["N", tokens])
        return name

    def residual(self, x: str, shape: Shape) -> tuple[str, Shape]:
        # Without a layer in it, a branch that is subtracted may leave nothing but a constant.
        layered = self.choose(0, 2) > 0
        layer = self.linear if self.tokens else self.convolution
        y, after = layer(x, shape) if layered else (x, shape)
        for _ in range(self.choose(1, 2)):
            y, after = self.step(y, after, nested=True)
        if after == shape:
            self.log.append("residual")
            return self.op(self.one_of("Add", "Sub") if layered else "Add", [x, y]), shape
        if after[1:] == shape[1:] if not self.tokens else after[:-1] == shape[:-1]:
            axis = -1 if self.tokens else 1
            self.log.append("concat")
            joined = self.op("Concat", [x, y], axis=axis)
            place = -1 if self.tokens else 0
            width = shape[place] + after[place]
            return joined, (*shape[:-1], width) if self.tokens else (width, *shape[1:])
        return y, after

    def gate(self, x: str, shape: Shape) -> tuple[str, Shape]:
        self.log.append("gate")
        if self.tokens:
            width = self.one_of(4, 8)
            left, after = self.linear(x, shape, width)
            right, _ = self.linear(x, shape, width)
            return self.op("Mul", [self.activation(left, after)[0], right]), after
        pooled = self.op("GlobalAveragePool", [x])
        width = shape[0]
        w = self.const(self.normal(width, width, *[1] * (len(shape) - 1), scale=width**-0.5))
        weight = self.op(self.one_of("Sigmoid", "HardSigmoid"), [self.op("Conv", [pooled, w])])
        return self.op("Mul", [x, weight]), shape

    def layout(self, x: str, shape: Shape) -> tuple[str, Shape]:
        self.log.append("layout")
        if self.tokens:
            kind = self.choose(0, 2)
            if kind == 0:
                y = self.op("Transpose", [x], perm=[0, 2, 1])
                return y, shape[::-1]
            if kind == 1 and shape[0] > 2:
                bounds = [self.whole(1), self.whole(shape[0]), self.whole(1)]
                return self.op("Slice", [x, *bounds]), (shape[0] - 1, shape[1])
            places = self.random.integers(0, shape[0], 3)
            return self.op("Gather", [x, self.whole(*places)], axis=1), (3, shape[1])
        if self.choose(0, 1) and max(shape[1:]) <= 4:
            scales = self.const([1.0, 1.0, *[2.0] * (len(shape) - 1)])
            y = self.op(
                "Resize", [x, "", scales], mode="nearest", coordinate_transformation_mode="asymmetric"
            )
            return y, (shape[0], *[2 * size for size in shape[1:]])
        pads = [0, 0, *[1] * (len(shape) - 1)] * 2
        return self.op("Pad", [x, self.whole(*pads)]), (shape[0], *[size + 2 for size in shape[1:]])

    def pool(self, x: str, shape: Shape) -> tuple[str, Shape]:
        self.log.append("pool")
        if self.tokens:
            kind = self.one_of("mean", "max", "masked") if len(shape) == 2 and shape[0] > 1 else "none"
            if kind == "none":
                return x, shape
            if kind == "masked":
                mask = self.op("Cast", [self.mask(shape[0])], to=onnx.TensorProto.FLOAT)
                wide = self.op("Unsqueeze", [mask, self.whole(2)])
                total = self.op("ReduceSum", [self.op("Mul", [x, wide]), self.whole(1)], keepdims=1)
                count = self.op("ReduceSum", [wide, self.whole(1)], keepdims=1)
                return self.op("Div", [total, self.op("Clip", [count, self.const(1e-9)])]), (1, shape[1])
            kinds = {"mean": "ReduceMean", "max": "ReduceMax"}
            return self.op(kinds[kind], [x], axes=[1], keepdims=1), (1, shape[1])
        if min(shape[1:]) < 2:
            return x, shape
        kind = self.one_of("MaxPool", "AveragePool")
        size = [2] * (len(shape) - 1)
        y = self.op(kind, [x], kernel_shape=size, strides=size)
        return y, (shape[0], *[n // 2 for n in shape[1:]])

    def affine(self, x: str, shape: Shape) -> tuple[str, Shape]:
        width = [shape[-1]] if self.tokens else [shape[0], *[1] * (len(shape) - 1)]
        kind = self.one_of("Mul", "Div", "Add", "Sub")
        self.log.append(kind)
        number = self.random.uniform(0.5, 1.5, self.one_of(width, []))
        return self.op(kind, [x, self.const(number)]), shape

    def step(self, x: str, shape: Shape, *, nested: bool = False) -> tuple[str, Shape]:
        layer = self.linear if self.tokens else self.convolution
        options = [layer, layer, self.activation, self.activation, self.norm, self.affine]
        if not nested:
            options += [self.residual, self.residual, self.gate, self.layout, self.pool]
        if self.tokens:
            options += [self.attention]
        return self.one_of(*options)(x, shape)  # type: ignore[no-any-return]

    def build(self) -> onnx.ModelProto:
        if self.tokens:
            shape: Shape = (self.one_of(3, 5), self.one_of(4, 6))
        else:
            shape = (self.one_of(1, 3), *[self.one_of(6, 8)] * self.one_of(1, 2))
        self.inputs["x"] = (onnx.TensorProto.FLOAT, ["N", *shape])
        value, shape = (self.linear if self.tokens else self.convolution)("x", shape)
        for _ in range(self.choose(2, 6)):
            value, shape = self.step(value, shape)
        if self.choose(0, 2):
            value = self.op("Flatten", [value], axis=1)
            value, shape = self.linear(value, (int(np.prod(shape)),), 5)
        inputs = [helper.make_tensor_value_info(name, *kind) for name, kind in self.inputs.items()]
        outputs = [helper.make_tensor_value_info(value, onnx.TensorProto.FLOAT, ["N", *shape])]
        graph = helper.make_graph(self.nodes, "g", inputs, outputs, self.weights)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
        onnx.checker.check_model(model, full_check=True)
        return model

    def samples(self, count: int, seed: int) -> dict[str, Any]:
        rng = np.random.default_rng(seed)
        feeds: dict[str, Any] = {}
        for name, (_, dims) in self.inputs.items():
            if name.startswith("open"):
                lengths = rng.integers(1, dims[1] + 1, (count, 1))
                feeds[name] = (np.arange(dims[1]) < lengths).astype(np.int64)
            else:
                feeds[name] = rng.standard_normal((count, *dims[1:])).astype(np.float32)
        return feeds
