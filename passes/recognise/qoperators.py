"""The integer operators of onnxruntime's QOperator format, and how each is written in float."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

__all__ = ["LIFTED", "Lifted", "Tensor"]


@dataclass(frozen=True)
class Tensor:
    """A quantised operand: positions of its integers, scale and zero point among a node's inputs.

    Attributes:
        data: Input index of the integers.
        scale: Of the scale; the zero point follows it unless ``zero`` says otherwise.
        channels: From attributes and rank, the axis of a scale per channel; None where there is none.
    """

    data: int
    scale: int
    channels: Callable[[dict[str, Any], int], int] | None = None


@dataclass(frozen=True)
class Lifted:
    """How an integer operator is written in float.

    Attributes:
        op_type: The float operator.
        operands: Its quantised inputs, in the order in which the float operator reads them.
        result: Input index of the scale of the result; the zero point follows.
        bias: Input index of an int32 bias whose scale is the product of the operands' scales.
        kept: Attributes that the float operator has too.
    """

    op_type: str
    operands: tuple[Tensor, ...]
    result: int
    bias: int | None = None
    kept: tuple[str, ...] = ()


_CONV = ("auto_pad", "dilations", "group", "kernel_shape", "pads", "strides")
_POOL = ("auto_pad", "ceil_mode", "count_include_pad", "kernel_shape", "pads", "strides")
_ONE, _TWO = (Tensor(0, 1),), (Tensor(0, 1), Tensor(3, 4))

#: Every operator whose meaning is that of a float operator between quantisers.
LIFTED: dict[str, Lifted] = {
    "QLinearConv": Lifted("Conv", (Tensor(0, 1), Tensor(3, 4, lambda attrs, rank: 0)), 6, 8, _CONV),
    "QLinearMatMul": Lifted("MatMul", (Tensor(0, 1), Tensor(3, 4, lambda attrs, rank: rank - 1)), 6),
    "QGemm": Lifted(
        "Gemm",
        (Tensor(0, 1), Tensor(3, 4, lambda attrs, rank: 0 if attrs.get("transB") else 1)),
        7,
        6,
        ("alpha", "transA", "transB"),
    ),
    "QLinearAdd": Lifted("Add", _TWO, 6),
    "QLinearMul": Lifted("Mul", _TWO, 6),
    "QLinearAveragePool": Lifted("AveragePool", _ONE, 3, kept=_POOL),
    "QLinearGlobalAveragePool": Lifted("GlobalAveragePool", _ONE, 3),
    "QLinearReduceMean": Lifted("ReduceMean", _ONE, 3, kept=("axes", "keepdims")),
    "QLinearLeakyRelu": Lifted("LeakyRelu", _ONE, 3, kept=("alpha",)),
    "QLinearSigmoid": Lifted("Sigmoid", _ONE, 3),
    "QLinearSoftmax": Lifted("Softmax", _ONE, 3, kept=("axis",)),
}
