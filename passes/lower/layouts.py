"""Layout ops: strides where strides can say it, moves where they cannot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from snnc.ir import Node
from snnc.ops import LAYOUT
from snnc.passes.lower.builder import Builder
from snnc.passes.lower.kernels import View
from snnc.passes.lower.partition import Partition
from snnc.passes.lower.vectors import copy, fill
from snnc.passes.lower.views import broadcast, gather, reshape, reverse_free_slice, transpose

__all__ = ["concat", "layout", "pad", "pad_begins", "reshaped"]

Array = npt.NDArray[Any]


def layout(
    build: Builder,
    node: Node,
    x: View,
    results: Sequence[Array],
    attrs: Mapping[str, Any],
    inputs: Sequence[Array | None],
) -> list[View] | None:
    """Lower a layout op with one moved input.

    Args:
        build: Where moves go.
        node: The node.
        x: What it moves.
        results: Examples of its outputs.
        attrs: Its attributes.
        inputs: Its inputs that are constants, None where they are not.

    Returns:
        A view of each output, or None if the op is none of these.
    """
    op = node.op_type
    shape = results[0].shape
    if op in {"Reshape", "Flatten", "Squeeze", "Unsqueeze"}:
        return [reshaped(build, node, x, shape)]
    if op in {"Identity", "Dropout", "SequenceConstruct", "SequenceAt", "Cast"}:
        return [x]
    if op == "Transpose":
        return [transpose(x, attrs.get("perm") or tuple(reversed(range(len(x.shape)))))]
    if op == "Expand":
        return [broadcast(x, shape)]
    if op == "Split":
        axis = int(attrs.get("axis", 0)) % len(x.shape)
        views, start = [], 0
        for array in results:
            views.append(reverse_free_slice(x, axis, start, 1, array.shape[axis]))
            start += array.shape[axis]
        return views
    if op in {"Slice", "Gather"}:
        return [_picked(build, node, x, shape, attrs, inputs)]
    if op in {"DepthToSpace", "SpaceToDepth"}:
        return [_blocks(build, node, x, shape, attrs)]
    return None


def reshaped(build: Builder, node: Node, x: View, shape: Sequence[int]) -> View:
    """Return a view under another shape; elements are moved where strides cannot say it."""
    view = reshape(x, shape)
    if view is not None:
        return view
    moved = build.fresh(f"{node.name}.moved", x.shape, x.buffer.dtype)
    copy(build, node.name or "", moved, x, complete=False)
    straight = reshape(moved, shape)
    assert straight is not None  # dense elements take any shape
    return straight


def _picked(
    build: Builder,
    node: Node,
    x: View,
    shape: tuple[int, ...],
    attrs: Mapping[str, Any],
    inputs: Sequence[Array | None],
) -> View:
    """Lower Slice and Gather by following the indices of each axis."""
    if node.op_type == "Gather":
        axis = int(attrs.get("axis", 0)) % len(x.shape)
        places = inputs[1]
        assert places is not None  # the moved input is the only one of run time
        flat = [int(place) % x.shape[axis] for place in places.reshape(-1)]
        view = gather(x, axis, flat)
        if view is None:
            picked = tuple(len(flat) if i == axis else n for i, n in enumerate(x.shape))
            view = build.fresh(f"{node.name}.picked", picked, x.buffer.dtype, x.order())
            for index, (place, count) in _runs(flat):
                part = reverse_free_slice(view, axis, index, 1, count)
                copy(
                    build, node.name or "", part, reverse_free_slice(x, axis, place, 1, count), complete=False
                )
        return reshaped(build, node, view, shape)
    grid = np.ix_(*(np.arange(n) for n in x.shape))
    view = x
    for axis in range(len(x.shape)):
        (picked_axis,) = LAYOUT["Slice"].packed([np.broadcast_to(grid[axis], x.shape), *inputs[1:]], attrs)
        kept = np.moveaxis(picked_axis, axis, 0).reshape(shape[axis], -1)[:, 0]
        step = int(kept[1] - kept[0]) if shape[axis] > 1 else 1
        view = reverse_free_slice(view, axis, int(kept[0]), step, shape[axis])
    return view


def _runs(places: Sequence[int]) -> list[tuple[int, tuple[int, int]]]:
    """Return runs of ascending neighbours: position, first place, length."""
    runs: list[tuple[int, tuple[int, int]]] = []
    for index, place in enumerate(places):
        if runs and place == runs[-1][1][0] + runs[-1][1][1]:
            start, (first, count) = runs[-1]
            runs[-1] = (start, (first, count + 1))
        else:
            runs.append((index, (place, 1)))
    return runs


def _blocks(build: Builder, node: Node, x: View, shape: tuple[int, ...], attrs: Mapping[str, Any]) -> View:
    n, c, h, w = x.shape
    size = int(attrs["blocksize"])
    if node.op_type == "SpaceToDepth":
        split = reshaped(build, node, x, (n, c, h // size, size, w // size, size))
        return reshaped(build, node, transpose(split, (0, 3, 5, 1, 2, 4)), shape)
    if attrs.get("mode", "DCR") == "CRD":
        split = reshaped(build, node, x, (n, c // size**2, size, size, h, w))
        return reshaped(build, node, transpose(split, (0, 1, 4, 2, 5, 3)), shape)
    split = reshaped(build, node, x, (n, size, size, c // size**2, h, w))
    return reshaped(build, node, transpose(split, (0, 3, 4, 1, 5, 2)), shape)


def concat(build: Builder, node: Node, parts: Sequence[View], out: View, axis: int) -> None:
    """Add the moves that put tensors one behind the other."""
    start = 0
    for part in parts:
        target = reverse_free_slice(out, axis, start, 1, part.shape[axis])
        copy(build, node.name or "", target, part, complete=False)
        start += part.shape[axis]


def pad(build: Builder, node: Node, x: View, out: View, begins: Sequence[int]) -> None:
    """Add zeros around a tensor; negative widths crop."""
    source, target = x, out
    for axis, begin in enumerate(begins):
        skipped, offset = max(0, -begin), max(0, begin)
        count = min(x.shape[axis] - skipped, out.shape[axis] - offset)
        source = reverse_free_slice(source, axis, skipped, 1, count)
        target = reverse_free_slice(target, axis, offset, 1, count)
    if target.shape != out.shape:
        fill(build, node.name or "", out, 0, complete=False)
    copy(build, node.name or "", target, source, complete=False)


def pad_begins(node: Node, attrs: Mapping[str, Any], split: Partition) -> list[int]:
    """Return how many elements a Pad puts before each axis."""
    source = node.inputs[0]
    rank = split.samples[(source.name if source is not None else None) or ""].ndim
    pads = split.array(node.inputs[1]).tolist() if len(node.inputs) > 1 else list(attrs["pads"])  # type: ignore[arg-type]
    axes = (
        split.array(node.inputs[3]).tolist()
        if len(node.inputs) > 3 and node.inputs[3] is not None
        else range(rank)
    )
    begins = [0] * rank
    for place, axis in enumerate(axes):
        begins[axis] = int(pads[place])
    return begins
