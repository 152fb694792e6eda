"""Cycles and energy of a program of ExpG-1: per line, in total, and over time."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from snnc.cost.activity import Activity
from snnc.cost.constants import PRICES, SRAM_SIZES, price
from snnc.isa.arch import Arch
from snnc.isa.program import Step
from snnc.isa.table import QUEUES

__all__ = ["Energy", "Timing", "energy", "schedule", "sram_price", "total"]

_IMEM = 64 * 1024


@dataclass(frozen=True)
class Energy:
    """Three energies of the same work, pJ.

    Attributes:
        papers: 0.9 pJ a synaptic operation; no memory, no routing.
        datapath: Integer additions and comparisons.
        full: Datapath, memories, DRAM and instruction fetch.
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
        busy: Cycles that each queue worked.
        makespan: Cycles in all.
    """

    starts: list[int]
    ends: list[int]
    busy: Mapping[str, int]
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
    """Return the energy of a byte in each memory, pJ."""
    found = {memory: sram_price(arch.capacity(memory)) for memory in ("WMEM", "SMEM", "AMEM", "TMEM")}
    return {**found, "IMEM": sram_price(_IMEM), "DRAM": price("dram_64bit") / 8}


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


def schedule(steps: Sequence[Step], cycles: Sequence[int]) -> Timing:
    """Let the queues run as soon as tokens allow.

    Args:
        steps: The program; the order of its text is a legal one.
        cycles: Cycles of each instruction.
    """
    free = dict.fromkeys(QUEUES, 0)
    busy = dict.fromkeys(QUEUES, 0)
    given: dict[tuple[str, str], list[int]] = defaultdict(list)
    taken: dict[tuple[str, str], int] = defaultdict(int)
    starts, ends = [], []
    for step, length in zip(steps, cycles, strict=True):
        name = step.instruction
        start = free[name.queue]
        for other in name.pop:
            line = (other, name.queue)
            start = max(start, given[line][taken[line]])
            taken[line] += 1
        end = start + length
        for other in name.push:
            given[name.queue, other].append(end)
        free[name.queue] = end
        busy[name.queue] += length
        starts.append(start)
        ends.append(end)
    return Timing(starts, ends, busy, max(ends, default=0))


def constants() -> dict[str, dict[str, object]]:
    """Return every price with its meaning and source, for a file."""
    return {
        name: {"picojoules": item.picojoules, "meaning": item.meaning, "source": item.source}
        for name, item in sorted(PRICES.items())
    }
