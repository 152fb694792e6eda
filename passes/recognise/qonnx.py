"""Recognising the quantisers of QONNX, which Brevitas and FINN write."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from snnc.coding import Ties
from snnc.ir import Node, attributes, constant
from snnc.passes.editing import Array, rank_of
from snnc.passes.recognise.uniform import Match, Uniform, rationals, uniform

__all__ = [
    "QONNX_DOMAINS",
    "QONNX_REFUSED",
    "QuantParameters",
    "match_quant",
    "quant_parameters",
]

#: Domains under which the same ops have been written over the years.
QONNX_DOMAINS = (
    "qonnx.custom_op.general",
    "onnx.brevitas",
    "finn.custom_op.general",
    "qonnx.custom_op",
    "finn",
)

#: Ops of these domains that have no code here, and why.
QONNX_REFUSED = {
    "FloatQuant": "its levels are floating-point numbers: train with an integer Quant",
}


@dataclass(frozen=True)
class _Mode:
    """A rounding mode: an offset that makes it rounding to nearest, and the ties then.

    Attributes:
        offset: In steps.
        ties: Where mid-points go.
        unsigned_only: Holds only if no code is negative before the zero point is taken off.
    """

    offset: str
    ties: Ties
    unsigned_only: bool = False


#: Rounding modes that are rounding to nearest after an offset; towards zero is floor for codes from 0 on.
_MODES: dict[str, _Mode] = {
    "ROUND": _Mode("0", "even"),
    "HALF_EVEN": _Mode("0", "even"),
    "HALF_UP": _Mode("0", "away"),
    "FLOOR": _Mode("-1/2", "up"),
    "DOWN": _Mode("-1/2", "up", unsigned_only=True),
    "ROUND_TO_ZERO": _Mode("-1/2", "up", unsigned_only=True),
}


@dataclass(frozen=True, eq=False)
class QuantParameters:
    """What a Quant node says.

    Attributes:
        scale: float, broadcastable to the data.
        zero: Integer zero point.
        smallest: Smallest integer before the zero point is taken off.
        largest: Largest such integer.
        mode: Name of the rounding mode, upper case.
    """

    scale: Array
    zero: int
    smallest: int
    largest: int
    mode: str


def quant_parameters(node: Node) -> QuantParameters | str:
    """Read scale, zero point, bit width, sign and range of a Quant node.

    Source:
        QONNX, operator documentation of Quant (IntQuant): range [-2^(b-1) + narrow, 2^(b-1) - 1] if signed,
        else [0, 2^b - 1 - narrow].
    """
    held = [constant(value) for value in node.inputs[1:4]]
    if len(held) < 3 or any(array is None for array in held):
        return "its scale, zero point or bit width is not constant"
    scale, zero, bits = (np.asarray(array) for array in held)
    if not (np.isfinite(scale).all() and (scale > 0).all()):
        return "its scale is not positive"
    width, point = uniform(rationals(bits)), uniform(rationals(zero))
    if width is None or width.denominator != 1 or not 1 <= width <= 32:
        return "its bit width is not one integer"
    if point is None or point.denominator != 1:
        return "its zero point is not one integer"
    attrs = attributes(node)
    signed, narrow = bool(attrs.get("signed", 1)), int(bool(attrs.get("narrow", 0)))
    half = 2 ** (int(width) - 1)
    smallest, largest = (-half + narrow, half - 1) if signed else (0, 2 * half - 1 - narrow)
    return QuantParameters(
        scale, int(point), smallest, largest, str(attrs.get("rounding_mode", "ROUND")).upper()
    )


def match_quant(node: Node) -> Match | str:
    """Read ``(clip(round(x / scale + zero), smallest, largest) - zero) * scale`` on an activation.

    Args:
        node: A Quant or IntQuant node.

    Returns:
        The quantiser, or why there is none.
    """
    found = quant_parameters(node)
    if isinstance(found, str):
        return found
    source = node.inputs[0]
    if source is None or constant(source) is not None:
        return "its input is a constant"
    rank = rank_of(source)
    if rank is not None and found.scale.ndim > rank and found.scale.size > 1:
        return "its scale has more dimensions than its input"
    mode = _MODES.get(found.mode)
    if mode is None:
        return f"its rounding mode {found.mode} is not rounding to the nearest level"
    if (mode.unsigned_only or (found.mode == "HALF_UP" and found.zero)) and found.smallest < 0:
        return f"its rounding mode {found.mode} changes its direction within the range"
    smallest, largest = found.smallest - found.zero, found.largest - found.zero
    if smallest == largest or max(abs(smallest), abs(largest)) >= 2**16:
        return f"its codes {smallest} to {largest} do not fit into 1 to 16 time-steps"
    ties: Ties = "up" if found.mode == "HALF_UP" and found.zero else mode.ties
    note = ""
    if ties == "even" and found.zero % 2:
        note = "its zero point is odd: mid-points go to the even code here, to the odd one in the source"
    step = rationals(found.scale if found.scale.size > 1 else found.scale.reshape(()))
    quantiser = Uniform(
        step=step,
        smallest=smallest,
        largest=largest,
        ties=ties,
        gain=rationals(1),
        shift=np.asarray(step * Fraction(mode.offset)),
        note=note,
    )
    return Match(source, node.outputs[0], (node,), quantiser)
