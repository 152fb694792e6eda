"""Cycles and energy of a program of ExpG-1: per line, in total, and over time."""

from __future__ import annotations

import json
import math
from collections import defaultdict, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from snnc.cost.activity import Activity
from snnc.cost.constants import PRICES, SRAM_SIZES, price
from snnc.isa.arch import Arch
from snnc.isa.order import GIVES, TAKES, Queue, cores_of, in_turn, peer
from snnc.isa.program import Step
from snnc.isa.table import QUEUES

__all__ = ["Energy", "Timing", "constants_file", "energy", "schedule", "sram_price", "total"]

_IMEM = 64 * 1024


@dataclass(frozen=True)
class Energy:
    """Three energies of the same work, pJ.

    Attributes:
        papers: 0.9 pJ a synaptic operation; no memory, no routing.
        datapath: Integer additions and comparisons.
        full: Datapath, memories, DRAM, network and instruction fetch.
    """

    papers: float
    datapath: float
    full: float

    def __add__(self, other: Energy) -> Energy:
        return Energy(self.papers + other.papers, self.datapath + other.datapath, self.full + other.full)


@dataclass(frozen=True)
class Timing:
    """When instructions ran.

    Attributes:
        starts: First cycle of each instruction.
        ends: The cycle behind its last.
        busy: Cycles that each queue of each core worked.
        makespan: Cycles in all.
    """

    starts: list[int]
    ends: list[int]
    busy: Mapping[Queue, int]
    makespan: int


def sram_price(size: int) -> float:
    """Return the energy of a byte from a memory of some size, pJ, between published sizes in proportion.

    Args:
        size: Bytes of the memory.
    """
    sizes = sorted(SRAM_SIZES)
    prices = [price(SRAM_SIZES[known]) / 8 for known in sizes]
    # On a doubly logarithmic scale, as in Horowitz's figure; beyond the ends the last slope goes on.
    place = min(max(1, sum(size > known for known in sizes)), len(sizes) - 1)
    low, high = math.log(sizes[place - 1]), math.log(sizes[place])
    share = (math.log(size) - low) / (high - low)
    return math.exp(math.log(prices[place - 1]) * (1 - share) + math.log(prices[place]) * share)


def prices_of(arch: Arch) -> dict[str, float]:
    """Return the energy of a byte in each memory, and over one hop of the network, pJ."""
    found = {memory: sram_price(arch.capacity(memory)) for memory in ("WMEM", "SMEM", "AMEM", "TMEM")}
    found |= {"IMEM": sram_price(_IMEM), "DRAM": price("dram_64bit") / 8}
    return found if arch.cores == 1 else {**found, "NOC": price("noc_hop_32bit") / 4}


def energy(done: Activity, bytes_: Mapping[str, float]) -> Energy:
    """Price what an instruction does.

    Args:
        done: Its activity.
        bytes_: Energy of a byte by memory, from `prices_of`.
    """
    operations = done.sops + done.additions + done.comparisons
    datapath = price("int32_add") * operations
    moved = sum(bytes_[memory] * count for memory, count in done.traffic.items())
    return Energy(price("ac") * done.sops, datapath, datapath + moved)


def total(lines: Iterable[Energy]) -> Energy:
    """Add up lines."""
    result = Energy(0.0, 0.0, 0.0)
    for line in lines:
        result = result + line
    return result


def schedule(
    steps: Sequence[Step], cycles: Sequence[int], delays: Mapping[tuple[int, int], int] | None = None
) -> Timing:
    """Let the queues run as soon as tokens and messages allow.

    Args:
        steps: The program; the order of each core's text is a legal one.
        cycles: Cycles of each instruction.
        delays: Cycles that a message is under way from one core to another.
    """
    queues = [(core, queue) for core in range(cores_of(steps)) for queue in QUEUES]
    free = dict.fromkeys(queues, 0)
    busy = dict.fromkeys(queues, 0)
    given: dict[tuple[Queue, str], list[int]] = defaultdict(list)
    taken: dict[tuple[Queue, str], int] = defaultdict(int)
    under_way: dict[tuple[int, int], deque[int]] = defaultdict(deque)
    starts, ends = [0] * len(steps), [0] * len(steps)
    for step in in_turn(steps):
        name = step.instruction
        queue = (step.core, name.queue)
        start = free[queue]
        if name.name in TAKES:
            start = max(start, under_way[peer(step), step.core].popleft())
        for other in name.pop:
            line = ((step.core, other), name.queue)
            start = max(start, given[line][taken[line]])
            taken[line] += 1
        end = start + cycles[step.index]
        if name.name in GIVES:
            way = (step.core, peer(step))
            under_way[way].append(end + (delays or {}).get(way, 0))
        for other in name.push:
            given[queue, other].append(end)
        free[queue] = end
        busy[queue] += cycles[step.index]
        starts[step.index], ends[step.index] = start, end
    return Timing(starts, ends, busy, max(ends, default=0))


def constants_file() -> bytes:
    """Return the content of ``constants_45nm.json``, whose hash the report has."""
    return (json.dumps(constants(), indent=2) + "\n").encode()


def constants() -> dict[str, dict[str, object]]:
    """Return every price with its meaning and source, for a file."""
    return {
        name: {"picojoules": item.picojoules, "meaning": item.meaning, "source": item.source}
        for name, item in sorted(PRICES.items())
    }
