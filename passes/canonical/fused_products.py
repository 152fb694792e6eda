"""Fused products: with a transposition, a bias, a sum or an activation function of their own, written out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from snnc.ir import Value, constant
from snnc.passes.canonical.fused_writer import CannotWrite, Writer

__all__ = ["PRODUCTS"]

_MICROSOFT = "com.microsoft"
#: Attributes that a fused op has beyond those of the op it extends.
_EXTRA = frozenset(
    {"activation", "activation_params", "activation_alpha", "activation_beta", "activation_gamma"}
)


def _activated(w: Writer, value: Value) -> Value:
    """Apply the activation function of a fused op."""
    kind = str(w.attrs.get("activation", ""))
    listed = [float(number) for number in w.attrs.get("activation_params", [])]
    named = [w.attrs.get(f"activation_{name}") for name in ("alpha", "beta")]
    numbers = listed or [float(number) for number in named if number is not None]
    if kind in ("", "Relu", "Tanh", "Sigmoid", "Softplus", "Softsign"):
        return w.op(kind, [value]) if kind else value
    if kind in ("LeakyRelu", "Elu", "ThresholdedRelu"):
        return w.op(kind, [value], **dict[str, Any](zip(("alpha",), numbers, strict=False)))
    if kind == "HardSigmoid":
        return w.op(kind, [value], **dict[str, Any](zip(("alpha", "beta"), numbers, strict=False)))
    if kind == "Clip" and len(numbers) == 2:
        if w.opset < 11:
            return w.op(kind, [value], min=numbers[0], max=numbers[1])
        return w.op(kind, [value, *(np.array(number, np.float32) for number in numbers)])
    raise CannotWrite(f"its activation is {kind}")


def _plain(w: Writer) -> dict[str, Any]:
    return {name: value for name, value in w.attrs.items() if name not in _EXTRA}


def _conv(w: Writer) -> None:
    inputs = [w.needed(0, "input"), w.needed(1, "weight"), w.given(2)]
    total = w.op("Conv", inputs if inputs[2] is not None else inputs[:2], **_plain(w))
    beside = w.given(3)
    if beside is not None:
        total = w.op("Add", [total, beside])
    w.result(_activated(w, total))


def _gemm(w: Writer) -> None:
    inputs = [w.needed(0, "input"), w.needed(1, "weight"), w.given(2)]
    w.result(_activated(w, w.op("Gemm", inputs if inputs[2] is not None else inputs[:2], **_plain(w))))


def _operand(w: Writer, place: int, side: str) -> Value:
    """Return an operand with its axes in the order of the product."""
    value = w.needed(place, "operand")
    swapped, moved = (int(w.attrs.get(f"{name}{side}", 0)) for name in ("trans", "transBatch"))
    if not swapped and not moved:
        return value
    held = constant(value)
    rank = held.ndim if held is not None else len(w.dims(value))
    if rank < 2:
        return value
    perm = list(range(rank))
    if moved:
        # The first axis goes behind the axes of the batch.
        perm = [*range(1, rank - 1), 0, rank - 1]
    if swapped:
        perm[-2:] = perm[:-3:-1]
    return w.transpose(value, *perm)


def _matmul(w: Writer) -> None:
    total = w.op("MatMul", [_operand(w, 0, "A"), _operand(w, 1, "B")])
    w.result(w.scaled(total, float(w.attrs.get("alpha", 1.0))))


def _gemm_gelu(w: Writer) -> None:
    total, bias = w.op("MatMul", [w.needed(0, "input"), w.needed(1, "weight")]), w.given(2)
    inputs = [total] if bias is None else [total, bias]
    w.result(w.op("FastGelu", inputs, domain=_MICROSOFT))


def _bias_add(w: Writer) -> None:
    total = w.op("Add", [w.needed(0, "input"), w.needed(1, "bias")])
    w.result(w.op("Add", [total, w.needed(2, "skip")]))


def _bias_split_gelu(w: Writer) -> None:
    half = w.held(1, "bias").size // 2
    total = w.op("Add", [w.needed(0, "input"), w.needed(1, "bias")])
    left, right = w.slice(total, -1, 0, half), w.slice(total, -1, half, 2 * half)
    w.result(w.op("Mul", [left, w.op("Gelu", [right], domain=_MICROSOFT)]))


def _bias_softmax(w: Writer) -> None:
    data, axis = w.needed(0, "data"), int(w.attrs.get("axis", 1))
    if axis not in (-1, len(w.dims(data)) - 1):
        raise CannotWrite("it normalises several axes at once")
    w.result(w.op("Softmax", [w.op("Add", [data, w.needed(1, "bias")])], axis=-1))


def _dropout(w: Writer) -> None:
    training = w.given(4)
    held = constant(training)
    if training is not None and (held is None or bool(held.reshape(-1)[0])):
        raise CannotWrite("it draws random numbers: export the model in eval mode")
    w.refuse_outputs((1, "mask"))
    total, residual = w.op("Add", [w.needed(0, "data"), w.needed(1, "bias")]), w.given(2)
    w.result(total if residual is None else w.op("Add", [total, residual]))


#: Fused products by domain and op type.
PRODUCTS: dict[tuple[str, str], Callable[[Writer], None]] = {
    (_MICROSOFT, "FusedConv"): _conv,
    (_MICROSOFT, "FusedGemm"): _gemm,
    (_MICROSOFT, "FusedMatMul"): _matmul,
    (_MICROSOFT, "GemmFastGelu"): _gemm_gelu,
    (_MICROSOFT, "BiasAdd"): _bias_add,
    (_MICROSOFT, "BiasDropout"): _dropout,
    (_MICROSOFT, "BiasSoftmax"): _bias_softmax,
    (_MICROSOFT, "BiasSplitGelu"): _bias_split_gelu,
}
