"""Proofs about a program, from its words alone: tokens, deadlock, races, bounds, initialised reads.

Queues work in order and only tokens order them, so the k-th token given on a line is the k-th one taken,
whatever the interleaving: one simulated run decides deadlock and token balance for all of them.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from snnc.errors import InputError
from snnc.isa.arch import Arch
from snnc.isa.codec import decode_all
from snnc.isa.program import Descriptor, Port, Region, Step, follow, in_queues
from snnc.isa.table import QUEUES

__all__ = ["Finding", "overlaps", "prove"]


@dataclass(frozen=True)
class Finding:
    """What is wrong with a program.

    Attributes:
        kind: ``stuck``, ``left over``, ``race``, ``bounds``, ``unset``, ``overlap``.
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
    found = [
        Finding("bounds", step.index, f"{place.memory} {place.span} of {arch.capacity(place.memory)} bytes")
        for step in steps
        for place, _ in step.accesses()
        if place.span[0] < 0 or place.span[1] > arch.capacity(place.memory) or place.base % place.itemsize
    ]
    if found:
        return found
    order, clocks, found = _run(steps, arch.token_depth)
    found += _races(order, clocks)
    if not found:
        found += _unset(order, image, inputs)
    return found


def _run(
    steps: Sequence[Step], depth: int
) -> tuple[list[Step], dict[int, npt.NDArray[np.int64]], list[Finding]]:
    """Execute the tokens; return an order, what each instruction knows to be done, and what is wrong."""
    queues = in_queues(steps)
    heads = dict.fromkeys(QUEUES, 0)
    given: dict[tuple[str, str], list[int]] = defaultdict(list)
    taken: dict[tuple[str, str], int] = defaultdict(int)
    clocks: dict[int, npt.NDArray[np.int64]] = {}
    known = {queue: np.full(len(QUEUES), -1, np.int64) for queue in QUEUES}
    order: list[Step] = []
    progress = True
    while progress:
        progress = False
        for queue in QUEUES:
            while heads[queue] < len(queues[queue]):
                step = queues[queue][heads[queue]]
                pops = [(other, queue) for other in step.instruction.pop]
                pushes = [(queue, other) for other in step.instruction.push]
                if any(len(given[line]) <= taken[line] for line in pops) or any(
                    len(given[line]) - taken[line] >= depth for line in pushes
                ):
                    break
                clock = known[queue].copy()
                for line in pops:
                    clock = np.maximum(clock, clocks[given[line][taken[line]]])
                    taken[line] += 1
                clock[QUEUES.index(queue)] = heads[queue]
                known[queue] = clocks[step.index] = clock
                for line in pushes:
                    given[line].append(step.index)
                order.append(step)
                heads[queue] += 1
                progress = True
    found = [
        Finding("stuck", queues[queue][heads[queue]].index, f"queue {queue} waits for a token for ever")
        for queue in QUEUES
        if heads[queue] < len(queues[queue])
    ]
    found += [
        Finding(
            "left over",
            tokens[taken[line]],
            f"{len(tokens) - taken[line]} token(s) from {line[0]} to {line[1]}",
        )
        for line, tokens in sorted(given.items())
        if len(tokens) > taken[line]
    ]
    return order, clocks, found


def _races(order: Sequence[Step], clocks: dict[int, npt.NDArray[np.int64]]) -> list[Finding]:
    """Find accesses to common bytes, one of them a write, that nothing orders."""
    cuts: dict[str, set[int]] = defaultdict(set)
    for step in order:
        for place, _ in step.accesses():
            cuts[place.memory].update(place.span)
    edges = {memory: sorted(points) for memory, points in cuts.items()}
    shape = {memory: (len(QUEUES), len(points)) for memory, points in edges.items()}
    wrote = {memory: np.full(shape[memory], -1, np.int64) for memory in edges}
    read = {memory: np.full(shape[memory], -1, np.int64) for memory in edges}
    found = []
    place_in_queue = dict.fromkeys(QUEUES, 0)
    for step in order:
        own = QUEUES.index(step.instruction.queue)
        parts = []
        for place, writes in step.accesses():
            low, high = place.span
            points = edges[place.memory]
            part = slice(bisect_left(points, low), bisect_left(points, high))
            last = wrote[place.memory][:, part].max(axis=1)
            if writes:
                last = np.maximum(last, read[place.memory][:, part].max(axis=1))
            for other in np.flatnonzero(last > clocks[step.index]):
                if other != own:
                    text = f"{place.memory} {low}..{high} against queue {QUEUES[other]}"
                    found.append(Finding("race", step.index, text))
            parts.append((place.memory, part, writes))
        for memory, part, writes in parts:
            (wrote if writes else read)[memory][own, part] = place_in_queue[step.instruction.queue]
        place_in_queue[step.instruction.queue] += 1
    return found


def _unset(order: Sequence[Step], image: int, inputs: Sequence[Port]) -> list[Finding]:
    """Find reads of bytes that nobody has written, byte by byte."""
    reach: dict[str, int] = defaultdict(int)
    reach["DRAM"] = image
    for place in [place for step in order for place, _ in step.accesses()] + [port.place for port in inputs]:
        reach[place.memory] = max(reach[place.memory], place.span[1])
    known = {memory: np.zeros(size, np.bool_) for memory, size in reach.items()}
    known["DRAM"][:image] = True
    for port in inputs:
        _bytes(known[port.place.memory], port.place)[...] = True
    found = []
    for step in order:
        adds = step.instruction.fields.get("add", 1)
        for place, writes in step.accesses():
            view = _bytes(known[place.memory], place)
            updates = writes and "acc" in step.operands and place is step.operands["acc"] and adds
            if (not writes or updates) and not view.all():
                found.append(
                    Finding("unset", step.index, f"reads {place.memory} {place.span} before it is written")
                )
        for place, writes in step.accesses():
            if writes:
                _bytes(known[place.memory], place)[...] = True
    return found


def _bytes(memory: npt.NDArray[np.bool_], place: Descriptor) -> npt.NDArray[np.bool_]:
    strides = (*(stride * place.itemsize for stride in place.strides), 1)
    return np.lib.stride_tricks.as_strided(memory[place.base :], (*place.shape, place.itemsize), strides)


def overlaps(regions: Sequence[Region]) -> list[Finding]:
    """Find regions of a memory that share bytes while both are alive, by comparing every pair."""
    found = []
    memories: dict[str, list[Region]] = defaultdict(list)
    for region in regions:
        memories[region.memory].append(region)
    for memory, items in memories.items():
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
