"""The half-lowered network: values as views, groups of kernels, and the fusing of neighbours."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from snnc.errors import UnsupportedError, Where
from snnc.passes.lower.kernels import (
    Buffer,
    Group,
    Kernel,
    Operand,
    View,
    constant_buffer,
    join,
    memory_of,
)
from snnc.passes.lower.views import pad_rank

__all__ = ["Builder", "machine_type", "over"]

Array = npt.NDArray[Any]
_TYPES = {
    "int8": "i8",
    "uint8": "u8",
    "int16": "i16",
    "uint16": "u16",
    "int32": "i32",
    "int64": "i64",
    "bool": "u8",
}


def machine_type(array: Array, node: str | None = None) -> str:
    """Return the element type of the machine for an array.

    Raises:
        UnsupportedError: SNN472, the machine has no such type.
    """
    name = _TYPES.get(array.dtype.name)
    if name is None:
        raise UnsupportedError("SNN472", f"the machine has no {array.dtype}", where=Where(node=node))
    return name


def over(field_name: str, view: View, rank: int) -> Operand:
    """Return an operand whose axes are the last ones of an index space."""
    return Operand(field_name, pad_rank(view, rank), tuple(range(rank)))


@dataclass
class Builder:
    """Collects groups.

    Attributes:
        groups: What is executed, in order.
        made: View of every tensor on the machine, by its ONNX name.
        ranges: Smallest and largest value of tensors that act as spikes, by buffer identity.
        constants: Constant buffers by content.
        fuse: Whether neighbours are joined so that what passes between them stays in a tile.
    """

    groups: list[Group] = field(default_factory=list)
    made: dict[str, View] = field(default_factory=dict)
    ranges: dict[str, tuple[int, int]] = field(default_factory=dict)
    constants: dict[tuple[str, str, str], Buffer] = field(default_factory=dict)
    pinned: set[int] = field(default_factory=set)
    fuse: bool = True

    def fresh(
        self, name: str, shape: Sequence[int], dtype: str, order: tuple[int, ...] | None = None
    ) -> View:
        """Return a new tensor on the machine.

        Args:
            name: Its name.
            shape: Extents.
            dtype: Element type.
            order: Axes from the slowest to the fastest.
        """
        extents = tuple(int(n) for n in shape)
        buffer = Buffer(name, dtype, int(np.prod(extents, dtype=np.int64)), memory_of(dtype), "activation")
        return View.whole(buffer, extents, order)

    def constant(
        self, name: str, array: Array, dtype: str, memory: str, order: tuple[int, ...] | None = None
    ) -> View:
        """Return a constant, stored once however often it is used."""
        axes = order or tuple(range(array.ndim))
        stored = np.ascontiguousarray(np.transpose(array, axes))
        key = (hashlib.sha256(stored.tobytes() + repr(stored.shape).encode()).hexdigest(), dtype, memory)
        if key not in self.constants:
            self.constants[key] = constant_buffer(name, stored, dtype, memory)
        return View.whole(self.constants[key], array.shape, axes)

    def add(
        self, node: str, extents: Sequence[int], kernels: Sequence[Kernel], fixed: Sequence[int] = ()
    ) -> None:
        """Append kernels over one index space; join them with what makes their input where that is right."""
        group = Group(tuple(int(n) for n in extents), list(kernels), set(fixed), [node])
        group.parts = [group]
        while self.fuse and (before := self._neighbour(group)) is not None:
            self.groups.remove(before)
            group = join([before, group])
        self.groups.append(group)

    def _neighbour(self, group: Group) -> Group | None:
        for index in range(len(self.groups) - 1, max(-1, len(self.groups) - 9), -1):
            before = self.groups[index]
            shared = group.read & before.written
            if (
                shared
                and not before.host
                and self._joins(before, group, shared)
                and self._movable(before, index)
            ):
                return before
        return None

    def _movable(self, before: Group, index: int) -> bool:
        """Whether nothing behind a group depends on what it makes, and nobody else writes there."""
        made = before.written
        others = [other for other in self.groups if other is not before]
        later = self.groups[index + 1 :]
        return not any(made & other.written for other in others) and not any(
            made & other.read for other in later
        )

    def _joins(self, before: Group, group: Group, shared: set[int]) -> bool:
        """Whether a group reads what another one makes element by element, over the same index space."""
        if len(before.extents) != len(group.extents) or group.written & (before.written | before.read):
            return False
        fixed = before.fixed | group.fixed
        for axis, (old, new) in enumerate(zip(before.extents, group.extents, strict=True)):
            if old != new and not (new == 1 and axis in fixed):
                return False
        results: dict[int, set[tuple[Any, ...]]] = {}
        for kernel in before.kernels:
            key = _identity(kernel.result)
            results.setdefault(id(kernel.result.view.buffer), set()).add(key)
        for kernel in group.kernels:
            for item in kernel.operands[1:]:
                identity = id(item.view.buffer)
                if identity in shared and results[identity] != {_identity(item)}:
                    return False
        return True


def _identity(item: Operand) -> tuple[Any, ...]:
    """Return what must agree so that a tile written through one operand can be read through another."""
    dims = tuple(
        (axis, extent, stride)
        for axis, extent, stride in zip(item.axes, item.view.shape, item.view.strides, strict=True)
    )
    # Only elementwise axes: a window, or a sum over parts, reads more than its own tile.
    if any(not isinstance(axis, int) and (axis is not None or extent != 1) for axis, extent, _ in dims):
        return (item.view.offset, "not elementwise", id(item))
    kept = sorted((axis, extent, stride) for axis, extent, stride in dims if extent != 1 and axis is not None)
    return (item.view.offset, tuple(kept), len(dims))
