"""The check of a routing table against the words: nothing of it is taken on trust.

Every packet is walked from router to router by the table alone. Routers that hold a link while they wait for
the next one cannot wait in a circle if the links that follow each other on any way form no cycle.
"""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from snnc.errors import InputError
from snnc.isa.codec import decode_all
from snnc.isa.program import Step, follow
from snnc.isa.proofs import Finding

__all__ = ["check_routes"]

_MOVES = {"E": (1, 0), "W": (-1, 0), "S": (0, 1), "N": (0, -1)}
Link = tuple[tuple[int, int], str]


def check_routes(binary: bytes, table: Mapping[str, Any]) -> list[Finding]:
    """Check a routing table.

    Args:
        binary: The words of all cores.
        table: The content of ``routing.json``.

    Returns:
        What is wrong; empty if nothing is.
    """
    try:
        steps = list(follow(decode_all(binary)))
        sites = [(int(column), int(row)) for column, row in table["sites"]]
        ports = {(int(e["router"][0]), int(e["router"][1])): str(e["ports"]) for e in table["tables"]}
        rows = [tuple(map(int, row)) for row in table["messages"]]
        loads = {
            ((int(e["router"][0]), int(e["router"][1])), e["port"]): int(e["bytes"]) for e in table["links"]
        }
    except (InputError, KeyError, TypeError, ValueError, IndexError) as error:
        return [Finding("route", -1, f"the table cannot be read: {error}")]
    found = list(_cores(steps, sites, table))
    found += _messages(steps, rows)
    if found:
        return found
    ways: dict[tuple[int, int], list[Link]] = {}
    for _, sender, receiver, *_ in rows:
        if (sender, receiver) not in ways:
            way = _walk(sites, ports, sender, receiver)
            if isinstance(way, Finding):
                return [way]
            ways[sender, receiver] = way
    passed: Counter[Link] = Counter()
    for _, sender, receiver, size, *_ in rows:
        for link in ways[sender, receiver]:
            passed[link] += size
    if dict(passed) != loads:
        found.append(Finding("route", -1, "the loads of the links are not what the messages add up to"))
    if _cycle(ways.values()):
        found.append(Finding("route", -1, "ways through the network can wait for each other in a circle"))
    return found


def _cores(
    steps: Sequence[Step], sites: Sequence[tuple[int, int]], table: Mapping[str, Any]
) -> Iterator[Finding]:
    cores = 1 + max((step.core for step in steps), default=0)
    if len(sites) != cores or table.get("cores") != cores:
        yield Finding("route", -1, f"the table has {len(sites)} cores, the words {cores}")
    if len(set(sites)) != len(sites):
        yield Finding("route", -1, "two cores stand on one site")


def _messages(steps: Sequence[Step], rows: Sequence[tuple[int, ...]]) -> Iterator[Finding]:
    """Compare what is given and taken in the words with each other and with the table."""
    first: dict[int, int] = {}
    given: dict[int, list[tuple[int, ...]]] = defaultdict(list)
    taken: dict[int, list[tuple[int, ...]]] = defaultdict(list)
    pcs: dict[int, int] = {}
    for step in steps:
        first.setdefault(step.core, step.index)
        name, fields = step.instruction.name, step.instruction.fields
        size = sum(place.elements * place.itemsize for place in step.operands.values())
        at = step.index - first[step.core]
        if name in ("SEND", "SIGNAL"):
            given[fields["tag"]].append((step.core, fields["core"], size, at))
            pcs[fields["tag"]] = step.index
        elif name in ("RECV", "AWAIT"):
            taken[fields["tag"]].append((fields["core"], step.core, size, at))
            pcs.setdefault(fields["tag"], step.index)
    listed = {row[0]: row for row in rows}
    if len(listed) != len(rows):
        yield Finding("route", -1, "the table lists a message twice")
    for tag in sorted({*given, *taken, *listed}):
        pc = pcs.get(tag, -1)
        if len(given[tag]) != 1 or len(taken[tag]) != 1:
            yield Finding(
                "route", pc, f"message {tag} is given {len(given[tag])} and taken {len(taken[tag])} times"
            )
        elif given[tag][0][:3] != taken[tag][0][:3]:
            yield Finding("route", pc, f"message {tag} is not given and taken alike")
        elif listed.get(tag) != (tag, *given[tag][0], taken[tag][0][3]):
            yield Finding("route", pc, f"message {tag} is not as the table lists it")


def _walk(
    sites: Sequence[tuple[int, int]], ports: Mapping[tuple[int, int], str], sender: int, receiver: int
) -> list[Link] | Finding:
    """Follow a packet from a core to where the routers deliver it; return its links, or what is wrong."""
    here = sites[sender]
    way: list[Link] = []
    for _ in range(len(ports) + 1):
        row = ports.get(here, "")
        port = row[receiver] if receiver < len(row) else ""
        if port == "C":
            if here == sites[receiver]:
                return way
            return Finding("route", -1, f"packets from {sender} to {receiver} are delivered at {here}")
        if port not in _MOVES:
            return Finding("route", -1, f"router {here} does not know the way to core {receiver}")
        way.append((here, port))
        here = (here[0] + _MOVES[port][0], here[1] + _MOVES[port][1])
    return Finding("route", -1, f"packets from {sender} to {receiver} go in a circle")


def _cycle(ways: Any) -> bool:
    """Whether links that follow each other on some way form a cycle."""
    after: dict[Link, set[Link]] = defaultdict(set)
    before: Counter[Link] = Counter()
    for way in ways:
        for link, following in itertools.pairwise(way):
            if following not in after[link]:
                after[link].add(following)
                before[following] += 1
    free = [link for link in after if not before[link]]
    seen = 0
    while free:
        link = free.pop()
        seen += 1
        for following in after.get(link, ()):
            before[following] -= 1
            if not before[following]:
                free.append(following)
    return seen < len({*after, *before})
