"""Recognising Trunc and BipolarQuant of QONNX on activations."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np

from snnc.coding import CodeBook
from snnc.ir import AI_SNNC, Node, Value, attributes, constant
from snnc.passes.editing import Editor, is_standard
from snnc.passes.recognise.uniform import Match, Uniform, quantise_attributes, rationals

__all__ = ["build_bipolar", "match_trunc"]

_KEEPS_SIGNS = (
    "AveragePool", "GlobalAveragePool", "ReduceMean", "ReduceSum", "MaxPool", "Reshape", "Flatten",
    "Transpose", "Squeeze", "Unsqueeze", "Relu",
)  # fmt: skip
#: Rounding of a quotient of integers by 2^k, as an offset in halves and in places of the quotient.
_TRUNC_OFFSETS = {"FLOOR": -1, "CEIL": 1, "ROUND": 0, "HALF_EVEN": 0}


def match_trunc(node: Node) -> Match | str:
    """Read Trunc: integers of one scale lose their low bits.

    Version 1 computes ``floor(round(x / scale + zero) / 2^k) * scale`` with k = input bits - output bits,
    version 2 ``clip(floor(round(x / scale + zero) / 2^k)) * output scale`` with k from the two scales; other
    rounding modes in place of floor. What arrives are integers, so break points lie between two of them.

    Args:
        node: A Trunc node.

    Returns:
        The quantiser, or why there is none.

    Source:
        QONNX, operator documentation of Trunc, versions 1 and 2.
    """
    held = [constant(value) for value in node.inputs[1:]]
    if len(held) not in (4, 5) or any(array is None or array.size != 1 for array in held):
        return "its scale, zero point or bit widths are not constant numbers"
    numbers = [Fraction(float(np.asarray(array).reshape(-1)[0])) for array in held]
    attrs, source = attributes(node), node.inputs[0]
    if source is None or constant(source) is not None:
        return "its input is a constant"
    mode = str(attrs.get("rounding_mode", "FLOOR")).upper()
    scale, zero, bits_in, *rest = numbers
    if zero != 0:
        return "its zero point is not 0"
    if scale <= 0 or rest[0] <= 0:
        return "its scale is not positive"
    step = rest[0] if len(rest) == 2 else scale
    dropped = round(np.log2(float(step / scale))) if len(rest) == 2 else int(bits_in - rest[0])
    width = int(rest[-1])
    positive = _is_positive(source)
    if mode in ("DOWN", "ROUND_TO_ZERO") and positive:
        mode = "FLOOR"
    if mode not in _TRUNC_OFFSETS or dropped < 0 or not 1 <= width <= 16:
        return f"its rounding mode {mode}, {dropped} dropped bits or {width} bits that stay have no code"
    signed = bool(attrs.get("signed", 1)) if len(rest) == 2 else not positive
    narrow, half = int(bool(attrs.get("narrow", 0))), 2 ** (width - 1)
    smallest, largest = (narrow - half, half - 1) if signed else (0, 2 * half - 1 - narrow)
    # Floor of an integer by 2^k: level m begins at m·2^k, half a place above the largest integer below it.
    place = Fraction(1, 2) - Fraction(1, 2 ** (dropped + 1))
    quantiser = Uniform(
        step=rationals(np.float64(float(step))),
        smallest=smallest,
        largest=largest,
        ties="even",
        gain=np.asarray(step / (scale * 2**dropped), dtype=object),
        shift=np.asarray(_TRUNC_OFFSETS[mode] * place * step, dtype=object),
    )
    return Match(source, node.outputs[0], (node,), quantiser)


def _is_positive(value: Value | None) -> bool:
    """Whether a value is made of codes that are not negative, by pools, layouts and positive factors."""
    while True:
        node = value.producer() if value is not None else None
        if node is None:
            return False
        if node.op_type == "Quantise":
            return int(attributes(node)["smallest"]) >= 0
        factors = [array for entry in node.inputs[1:] if (array := constant(entry)) is not None]
        scales = node.op_type in ("Mul", "Div") and all(bool((array > 0).all()) for array in factors)
        if not (scales or is_standard(node, *_KEEPS_SIGNS)):
            return False
        value = node.inputs[0]


def build_bipolar(editor: Editor, node: Node) -> str | None:
    """Write ``scale * sign(x)`` as a quantiser of the codes -1 and 1, code 0 being never reached.

    Args:
        editor: Editor of the model.
        node: A BipolarQuant node on an activation.

    Returns:
        Why it cannot be written so, or None.
    """
    source, scale = node.inputs[0], constant(node.inputs[1])
    if source is None or constant(source) is not None:
        return "its input is a constant"
    if scale is None or not (np.isfinite(scale).all() and (scale > 0).all()):
        return "its scale is not a positive constant"
    out, name = node.outputs[0], editor.take_name(node)
    step = np.asarray(scale if scale.size > 1 else scale.reshape(()), dtype=np.float32)
    held = editor.constant(f"{name}.step", step)
    same: dict[str, Any] = {"dtype": out.dtype, "shape": out.shape}
    sign = editor.add(node, "Bipolar", [source], name=f"{name}.sign", domain=AI_SNNC, **same)
    scaled = editor.add(node, "Mul", [sign, held], name=f"{name}.scaled", **same)
    code = editor.add(
        node,
        "Quantise",
        [scaled, held],
        quantise_attributes(CodeBook.uniform(-1, 1), "away"),
        name=name,
        domain=AI_SNNC,
        **same,
    )
    editor.replace("bipolar-quant", out, code, removed=[node])
    return None
