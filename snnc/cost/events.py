"""How many spikes arrive on each wire: counted at the neurons, carried through layouts and merged wires.

A tensor of codes tells its spikes: they are the ones of the codes. A tensor of merged wires does not, because
packed it holds only their weighted sum; there the spikes are counted before the merge and merged as counts.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from snnc.coding import CodeBook
from snnc.cost.fanout import spike_counts
from snnc.errors import InternalError, Where
from snnc.ir import AI_SNNC, Node, Value, attributes, constant
from snnc.ops import LAYOUT, OPS

__all__ = ["events", "most_spikes", "needed_for_events"]

Array = npt.NDArray[Any]
_MERGES = frozenset({"SpikeSum", "SpikeSumPool"})
_NEURONS = frozenset({"ExpGIF", "ExpGIFGain", "Encode"})


def _is_own(node: Node | None, kinds: frozenset[str]) -> bool:
    return node is not None and node.domain == AI_SNNC and node.op_type in kinds


def _spiking_inputs(node: Node | None) -> tuple[Value | None, ...]:
    """Return the inputs whose spikes a node passes on; none for a neuron."""
    if node is None or _is_own(node, _NEURONS):
        return ()
    moves_all = node.domain != AI_SNNC and node.op_type in LAYOUT and LAYOUT[node.op_type].moves == "all"
    return tuple(node.inputs) if moves_all else tuple(node.inputs[:1])


def _is_merged(value: Value | None) -> bool:
    """Whether wires were merged between the neurons and this value.

    Raises:
        InternalError: SNN144, an op that reads codes reads merged wires.
    """
    node = value.producer() if value is not None else None
    if _is_own(node, _MERGES):
        return True
    if node is None or not any(_is_merged(source) for source in _spiking_inputs(node)):
        return False
    if node.domain == AI_SNNC:
        raise InternalError(
            "SNN144", f"op {node.op_type!r} reads merged wires as codes", where=Where(node=node.name)
        )
    return True


def needed_for_events(value: Value | None) -> list[Value | None]:
    """Return the values whose content `events` reads; constants among them."""
    node = value.producer() if value is not None else None
    if node is None or not _is_merged(value):
        return [value]
    spiking = _spiking_inputs(node)
    others = [source for source in node.inputs[len(spiking) :] if source is not None]
    return [needed for source in spiking for needed in needed_for_events(source)] + others


def events(value: Value | None, read: Callable[[Value | None], Array]) -> Array:
    """Return the number of spikes that arrive on each wire of a value, over the whole window.

    Args:
        value: A tensor of codes or of merged wires.
        read: Returns the content of a value; asked for those of `needed_for_events`.

    Returns:
        Counts, the shape of the value.

    Raises:
        InternalError: SNN144, an op that reads codes reads merged wires.
    """
    node = value.producer() if value is not None else None
    if node is None or not _is_merged(value):
        return spike_counts(read(value))
    spiking = _spiking_inputs(node)
    arriving = [events(source, read).astype(np.int32) for source in spiking]
    if _is_own(node, _MERGES):
        return OPS[node.op_type].packed(arriving, attributes(node))
    others = [read(source) if source is not None else None for source in node.inputs[len(spiking) :]]
    results = LAYOUT[node.op_type].packed([*arriving, *others], attributes(node), len(node.outputs))
    return results[next(index for index, output in enumerate(node.outputs) if output is value)]


def most_spikes(value: Value | None) -> int:
    """Return the most spikes that can arrive on one wire in a window, from the codes of its neurons.

    Raises:
        InternalError: SNN142, the wire comes from no neuron.
    """
    held = constant(value)
    if held is not None:
        return int(spike_counts(held).max(initial=0))
    node = value.producer() if value is not None else None
    if node is None:
        where = Where(tensor=value.name if value is not None else None)
        raise InternalError("SNN142", "a tensor consumed as spikes comes from no neuron", where=where)
    if _is_own(node, _NEURONS):
        return int(CodeBook.from_attributes(attributes(node)).spikes.max())
    most = max(most_spikes(source) for source in _spiking_inputs(node))
    if _is_own(node, frozenset({"CodeSlice"})):
        return min(most, int(attributes(node)["bits"]))
    return most * _wires(node)


def _wires(node: Node) -> int:
    """Return how many wires a node merges into one."""
    attrs = attributes(node)
    if _is_own(node, frozenset({"SpikeSumPool"})):
        return math.prod(attrs["kernel_shape"])
    source = node.inputs[0]
    if _is_own(node, frozenset({"SpikeSum"})) and source is not None and source.shape is not None:
        return math.prod(int(source.shape[axis]) for axis in attrs["axes"])
    return 1
