"""Encoding rules of products: spikes times weights, spikes times a held code, and the host's first layer."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from snnc.errors import InternalError, UnsupportedError, Where
from snnc.ir import DataType, Node, Value, attributes
from snnc.passes.analysis import Coded, Fixed, IntegerWeight, Membrane
from snnc.passes.quantise.grids import EXACT_FLOAT32, smallest_integer_type
from snnc.passes.spike.builder import SpikeBuilder, magnitude

__all__ = ["convolution", "matmul"]


def convolution(builder: SpikeBuilder, node: Node) -> None:
    """Conv of a code (or of the fixed-point input) with integer weights; thresholds take up the bias."""
    weight = builder.kind(node.inputs[1])
    data = builder.kind(node.inputs[0])
    if not isinstance(weight, IntegerWeight) or not isinstance(data, Coded | Fixed):
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
    load = int(
        np.abs(weight.integers.astype(np.int64)).reshape(weight.integers.shape[0], -1).sum(axis=1).max()
    )
    _weighted(builder, node, data, weight, load, ("SpikeConv", "HostConv"), geometry)


def matmul(builder: SpikeBuilder, node: Node) -> None:
    """MatMul of a code with integer weights, or of a code with a held code (semantics 3.4)."""
    left, right = builder.kind(node.inputs[0]), builder.kind(node.inputs[1])
    if isinstance(right, IntegerWeight) and isinstance(left, Coded | Fixed):
        load = int(np.abs(right.integers.astype(np.int64)).sum(axis=-2).max())
        _weighted(builder, node, left, right, load, ("SpikeMatMul", "HostMatMul"), {})
        return
    if not isinstance(left, Coded) or not isinstance(right, Coded) or node.inputs[0] is None:
        raise InternalError("SNN156", "an untyped matrix product was encoded", where=Where(node=node.name))
    length = builder.shape(node.inputs[0])[-1]
    held = builder.get(node.inputs[1])
    _charged(builder, node, left, length * right.book.max_abs, "SpikeMatMulHeld", held, {})


def _weighted(
    builder: SpikeBuilder,
    node: Node,
    data: Coded | Fixed,
    weight: IntegerWeight,
    load: int,
    ops: tuple[str, str],
    attrs: dict[str, Any],
) -> None:
    source = node.inputs[1].producer() if node.inputs[1] is not None else None
    stem = (
        source.inputs[0].name if source is not None and source.inputs[0] is not None else None
    ) or node.name
    weights = builder.constant(_narrow(weight.integers), f"{stem}_weights")
    if isinstance(data, Fixed):
        output = node.outputs[0]
        made = builder.emit(
            ops[1],
            [builder.get(node.inputs[0]), weights],
            attrs,
            builder.name(output),
            DataType.INT64,
            node,
            like=output,
        )
        builder.put(output, made)
        return
    _charged(builder, node, data, load, ops[0], weights, attrs)


def _narrow(integers: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return integers.astype(smallest_integer_type(integers.astype(np.int64)))


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
    largest = magnitude(data)
    if largest * load < EXACT_FLOAT32:
        made = builder.emit(op, [spikes, other], attrs, name, DataType.INT32, node, like=output)
        builder.put(output, made)
        return
    bits = (max(EXACT_FLOAT32 - 1, 0) // max(load, 1) + 1).bit_length() - 1
    if bits < 1:
        raise UnsupportedError(
            "SNN444",
            f"weights that sum to {load} leave no room for exact float32 sums",
            where=Where(node=node.name),
            hint="use fewer weight bits",
        )
    total: Value | None = None
    dtype = spikes.dtype if spikes.dtype is not None else DataType.INT16
    for shift in range(0, largest.bit_length(), bits):
        part = builder.emit(
            "CodeSlice",
            [spikes],
            {"shift": shift, "bits": min(bits, 16)},
            f"{name}_steps_{shift}",
            dtype,
            node,
            like=node.inputs[0],
        )
        charge = builder.emit(
            op, [part, other], attrs, f"{name}_part_{shift}", DataType.INT32, node, like=output
        )
        if shift:
            power = builder.constant(
                np.full((1,) * len(builder.shape(output)), 1 << shift, np.int32), "power"
            )
            charge = builder.emit(
                "MembraneScale",
                [charge, power],
                {},
                f"{name}_shifted_{shift}",
                DataType.INT32,
                node,
                like=output,
            )
        total = (
            charge
            if total is None
            else builder.emit(
                "MembraneAdd", [total, charge], {}, f"{name}_sum_{shift}", DataType.INT32, node, like=output
            )
        )
    if total is None:
        raise InternalError("SNN157", "a product without time-steps", where=Where(node=node.name))
    kind = builder.kind(output)
    if isinstance(kind, Membrane):
        builder.notes.append(f"{node.name}: sums reach {kind.bound}, split into slices of {bits} time-steps")
    builder.put(output, total)
