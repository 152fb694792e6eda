"""What lowering works on: buffers, views of them, and kernels over index spaces."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from snnc.isa.program import DTYPE_OF, Channels, dense

__all__ = [
    "Box",
    "Buffer",
    "Group",
    "Halo",
    "Kernel",
    "Operand",
    "View",
    "constant_buffer",
    "join",
    "memory_of",
]

Box = tuple[tuple[int, int], ...]
"""Begin and end on each axis of an index space."""


def memory_of(dtype: str) -> str:
    """Return the memory in which activations of an element type live: codes in SMEM, membranes in AMEM."""
    return "AMEM" if dtype in ("i32", "i64") else "SMEM"


@dataclass(eq=False)
class Buffer:
    """Elements that are allocated together.

    Attributes:
        name: Name of the tensor that it was made for.
        dtype: Element type.
        elements: How many.
        memory: Memory of a core in which it, or its parts, lie.
        kind: ``constant``, ``input``, ``output``, ``activation``, ``staging``.
        in_dram: Whether its home is DRAM; parts are then moved in and out.
        data: Content of a constant, flat.
        address: First byte in its home, once planned.
        low: Smallest value.
        high: Largest value.
        channels: Narrower ranges of what the host writes, or None.
        origin: The buffer of which this is a core's copy.
    """

    name: str
    dtype: str
    elements: int
    memory: str
    kind: str
    in_dram: bool = False
    data: npt.NDArray[Any] | None = None
    address: int = -1
    low: int = 0
    high: int = 0
    channels: Channels | None = None
    origin: Buffer | None = None

    @property
    def size(self) -> int:
        """Bytes."""
        return self.elements * DTYPE_OF[self.dtype].itemsize

    @property
    def home(self) -> str:
        """The memory that holds all of it."""
        return "DRAM" if self.in_dram else self.memory


@dataclass(frozen=True)
class View:
    """Elements of a buffer under the shape of an ONNX tensor.

    Attributes:
        buffer: The buffer.
        offset: Index of the first element.
        shape: Extents.
        strides: Distances in elements; 0 repeats.
    """

    buffer: Buffer
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @staticmethod
    def whole(buffer: Buffer, shape: tuple[int, ...], order: tuple[int, ...] | None = None) -> View:
        """Return all of a buffer.

        Args:
            buffer: The buffer.
            shape: Extents.
            order: Axes from the slowest to the fastest; None for their own order.
        """
        axes = order or tuple(range(len(shape)))
        packed = dense(tuple(shape[axis] for axis in axes))
        strides = [0] * len(shape)
        for axis, stride in zip(axes, packed, strict=True):
            strides[axis] = stride
        return View(buffer, 0, shape, tuple(strides))

    def part(self, box: Box) -> View:
        """Return a box of it."""
        offset = self.offset + sum(begin * s for (begin, _), s in zip(box, self.strides, strict=True))
        return View(self.buffer, offset, tuple(end - begin for begin, end in box), self.strides)

    def order(self) -> tuple[int, ...]:
        """Return the axes from the slowest to the fastest."""
        return tuple(sorted(range(len(self.shape)), key=lambda axis: (-abs(self.strides[axis]), axis)))

    @property
    def elements(self) -> int:
        """Number of elements that are stored; repeated ones count once."""
        return prod(n for n, stride in zip(self.shape, self.strides, strict=True) if stride)


@dataclass(frozen=True)
class Halo:
    """An axis of an input that a window slides over.

    Attributes:
        axis: The axis of the index space that it follows.
        kernel: Extent of the window.
        stride: Its step.
        pad: Elements before the first.
        dilation: Spacing inside the window.
        extent: Extent of the input.
    """

    axis: int
    kernel: int
    stride: int
    pad: int
    dilation: int
    extent: int

    def needs(self, begin: int, end: int) -> tuple[int, int]:
        """Return which part of the input some outputs need; at least one element."""
        first = begin * self.stride - self.pad
        last = (end - 1) * self.stride - self.pad + (self.kernel - 1) * self.dilation + 1
        low = min(max(0, first), self.extent - 1)
        return low, max(low + 1, min(self.extent, last))

    def pad_of(self, begin: int, end: int) -> int:
        """Return the padding before the part that `needs` returns."""
        return self.needs(begin, end)[0] - (begin * self.stride - self.pad)


@dataclass(frozen=True)
class Operand:
    """One operand of a kernel.

    Attributes:
        field: Name of the descriptor field.
        view: What it is.
        axes: For each axis of the view the axis of the index space that it follows, how a window slides over
            it, ``"inner"`` for the axis that is summed over in parts, or None if it is taken whole.
    """

    field: str
    view: View
    axes: tuple[int | Halo | str | None, ...]

    def box(self, box: Box, inner: tuple[int, int] = (0, 0)) -> Box:
        """Return the part of the view that a part of the index space needs."""
        result = []
        for axis, extent in zip(self.axes, self.view.shape, strict=True):
            if axis is None or (isinstance(axis, int) and extent == 1):
                result.append((0, extent))
            elif isinstance(axis, Halo):
                result.append(axis.needs(*box[axis.axis]))
            else:
                result.append(inner if isinstance(axis, str) else box[axis])
        return tuple(result)


@dataclass(frozen=True)
class Kernel:
    """One instruction over an index space, to be cut into tiles.

    Attributes:
        name: Mnemonic.
        node: Name of the ONNX node.
        tensor: Tensor that it completes, or the one that it helps to make.
        operands: Operands; the first is the one that is written.
        fields: Values of the other fields.
        complete: Whether it completes ``tensor``, of the shape of the first operand.
        inner: Extent of the axis that is summed over in parts; 1 if there is none.
        tails: Trailing axes of each operand that belong to an element: thresholds of a neuron, a summed row.
        spikes: Most spikes of one code that it reads.
        mean: Their mean if every code of the book is as likely as any other.
        steps: Time-steps of the window that a neuron fires in; 0 for what is no neuron.
    """

    name: str
    node: str
    tensor: str
    operands: tuple[Operand, ...]
    fields: Mapping[str, int] = field(default_factory=dict)
    complete: bool = False
    inner: int = 1
    tails: Mapping[str, int] = field(default_factory=dict)
    spikes: int = 0
    mean: float = 0.0
    steps: int = 0

    @property
    def result(self) -> Operand:
        """The operand that is written."""
        return self.operands[0]

    def in_dram(self, item: Operand) -> bool:
        """Whether an operand is used where it lies in DRAM, and not moved onto a core."""
        return self.name in ("HGET", "HPUT") or (self.name == "LDX" and item.field == "table")


@dataclass(eq=False)
class Group:
    """Kernels that are executed tile by tile, all over one index space.

    Attributes:
        extents: The index space.
        kernels: What is done for each tile, in order.
        fixed: Axes that are not cut.
        names: ONNX nodes, for messages.
        parts: The groups that were joined, to take them apart where they do not fit together.
    """

    extents: tuple[int, ...]
    kernels: list[Kernel]
    fixed: set[int] = field(default_factory=set)
    names: list[str] = field(default_factory=list)
    parts: list[Group] = field(default_factory=list)

    @property
    def written(self) -> set[int]:
        """Buffers that it writes, by identity."""
        return {id(kernel.result.view.buffer) for kernel in self.kernels if kernel.name != "HGET"}

    @property
    def read(self) -> set[int]:
        """Buffers that it reads, by identity."""
        return {
            id(item.view.buffer)
            for kernel in self.kernels
            for item in kernel.operands[kernel.name != "HGET" :]
        }

    @property
    def host(self) -> bool:
        """Whether the host takes or puts a tensor here."""
        return self.kernels[0].name in ("HGET", "HPUT")


def join(parts: Sequence[Group]) -> Group:
    """Return one group that does what several do, tile by tile."""
    kernels = [kernel for part in parts for kernel in part.kernels]
    fixed = {axis for part in parts for axis in part.fixed}
    whole = Group(parts[0].extents, kernels, fixed, [name for part in parts for name in part.names])
    whole.parts = [single for part in parts for single in part.parts]
    return whole


def constant_buffer(name: str, array: npt.NDArray[Any], dtype: str, memory: str) -> Buffer:
    """Return a buffer that holds a constant.

    Args:
        name: Its name.
        array: Its content, in the order in which it is stored.
        dtype: Element type.
        memory: Memory of a core in which its parts are used.
    """
    data = np.ascontiguousarray(array).astype(DTYPE_OF[dtype]).reshape(-1)
    return Buffer(name, dtype, data.size, memory, "constant", in_dram=True, data=data)
