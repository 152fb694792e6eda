"""Encoding rules of neurons with a gain: what is divided becomes the potential, what divides the gain."""

from __future__ import annotations

import numpy as np

from snnc.ir import DataType, Node, Value, attributes, constant
from snnc.passes.spike.builder import SpikeBuilder
from snnc.passes.spike.typed import given

__all__ = ["floor_quotient", "gate", "largest", "mask_row", "normalise"]


def _source(node: Node, index: int = 0) -> Value:
    return given(node.inputs[index], node)


def largest(builder: SpikeBuilder, node: Node) -> None:
    """ReduceMax of a membrane."""
    source, output = _source(node), node.outputs[0]
    one, other = builder.shape(source), builder.shape(output)
    axis = next((k for k, (a, b) in enumerate(zip(one, other, strict=True)) if a != b), len(one) - 1)
    integers = builder.membrane(source, node)[0]
    made = builder.emit(
        "MembraneMax", [integers], {"axis": axis}, builder.name(output), DataType.INT32, node, like=output
    )
    builder.put(output, made)


def mask_row(builder: SpikeBuilder, node: Node) -> None:
    """Masked scores cannot be the largest of their row."""
    source, output = _source(node), node.outputs[0]
    inputs = [builder.membrane(source, node)[0], _gate(builder, node)]
    attrs = {"axis": int(attributes(node)["axis"])}
    made = builder.emit(
        "MembraneMask", inputs, attrs, builder.name(output), DataType.INT32, node, like=output
    )
    builder.put(output, made)


def gate(builder: SpikeBuilder, node: Node) -> None:
    """Masked places send no spike."""
    source, output = _source(node), node.outputs[0]
    spikes = builder.get(source)
    dtype = spikes.dtype if spikes.dtype is not None else DataType.INT32
    inputs, attrs = [spikes, _gate(builder, node)], {"code_type": int(dtype)}
    builder.put(
        output, builder.emit("SpikeGate", inputs, attrs, builder.name(output), dtype, node, like=output)
    )


def _gate(builder: SpikeBuilder, node: Node) -> Value:
    return builder.get(_source(node, 1))


def floor_quotient(builder: SpikeBuilder, node: Node) -> None:
    """Record the two integers of a quotient; the neuron that reads it compares them."""
    numerator, gain = _source(node), _source(node, 1)
    for value in (numerator, gain):
        builder.check_range(builder.kind(value), node)
    output = node.outputs[0]
    builder.put(output, builder.membrane(numerator, node)[0])
    bits = int(attributes(node)["fraction_bits"])
    builder.put_gain(output, builder.membrane(gain, node)[0], bits)


def normalise(builder: SpikeBuilder, node: Node) -> None:
    """Distance from the mean as the potential, root of the variance as the gain."""
    source, output = _source(node), node.outputs[0]
    sign = given(constant(node.inputs[1]), node)
    attrs, name = attributes(node), builder.name(output)
    norm = {"axes": attrs["axes"], "centred": int(attrs.get("centred", 1))}
    integers = builder.membrane(source, node)[0]
    mirror = builder.constant(sign.astype(np.int32), f"{name}_sign")
    potential = builder.emit(
        "NormPotential", [integers, mirror], norm, f"{name}_potential", DataType.INT64, node, like=output
    )
    bits = int(attrs["fraction_bits"])
    attrs = {**norm, "epsilon": int(attrs["epsilon"])}
    gain = builder.emit("NormGain", [integers], attrs, f"{name}_gain", DataType.INT64, node)
    gain.shape = builder.reduced_shape(source, norm["axes"])
    builder.put(output, potential)
    builder.put_gain(output, gain, bits)
