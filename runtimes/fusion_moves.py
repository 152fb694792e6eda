"""Reshapes and transposes in a row, as one copy with strides."""

from __future__ import annotations

from typing import Any

import numpy as np

from snnc.ops import LAYOUT
from snnc.runtimes.common import Array
from snnc.runtimes.message import Message

__all__ = ["fuse_moves"]

_MOVERS = frozenset({"Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "Slice", "Split"})
_PARTS = frozenset({"Slice", "Split"})
_KINDS = frozenset({1, 2, 3, 5, 6, 7, 9})  # float32, bool and the integers of networks
_LARGEST = 1 << 22  # elements of a sample whose order is looked at
_MOST_AXES = 8


def fuse_moves(view: Message) -> None:
    """Replace each chain that transposes, and that only moves what is in a sample.

    Chains may begin together where each takes a part, as queries, keys and values do.
    """
    passed: set[int] = set()
    for index, node in enumerate(view.graph.node):
        if not _moves(view, index, node) or len(node.output) != 1 or _continues(view, node.output[0]):
            continue
        chain = [(index, node)]
        while True:
            writer = view.writers.get(chain[0][1].input[0])
            if writer is None or not _moves(view, *writer) or not _continues(view, chain[0][1].input[0]):
                break
            chain.insert(0, writer)
        if _fuse(view, chain):
            passed.update(at for at, _ in chain[:-1])
    for index in sorted(passed, reverse=True):
        if not any(_is_read(view, name) for name in view.graph.node[index].output):
            view.remove(index)


def _moves(view: Message, index: int, node: Any) -> bool:
    if node.domain != "" or node.op_type not in _MOVERS or view.is_gone(index):
        return False
    return all(view.constant(name) is not None for name in node.input[1:] if name)


def _continues(view: Message, name: str) -> bool:
    """Say whether all that reads a tensor moves it on: one node, or several that take a part each."""
    found = view.readers.get(name, [])
    if not found or view.is_output(name) or not all(_moves(view, *reader) for reader in found):
        return False
    return len(found) == 1 or all(node.op_type in _PARTS for _, node in found)


def _is_read(view: Message, name: str) -> bool:
    live = (node for index, node in view.readers.get(name, []) if not view.is_gone(index))
    return view.is_output(name) or any(name in node.input for node in live)


def _fuse(view: Message, chain: list[tuple[int, Any]]) -> bool:
    source, (place, last) = chain[0][1].input[0], chain[-1]
    shape, kind = view.shape(source), view.kind(source)
    if kind not in _KINDS or not any(node.op_type == "Transpose" for _, node in chain):
        return False
    if shape is None or len(shape) < 2 or any(extent is None for extent in shape[1:]):
        return False
    inside = tuple(extent or 0 for extent in shape[1:])
    size = int(np.prod(inside, dtype=np.int64))
    if not 1 < size <= _LARGEST:
        return False
    one, two = (_order(view, chain, np.arange(n * size).reshape(n, *inside)) for n in (1, 2))
    if one is None or two is None or len(one) != 1 or two.shape != (2, *one.shape[1:]) or one.size < 2:
        return False
    order = one.reshape(-1)
    if not np.array_equal(two.reshape(-1), np.concatenate([order, order + size])):
        return False  # samples mix
    axes = _axes(order)
    if axes is None:
        return False
    extents, strides = axes
    attributes = [
        view.integers("shape", list(one.shape[1:])),
        view.integers("extents", extents),
        view.integers("strides", strides),
        view.integer("first", int(order[0])),
        view.integer("size", size),
    ]
    view.retype(last.output[0], kind)
    view.replace(place, "NativeMove", [source], [last.output[0]], attributes)
    return True


def _order(view: Message, chain: list[tuple[int, Any]], numbers: Array) -> Array | None:
    for (_, node), (_, following) in zip(chain, [*chain[1:], (0, None)], strict=True):
        rest = [view.constant(name) if name else None for name in node.input[1:]]
        attrs = {a.name: list(a.ints) if a.ints else a.i for a in node.attribute}
        try:
            found = LAYOUT[node.op_type].packed([numbers, *rest], attrs, len(node.output))
        except (ValueError, KeyError, IndexError):
            return None
        numbers = found[list(node.output).index(following.input[0]) if following is not None else 0]
    return numbers


def _axes(order: Array) -> tuple[list[int], list[int]] | None:
    """Return extents and strides that give this order, counted from the first; None if there are none."""
    extents: list[int] = []
    strides: list[int] = []
    rest = order
    while len(rest) > 1:
        step = int(rest[1] - rest[0])
        different = np.flatnonzero(np.diff(rest) != step)
        length = int(different[0]) + 1 if len(different) else len(rest)
        while length > 1:
            if len(rest) % length == 0:
                blocks = rest.reshape(-1, length)
                if np.array_equal(blocks, blocks[:, :1] + step * np.arange(length)):
                    break
            length -= 1
        if length == 1 or step < 0 or len(extents) == _MOST_AXES:
            return None
        extents.insert(0, length)
        strides.insert(0, step)
        rest = rest[::length]
    return extents, strides
