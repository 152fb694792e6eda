"""Random operators of ONNX, one behind another: most of what a float network may hold, likely or not."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.campaign.floats import Choose, Shape

Array = npt.NDArray[Any]
#: What the documentation says is converted.
UNARY = (
    "Relu", "Abs", "Neg", "Exp", "Log", "Sqrt", "Reciprocal", "Sin", "Cos", "Atan", "Sinh", "Cosh", "Asinh",
    "Sigmoid", "Tanh", "Erf", "Softplus", "Softsign", "Elu", "Selu", "Celu", "LeakyRelu", "ThresholdedRelu",
    "HardSigmoid", "HardSwish", "Mish", "Identity", "Dropout", "Gelu",
)  # fmt: skip
#: Functions that jump: tables of a code hold them, but for Hardmax, which is refused for computed values.
JUMPS = ("Floor", "Ceil", "Round", "Sign", "Tan", "Where", "Hardmax")
BINARY = ("Add", "Sub", "Mul", "Div", "Max", "Min", "Pow", "Mean", "Sum", "PRelu")
REDUCE = (
    "ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceL1", "ReduceL2", "ReduceSumSquare",
    "ReduceLogSumExp",
)  # fmt: skip


@dataclass
class Soup:
    """A network under construction, its values by shape (without the batch)."""

    choose: Choose
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    weights: list[TensorProto] = field(default_factory=list)
    values: list[tuple[str, Shape]] = field(default_factory=list)
    log: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.random = np.random.default_rng(self.choose(0, 2**16))
        self.shape = (self.one_of(4, 6), self.one_of(4, 6))
        self.values.append(("x", self.shape))

    def one_of(self, *options: Any) -> Any:
        return options[self.choose(0, len(options) - 1)]

    def op(self, kind: str, inputs: list[str], **attrs: Any) -> str:
        name = f"{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [name], f"n{len(self.nodes)}_{kind}", **attrs))
        self.log.append(kind)
        return name

    def const(self, array: npt.ArrayLike, dtype: npt.DTypeLike = np.float32) -> str:
        name = f"c{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.asarray(array, dtype=dtype), name))
        return name

    def normal(self, *shape: int, scale: float = 1.0) -> Array:
        return self.random.standard_normal(shape) * scale

    def step(self, x: str, shape: Shape) -> tuple[str, Shape]:
        """Put one operator behind a value."""
        kind = self.one_of(
            "unary", "unary", "binary", "binary", "linear", "linear", "reduce", "softmax", "layout"
        )
        rows, width = shape
        # One network of five or six holds one of these.
        if self.choose(0, 35) == 0:
            op = self.one_of(*JUMPS)
            if op != "Where":
                return self.op(op, [x]), shape
            test = self.op(self.one_of("Greater", "Less"), [x, self.const(0.1)])
            return self.op(op, [test, x, self.const(self.normal(width))]), shape
        if kind == "unary":
            op = self.one_of(*UNARY)
            if op in ("Log", "Sqrt", "Reciprocal"):
                x = self.op("Add", [self.op("Abs", [x]), self.const(0.5)])
            return self.op(op, [x]), shape
        if kind == "binary":
            others = [name for name, other in self.values if other == shape]
            op = self.one_of(*BINARY)
            y = self.one_of(*others) if others and self.choose(0, 1) else self.const(self.normal(width))
            if op == "Div":
                y = self.const(self.random.uniform(0.5, 2, width))
            if op == "Pow":
                y = self.const(self.one_of(2.0, 3.0))
            if op == "PRelu":
                y = self.const(self.random.uniform(0.1, 0.5, width))
            return self.op(op, [x, y]), shape
        if kind == "linear":
            after = self.one_of(4, 6)
            y = self.op("MatMul", [x, self.const(self.normal(width, after, scale=width**-0.5))])
            return self.op("Add", [y, self.const(self.normal(after, scale=0.3))]), (rows, after)
        if kind == "reduce":
            op = self.one_of(*REDUCE)
            # Sums over constants of squares and logarithms stay positive.
            y = self.op(op, [x, self.const([-1], np.int64)], keepdims=1)
            return self.op("Add", [y, x]), shape
        if kind == "softmax":
            return self.op(self.one_of("Softmax", "Softmax", "LogSoftmax"), [x], axis=-1), shape
        op = self.one_of("Transpose", "Slice", "Concat", "Clip", "Pad", "Tile")
        if op == "Transpose":
            return self.op(op, [x], perm=[0, 2, 1]), (width, rows)
        if op == "Slice" and rows > 2:
            ends = [self.const([end], np.int64) for end in (1, rows, 1)]
            return self.op(op, [x, *ends]), (rows - 1, width)
        if op == "Concat" and width < 12:
            return self.op(op, [x, x], axis=-1), (rows, 2 * width)
        if op == "Pad" and rows < 8:
            return self.op(op, [x, self.const([0, 1, 0, 0, 0, 0], np.int64)]), (rows + 1, width)
        if op == "Tile" and rows < 6:
            return self.op(op, [x, self.const([1, 2, 1], np.int64)]), (2 * rows, width)
        return self.op("Clip", [x, self.const(-1.0), self.const(1.0)]), shape

    def build(self) -> onnx.ModelProto:
        value, shape = self.values[-1]
        for _ in range(self.choose(3, 9)):
            value, shape = self.step(value, shape)
            self.values.append((value, shape))
        value = self.op("MatMul", [value, self.const(self.normal(shape[1], 3, scale=shape[1] ** -0.5))])
        inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", *self.shape])]
        outputs = [helper.make_tensor_value_info(value, TensorProto.FLOAT, ["N", shape[0], 3])]
        graph = helper.make_graph(self.nodes, "g", inputs, outputs, self.weights)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)

    def samples(self, count: int, seed: int) -> dict[str, Array]:
        random = np.random.default_rng(seed)
        return {"x": random.standard_normal((count, *self.shape)).astype(np.float32)}
