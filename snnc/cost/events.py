"""How many spikes arrive on each wire: counted at the neurons, carried through layouts and merged wires."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from snnc.cost.fanout import spike_counts
from snnc.ir import AI_SNNC, Node, Value, attributes
from snnc.ops import LAYOUT, OPS

__all__ = ["counted_tensor", "events", "merged_wires"]

Array = npt.NDArray[Any]
_MERGES = frozenset({"SpikeSum", "SpikeSumPool"})


def _is_merge(node: Node | None) -> bool:
    return node is not None and node.domain == AI_SNNC and node.op_type in _MERGES


def _merge_before(value: Value | None) -> bool:
    """Whether wires were merged between the neurons and this value."""
    while value is not None:
        node = value.producer()
        if _is_merge(node):
            return True
        if node is None or node.domain == AI_SNNC or node.op_type not in LAYOUT:
            return False
        value = node.inputs[0]
    return False


def counted_tensor(value: Value | None) -> Value | None:
    """Return the tensor of codes whose spikes arrive at a value: itself, or what lies before merged wires."""
    while _merge_before(value):
        node = value.producer() if value is not None else None
        value = node.inputs[0] if node is not None else None
    return value


def merged_wires(value: Value | None) -> int:
    """Return the largest number of neurons whose spikes one element of a value carries."""
    count = 1
    while _merge_before(value):
        node = value.producer() if value is not None else None
        if node is None:
            break
        source = node.inputs[0]
        if _is_merge(node) and source is not None and source.shape is not None:
            attrs = attributes(node)
            if node.op_type == "SpikeSumPool":
                count *= math.prod(attrs["kernel_shape"])
            else:
                count *= math.prod(int(source.shape[axis]) for axis in attrs["axes"])
        value = source
    return count


def events(value: Value | None, read: Callable[[Value | None], Array]) -> Array:
    """Return the number of spikes that arrive on each wire of a value, over the whole window.

    Args:
        value: A tensor of codes or of merged spikes.
        read: Returns the content of a tensor of codes, or of a constant.

    Returns:
        Counts, the shape of the value.
    """
    if not _merge_before(value):
        return spike_counts(read(value))
    node = value.producer() if value is not None else None
    if node is None:
        return spike_counts(read(value))
    arriving = events(node.inputs[0], read).astype(np.int32)
    if _is_merge(node):
        return OPS[node.op_type].packed([arriving], attributes(node))
    others = [read(other) for other in node.inputs[1:]]
    return LAYOUT[node.op_type].packed([arriving, *others], attributes(node), len(node.outputs))[0]
