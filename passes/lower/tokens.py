"""Tokens: every pair of accesses that must keep their order, in different queues, is ordered by a token."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from snnc.isa.program import Descriptor
from snnc.isa.table import QUEUES

__all__ = ["Access", "Tokens", "order_queues"]


@dataclass(frozen=True)
class Access:
    """One instruction as the hazard analysis sees it.

    Attributes:
        queue: Its queue.
        touched: What it touches, and whether it writes.
        waits: Whether it waits for all that came before it.
    """

    queue: str
    touched: tuple[tuple[Descriptor, bool], ...]
    waits: bool = False


@dataclass
class Tokens:
    """Queues from which, and to which, an instruction takes and gives tokens."""

    pop: list[set[str]] = field(default_factory=list)
    push: list[set[str]] = field(default_factory=list)


class _Memory:
    """The last access of every queue to every part of a memory."""

    def __init__(self, cuts: list[int]) -> None:
        self.cuts = cuts
        self.wrote = np.full((len(QUEUES), max(1, len(cuts))), -1, np.int64)
        self.read = np.full((len(QUEUES), max(1, len(cuts))), -1, np.int64)

    def part(self, place: Descriptor) -> slice:
        low, high = place.span
        return slice(bisect_left(self.cuts, low), bisect_left(self.cuts, high))


def order_queues(accesses: Sequence[Access], depth: int) -> Tokens:
    """Find the tokens that make any interleaving of the queues do what program order does.

    Args:
        accesses: The program.
        depth: Most tokens that may wait on a line.

    Returns:
        The tokens of each instruction.
    """
    cuts: dict[str, set[int]] = {}
    for access in accesses:
        for place, _ in access.touched:
            cuts.setdefault(place.memory, set()).update(place.span)
    memories = {name: _Memory(sorted(points)) for name, points in cuts.items()}
    tokens = Tokens([set() for _ in accesses], [set() for _ in accesses])
    known = np.full((len(QUEUES), len(QUEUES)), -1, np.int64)  # what each queue knows to be done, per queue
    clock = np.full((len(accesses), len(QUEUES)), -1, np.int64)
    issued: list[list[int]] = [[] for _ in QUEUES]
    for index, access in enumerate(accesses):
        own = QUEUES.index(access.queue)
        needs = np.full(len(QUEUES), -1, np.int64)
        if access.waits:
            needs = np.array([queue[-1] if queue else -1 for queue in issued])
        for place, writes in access.touched:
            memory = memories[place.memory]
            part = memory.part(place)
            needs = np.maximum(needs, memory.wrote[:, part].max(axis=1))
            if writes:
                needs = np.maximum(needs, memory.read[:, part].max(axis=1))
        for other, queue in enumerate(QUEUES):
            if other == own or needs[other] <= known[own, other]:
                continue
            # Given late enough, so that never more tokens wait than the line holds.
            recent = issued[other][-min(len(issued[other]), depth)]
            giver = max(int(needs[other]), recent)
            tokens.push[giver].add(access.queue)
            tokens.pop[index].add(queue)
            known[own] = np.maximum(known[own], clock[giver])
        known[own, own] = index
        clock[index] = known[own]
        issued[own].append(index)
        for place, writes in access.touched:
            memory = memories[place.memory]
            (memory.wrote if writes else memory.read)[own, memory.part(place)] = index
    return tokens
