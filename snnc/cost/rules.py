"""One cost rule per op of the spike dialect: which tensors it must see, and what it counts on them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from snnc.coding import CodeBook
from snnc.cost.events import events, most_spikes, needed_for_events
from snnc.cost.fanout import (
    ConvGeometry,
    MatMulGeometry,
    spike_counts,
    touched_outputs,
    zero_skipping_operations,
)
from snnc.cost.layer import LayerCost
from snnc.errors import InternalError, Where
from snnc.ir import Node, Value, attributes, constant

__all__ = ["RULES", "Rule", "Seen"]

Array = npt.NDArray[Any]
_ROOT_DIGITS = 31


@dataclass(frozen=True)
class Seen:
    """One node with the tensors that a runtime produced for some images.

    Attributes:
        node: The node.
        arrays: Tapped tensors by name; constants need not be among them.
    """

    node: Node
    arrays: Mapping[str, Array]

    def array(self, value: Value | None) -> Array:
        """Return the content of a value.

        Raises:
            InternalError: SNN141, the runtime did not return the tap.
        """
        held = constant(value)
        if held is not None:
            return held
        name = value.name if value is not None else None
        if name is None or name not in self.arrays:
            where = Where(node=self.node.name, tensor=name)
            raise InternalError("SNN141", "the runtime returned no such tensor", where=where)
        return self.arrays[name]

    def input(self, index: int = 0) -> Array:
        """Return the content of an input."""
        return self.array(self.node.inputs[index])

    def output(self) -> Array:
        """Return the content of the output."""
        return self.array(self.node.outputs[0])

    def spikes(self, index: int = 0) -> Array:
        """Return the number of spikes that arrive on each wire of an input, which depends on the image.

        Raises:
            InternalError: SNN142, it is constant: the compiler has to fold what follows it.
        """
        value = self.node.inputs[index]
        if constant(value) is not None:
            where = Where(node=self.node.name, tensor=value.name if value is not None else None)
            raise InternalError("SNN142", "constants arrive as spikes; they should be folded", where=where)
        return events(value, self.array)

    def row(self, kind: Any, **counts: Any) -> LayerCost:
        """Return the row of this node."""
        name = self.node.metadata_props.get("snnc.source") or self.node.name or self.node.op_type
        return LayerCost(name=name, op=self.node.op_type, kind=kind, **counts)


@dataclass(frozen=True)
class Rule:
    """How one op is billed.

    Attributes:
        count: Makes the row from the tensors.
        spikes: Positions of the inputs whose spikes it counts.
        inputs: Positions of the inputs whose content it must see.
        output: Whether it must see the output.
    """

    count: Callable[[Seen], LayerCost | None]
    spikes: tuple[int, ...] = ()
    inputs: tuple[int, ...] = ()
    output: bool = False

    def taps(self, node: Node) -> list[str]:
        """Return the names of the tensors that a runtime must hand over for this node."""
        values = [value for index in self.spikes for value in needed_for_events(node.inputs[index])]
        values += [node.inputs[index] for index in self.inputs]
        values += [node.outputs[0]] if self.output else []
        return [
            value.name for value in values if value is not None and value.name and constant(value) is None
        ]


def _neuron(kind: str) -> Callable[[Seen], LayerCost]:
    def count(seen: Seen) -> LayerCost:
        attrs = attributes(seen.node)
        book = CodeBook.from_attributes(attrs)
        # A table that holds an activation function has more or fewer entries than the book has codes.
        rounds = (len(attrs["codes"]) - 1).bit_length()
        most = int(book.spikes.max())
        spikes = spike_counts(seen.output())
        histogram = np.bincount(spikes.reshape(-1), minlength=most + 1)
        if histogram.size > most + 1:
            where = Where(node=seen.node.name, tensor=seen.node.outputs[0].name)
            raise InternalError("SNN143", f"a neuron emitted more than {most} spikes", where=where)
        return seen.row(
            kind,
            timesteps=book.timesteps,
            groups=book.groups,
            limit=most,
            levels=book.levels,
            signed=book.signed,
            neurons=spikes.size,
            spikes=int(spikes.sum(dtype=np.int64)),
            histogram=tuple(histogram.tolist()),
            comparisons=spikes.size * rounds,
        )

    return count


def _ones(integers: Array) -> Array:
    """Return the number of ones in the binary magnitude of integers below 2^62."""
    rest = np.abs(integers.astype(np.int64))
    total = np.zeros(rest.shape, dtype=np.int64)
    while rest.any():
        total += spike_counts(rest & 0xFFFF)
        rest = rest >> 16
    return total


def _shift_adds(integers: Array) -> Array:
    """Return the additions of a product whose one factor is gated by the bits of these integers."""
    return np.asarray(np.maximum(_ones(integers) - 1, 0))


def _neuron_with_gain(seen: Seen) -> LayerCost:
    row = _neuron("neuron")(seen)
    comparisons = row.comparisons // max(1, row.neurons)
    # Each comparison needs the gain times a threshold.
    products = np.broadcast_to(_shift_adds(seen.input(1)), seen.output().shape)
    return replace(row, additions=comparisons * int(products.sum(dtype=np.int64)))


def _membrane_max(seen: Seen) -> LayerCost:
    return seen.row("other", comparisons=seen.input().size - seen.output().size)


def _membrane_mask(seen: Seen) -> LayerCost:
    """Bill the search for the smallest of each row."""
    shape = seen.input().shape
    rows = seen.input().size // max(1, shape[int(attributes(seen.node)["axis"])])
    return seen.row("other", comparisons=seen.input().size - rows)


def _normalised(seen: Seen) -> tuple[int, int]:
    """Return the number of elements that are normalised together, and of such groups."""
    shape = seen.input().shape
    count = math.prod(shape[axis] for axis in attributes(seen.node)["axes"])
    return count, seen.input().size // max(1, count)


def _norm_potential(seen: Seen) -> LayerCost:
    count, groups = _normalised(seen)
    centred = bool(attributes(seen.node).get("centred", 1))
    times = int(_shift_adds(np.array(count))) * count * groups
    mean = groups * (2 * count - 1) if centred else 0
    return seen.row("other", additions=times + mean)


def _norm_gain(seen: Seen) -> LayerCost:
    count, groups = _normalised(seen)
    centred = bool(attributes(seen.node).get("centred", 1))
    r = seen.input().astype(np.int64)
    squares = int(_shift_adds(r).sum(dtype=np.int64)) + groups * (count - 1)
    weighted = groups * int(_shift_adds(np.array(count)))
    mean = 0
    if centred:
        total = r.sum(axis=tuple(attributes(seen.node)["axes"]))
        # The sum itself is that of the potential.
        mean = int(_shift_adds(total).sum(dtype=np.int64)) + groups
    # The root takes a comparison and a subtraction for each of its digits.
    digits = groups * _ROOT_DIGITS
    return seen.row("other", additions=squares + weighted + mean + groups + digits, comparisons=digits)


def _spike_conv(seen: Seen) -> LayerCost:
    spikes = seen.spikes()
    geometry = ConvGeometry.of(spikes.shape, _shape(seen, 1), attributes(seen.node))
    sops = geometry.operations(spikes)
    return seen.row(
        "synapse",
        limit=most_spikes(seen.node.inputs[0]),
        spikes=int(spikes.sum(dtype=np.int64)),
        sops=sops,
        sops_zero_skipping=sops,
        macs=geometry.dense_macs(spikes.shape[0]),
        exact_macs=geometry.exact_macs(spikes.shape[0]),
    )


def _spike_matmul(seen: Seen) -> LayerCost:
    spikes = seen.spikes()
    geometry = MatMulGeometry.of(spikes.shape, _shape(seen, 1))
    sops = geometry.operations(spikes)
    return seen.row(
        "synapse",
        limit=most_spikes(seen.node.inputs[0]),
        spikes=int(spikes.sum(dtype=np.int64)),
        sops=sops,
        sops_zero_skipping=sops,
        macs=geometry.macs(),
        exact_macs=geometry.macs(),
    )


def _spike_matmul_held(seen: Seen) -> LayerCost:
    row = _spike_matmul(seen)
    return LayerCost(
        **{**row.__dict__, "sops_zero_skipping": zero_skipping_operations(seen.spikes(), seen.input(1))}
    )


def _spike_mul_held(seen: Seen) -> LayerCost:
    held = seen.input(1)
    spikes = np.broadcast_to(seen.spikes(), np.broadcast_shapes(seen.spikes().shape, held.shape))
    total = int(spikes.sum(dtype=np.int64))
    return seen.row(
        "synapse",
        limit=most_spikes(seen.node.inputs[0]),
        spikes=int(seen.spikes().sum(dtype=np.int64)),
        sops=total,
        sops_zero_skipping=int(
            np.where(np.broadcast_to(held, spikes.shape) == 0, 0, spikes).sum(dtype=np.int64)
        ),
        macs=spikes.size,
        exact_macs=spikes.size,
    )


def _host_conv(seen: Seen) -> LayerCost:
    shape = seen.input().shape
    geometry = ConvGeometry.of(shape, _shape(seen, 1), attributes(seen.node))
    return seen.row(
        "host",
        macs=geometry.dense_macs(shape[0]),
        exact_macs=geometry.exact_macs(shape[0]),
        mac_planes=_planes(seen),
    )


def _host_matmul(seen: Seen) -> LayerCost:
    macs = MatMulGeometry.of(seen.input().shape, _shape(seen, 1)).macs()
    return seen.row("host", macs=macs, exact_macs=macs, mac_planes=_planes(seen))


def _readout(seen: Seen) -> LayerCost:
    # One multiplication and one addition per logit: a MAC of 32-bit numbers, 4 x 4 planes of 8 bits.
    logits = seen.input().size
    return seen.row("host", macs=logits, exact_macs=logits, mac_planes=16)


def _planes(seen: Seen) -> int:
    """Return the 8-bit by 8-bit products in one product of a fixed-point input and an integer weight."""
    source = seen.node.inputs[0]
    producer = source.producer() if source is not None else None
    bits = int(attributes(producer).get("bits", 32)) if producer is not None else 32
    weight = seen.input(1)
    reach = max(int(weight.max(initial=0)), -int(weight.min(initial=0)) - 1, 1)
    return math.ceil(bits / 8) * math.ceil((reach.bit_length() + 1) / 8)


def _charge(seen: Seen) -> LayerCost:
    spikes = int(seen.spikes().sum(dtype=np.int64))
    return seen.row("other", spikes=spikes, additions=spikes)


def _membrane_add(seen: Seen) -> LayerCost:
    return seen.row("other", additions=seen.output().size)


def _membrane_scale(seen: Seen) -> LayerCost:
    # A constant multiplication is done by shifts and one addition for each further one in the multiplier.
    multiplier = np.abs(seen.input(1).astype(np.int64))
    ones = spike_counts(multiplier & 0xFFFF).astype(np.int64) + spike_counts(multiplier >> 16)
    further = np.maximum(ones - 1, 0)
    total = int(np.broadcast_to(further, seen.output().shape).sum(dtype=np.int64))
    return seen.row("other", additions=total)


def _membrane_sum(seen: Seen) -> LayerCost:
    return seen.row("other", additions=seen.input().size - seen.output().size)


def _membrane_round(seen: Seen) -> LayerCost | None:
    if not attributes(seen.node).get("shift", 0):
        return None
    return seen.row("other", additions=seen.output().size)


def _window_merges(seen: Seen) -> int:
    """Return the two-operand steps of a pooling: real inputs of each window, less one."""
    attrs, source, result = attributes(seen.node), seen.input().shape, seen.output().shape
    kernel = attrs["kernel_shape"]
    rank = len(kernel)
    pads = attrs.get("pads", [0] * 2 * rank)
    visited = math.prod(
        int(
            touched_outputs(
                source[2 + axis],
                kernel[axis],
                stride=attrs.get("strides", [1] * rank)[axis],
                pads=(pads[axis], pads[rank + axis]),
                dilation=attrs.get("dilations", [1] * rank)[axis],
                outputs=result[2 + axis],
            ).sum()
        )
        for axis in range(rank)
    )
    return int(source[0] * source[1] * visited - math.prod(result))


def _sum_pool(seen: Seen) -> LayerCost:
    return seen.row("other", additions=_window_merges(seen))


def _max_pool(seen: Seen) -> LayerCost:
    return seen.row("other", comparisons=_window_merges(seen))


def _free(_: Seen) -> None:
    return None


def _shape(seen: Seen, index: int) -> tuple[int, ...]:
    return seen.input(index).shape


#: The rule of each op that may appear in a spike model; layout ops of standard ONNX cost nothing.
RULES: Mapping[str, Rule] = MappingProxyType(
    {
        "ExpGIF": Rule(_neuron("neuron"), output=True),
        "ExpGIFGain": Rule(_neuron_with_gain, inputs=(1,), output=True),
        "MembraneMask": Rule(_membrane_mask, inputs=(0,)),
        "SpikeGate": Rule(_free),
        "SpikeMulHeld": Rule(_spike_mul_held, spikes=(0,), inputs=(1,)),
        "HostQuotient": Rule(_readout, inputs=(0,)),
        "MembraneMax": Rule(_membrane_max, inputs=(0,), output=True),
        "NormPotential": Rule(_norm_potential, inputs=(0,)),
        "NormGain": Rule(_norm_gain, inputs=(0,)),
        "Encode": Rule(_neuron("encoder"), output=True),
        "SpikeConv": Rule(_spike_conv, spikes=(0,)),
        "SpikeMatMul": Rule(_spike_matmul, spikes=(0,)),
        "SpikeMatMulHeld": Rule(_spike_matmul_held, spikes=(0,), inputs=(1,)),
        "HostConv": Rule(_host_conv, inputs=(0,)),
        "HostMatMul": Rule(_host_matmul, inputs=(0,)),
        "Readout": Rule(_readout, inputs=(0,)),
        "Charge": Rule(_charge, spikes=(0,)),
        "MembraneAdd": Rule(_membrane_add, output=True),
        "MembraneScale": Rule(_membrane_scale, output=True),
        "MembraneSum": Rule(_membrane_sum, inputs=(0,), output=True),
        "MembraneRound": Rule(_membrane_round, output=True),
        "MembraneSumPool": Rule(_sum_pool, inputs=(0,), output=True),
        "MembraneMaxPool": Rule(_max_pool, inputs=(0,), output=True),
        "SpikeMaxPool": Rule(_max_pool, inputs=(0,), output=True),
        "SpikeSumPool": Rule(_free),
        "SpikeSum": Rule(_free),
        "CodeSlice": Rule(_free),
        "SpikePad": Rule(_free),
        "FixedPointEncode": Rule(_free),
    }
)
