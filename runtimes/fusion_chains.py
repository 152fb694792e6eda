"""Membrane arithmetic behind a product, gathered into a few numbers for each of its channels."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from snnc.runtimes.common import Array
from snnc.runtimes.message import Message

__all__ = ["Chain", "attributes_of", "of_channels", "step"]


@dataclass
class Chain:
    """What is behind a product: round(v * before + bias, shift) * factor + constant + other * weight.

    Attributes:
        name: The last tensor that is taken in.
        place: Where all that the chain reads has been written.
        channels: How many the product has.
        axis: Where they are: 1, or -1 for the last axis.
    """

    name: str
    place: int
    channels: int
    axis: int = 1
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
        """Say whether sums stay as they are."""
        return (
            self.shift < 0 and not self.other and bool((self.factor == 1).all() and not self.constant.any())
        )


def attributes_of(node: Any) -> dict[str, Any]:
    """Return the attributes of a node by their names."""
    return {attribute.name: attribute for attribute in node.attribute}


def _wrapped(values: Array) -> Array:
    return values.astype("<i4").astype(np.int64)


def of_channels(view: Message, name: str, chain: Chain) -> Array | None:
    """Return a constant that is one number, or one for each channel, as one for each channel."""
    if not view.is_constant(name):
        return None
    value, shape = view.constant(name), view.shape(chain.name)
    if value is None or shape is None or value.dtype != np.int32:
        return None
    if value.ndim > len(shape) or (chain.axis == 1 and value.size != 1 and value.ndim != len(shape)):
        return None
    if value.size != 1 and (value.shape[chain.axis] != chain.channels or value.size != chain.channels):
        return None
    return np.broadcast_to(value.reshape(-1), (chain.channels,)).astype(np.int64)


def step(view: Message, chain: Chain, conv: Any) -> bool:
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
        shift = attributes_of(node)["shift"].i
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


def _operand(view: Message, node: Any, chain: Chain) -> Array | None:
    first, second = node.input
    return of_channels(view, second if first == chain.name else first, chain) if first != second else None


def _add(view: Message, index: int, node: Any, chain: Chain) -> bool:
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
            weight = of_channels(view, scaled[1].input[place], chain)
            source = scaled[1].input[1 - place]
            if weight is not None and view.same_shape(source, other):
                # The scaling itself goes when nothing else reads it.
                chain.other, chain.weight = source, weight
                if view.only_reader(other) is not None:
                    view.remove(scaled[0])
                break
    return True


def _is_neuron(view: Message, node: Any, chain: Chain) -> bool:
    return (
        node.op_type == "ExpGIF"
        and node.domain == "ai.snnc"
        and node.input[0] == chain.name
        and view.is_constant(node.input[1])
        and of_channels(view, node.input[2], chain) is not None
    )
