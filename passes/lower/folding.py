"""Index spaces folded into the four axes of descriptors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from snnc.passes.lower.kernels import Buffer, View

__all__ = ["FARTHEST", "WIDEST", "Axis", "Lowered", "Ref", "common_axes", "fold", "loops"]

#: The largest extent of a descriptor.
WIDEST = 1 << 16
#: The largest stride of a descriptor.
FARTHEST = (1 << 25) - 1


@dataclass(frozen=True)
class Ref:
    """A descriptor whose buffer has no address yet.

    Attributes:
        buffer: The buffer.
        offset: Index of the first element.
        shape: Four extents.
        strides: Four strides, in elements.
    """

    buffer: Buffer
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


@dataclass(frozen=True)
class Lowered:
    """An instruction whose operands have no address yet.

    Attributes:
        name: Mnemonic.
        refs: Operand of each register field.
        fields: The other fields.
    """

    name: str
    refs: Mapping[str, Ref]
    fields: Mapping[str, int] = field(default_factory=dict)


@dataclass
class Axis:
    """One axis of an index space with the stride of every operand on it."""

    extent: int
    strides: list[int]


def common_axes(
    views: Sequence[View], mapped: Sequence[Sequence[object]], rank: int, lead: View
) -> list[Axis]:
    """Return the axes that matter, slowest first as the result is stored."""
    found: list[tuple[int, Axis]] = []
    for axis in range(rank):
        extent, strides, weight = 1, [], 0
        for view, axes in zip(views, mapped, strict=True):
            stride = 0
            for place, follows in enumerate(axes):
                if follows == axis and view.shape[place] > 1:
                    extent, stride = max(extent, view.shape[place]), view.strides[place]
            strides.append(stride)
            if view is lead:
                weight = abs(stride)
        if extent > 1:
            found.append((weight, Axis(extent, strides)))
    return [axis for _, axis in sorted(found, key=lambda item: -item[0])]


def fold(axes: list[Axis]) -> list[Axis]:
    """Join neighbouring axes that are one run in every operand."""
    folded: list[Axis] = []
    for axis in axes:
        if folded:
            outer = folded[-1]
            one_run = all(a == b * axis.extent for a, b in zip(outer.strides, axis.strides, strict=True))
            if one_run and outer.extent * axis.extent <= WIDEST:
                folded[-1] = Axis(outer.extent * axis.extent, axis.strides)
                continue
        folded.append(axis)
    return folded


def loops(axes: list[Axis], kept: int) -> tuple[list[Axis], list[list[tuple[int, int]]]]:
    """Split axes into those that descriptors hold and pieces (begin, extent) of those that are unrolled."""
    unrolled: list[list[tuple[int, int]]] = []
    held: list[Axis] = []
    for place, axis in enumerate(axes):
        if place < len(axes) - kept:
            unrolled.append([(index, 1) for index in range(axis.extent)])
            held.append(axis)
        else:
            unrolled.append(
                [(begin, min(WIDEST, axis.extent - begin)) for begin in range(0, axis.extent, WIDEST)]
            )
            held.append(axis)
    return held, unrolled
