"""Proofs about a program, from its words alone: tokens, deadlock, races, bounds, initialised reads.

Queues work in order and only tokens and messages order them, so the k-th token given on a line is the k-th
one taken, and the k-th message between two cores likewise, whatever the interleaving: one simulated run
decides deadlock and balance for all of them.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from snnc.errors import InputError
from snnc.isa.arch import Arch
from snnc.isa.codec import decode_all
from snnc.isa.operands import fault
from snnc.isa.order import GIVES, TAKES, Queue, cores_of, in_queues, peer
from snnc.isa.program import DTYPE_OF, Descriptor, Port, Region, Step, follow
from snnc.isa.table import DTYPES, QUEUES

__all__ = ["Finding", "overlaps", "prove"]


@dataclass(frozen=True)
class Finding:
    """What is wrong with a program.

    Attributes:
        kind: ``stuck``, ``left over``, ``race``, ``bounds``, ``form``, ``unset``, ``type``,
            ``message``, ``overlap``.
        pc: Index of the instruction; -1 for the program as a whole.
        text: Details.
    """

    kind: str
    pc: int
    text: str


def prove(binary: bytes, arch: Arch, image: int = 0, inputs: Sequence[Port] = ()) -> list[Finding]:
    """Check a program.

    Args:
        binary: Its words.
        arch: The machine.
        image: Bytes of constants at the beginning of DRAM.
        inputs: Tensors that the host writes before.

    Returns:
        What is wrong; empty if nothing is.
    """
    try:
        steps = list(follow(decode_all(binary)))
    except InputError as error:
        return [Finding("bounds", -1, str(error))]
    cores = cores_of(steps)
    found = [
        Finding("bounds", step.index, f"{place.memory} {place.span} of {arch.capacity(place.memory)} bytes")
        for step in steps
        for place, _ in step.accesses()
        if place.span[0] < 0 or place.span[1] > arch.capacity(place.memory) or place.base % place.itemsize
    ]
    found += [
        Finding(
            "bounds", step.index, f"writes onto the constants: DRAM {place.span}, of which {image} bytes are"
        )
        for step in steps
        for place, writes in step.accesses()
        if writes and place.memory == "DRAM" and place.span[0] < image
    ]
    found += [
        Finding("bounds", -1, f"{port.tensor} is not in DRAM: {port.place.span}, {port.place.dtype}")
        for port in inputs
        if port.place.span[0] < 0 or port.place.span[1] > arch.dram or port.place.base % port.place.itemsize
    ]
    found += [
        Finding("form", step.index, f"{step.instruction.name}: {wrong}")
        for step in steps
        if (wrong := fault(step)) is not None
    ]
    found += [
        Finding("message", step.index, f"core {step.core} speaks with core {peer(step)} of {cores}")
        for step in steps
        if step.instruction.name in GIVES | TAKES and (peer(step) >= cores or peer(step) == step.core)
    ]
    if cores > arch.cores:
        found.append(Finding("bounds", -1, f"a program for {cores} cores, the machine has {arch.cores}"))
    if found:
        return found
    run = _Run(steps, arch.token_depth)
    found = run.found + _races(run.order, run.clocks, cores)
    if not found:
        found += _unset(run.order, image, inputs)
    return found


class _Run:
    """Executes tokens and messages: an order, what each instruction knows to be done, and what is wrong.

    Messages are handed over: who gives one waits for who takes it. A program that ends like this ends with
    buffers of any size, and a run with buffers orders less, so only the taker learns of the giver.
    """

    def __init__(self, steps: Sequence[Step], depth: int) -> None:
        self.depth = depth
        self.queues = in_queues(steps)
        self.place = {queue: number for number, queue in enumerate(self.queues)}
        self.heads = dict.fromkeys(self.queues, 0)
        self.given: dict[tuple[Queue, str], list[int]] = defaultdict(list)
        self.taken: dict[tuple[Queue, str], int] = defaultdict(int)
        self.clocks: dict[int, npt.NDArray[np.int64]] = {}
        self.known = {queue: np.full(len(self.queues), -1, np.int64) for queue in self.queues}
        self.order: list[Step] = []
        self.found: list[Finding] = []
        progress = True
        while progress:
            progress = False
            for queue in self.queues:
                while self._advance(queue):
                    progress = True
        self._leftovers()

    def _head(self, queue: Queue) -> Step | None:
        items, at = self.queues[queue], self.heads[queue]
        return items[at] if at < len(items) else None

    def _ready(self, step: Step) -> bool:
        core, own = step.core, step.instruction.queue
        pops = [((core, other), own) for other in step.instruction.pop]
        pushes = [((core, own), other) for other in step.instruction.push]
        return all(len(self.given[line]) > self.taken[line] for line in pops) and all(
            len(self.given[line]) - self.taken[line] < self.depth for line in pushes
        )

    def _advance(self, queue: Queue) -> bool:
        step = self._head(queue)
        if step is None or step.instruction.name in TAKES or not self._ready(step):
            return False
        if step.instruction.name not in GIVES:
            self._retire(step, None)
            return True
        taker = self._head((peer(step), "N"))
        if taker is None or not self._ready(taker) or not _meet(step, taker):
            return False
        self._retire(step, None)
        self._retire(taker, self.clocks[step.index])
        return True

    def _retire(self, step: Step, heard: npt.NDArray[np.int64] | None) -> None:
        queue = (step.core, step.instruction.queue)
        clock = self.known[queue].copy() if heard is None else np.maximum(self.known[queue], heard)
        for other in step.instruction.pop:
            line = ((step.core, other), queue[1])
            clock = np.maximum(clock, self.clocks[self.given[line][self.taken[line]]])
            self.taken[line] += 1
        clock[self.place[queue]] = self.heads[queue]
        self.known[queue] = self.clocks[step.index] = clock
        for other in step.instruction.push:
            self.given[queue, other].append(step.index)
        self.order.append(step)
        self.heads[queue] += 1

    def _leftovers(self) -> None:
        for queue in self.queues:
            step = self._head(queue)
            if step is not None:
                what = (
                    "a message" if step.instruction.name in GIVES | TAKES and self._ready(step) else "a token"
                )
                text = f"queue {queue[1]} of core {queue[0]} waits for {what} for ever"
                self.found.append(Finding("stuck", step.index, text))
        for (queue, other), tokens in sorted(self.given.items()):
            missing = len(tokens) - self.taken[queue, other]
            if missing:
                text = f"{missing} token(s) from {queue[1]} to {other} of core {queue[0]}"
                self.found.append(Finding("left over", tokens[-missing], text))


def _meet(giver: Step, taker: Step) -> bool:
    """Whether two instructions are the ends of one message."""
    names = (giver.instruction.name, taker.instruction.name)
    if names not in (("SEND", "RECV"), ("SIGNAL", "AWAIT")) or peer(taker) != giver.core:
        return False
    if giver.instruction.fields["tag"] != taker.instruction.fields["tag"]:
        return False
    if names[0] == "SIGNAL":
        return True
    src, dst = giver.operands["src"], taker.operands["dst"]
    return (src.shape, src.dtype) == (dst.shape, dst.dtype)


class _Last:
    """The last access of every queue that can reach a memory to every part of it."""

    def __init__(self, points: set[int], queues: range) -> None:
        self.points, self.queues = sorted(points), queues
        self.wrote = np.full((len(queues), len(self.points)), -1, np.int64)
        self.read = np.full((len(queues), len(self.points)), -1, np.int64)

    def part(self, place: Descriptor) -> slice:
        low, high = place.span
        return slice(bisect_left(self.points, low), bisect_left(self.points, high))


def _space(step: Step, place: Descriptor) -> tuple[int, str]:
    """Return whose memory it is, -1 for the one that is shared, and which."""
    return (-1 if place.memory == "DRAM" else step.core, place.memory)


def _races(order: Sequence[Step], clocks: dict[int, npt.NDArray[np.int64]], cores: int) -> list[Finding]:
    """Find accesses to common bytes, one of them a write, that nothing orders."""
    cuts: dict[tuple[int, str], set[int]] = defaultdict(set)
    for step in order:
        for place, _ in step.accesses():
            cuts[_space(step, place)].update(place.span)
    width = len(QUEUES)
    last = {
        space: _Last(points, range(cores * width) if space[0] < 0 else _queues_of(space[0]))
        for space, points in cuts.items()
    }
    found = []
    place_in_queue = [0] * (cores * width)
    for step in order:
        own = step.core * width + QUEUES.index(step.instruction.queue)
        touched = []
        for place, writes in step.accesses():
            memory = last[_space(step, place)]
            part = memory.part(place)
            latest = memory.wrote[:, part].max(axis=1)
            if writes:
                latest = np.maximum(latest, memory.read[:, part].max(axis=1))
            clock = clocks[step.index][memory.queues.start : memory.queues.stop]
            for other in np.flatnonzero(latest > clock) + memory.queues.start:
                if other != own:
                    low, high = place.span
                    core, queue = divmod(int(other), width)
                    text = f"{place.memory} {low}..{high} against queue {QUEUES[queue]} of core {core}"
                    found.append(Finding("race", step.index, text))
            touched.append((memory, part, writes))
        for memory, part, writes in touched:
            (memory.wrote if writes else memory.read)[own - memory.queues.start, part] = place_in_queue[own]
        place_in_queue[own] += 1
    return found


def _queues_of(core: int) -> range:
    return range(core * len(QUEUES), (core + 1) * len(QUEUES))


def _unset(order: Sequence[Step], image: int, inputs: Sequence[Port]) -> list[Finding]:
    """Find reads of bytes that nobody has written, or that were written as elements of another type."""
    reach: dict[tuple[int, str], int] = defaultdict(int)
    reach[-1, "DRAM"] = image
    for port in inputs:
        reach[-1, "DRAM"] = max(reach[-1, "DRAM"], port.place.span[1])
    for step in order:
        for place, _ in step.accesses():
            reach[_space(step, place)] = max(reach[_space(step, place)], place.span[1])
    # Of every byte: of which type it was written, and which byte of its element it is.
    known = {space: np.zeros(-(-size // 8) * 8, np.uint8) for space, size in reach.items()}
    known[-1, "DRAM"][:image] = _CONSTANT
    for port in inputs:
        _marks(known[-1, "DRAM"], port.place)[...] = 0 if port.late else _mark(port.place.dtype)
    found = []
    for step in order:
        adds = step.instruction.fields.get("add", 1)
        for item in step.instruction.form.fields:
            if item.role not in ("reads", "updates") or (item.role == "updates" and not adds):
                continue
            place = step.operands[item.name]
            if (wrong := _unlike(_marks(known[_space(step, place)], place), place)) is not None:
                kind, why = wrong
                found.append(Finding(kind, step.index, f"reads {place.memory} {place.span} {why}"))
        for place, writes in step.accesses():
            if writes:
                _marks(known[_space(step, place)], place)[...] = _mark(place.dtype)
    return found


#: Mark of constants, which are what their bytes say.
_CONSTANT = 0xFF


def _mark(dtype: str) -> int:
    """Return what marks the bytes of one element of a type."""
    size = DTYPE_OF[dtype].itemsize
    return sum((8 * (DTYPES.index(dtype) + 1) + byte) << (8 * byte) for byte in range(size))


def _marks(memory: npt.NDArray[np.uint8], place: Descriptor) -> npt.NDArray[Any]:
    """Return the marks of the elements of a descriptor, each as one number."""
    words = memory.view(f"u{place.itemsize}")[place.base // place.itemsize :]
    strides = tuple(stride * place.itemsize for stride in place.strides)
    return np.lib.stride_tricks.as_strided(words, place.shape, strides)


def _unlike(marks: npt.NDArray[Any], place: Descriptor) -> tuple[str, str] | None:
    """Return which proof fails, and why, where elements are not what their reader takes them for."""
    other = marks[marks != _mark(place.dtype)]
    if not other.size:
        return None
    bytes_of = other.view(np.uint8).reshape(-1, place.itemsize)
    if not bytes_of.all():
        return "unset", "before it is written"
    if (bytes_of[(bytes_of != _CONSTANT).any(axis=1)]).size:
        return "type", f"as {place.dtype}, which was written as another type"
    return None


def overlaps(regions: Sequence[Region]) -> list[Finding]:
    """Find regions of a memory that share bytes while both are alive, by comparing every pair."""
    found = []
    memories: dict[tuple[int, str], list[Region]] = defaultdict(list)
    for region in regions:
        memories[region.core, region.memory].append(region)
    for (_, memory), items in memories.items():
        table = np.array(
            [(item.address, item.address + item.size, item.first, item.last) for item in items], np.int64
        )
        for index, (low, high, first, last) in enumerate(table):
            rest = table[index + 1 :]
            meets = (rest[:, 0] < high) & (low < rest[:, 1]) & (rest[:, 2] <= last) & (first <= rest[:, 3])
            for other in np.flatnonzero(meets):
                names = f"{items[index].name} and {items[index + 1 + int(other)].name}"
                found.append(Finding("overlap", int(first), f"{memory}: {names}"))
    return found
