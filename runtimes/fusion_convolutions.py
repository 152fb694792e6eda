"""Convolutions with the membrane arithmetic and the neurons behind them, as one native operator each."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from snnc.runtimes.common import Array
from snnc.runtimes.fusion_products import NEURON, Rows, follow, gather_rows, move_neurons
from snnc.runtimes.message import Message

__all__ = ["fuse_convolutions"]

_WINDOW = frozenset({"strides", "pads", "dilations", "group"})
_INT32 = 6
_FIRED, _FINISHED = "NativeConvFire", "NativeConvFinish"


@dataclass
class _Chain:
    """What is behind a convolution: round(v * before + bias, shift) * factor + constant + other * weight."""

    name: str
    place: int
    channels: int
    before: Array = field(init=False)
    bias: Array = field(init=False)
    factor: Array = field(init=False)
    constant: Array = field(init=False)
    weight: Array = field(init=False)
    shift: int = -1
    wide_shift: int = -1
    other: str = ""
    neuron: tuple[int, Any] | None = None
    stored: bool = False
    consumed: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        one, none = np.ones(self.channels, np.int64), np.zeros(self.channels, np.int64)
        self.before, self.bias, self.factor, self.constant, self.weight = one, none, one, none, none

    def numbers(self) -> Array:
        """Return the five numbers of each channel, modulo 2^32 as the arithmetic is."""
        rows = np.stack([self.before, self.bias, self.factor, self.constant, self.weight])
        return rows.astype("<i4")

    def unchanged(self) -> bool:
        return (
            self.shift < 0 and not self.other and bool((self.factor == 1).all() and not self.constant.any())
        )


def fuse_convolutions(view: Message) -> None:
    """Let each convolution with weights do the arithmetic on its sums, and fire the neurons behind them."""
    for index, node in enumerate(view.graph.node):
        if node.domain != "ai.snnc" or node.op_type not in ("SpikeConv", "HostConv") or view.is_gone(index):
            continue
        weights = view.constant(node.input[1])
        if weights is None or weights.ndim < 3 or not view.is_constant(node.input[1]):
            continue
        chain = _Chain(node.output[0], index, len(weights))
        while _step(view, chain, node):
            pass
        if node.op_type == "HostConv" and chain.wide_shift < 0:
            continue
        if chain.neuron is None and not chain.consumed:
            _fire_behind_layout(view, index, node, chain)
        else:
            _replace(view, index, node, chain)


def _attributes(node: Any) -> dict[str, Any]:
    return {attribute.name: attribute for attribute in node.attribute}


def _wrapped(values: Array) -> Array:
    return values.astype("<i4").astype(np.int64)


def _of_channels(view: Message, name: str, chain: _Chain) -> Array | None:
    """Return a constant that is one number, or one for each channel, as one for each channel."""
    if not view.is_constant(name):
        return None
    value, shape = view.constant(name), view.shape(chain.name)
    if value is None or shape is None or value.dtype != np.int32:
        return None
    if value.size != 1 and (
        value.ndim != len(shape) or value.shape[1] != chain.channels or value.size != value.shape[1]
    ):
        return None
    if value.ndim > len(shape):
        return None
    return np.broadcast_to(value.reshape(-1), (chain.channels,)).astype(np.int64)


def _step(view: Message, chain: _Chain, conv: Any) -> bool:
    """Take the next node into the chain; return whether there may be more."""
    host = conv.op_type == "HostConv" and chain.wide_shift < 0
    readers = view.readers.get(chain.name, [])
    if not readers or view.is_output(chain.name):
        return False
    if len(readers) > 1:
        fired = [(at, node) for at, node in readers if not host and _is_neuron(view, node, chain)]
        if fired and view.shape(chain.name) is not None:
            chain.neuron, chain.stored = fired[0], True
        return False
    index, node = readers[0]
    if node.domain != "ai.snnc" or view.is_gone(index):
        return False
    if node.op_type == "MembraneRound":
        shift = _attributes(node)["shift"].i
        if host:
            chain.wide_shift = shift
        elif chain.shift >= 0 or chain.other:
            return False
        else:
            chain.before, chain.bias, chain.shift = chain.factor, chain.constant, shift
            chain.factor, chain.constant = np.ones_like(chain.factor), np.zeros_like(chain.constant)
    elif host:
        return False
    elif _is_neuron(view, node, chain):
        chain.neuron = (index, node)
        return False
    elif node.op_type == "MembraneScale":
        number = _operand(view, node, chain)
        if number is None:
            return False
        chain.factor, chain.constant = _wrapped(chain.factor * number), _wrapped(chain.constant * number)
        chain.weight = _wrapped(chain.weight * number)
    elif node.op_type != "MembraneAdd" or not _add(view, index, node, chain):
        return False
    chain.consumed.append(index)
    chain.name = node.output[0]
    return True


def _operand(view: Message, node: Any, chain: _Chain) -> Array | None:
    first, second = node.input
    return _of_channels(view, second if first == chain.name else first, chain) if first != second else None


def _add(view: Message, index: int, node: Any, chain: _Chain) -> bool:
    number = _operand(view, node, chain)
    if number is not None:
        chain.constant = _wrapped(chain.constant + number)
        return True
    first, second = node.input
    other = second if first == chain.name else first
    if first == second or chain.other or not view.same_shape(other, chain.name):
        return False
    chain.other, chain.weight, chain.place = other, np.ones(chain.channels, np.int64), index
    scaled = view.writers.get(other)
    if scaled is not None and scaled[1].op_type == "MembraneScale" and not view.is_gone(scaled[0]):
        for place in (0, 1):
            weight = _of_channels(view, scaled[1].input[place], chain)
            source = scaled[1].input[1 - place]
            if weight is not None and view.same_shape(source, other):
                # The scaling itself goes when nothing else reads it.
                chain.other, chain.weight = source, weight
                if view.only_reader(other) is not None:
                    view.remove(scaled[0])
                break
    return True


def _is_neuron(view: Message, node: Any, chain: _Chain) -> bool:
    return (
        node.op_type == "ExpGIF"
        and node.domain == "ai.snnc"
        and node.input[0] == chain.name
        and view.is_constant(node.input[1])
        and _of_channels(view, node.input[2], chain) is not None
    )


def _replace(view: Message, index: int, conv: Any, chain: _Chain) -> None:
    # What is stored is written where it was before: all that is read is there, and nobody has read it yet.
    place = chain.consumed[-1] if chain.consumed and (chain.stored or chain.neuron is None) else chain.place
    outputs = [chain.name]
    tables: list[str] = []
    neuron: list[Any] = []
    if chain.neuron is not None:
        at, node = chain.neuron
        rows = _of_channels(view, node.input[2], chain)
        assert rows is not None  # _is_neuron looked
        row_name = view.add_constant(f"{node.output[0]}.native_rows", rows.astype("<i4"))
        tables, neuron = [node.input[1], row_name], [_attributes(node)[name] for name in NEURON]
        outputs = [node.output[0], *([chain.name] if chain.stored else [])]
        view.retype(chain.name, _INT32)
        if at != place:
            view.remove(at)
    numbers = view.add_constant(f"{outputs[0]}.native_numbers", chain.numbers())
    inputs = [*conv.input, *tables, numbers, chain.other or numbers]
    attributes = [attribute for attribute in conv.attribute if attribute.name in _WINDOW]
    attributes += neuron
    attributes += [
        view.integer("host", int(conv.op_type == "HostConv")),
        view.integer("stores", int(chain.stored)),
        view.integer("has_other", int(bool(chain.other))),
        view.integer("unchanged", int(chain.unchanged())),
        view.integer("shift", chain.shift),
        view.integer("wide_shift", chain.wide_shift),
    ]
    for at in (index, *chain.consumed):
        if at != place:
            view.remove(at)
    view.replace(place, _FIRED if neuron else _FINISHED, inputs, outputs, attributes)


def _fire_behind_layout(view: Message, index: int, node: Any, chain: _Chain) -> None:
    """Fire neurons that read parts of the sums, or that read them in another order."""
    tree = follow(view, node.output[0], chain.channels, 1)
    found = gather_rows(view, tree, chain.channels) if tree is not None and tree.neurons else None
    if tree is None or found is None:
        return
    output = f"{node.output[0]}.native_fired"
    thresholds, rows = _constants(view, output, found)
    numbers = view.add_constant(f"{output}.native_numbers", chain.numbers())
    attributes = [attribute for attribute in node.attribute if attribute.name in _WINDOW]
    attributes += [*found.attributes, view.integer("unchanged", 1)]
    inputs = [*node.input, thresholds, rows, numbers, numbers]
    renamed = move_neurons(view, tree, output, found.kind)
    view.replace(index, _FIRED, inputs, [output], attributes)
    view.rename(renamed, index)


def _constants(view: Message, output: str, found: Rows) -> tuple[str, str]:
    thresholds = found.names[0]
    if len(found.names) > 1:
        thresholds = view.add_constant(
            f"{output}.native_thresholds", np.concatenate(found.tables).astype("<i4")
        )
    return thresholds, view.add_constant(f"{output}.native_rows", found.rows.astype("<i4"))
