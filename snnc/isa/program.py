"""A compiled program: words, memory image, what goes in and out, and what each line is for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from snnc.errors import InputError
from snnc.isa.arch import Arch
from snnc.isa.codec import Instruction
from snnc.isa.table import DTYPES, MEMORIES

__all__ = [
    "DTYPE_OF",
    "Channels",
    "Descriptor",
    "Line",
    "Port",
    "Program",
    "Region",
    "Step",
    "Tap",
    "dense",
    "follow",
    "strided",
]

#: numpy's element type of each element type of the machine, by name.
DTYPE_OF: Mapping[str, np.dtype[Any]] = {
    "i8": np.dtype("<i1"),
    "u8": np.dtype("<u1"),
    "i16": np.dtype("<i2"),
    "u16": np.dtype("<u2"),
    "i32": np.dtype("<i4"),
    "i64": np.dtype("<i8"),
}


def dense(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the strides of an array without gaps, in elements."""
    return tuple(prod(shape[axis + 1 :]) for axis in range(len(shape)))


@dataclass(frozen=True)
class Descriptor:
    """Elements in a memory: any number of axes in a port, four in an instruction.

    Attributes:
        memory: Address space.
        dtype: Element type, a name of `DTYPES`.
        base: Address of the first element, bytes.
        shape: Extents.
        strides: Distances in elements.
    """

    memory: str
    dtype: str
    base: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @property
    def itemsize(self) -> int:
        """Bytes of an element."""
        return DTYPE_OF[self.dtype].itemsize

    @property
    def span(self) -> tuple[int, int]:
        """First byte, and the byte behind the last one."""
        reach = [(extent - 1) * stride for extent, stride in zip(self.shape, self.strides, strict=True)]
        low, high = sum(min(0, item) for item in reach), sum(max(0, item) for item in reach)
        return self.base + low * self.itemsize, self.base + (high + 1) * self.itemsize

    @property
    def elements(self) -> int:
        """Number of elements, repeated ones counted each time."""
        return prod(self.shape)


@dataclass(frozen=True)
class Channels:
    """Ranges that differ along one axis of a tensor.

    Attributes:
        axis: The axis.
        lows: Smallest value of each of its indices.
        highs: Largest values.
    """

    axis: int
    lows: tuple[int, ...]
    highs: tuple[int, ...]


@dataclass(frozen=True)
class Port:
    """A tensor that the host writes before or reads after a run.

    Attributes:
        tensor: Its name in the ONNX file.
        place: Where it lies in DRAM, with the extents of the ONNX tensor.
        low: Smallest value that the host may write.
        high: Largest value.
        late: Whether the host computes it from what the machine gives, and writes it at an ``HPUT``.
        channels: Narrower ranges of the indices of an axis, or None.
    """

    tensor: str
    place: Descriptor
    low: int
    high: int
    late: bool = False
    channels: Channels | None = None

    def limits(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Return smallest and largest values, int64, broadcastable to the tensor."""
        shape = [1] * len(self.place.shape)
        if self.channels is None:
            return np.full(shape, self.low, np.int64), np.full(shape, self.high, np.int64)
        shape[self.channels.axis] = -1
        lows, highs = (np.array(item, np.int64) for item in (self.channels.lows, self.channels.highs))
        return lows.reshape(shape), highs.reshape(shape)


@dataclass(frozen=True)
class Tap:
    """A part of an ONNX tensor that is complete once an instruction has retired.

    Attributes:
        pc: Index of the instruction.
        tensor: Name of the tensor.
        shape: Extents of the whole tensor.
        begin: First index of the part, on each axis.
        place: Where the part lies, with the extents of the part.
    """

    pc: int
    tensor: str
    shape: tuple[int, ...]
    begin: tuple[int, ...]
    place: Descriptor


@dataclass(frozen=True)
class Line:
    """What one instruction is for.

    Attributes:
        node: Name of the ONNX node; ``(program)`` for the frame of the program.
        tensor: The tensor that it makes or moves.
        tile: Which part of it.
        spikes: Most spikes of one code that it reads.
        mean: Their mean if every code of the book is as likely as any other; 0 where nothing is known.
    """

    node: str
    tensor: str = ""
    tile: str = ""
    spikes: int = 0
    mean: float = 0.0


@dataclass(frozen=True)
class Region:
    """Bytes that belong to one thing for a while.

    Attributes:
        memory: Address space.
        name: What lies there.
        kind: ``constant``, ``input``, ``output``, ``activation``, ``staging``.
        address: First byte.
        size: Bytes.
        first: Index of the first instruction that uses it.
        last: Index of the last one.
        core: Whose memory it is; 0 for DRAM.
    """

    memory: str
    name: str
    kind: str
    address: int
    size: int
    first: int
    last: int
    core: int = 0


@dataclass(frozen=True)
class Program:
    """What the compiler makes.

    Attributes:
        arch: The machine.
        instructions: The programs of all cores one behind the other; each ends with ``HALT``.
        lines: What each instruction is for.
        image: Constants in DRAM from address 0.
        constants: Name, place and source tensor of each constant in the image.
        inputs: Tensors that the host writes.
        outputs: Tensors that the host reads.
        taps: Where every tensor can be seen.
        regions: The memory map.
        bounds: Peak and lower bound of each memory, in bytes; of the core that needs most.
        core_bounds: The same for every core, DRAM aside.
        sites: Column and row of each core's router.
        latency: Windows of T time-steps one behind the other, in time-steps.
        host: Names of the ONNX nodes that the host executes: before, and after.
    """

    arch: Arch
    instructions: tuple[Instruction, ...]
    lines: tuple[Line, ...]
    image: bytes
    constants: tuple[tuple[str, Descriptor], ...]
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    taps: tuple[Tap, ...] = ()
    regions: tuple[Region, ...] = ()
    bounds: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    latency: int = 0
    host: tuple[tuple[str, ...], tuple[str, ...]] = ((), ())
    core_bounds: tuple[Mapping[str, tuple[int, int]], ...] = ()
    sites: tuple[tuple[int, int], ...] = ((0, 0),)

    def hops(self, first: int, second: int) -> int:
        """Return the distance of two cores."""
        (a, b), (c, d) = self.sites[first], self.sites[second]
        return abs(a - c) + abs(b - d)


@dataclass(frozen=True)
class Step:
    """An instruction with its operands resolved.

    Attributes:
        index: Its place in the program.
        instruction: The instruction.
        operands: Descriptor of each register field.
        core: Whose instruction it is.
    """

    index: int
    instruction: Instruction
    operands: Mapping[str, Descriptor]
    core: int = 0

    def accesses(self) -> Iterator[tuple[Descriptor, bool]]:
        """Iterate over what is touched, and whether it is written; what is updated comes once, as written."""
        for item in self.instruction.form.fields:
            if item.role:
                yield self.operands[item.name], item.role != "reads"


def follow(instructions: Iterable[Instruction]) -> Iterator[Step]:
    """Resolve the descriptors of a program by executing its ``TDESC`` and ``TSTRIDE``.

    Behind a ``HALT`` the next core begins, with registers of its own.

    Raises:
        InputError: SNN365, an instruction uses a descriptor that was never set.
    """
    held: dict[tuple[str, int], Descriptor] = {}
    core = 0
    for index, instruction in enumerate(instructions):
        values = instruction.fields
        operands: dict[str, Descriptor] = {}
        if instruction.name == "TDESC":
            shape = tuple(values[f"n{axis}"] for axis in (3, 2, 1, 0))
            held[instruction.queue, values["td"]] = Descriptor(
                MEMORIES[values["mem"]], DTYPES[values["dt"]], values["base"], shape, dense(shape)
            )
        elif instruction.name == "TSTRIDE":
            key = (instruction.queue, values["td"])
            if key not in held:
                raise InputError("SNN365", f"instruction {index} sets strides of an unset descriptor")
            old = held[key]
            strides = tuple(values[f"s{axis}"] for axis in (3, 2, 1, 0))
            held[key] = Descriptor(old.memory, old.dtype, old.base, old.shape, strides)
        else:
            for item in instruction.form.fields:
                if item.kind == "register":
                    key = (instruction.queue, values[item.name])
                    if key not in held:
                        raise InputError(
                            "SNN365",
                            f"instruction {index}, {instruction.name}, uses descriptor {key[1]} of queue "
                            f"{key[0]}, which is not set",
                        )
                    operands[item.name] = held[key]
        yield Step(index, instruction, operands, core)
        if instruction.name == "HALT":
            core, held = core + 1, {}


def strided(memory: npt.NDArray[np.uint8], place: Descriptor, *, writable: bool = False) -> npt.NDArray[Any]:
    """Return the elements of a descriptor as a view of a memory's bytes.

    Args:
        memory: All bytes of the memory.
        place: What to look at.
        writable: Whether the view may be written.

    Raises:
        InputError: SNN366, the descriptor reaches beyond the memory, or its base is not aligned.
    """
    low, high = place.span
    if low < 0 or high > memory.size or place.base % place.itemsize:
        raise InputError(
            "SNN366", f"bytes {low}..{high} of {place.memory} ({memory.size} bytes), {place.dtype}"
        )
    whole = memory[: memory.size // place.itemsize * place.itemsize].view(DTYPE_OF[place.dtype])
    return np.lib.stride_tricks.as_strided(
        whole[place.base // place.itemsize :],
        place.shape,
        tuple(stride * place.itemsize for stride in place.strides),
        writeable=writable,
    )
