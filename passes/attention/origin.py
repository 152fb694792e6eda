"""Where an axis of a value comes from: followed upwards to the axes it was merged of, or to its end."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise, zip_longest
from math import prod
from typing import Any, Literal

import numpy as np

from snnc.ir import AI_SNNC, Node, Value, attributes, constant

__all__ = ["Axis", "Origin", "Shapes", "kinds", "origins"]

#: Shapes by value name, at one batch size.
Shapes = Mapping[str, tuple[int, ...]]
#: ``merged``: a Reshape made it of several axes; ``cut``: of parts of one axis, which is followed further;
#: ``channels``: of a product; ``words``: of places read in a table; ``row``: a side of a map; ``input``: of a
#: network input; ``unknown``: it is lost behind a node.
Kind = Literal["merged", "cut", "channels", "words", "row", "input", "unknown"]

_RESHAPES = frozenset({"Reshape", "Flatten", "Squeeze", "Unsqueeze"})
_ELEMENTWISE = frozenset(
    {
        "Abs", "Add", "And", "Cast", "Ceil", "Celu", "Clip", "Cos", "Div", "Dropout", "Elu", "Equal", "Erf",
        "Exp", "Expand", "Floor", "Gelu", "Greater", "GreaterOrEqual", "HardSigmoid", "HardSwish", "Identity",
        "LeakyRelu", "Less", "LessOrEqual", "Log", "Max", "Mean", "Min", "Mish", "Mod", "Mul", "Neg", "Not",
        "Or", "PRelu", "Pow", "Reciprocal", "Relu", "Round", "Selu", "Sigmoid", "Sign", "Sin", "Softplus",
        "Softsign", "Sqrt", "Sub", "Sum", "Swish", "Tan", "Tanh", "ThresholdedRelu", "Where",
        # What mixes elements along an axis and keeps each in its place.
        "BatchNormalization", "GroupNormalization", "InstanceNormalization", "LayerNormalization",
        "LogSoftmax", "LpNormalization", "MeanVarianceNormalization", "RMSNormalization", "Softmax",
    }
)  # fmt: skip
_WINDOWS = frozenset(
    {
        "AveragePool", "Conv", "ConvTranspose", "DepthToSpace", "GlobalAveragePool", "GlobalMaxPool",
        "LpPool", "MaxPool", "Resize", "SpaceToDepth", "Upsample",
    }
)  # fmt: skip
_SIDES = 2
_MAKES_CHANNELS = frozenset({"Conv", "ConvTranspose", "DepthToSpace", "SpaceToDepth"})


@dataclass(frozen=True)
class Axis:
    """Part of an axis: its places divided by ``inner``, modulo ``size``.

    Attributes:
        value: The value.
        axis: The axis, counted from the front.
        inner: Places that lie between two of the part.
        size: Number of places of the part.
        front: How many places of what is followed stand in front of the first one here.
        seen: First place of what is followed that is read, and the one behind the last; None if all are.
    """

    value: Value
    axis: int
    inner: int
    size: int
    front: int = 0
    seen: tuple[int, int] | None = None

    @property
    def is_seen(self) -> bool:
        """Whether any place of it is read."""
        return self.seen is None or (self.front < self.seen[1] and self.front + self.size > self.seen[0])

    def part_of(self, source: Value, size: int, start: int) -> Axis:
        """Return the axis of a source of which this one takes neighbouring places from ``start`` on."""
        low, high = self.seen or (self.front, self.front + self.size)
        seen = max(low, self.front), min(high, self.front + self.size)
        return Axis(source, self.axis, 1, size, self.front - start, seen)


@dataclass(frozen=True)
class Origin:
    """Where an axis comes from.

    Attributes:
        kind: What it is there.
        node: The node that made it so, None at an input of the network.
        size: Number of its places there.
        front: Places of the axis that was followed in front of the first one.
        parts: The axes, outside to inside, that were merged.
    """

    kind: Kind
    node: Node | None
    size: int
    front: int
    parts: tuple[Axis, ...] = ()


def origins(start: Axis, shapes: Shapes) -> list[Origin]:
    """Follow an axis upwards on all ways that keep its places apart.

    Args:
        start: The axis.
        shapes: Shapes of all values at one batch size, best a prime.

    Returns:
        The origins found; constants, such as position embeddings, have none.
    """
    found: list[Origin] = []
    seen: set[object] = set()
    pending = [start]
    while pending:
        entry = pending.pop()
        key = (id(entry.value), entry.axis, entry.inner, entry.size, entry.front, entry.seen)
        if key in seen or not entry.is_seen or constant(entry.value) is not None:
            continue
        seen.add(key)
        step = _above(entry, shapes)
        if not isinstance(step, Origin):
            pending += step
            continue
        parts = _rejoined(step.parts, shapes, _SIDES)
        whole = _rejoined(parts, shapes)
        if step.kind == "merged" and len(whole) == 1:
            found.append(replace(step, kind="cut", parts=parts))
            pending.append(replace(whole[0], front=entry.front, seen=entry.seen))
        else:
            found.append(replace(step, parts=parts))
    return found


def kinds(start: Axis, shapes: Shapes) -> set[Kind]:
    """Return what an axis, or part of one, is where it comes from."""
    return {origin.kind for origin in origins(start, shapes)}


def _rejoined(parts: tuple[Axis, ...], shapes: Shapes, least: int = 1) -> tuple[Axis, ...]:
    """Return merged axes; neighbours that were cut from one axis, as windows are, become that axis again.

    Args:
        parts: The axes, outside to inside.
        shapes: Shapes of all values.
        least: So many axes are left at least; those cut apart last are joined first.
    """
    joined = list(parts)
    while len(joined) > least:
        pairs = enumerate(pairwise(joined))
        found = [(hit, place) for place, pair in pairs if (hit := _cut_from(*pair, shapes)) is not None]
        if not found:
            break
        (_, whole), place = min(found, key=lambda entry: (entry[0][0], entry[1]))
        joined[place : place + 2] = [whole]
    return tuple(joined)


def _cut_from(outer: Axis, inner: Axis, shapes: Shapes) -> tuple[int, Axis] | None:
    """Return the axis of which one is the outer part and another the inner part, and how far away it is."""
    size = outer.size * inner.size
    seen: tuple[dict[Any, Axis], dict[Any, Axis]] = ({}, {})
    for steps, pair in enumerate(zip_longest(_ancestors(outer, shapes), _ancestors(inner, shapes))):
        for which, entry in enumerate(pair):
            if entry is None or entry.size != (outer, inner)[which].size:
                continue
            # Places between two of the outer part: as many as the inner part takes up.
            key = (id(entry.value), entry.axis, entry.inner * (entry.size if which else 1))
            seen[which][key] = entry
            if key in seen[1 - which]:
                low = seen[1][key]
                return steps, Axis(low.value, low.axis, low.inner, size)
    return None


def _ancestors(start: Axis, shapes: Shapes) -> Iterator[Axis]:
    """Yield an axis and what it is a copy of, nearest first."""
    seen: set[tuple[int, int, int, int]] = set()
    pending = deque([start])
    while pending:
        entry = pending.popleft()
        key = (id(entry.value), entry.axis, entry.inner, entry.size)
        if key in seen or constant(entry.value) is not None:
            continue
        seen.add(key)
        yield entry
        step = _above(entry, shapes)
        pending += [] if isinstance(step, Origin) else step


def _above(entry: Axis, shapes: Shapes) -> Origin | list[Axis]:
    """Return the axes that an axis is a copy of, or its origin."""
    node = entry.value.producer()
    if node is None:
        return Origin("input", None, entry.size, entry.front)
    shape = shapes.get(entry.value.name or "")
    sources = [value for value in node.inputs if value is not None and value.name in shapes]
    lost = Origin("unknown", node, entry.size, entry.front)
    if shape is None or not sources:
        return lost
    if node.domain == AI_SNNC and shapes[sources[0].name or ""] == shape:
        # Quantisers, activations and norms.
        return [replace(entry, value=sources[0])]
    if node.domain not in ("", "ai.onnx"):
        return lost
    op = node.op_type
    if op in _RESHAPES:
        return _reshaped(entry, node, shape, shapes)
    if op == "Transpose":
        perm = attributes(node).get("perm") or list(range(len(shape)))[::-1]
        return [replace(entry, value=sources[0], axis=int(perm[entry.axis]))]
    if op in _ELEMENTWISE:
        operands = sources[:1] if op == "Expand" else sources
        return list(_aligned(entry, shape, operands, shapes)) or lost
    if op in ("MatMul", "Gemm"):
        return _multiplied(entry, node, shape, shapes)
    if op in _WINDOWS:
        return _windowed(entry, node, shape, shapes)
    if op == "Concat":
        return _joined(entry, node, shape, shapes) or lost
    if op in ("Slice", "Split", "Gather"):
        return _taken(entry, node, shape, shapes) or lost
    if op.startswith("Reduce") and int(attributes(node).get("keepdims", 1)):
        return list(_aligned(entry, shape, sources[:1], shapes)) or lost
    return lost


def _aligned(entry: Axis, shape: tuple[int, ...], sources: list[Value], shapes: Shapes) -> Iterator[Axis]:
    """Yield the same axis of operands that are not repeated along it."""
    for value in sources:
        other = shapes[value.name or ""]
        axis = entry.axis - len(shape) + len(other)
        if axis >= 0 and other[axis] == shape[entry.axis]:
            yield replace(entry, value=value, axis=axis)


def _reshaped(entry: Axis, node: Node, shape: tuple[int, ...], shapes: Shapes) -> Origin | list[Axis]:
    source = node.inputs[0]
    lost = Origin("unknown", node, entry.size, entry.front)
    if source is None or source.name not in shapes:
        return lost
    before = shapes[source.name or ""]
    # The flat numbers of neighbouring places of the part are `low` apart; those of all reach up to `high`.
    low = prod(shape[entry.axis + 1 :]) * entry.inner
    high = low * entry.size
    parts: list[Axis] = []
    inner = 1
    for axis in reversed(range(len(before))):
        outer = inner * before[axis]
        start, end = max(low, inner), min(high, outer)
        if end > start:
            if end % start or start % inner or outer % end:
                return lost
            parts.insert(0, Axis(source, axis, start // inner, end // start))
        inner = outer
    if prod(part.size for part in parts) != entry.size:
        return lost
    if len(parts) == 1:
        return [replace(parts[0], front=entry.front, seen=entry.seen)]
    return Origin("merged", node, entry.size, entry.front, tuple(parts))


def _multiplied(entry: Axis, node: Node, shape: tuple[int, ...], shapes: Shapes) -> Origin | list[Axis]:
    left, right = node.inputs[:2]
    assert left is not None and right is not None
    attrs = attributes(node)
    behind = len(shape) - 1 - entry.axis
    if behind == 1:
        if attrs.get("transA") or constant(left) is not None:
            return Origin("unknown", node, entry.size, entry.front)
        return [replace(entry, value=left, axis=len(shapes[left.name or ""]) - 2)]
    if behind == 0:
        if constant(right) is not None or _is_weight(right) or attrs.get("transB"):
            return Origin("channels", node, entry.size, entry.front)
        return [replace(entry, value=right, axis=len(shapes[right.name or ""]) - 1)]
    found = list(_aligned(entry, shape, [left, right], shapes))
    return found or Origin("unknown", node, entry.size, entry.front)


def _is_weight(value: Value) -> bool:
    node = value.producer()
    return node is not None and node.domain == AI_SNNC and node.op_type == "Weight"


def _windowed(entry: Axis, node: Node, shape: tuple[int, ...], shapes: Shapes) -> Origin | list[Axis]:
    source = node.inputs[0]
    assert source is not None
    same = replace(entry, value=source)
    if entry.axis == 0 or (entry.axis == 1 and node.op_type not in _MAKES_CHANNELS):
        return [same]
    if entry.axis == 1:
        return Origin("channels", node, entry.size, entry.front)
    kernel = shapes.get(node.inputs[1].name or "") if len(node.inputs) > 1 and node.inputs[1] else None
    pointwise = node.op_type == "Conv" and kernel is not None and kernel[entry.axis] == 1
    if pointwise and shapes[source.name or ""][entry.axis] == shape[entry.axis]:
        return [same]
    return Origin("row", node, entry.size, entry.front)


def _joined(entry: Axis, node: Node, shape: tuple[int, ...], shapes: Shapes) -> list[Axis]:
    """Axes of the parts of a Concat; nothing if part of an axis is followed across its border."""
    axis = int(attributes(node).get("axis", 0)) % len(shape)
    values = [value for value in node.inputs if value is not None]
    if axis != entry.axis:
        return [replace(entry, value=value) for value in values]
    if entry.inner != 1 or entry.size != shape[axis] or any(value.name not in shapes for value in values):
        return []
    found, front = [], entry.front
    for value in values:
        size = shapes[value.name or ""][axis]
        found.append(Axis(value, axis, 1, size, front, entry.seen))
        front += size
    return found


def _taken(entry: Axis, node: Node, shape: tuple[int, ...], shapes: Shapes) -> Origin | list[Axis]:
    """Axes that a Slice, a Split or a Gather takes neighbouring places of."""
    source = node.inputs[0]
    if source is None:
        return []
    if node.op_type == "Gather":
        return _gathered(entry, node, source, shapes)
    before = shapes.get(source.name or "")
    if before is None:
        return []
    start = _start(entry, node, before[entry.axis], shapes)
    if start == 0 and before[entry.axis] == shape[entry.axis]:
        return [replace(entry, value=source)]
    if start is None or entry.inner != 1 or entry.size != shape[entry.axis]:
        return []
    return [entry.part_of(source, before[entry.axis], start)]


def _start(entry: Axis, node: Node, size: int, shapes: Shapes) -> int | None:
    """Return the first place that a Slice or a Split takes of an axis, None if they are not neighbours."""
    if node.op_type == "Split":
        rank = len(shapes[entry.value.name or ""])
        if int(attributes(node).get("axis", 0)) % rank != entry.axis:
            return 0
        place = next(n for n, out in enumerate(node.outputs) if out is entry.value)
        return sum(shapes[out.name or ""][entry.axis] for out in node.outputs[:place])
    starts, axes, steps = (constant(node.inputs[n]) if len(node.inputs) > n else None for n in (1, 3, 4))
    if starts is None:
        return None
    rank = len(shapes[entry.value.name or ""])
    order = list(range(starts.size)) if axes is None else [int(n) % rank for n in axes.ravel()]
    if entry.axis not in order:
        return 0
    place = order.index(entry.axis)
    if steps is not None and int(steps.ravel()[place]) != 1:
        return None
    first = int(starts.ravel()[place])
    return max(0, first + size) if first < 0 else first


def _gathered(entry: Axis, node: Node, source: Value, shapes: Shapes) -> Origin | list[Axis]:
    places, before = constant(node.inputs[1]), shapes.get(source.name or "")
    if places is None and constant(source) is not None:
        return Origin("words", node, entry.size, entry.front)
    if places is None or before is None:
        return []
    axis = int(attributes(node).get("axis", 0)) % len(before)
    if entry.axis < axis:
        return [replace(entry, value=source)]
    if entry.axis >= axis + places.ndim:
        return [replace(entry, value=source, axis=entry.axis + 1 - places.ndim)]
    run = places.ravel() % before[axis]
    if places.ndim != 1 or entry.inner != 1 or entry.size != run.size or bool((np.diff(run) != 1).any()):
        return []
    return [entry.part_of(source, before[axis], int(run[0]))]
