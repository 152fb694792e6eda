"""Attention in windows and heads without softmax, as one native operator that moves nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from snnc.ops import LAYOUT
from snnc.runtimes.common import Array
from snnc.runtimes.message import Message

__all__ = ["fuse_windows"]

_MOVERS = frozenset({"Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten"})
_CODES = (2, 3, 5)  # uint8, int8, int16
_LARGEST = 1 << 22  # elements of a sample whose order is looked at
_MOST_SCORES = 1 << 16  # of one window: larger ones are better shared out by rows


@dataclass
class _Moved:
    """A tensor read through layout ops.

    Attributes:
        source: What they read.
        order: Place in a sample of the source of each element, shape (stack, rows, columns).
        stack: Extents of the stack.
        nodes: Places of the layout ops, the last one first.
    """

    source: str
    order: Array
    stack: tuple[int, ...]
    nodes: list[int]


def fuse_windows(view: Message) -> None:
    """Replace product of two codes, neuron, product with a third one, and the moves around them."""
    for index, node in enumerate(view.graph.node):
        if node.domain == "ai.snnc" and node.op_type == "SpikeMatMulHeld" and not view.is_gone(index):
            _fuse(view, index, node)


def _fuse(view: Message, index: int, scores: Any) -> None:
    fired = _next(view, scores.output[0], "ExpGIF")
    values = _next(view, fired[1].output[0], "SpikeMatMulHeld") if fired is not None else None
    if fired is None or values is None or values[1].input[0] != fired[1].output[0]:
        return
    row = view.constant(fired[1].input[2])
    if row is None or row.size != 1 or not all(view.is_constant(name) for name in fired[1].input[1:]):
        return
    operands = [_moved(view, name) for name in (*scores.input, values[1].input[1])]
    if any(each is None for each in operands):
        return
    q, k, v = (each for each in operands if each is not None)
    fits = q.stack == k.stack == v.stack and q.order.shape[2] == k.order.shape[1]
    if not fits or k.order.shape[2] != v.order.shape[1] or k.order[0].size > _MOST_SCORES:
        return
    if q.order.shape[1] * k.order.shape[2] > _MOST_SCORES:
        return
    neuron = {attribute.name: attribute for attribute in fired[1].attribute}
    if not all(
        kind in _CODES for kind in (neuron["code_type"].i, *(view.kind(each.source) for each in (q, k, v)))
    ):
        return
    written = _written(view, values, (*q.stack, q.order.shape[1], v.order.shape[2]))
    if written is None:
        return
    order, shape, tail = written
    parts = {"q": _parts(q.order), "k": _parts(k.order), "v": _parts(v.order), "y": _parts(order)}
    attributes = [neuron[name] for name in ("codes", "code_type", "depth")]
    attributes += [view.integer("score_row", int(row.reshape(-1)[0])), view.integers("shape", shape)]
    for name, found in parts.items():
        if found is None:
            return
        for part, places in zip(("base", "row", "col"), found, strict=True):
            attributes.append(view.integers(f"{name}_{part}", places.tolist()))
    place = tail[-1] if tail else values[0]
    output = view.graph.node[place].output[0]
    for at in (index, fired[0], values[0], *tail):
        if at != place:
            view.remove(at)
    for each in (q, k, v):
        for at in each.nodes:
            readers = view.readers[view.graph.node[at].output[0]]
            if all(reader == place or view.is_gone(reader) for reader, _ in readers):
                view.remove(at)
    inputs = [q.source, k.source, v.source, fired[1].input[1]]
    view.replace(place, "NativeWindows", inputs, [output], attributes)


def _next(view: Message, name: str, op: str) -> tuple[int, Any] | None:
    found = view.only_reader(name)
    return found if found is not None and found[1].op_type == op and found[1].domain == "ai.snnc" else None


def _moves(view: Message, node: Any, kinds: frozenset[str]) -> bool:
    if node.domain != "" or node.op_type not in kinds or len(node.output) != 1:
        return False
    return all(view.constant(name) is not None for name in node.input[1:] if name)


def _run(view: Message, nodes: list[Any], numbers: Array) -> Array | None:
    for node in nodes:
        rest = [view.constant(name) if name else None for name in node.input[1:]]
        attrs = {a.name: list(a.ints) if a.ints else a.i for a in node.attribute}
        try:
            (numbers,) = LAYOUT[node.op_type].packed([numbers, *rest], attrs, 1)
        except (ValueError, KeyError, IndexError):
            return None
    return numbers


def _order(view: Message, nodes: list[Any], inside: tuple[int, ...], step: int) -> Array | None:
    """Return where the elements of one sample come from; None if samples mix.

    Args:
        view: The graph.
        nodes: Layout ops in order.
        inside: Extents of a sample; the first may be the first of a stack that is merged with the samples.
        step: How many of them a sample has in the first axis: 1, or the merged extent.
    """
    size = int(np.prod(inside, dtype=np.int64)) * step
    if not 1 <= size <= _LARGEST:
        return None
    one, two = (_run(view, nodes, np.arange(n * size).reshape(n * step, *inside)) for n in (1, 2))
    if one is None or two is None or two.shape != (2 * len(one), *one.shape[1:]):
        return None
    mixed = not np.array_equal(two.reshape(-1), np.concatenate([one.reshape(-1), one.reshape(-1) + size]))
    return None if mixed else one


def _moved(view: Message, name: str) -> _Moved | None:
    """Follow a tensor back through layout ops."""
    places: list[int] = []
    nodes: list[Any] = []
    while True:
        writer = view.writers.get(name)
        if writer is None or not _moves(view, writer[1], _MOVERS | {"Slice"}) or view.is_output(name):
            break
        places.append(writer[0])
        nodes.insert(0, writer[1])
        name = writer[1].input[0]
    shape = view.shape(name)
    if shape is None or len(shape) < 2 or any(extent is None for extent in shape[1:]):
        return None
    order = _order(view, nodes, tuple(extent or 0 for extent in shape[1:]), 1)
    if order is None or order.ndim < 3:
        return None
    return _Moved(name, order.reshape(-1, *order.shape[-2:]), order.shape[:-2], places)


def _written(
    view: Message, values: tuple[int, Any], shape: tuple[int, ...]
) -> tuple[Array, list[int], list[int]] | None:
    """Follow the result through the layout ops behind it.

    Returns:
        Where each of its elements goes, shape (stack, rows, columns); the shape of a sample; the ops' places.
    """
    places: list[int] = []
    nodes: list[Any] = []
    name = values[1].output[0]
    while True:
        reader = view.only_reader(name)
        if reader is None or reader[1].input[0] != name or not _moves(view, reader[1], _MOVERS):
            break
        places.append(reader[0])
        nodes.append(reader[1])
        name = reader[1].output[0]
    order = _order(view, nodes, shape[1:], shape[0])
    if order is None or len(order) != 1:
        return None
    where = np.empty(order.size, np.int64)
    where[order.reshape(-1)] = np.arange(order.size)
    return where.reshape(-1, *shape[-2:]), list(order.shape[1:]), places


def _parts(order: Array) -> tuple[Array, Array, Array] | None:
    """Take places apart into those of matrix, row and column that add up to them; None if they do not."""
    first = order[0, 0, 0]
    row, column = order[0, :, 0] - first, order[0, 0] - first
    least = row.min() + column.min()
    base, row, column = order[:, 0, 0] + least, row - row.min(), column - column.min()
    fits = np.array_equal(order, base[:, None, None] + row[:, None] + column)
    return (base, row, column) if fits else None
