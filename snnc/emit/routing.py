"""The routing table: where cores stand, where routers send each packet, and what passes each link."""

from __future__ import annotations

from collections import Counter
from typing import Any

from snnc.isa.order import GIVES, first_of, peer
from snnc.isa.program import Program, Step, follow

__all__ = ["routing"]


def routing(program: Program) -> dict[str, Any]:
    """Return the content of ``routing.json``.

    Packets go along the row first, then along the column: ports are E, W, N, S and C for the core itself.
    """
    steps = list(follow(program.instructions))
    firsts = first_of(steps)
    sites = program.sites
    takes = {
        (peer(step), step.core, step.instruction.fields["tag"]): step
        for step in steps
        if step.instruction.name in ("RECV", "AWAIT")
    }
    links: Counter[tuple[int, int, str]] = Counter()
    messages = []
    for step in steps:
        if step.instruction.name not in GIVES:
            continue
        tag = step.instruction.fields["tag"]
        size = sum(place.elements * place.itemsize for place in step.operands.values())
        taker: Step = takes[step.core, peer(step), tag]
        messages.append(
            [
                tag,
                step.core,
                peer(step),
                size,
                step.index - firsts[step.core],
                taker.index - firsts[taker.core],
            ]
        )
        column, row = sites[step.core]
        while (port := _port((column, row), sites[peer(step)])) != "C":
            links[column, row, port] += size
            column, row = column + (port == "E") - (port == "W"), row + (port == "S") - (port == "N")
    routers = sorted({(column, row) for column in _columns(program) for row in _rows(program)})
    return {
        "cores": len(sites),
        "sites": [list(site) for site in sites],
        "tables": [
            {"router": list(router), "ports": "".join(_port(router, site) for site in sites)}
            for router in routers
            if len(sites) > 1
        ],
        "message_fields": ["tag", "from", "to", "bytes", "given at", "taken at"],
        "messages": sorted(messages),
        "links": [
            {"router": [column, row], "port": port, "bytes": size}
            for (column, row, port), size in sorted(links.items())
        ],
    }


def _columns(program: Program) -> range:
    return range(1 + max(column for column, _ in program.sites))


def _rows(program: Program) -> range:
    return range(1 + max(row for _, row in program.sites))


def _port(router: tuple[int, int], site: tuple[int, int]) -> str:
    """Return the port of a router towards a site: along the row, then along the column."""
    if router[0] != site[0]:
        return "E" if site[0] > router[0] else "W"
    if router[1] != site[1]:
        return "S" if site[1] > router[1] else "N"
    return "C"
