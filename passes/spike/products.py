"""Encoding rules of products: spikes times weights, spikes times a held code, and the host's first layer."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from snnc.errors import InternalError, UnsupportedError, Where
from snnc.ir import DataType, Node, Value, attributes
from snnc.passes.analysis import Coded, Fixed, IntegerWeight, Merged, integer_range
from snnc.passes.analysis.products import sum_of_magnitudes
from snnc.passes.quantise.grids import EXACT_FLOAT32, smallest_integer_type
from snnc.passes.spike.builder import SpikeBuilder
from snnc.passes.spike.planes import digit_planes
from snnc.passes.spike.typed import given, of_kind

__all__ = ["convolution", "elementwise", "matmul"]


def convolution(builder: SpikeBuilder, node: Node) -> None:
    """Conv of a code (or of the fixed-point input) with integer weights; thresholds take up the bias."""
    weight = builder.kind(node.inputs[1])
    data = builder.kind(node.inputs[0])
    if not isinstance(weight, IntegerWeight) or not isinstance(data, Coded | Merged | Fixed):
        raise InternalError("SNN156", "an untyped convolution was encoded", where=Where(node=node.name))
    attrs = attributes(node)
    spatial = weight.integers.ndim - 2
    if attrs.get("auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
        raise UnsupportedError("SNN443", "auto_pad is not resolved to pads", where=Where(node=node.name))
    geometry = {
        "strides": [int(n) for n in attrs.get("strides", [1] * spatial)],
        "pads": [int(n) for n in attrs.get("pads", [0] * (2 * spatial))],
        "dilations": [int(n) for n in attrs.get("dilations", [1] * spatial)],
        "group": int(attrs.get("group", 1)),
    }
    load = int(sum_of_magnitudes(weight.integers, tuple(range(1, weight.integers.ndim))).max())
    _weighted(builder, node, data, weight, load, ("SpikeConv", "HostConv"), geometry)


def matmul(builder: SpikeBuilder, node: Node) -> None:
    """MatMul of a code with integer weights, or of a code with a held code (semantics 3.4)."""
    left, right = builder.kind(node.inputs[0]), builder.kind(node.inputs[1])
    if isinstance(right, IntegerWeight) and isinstance(left, Coded | Merged | Fixed):
        load = int(sum_of_magnitudes(right.integers, (right.integers.ndim - 2,)).max())
        _weighted(builder, node, left, right, load, ("SpikeMatMul", "HostMatMul"), {})
        return
    left, right = of_kind(left, Coded, node), of_kind(right, Coded, node)
    length = builder.shape(given(node.inputs[0], node))[-1]
    held = builder.get(node.inputs[1])
    _charged(builder, node, left, length * right.book.max_abs, "SpikeMatMulHeld", held, {})


def elementwise(builder: SpikeBuilder, node: Node) -> None:
    """Mul of two codes: the one of fewer spikes is sent, the other held."""
    output = node.outputs[0]
    builder.check_range(builder.kind(output), node)
    sides = [(of_kind(builder.kind(value), Coded, node), value) for value in node.inputs]
    sides.sort(key=lambda side: int(side[0].book.spikes.max()))
    inputs = [builder.get(value) for _, value in sides]
    name = builder.name(output)
    builder.put(output, builder.emit("SpikeMulHeld", inputs, {}, name, DataType.INT32, node, like=output))


def _weighted(
    builder: SpikeBuilder,
    node: Node,
    data: Coded | Merged | Fixed,
    weight: IntegerWeight,
    load: int,
    ops: tuple[str, str],
    attrs: dict[str, Any],
) -> None:
    source = node.inputs[1].producer() if node.inputs[1] is not None else None
    stem = (
        source.inputs[0].name if source is not None and source.inputs[0] is not None else None
    ) or node.name
    output = node.outputs[0]
    if isinstance(data, Fixed):
        weights = builder.constant(_narrow(weight.integers), f"{stem}_weights")
        inputs = [builder.get(node.inputs[0]), weights]
        made = builder.emit(ops[1], inputs, attrs, builder.name(output), DataType.INT64, node, like=output)
        builder.put(output, made)
    elif isinstance(data, Merged):
        _charged_in_planes(builder, node, data, weight, load, ops[0], attrs, f"{stem}_weights")
    else:
        weights = builder.constant(_narrow(weight.integers), f"{stem}_weights")
        _charged(builder, node, data, load, ops[0], weights, attrs)


def _narrow(integers: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return integers in the narrowest type that holds them; not a copy where they have it."""
    whole = integers if integers.dtype.kind in "iu" else integers.astype(np.int64)
    return integers.astype(smallest_integer_type(whole), copy=False)


def _charged(
    builder: SpikeBuilder, node: Node, data: Coded, load: int, op: str, other: Value, attrs: dict[str, Any]
) -> None:
    """Emit one product whose float32 sums are exact, or several over slices of the time-steps.

    Args:
        builder: The graph being built.
        node: Quantised product.
        data: Kind of the spiking operand.
        load: Largest sum that a spiking operand of ones can cause, as a magnitude.
        op: Spike-dialect operator.
        other: Weights, or the held code.
        attrs: Attributes of the operator.
    """
    output = node.outputs[0]
    builder.check_range(builder.kind(output), node)
    name = builder.name(output)
    spikes = builder.get(node.inputs[0])
    largest = max(map(abs, integer_range(data)))
    if largest * load < EXACT_FLOAT32:
        builder.put(output, builder.emit(op, [spikes, other], attrs, name, DataType.INT32, node, like=output))
        return
    bits = min(_bits_for(load, node), 16)
    dtype = spikes.dtype if spikes.dtype is not None else DataType.INT16
    parts = []
    for shift in range(0, largest.bit_length(), bits):
        window = {"shift": shift, "bits": bits}
        steps = builder.emit(
            "CodeSlice", [spikes], window, f"{name}_steps_{shift}", dtype, node, like=node.inputs[0]
        )
        part = builder.emit(
            op, [steps, other], attrs, f"{name}_part_{shift}", DataType.INT32, node, like=output
        )
        parts.append((shift, part))
    builder.put(output, _joined(builder, node, parts))
    builder.notes.append(f"{node.name}: sums pass 2^24, split into slices of {bits} time-steps")


def _charged_in_planes(
    builder: SpikeBuilder,
    node: Node,
    data: Merged,
    weight: IntegerWeight,
    load: int,
    op: str,
    attrs: dict[str, Any],
    stem: str,
) -> None:
    """Emit a product of merged spikes; where its sums would pass 2^24, split the weights by digits."""
    output = node.outputs[0]
    builder.check_range(builder.kind(output), node)
    name = builder.name(output)
    spikes = builder.get(node.inputs[0])
    largest = max(map(abs, integer_range(data)))
    integers = weight.integers.astype(np.int64)
    if largest * load < EXACT_FLOAT32:
        weights = builder.constant(_narrow(integers), stem)
        builder.put(
            output, builder.emit(op, [spikes, weights], attrs, name, DataType.INT32, node, like=output)
        )
        return
    planes = digit_planes(
        integers, 1 if op == "SpikeConv" else integers.ndim - 2, (EXACT_FLOAT32 - 1) // largest
    )
    if planes is None:
        raise _no_room(largest, node)
    parts = []
    for number, (shift, digits) in enumerate(planes):
        plane = builder.constant(_narrow(digits), f"{stem}_digits_{number}")
        part = builder.emit(
            op, [spikes, plane], attrs, f"{name}_part_{number}", DataType.INT32, node, like=output
        )
        parts.append((shift, part))
    builder.put(output, _joined(builder, node, parts))
    builder.notes.append(f"{node.name}: sums pass 2^24, weights split into {len(planes)} parts")


def _no_room(load: int, node: Node) -> UnsupportedError:
    return UnsupportedError(
        "SNN444",
        f"sums of {load} per unit leave no room for exact float32 sums",
        where=Where(node=node.name),
        hint="use fewer time-steps or weight bits",
    )


def _bits_for(load: int, node: Node) -> int:
    """Return how many bits a factor of ``load`` may have so that the product stays below 2^24."""
    bits = ((EXACT_FLOAT32 - 1) // load + 1).bit_length() - 1
    if bits < 1:
        raise _no_room(load, node)
    return bits


def _joined(builder: SpikeBuilder, node: Node, parts: list[tuple[int, Value]]) -> Value:
    """Add partial membranes, each shifted to its place."""
    output = node.outputs[0]
    name = builder.name(output)
    total: Value | None = None
    for shift, charge in parts:
        shifted = charge
        if shift:
            power = builder.constant(
                np.full((1,) * len(builder.shape(output)), 1 << shift, np.int32), "power"
            )
            shifted = builder.emit(
                "MembraneScale",
                [charge, power],
                {},
                f"{name}_shifted_{shift}",
                DataType.INT32,
                node,
                like=output,
            )
        total = (
            shifted
            if total is None
            else builder.emit(
                "MembraneAdd", [total, shifted], {}, f"{name}_sum_{shift}", DataType.INT32, node, like=output
            )
        )
    assert total is not None  # a product has parts
    return total
