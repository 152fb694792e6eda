"""Convolutions with the membrane arithmetic and the neurons behind them, as one native operator each."""

from __future__ import annotations

from typing import Any

import numpy as np

from snnc.runtimes.fusion_chains import Chain, attributes_of, of_channels, step
from snnc.runtimes.fusion_products import NEURON, Rows, Tree, descend, follow, gather_rows, move_neurons
from snnc.runtimes.message import Message

__all__ = ["fuse_convolutions"]

_WINDOW = frozenset({"strides", "pads", "dilations", "group"})
_INT32 = 6
_FIRED, _TWICE, _FINISHED = "NativeConvFire", "NativeConvFireTwice", "NativeConvFinish"


def fuse_convolutions(view: Message) -> None:
    """Let each convolution with weights do the arithmetic on its sums, and fire the neurons behind them."""
    for index, node in enumerate(view.graph.node):
        if node.domain != "ai.snnc" or node.op_type not in ("SpikeConv", "HostConv") or view.is_gone(index):
            continue
        weights = view.constant(node.input[1])
        if weights is None or weights.ndim < 3 or not view.is_constant(node.input[1]):
            continue
        chain = Chain(node.output[0], index, len(weights))
        while step(view, chain, node):
            pass
        if node.op_type == "HostConv" and chain.wide_shift < 0:
            continue
        if chain.neuron is None and not chain.consumed:
            _fire_behind_layout(view, index, node, chain)
        else:
            _replace(view, index, node, chain)


def _replace(view: Message, index: int, conv: Any, chain: Chain) -> None:
    # What is stored is written where it was before: all that is read is there, and nobody has read it yet.
    place = chain.consumed[-1] if chain.consumed and (chain.stored or chain.neuron is None) else chain.place
    second = _second(view, chain) if chain.stored else None
    chain.stored = chain.stored and second is None
    outputs = [chain.name]
    tables: list[str] = []
    neuron: list[Any] = []
    if chain.neuron is not None:
        at, node = chain.neuron
        rows = of_channels(view, node.input[2], chain)
        assert rows is not None  # _is_neuron looked
        row_name = view.add_constant(f"{node.output[0]}.native_rows", rows.astype("<i4"))
        tables, neuron = [node.input[1], row_name], [attributes_of(node)[name] for name in NEURON]
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
    if second is None:
        view.replace(place, _FIRED if neuron else _FINISHED, inputs, outputs, attributes)
        return
    tree, found = second
    output = f"{chain.name}.native_fired"
    inputs += _constants(view, output, found)
    names = ("second_codes", "second_type", "second_depth")
    attributes += [view.attribute(like, name) for like, name in zip(found.attributes, names, strict=True)]
    renamed = move_neurons(view, tree, output, found.kind)
    view.replace(place, _TWICE, inputs, [outputs[0], output], attributes)
    view.rename(renamed, place)


def _second(view: Message, chain: Chain) -> tuple[Tree, Rows] | None:
    """Find other neurons that read all channels, behind layout ops, where nothing else reads the sums."""
    shape = view.shape(chain.name)
    if shape is None or len(shape) < 2 or any(extent is None for extent in shape[1:]):
        return None
    extents = tuple(extent or 0 for extent in shape[1:])
    place = np.arange(chain.channels).reshape(-1, *[1] * (len(extents) - 1))
    tree = Tree()
    if not descend(view, chain.name, np.ascontiguousarray(np.broadcast_to(place, (1, *extents))), tree):
        return None
    direct = [each for each in tree.neurons if each[1].input[0] == chain.name]
    tree.neurons = [each for each in tree.neurons if each[1].input[0] != chain.name]
    if len(direct) != 1 or chain.neuron is None or direct[0][0] != chain.neuron[0] or not tree.neurons:
        return None
    found = gather_rows(view, tree, chain.channels)
    return None if found is None else (tree, found)


def _fire_behind_layout(view: Message, index: int, node: Any, chain: Chain) -> None:
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
