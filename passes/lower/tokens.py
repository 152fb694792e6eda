"""Tokens and signals: every pair of accesses that must keep their order, in different queues, is ordered."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from snnc.isa.program import Descriptor
from snnc.isa.table import QUEUES

__all__ = ["Access", "Entry", "order_queues"]

_WIDTH = len(QUEUES)
_NETWORK = QUEUES.index("N")


@dataclass(frozen=True)
class Access:
    """One instruction as the hazard analysis sees it.

    Attributes:
        queue: Its queue.
        touched: What it touches, and whether it writes.
        waits: Whether it waits for all that came before it on its core.
        core: Its core.
        giver: Index of the instruction that gives the message that this one takes.
        peer: The core at the other end of its message.
    """

    queue: str
    touched: tuple[tuple[Descriptor, bool], ...]
    waits: bool = False
    core: int = 0
    giver: int | None = None
    peer: int | None = None


@dataclass
class Entry:
    """One instruction of the program in its final order.

    Attributes:
        index: Which access it is; -1 for a signal that the analysis adds.
        core: Its core.
        queue: Its queue.
        name: ``SIGNAL`` or ``AWAIT`` for an added one.
        peer: The core at the other end of its message.
        tag: Number of the message.
        pop: Queues from which it takes tokens.
        push: Queues to which it gives tokens.
    """

    index: int
    core: int
    queue: str
    name: str = ""
    peer: int = 0
    tag: int = -1
    pop: set[str] = field(default_factory=set)
    push: set[str] = field(default_factory=set)


class _Memory:
    """The last access of every queue that can reach a memory to every part of it."""

    def __init__(self, points: set[int], queues: range) -> None:
        self.cuts, self.queues = sorted(points), queues
        self.wrote = np.full((len(queues), max(1, len(points))), -1, np.int64)
        self.read = np.full((len(queues), max(1, len(points))), -1, np.int64)

    def part(self, place: Descriptor) -> slice:
        low, high = place.span
        return slice(bisect_left(self.cuts, low), bisect_left(self.cuts, high))


def _space(access: Access, place: Descriptor) -> tuple[int, str]:
    return (-1 if place.memory == "DRAM" else access.core, place.memory)


def order_queues(accesses: Sequence[Access], depth: int, cores: int = 1) -> list[Entry]:
    """Find the tokens that make any interleaving of the queues do what program order does.

    Cores meet in DRAM only; where one must wait for another there, a signal is added.

    Args:
        accesses: The program, all cores in one order.
        depth: Most tokens that may wait on a line.
        cores: Number of cores.

    Returns:
        The accesses and the signals, in order, with the tokens of each.
    """
    return _Analysis(accesses, depth, cores).entries


class _Analysis:
    def __init__(self, accesses: Sequence[Access], depth: int, cores: int) -> None:
        self.depth = depth
        self.entries: list[Entry] = []
        count = cores * _WIDTH
        cuts: dict[tuple[int, str], set[int]] = {}
        for access in accesses:
            for place, _ in access.touched:
                cuts.setdefault(_space(access, place), set()).update(place.span)
        self.memories = {
            space: _Memory(points, range(count) if space[0] < 0 else _queues_of(space[0]))
            for space, points in cuts.items()
        }
        # What each queue knows to be done, per queue, as numbers of entries; the same for each entry.
        self.known = np.full((count, count), -1, np.int64)
        self.clock: list[npt.NDArray[np.int64]] = []
        self.issued: list[list[int]] = [[] for _ in range(count)]
        self.messages = 0
        places: list[int] = []
        for index, access in enumerate(accesses):
            places.append(self._access(index, access, places))

    def _access(self, index: int, access: Access, places: Sequence[int]) -> int:
        count = len(self.known)
        own = access.core * _WIDTH + QUEUES.index(access.queue)
        needs = np.full(count, -1, np.int64)
        if access.waits:
            for other in _queues_of(access.core):
                needs[other] = self.issued[other][-1] if self.issued[other] else -1
        for place, writes in access.touched:
            memory = self.memories[_space(access, place)]
            part, held = memory.part(place), slice(memory.queues.start, memory.queues.stop)
            needs[held] = np.maximum(needs[held], memory.wrote[:, part].max(axis=1))
            if writes:
                needs[held] = np.maximum(needs[held], memory.read[:, part].max(axis=1))
        self._across(access.core, own, needs)
        entry = Entry(index, access.core, access.queue, peer=access.peer or 0)
        if access.giver is not None:
            giver = places[access.giver]
            entry.tag = self.entries[giver].tag
            number = self._issue(entry, needs, self.clock[giver])
        else:
            if access.peer is not None:
                entry.tag = self._tag()
            number = self._issue(entry, needs)
        for place, writes in access.touched:
            memory = self.memories[_space(access, place)]
            table = memory.wrote if writes else memory.read
            table[own - memory.queues.start, memory.part(place)] = number
        return number

    def _tag(self) -> int:
        self.messages += 1
        return self.messages - 1

    def _across(self, core: int, own: int, needs: npt.NDArray[np.int64]) -> None:
        """Let the network queue of a core learn of what other cores must have done; note whom to wait for."""
        network = core * _WIDTH + _NETWORK
        for other in range(len(self.known) // _WIDTH):
            queues = slice(other * _WIDTH, (other + 1) * _WIDTH)
            wanted = np.where(needs[queues] > self.known[own, queues], needs[queues], -1)
            needs[queues] = np.where(other == core, needs[queues], -1)
            if other == core or (wanted < 0).all():
                continue
            if (wanted > self.known[network, queues]).any():
                asked = np.full(len(self.known), -1, np.int64)
                asked[queues] = wanted
                tag = self._tag()
                given = self._issue(Entry(-1, other, "N", "SIGNAL", core, tag), asked)
                none = np.full(len(self.known), -1, np.int64)
                heard = self._issue(Entry(-1, core, "N", "AWAIT", other, tag), none, self.clock[given])
            else:
                heard = self._first(network, queues, wanted)
            needs[network] = max(needs[network], heard)

    def _first(self, network: int, queues: slice, wanted: npt.NDArray[np.int64]) -> int:
        """Return the first entry of a network queue that knows what is wanted."""
        heard = self.issued[network][-1]
        for number in reversed(self.issued[network]):
            if (wanted > self.clock[number][queues]).any():
                break
            heard = number
        return heard

    def _issue(
        self, entry: Entry, needs: npt.NDArray[np.int64], heard: npt.NDArray[np.int64] | None = None
    ) -> int:
        """Append an entry; give it tokens from the queues of its core that it needs."""
        own = entry.core * _WIDTH + QUEUES.index(entry.queue)
        number = len(self.entries)
        if heard is not None:
            self.known[own] = np.maximum(self.known[own], heard)
        for other in _queues_of(entry.core):
            if other == own or needs[other] <= self.known[own, other]:
                continue
            # Given late enough, so that never more tokens wait than the line holds.
            queue = self.issued[other]
            giver = max(int(needs[other]), queue[-min(len(queue), self.depth)])
            self.entries[giver].push.add(entry.queue)
            entry.pop.add(QUEUES[other % _WIDTH])
            self.known[own] = np.maximum(self.known[own], self.clock[giver])
        self.known[own, own] = number
        self.clock.append(self.known[own].copy())
        self.issued[own].append(number)
        self.entries.append(entry)
        return number


def _queues_of(core: int) -> range:
    return range(core * _WIDTH, (core + 1) * _WIDTH)
