"""Recognising QuantizeLinear -> [Clip] -> DequantizeLinear on activations."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from snnc.ir import DataType, Node, Value, attributes, constant
from snnc.ir.evaluate import integer_range
from snnc.passes.editing import Array, is_standard, rank_of
from snnc.passes.recognise.uniform import CLOSE, Match, Rationals, Uniform, rationals, uniform

__all__ = ["LINEAR_DOMAINS", "is_linear", "match_linear", "parameter"]

#: Domains in which QuantizeLinear and DequantizeLinear mean the same.
LINEAR_DOMAINS = ("", "ai.onnx", "com.microsoft")


def is_linear(node: Node | None, op_type: str) -> bool:
    """Return whether a node is QuantizeLinear or DequantizeLinear of a domain that has them."""
    return node is not None and node.op_type == op_type and node.domain in LINEAR_DOMAINS


def parameter(node: Node, index: int, rank: int) -> Array | str:
    """Return scale (index 1) or zero point (2) of a node, shaped to broadcast against its data.

    Args:
        node: QuantizeLinear or DequantizeLinear.
        index: Input index.
        rank: Rank of the data.

    Returns:
        float32 or integers: () per tensor, (1, channels, 1 ...) per channel; or why there is none.
    """
    value = node.inputs[index] if len(node.inputs) > index else None
    if value is None:
        return np.zeros((), np.int32)
    held = constant(value)
    what = "scale" if index == 1 else "zero point"
    if held is None:
        return f"its {what} is not constant"
    attrs = attributes(node)
    if int(attrs.get("block_size", 0)) or held.ndim > 1:
        return f"its {what} is blocked"
    if held.size == 1:
        return held.reshape(())
    shape = [1] * rank
    shape[int(attrs.get("axis", 1)) % rank] = held.size
    return held.reshape(shape)


def _integer_type(quantise: Node) -> DataType:
    """Return the integer type of a QuantizeLinear: of its zero point, its attribute, or uint8."""
    zero = quantise.inputs[2] if len(quantise.inputs) > 2 else None
    if zero is not None and zero.dtype is not None:
        return zero.dtype
    listed = int(attributes(quantise).get("output_dtype", 0))
    return DataType(listed) if listed else DataType.UINT8


def _clips(dequantise: Node) -> tuple[Node | None, list[Node], Fraction | float, Fraction | float] | str:
    """Walk from a DequantizeLinear up through clips of integers to the QuantizeLinear."""
    low: Fraction | float = -np.inf
    high: Fraction | float = np.inf
    between: list[Node] = []
    value = dequantise.inputs[0]
    while True:
        node = value.producer() if value is not None else None
        if is_linear(node, "QuantizeLinear"):
            return node, between, low, high
        if node is None or not is_standard(node, "Clip", "Min", "Max"):
            return None, between, low, high
        bounds = [constant(entry) for entry in node.inputs[1:]]
        if any(
            entry is not None and held is None for entry, held in zip(node.inputs[1:], bounds, strict=True)
        ):
            return "the bounds of its Clip are not constant"
        if any(held is not None and held.size != 1 for held in bounds):
            return "the bounds of its Clip differ between elements"
        numbers = [Fraction(int(held.reshape(-1)[0])) if held is not None else None for held in bounds]
        if node.op_type == "Clip":
            numbers = [*numbers, None, None]
            least, most = numbers[0], numbers[1]
        else:
            least, most = (numbers[0], None) if node.op_type == "Max" else (None, numbers[0])
        # Clips nearer to the DequantizeLinear act on the bounds of those further up.
        low = low if least is None else min(max(least, low), high)
        high = high if most is None else max(min(most, high), low)
        between.append(node)
        value = node.inputs[0]


def _parts(dequantise: Node, quantise: Node, rank: int) -> list[Array] | str:
    """Return scale and zero point of both nodes."""
    parts: list[Array] = []
    for node, index in ((quantise, 1), (quantise, 2), (dequantise, 1), (dequantise, 2)):
        part = parameter(node, index, rank)
        if isinstance(part, str):
            return part
        parts.append(part)
    return parts


def match_linear(dequantise: Node) -> Match | str:
    """Find the quantiser that ends in a DequantizeLinear.

    QuantizeLinear rounds u / scale half to even and adds the zero point z afterwards: codes are q - z, and
    zero stays zero.

    Args:
        dequantise: The node.

    Returns:
        The quantiser, or why there is none.
    """
    found = _clips(dequantise)
    if isinstance(found, str):
        return found
    quantise, between, low, high = found
    if quantise is None:
        return "its integers do not come from QuantizeLinear"
    source = quantise.inputs[0]
    if source is None or constant(source) is not None:
        return "its input is a constant"
    bounds = integer_range(_integer_type(quantise))
    if bounds is None:
        return f"its type {_integer_type(quantise).name} is not an integer of at most 32 bits"
    rank = rank_of(source)
    if rank is None:
        return "the rank of its input is unknown"
    parts = _parts(dequantise, quantise, rank)
    if isinstance(parts, str):
        return parts
    if (
        not all(np.isfinite(part).all() for part in parts)
        or not (parts[0] > 0).all()
        or not (parts[2] > 0).all()
    ):
        return "its scale is not positive"
    front_scale, front_zero, back_scale, back_zero = (rationals(part) for part in parts)
    return _match(
        dequantise,
        (quantise, *reversed(between)),
        (front_scale, front_zero, back_scale, back_zero),
        (max(bounds[0], low), min(bounds[1], high)),
        source,
    )


def _match(
    dequantise: Node,
    nodes: tuple[Node, ...],
    parts: tuple[Rationals, Rationals, Rationals, Rationals],
    bounds: tuple[Fraction | float | int, Fraction | float | int],
    source: Value,
) -> Match | str:
    front_scale, front_zero, back_scale, back_zero = parts
    zero, difference = uniform(back_zero), uniform(np.asarray(front_zero - back_zero))
    if zero is None or difference is None:
        return "its zero points differ between channels"
    smallest, largest = (int(bound) - int(zero) for bound in bounds)
    if smallest >= largest:
        return "it has a single level"
    if max(abs(smallest), abs(largest)) >= 2**16:
        return f"its codes {smallest} to {largest} need more than 16 time-steps"
    gain = np.asarray(back_scale / front_scale)
    if all(abs(entry - 1) <= CLOSE for entry in gain.reshape(-1)):
        gain = rationals(1)
    note = ""
    if difference % 2:
        note = (
            "its zero points differ by an odd number: mid-points go to the other neighbour than in the source"
        )
    quantiser = Uniform(
        step=back_scale,
        smallest=smallest,
        largest=largest,
        ties="even",
        gain=gain,
        shift=np.asarray(back_scale * difference),
        note=note,
    )
    return Match(source, dequantise.outputs[0], (*nodes, dequantise), quantiser)
