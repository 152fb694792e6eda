"""The listing: every word with its address, its assembly, what it is for and what it costs."""

from __future__ import annotations

from collections.abc import Iterator

from snnc.emit.compiled import Compiled
from snnc.emit.profile import Profile
from snnc.isa.assembly import header, line_of
from snnc.isa.codec import WORD_BYTES, place
from snnc.isa.order import first_of

__all__ = ["listing", "memory_map", "trace_csv"]

_SCOPE = "; reference architecture ExpG-1: estimates from published 45 nm figures, no silicon"


def _clean(name: str) -> str:
    """Return a name without what would end a line or look like a separator."""
    return "".join(letter if letter.isprintable() and letter != ";" else "?" for letter in name)


def listing(compiled: Compiled, counted: Profile) -> Iterator[str]:
    """Iterate over the lines of ``model.lst``."""
    yield _SCOPE
    yield "; address: word  assembly ; node > tensor [tile] cycles counted/expected/worst, SOPs, "
    yield "; pJ: papers' convention/integer datapath/full"
    yield header()
    words = compiled.binary
    previous = None
    cores = len(compiled.program.sites)
    firsts = first_of(counted.steps)
    for step, line in zip(counted.steps, compiled.program.lines, strict=True):
        index, instruction = step.index, step.instruction
        if cores > 1 and index == firsts[step.core]:
            yield f"; ==== core {step.core}"
        if line.node != previous:
            yield f"; ---- {_clean(line.node)}"
            previous = line.node
        word = int.from_bytes(words[index * WORD_BYTES : (index + 1) * WORD_BYTES], "little")
        energy = counted.energies[index]
        done, expected, worst = counted.done[index], counted.expected[index], counted.worst[index]
        what = f"{_clean(line.node)} > {_clean(line.tensor)} [{line.tile}]"
        cost = (
            f"cyc {done.cycles}/{expected.cycles}/{worst.cycles} sop {done.sops} "
            f"pJ {energy.papers:.1f}/{energy.datapath:.1f}/{energy.full:.1f}"
        )
        yield f"{place(index - firsts[step.core])}: {word:032x}  {line_of(instruction):<68} ; {what} {cost}"
    total, (made, expected_all, worst_all) = counted.energy, counted.makespans()
    sums = [sum(work.cycles for work in every) for every in (counted.done, counted.expected, counted.worst)]
    yield f"; sum of the lines: cycles {'/'.join(map(str, sums))}, SOPs {counted.sops}"
    yield f"; from start to end, queues side by side: cycles {made}/{expected_all}/{worst_all}"
    yield f"; total: pJ papers {total.papers:.1f}, datapath {total.datapath:.1f}, full {total.full:.1f}"


def memory_map(compiled: Compiled) -> Iterator[str]:
    """Iterate over the lines of ``memmap.csv``: the columns of MiniMalloc, then ours."""
    yield "id,lower,upper,size,offset,memory,kind,core,name"
    for index, region in enumerate(compiled.program.regions):
        name = '"' + _clean(region.name).replace('"', '""') + '"'
        yield (
            f"{index},{region.first},{region.last + 1},{region.size},{region.address},{region.memory},"
            f"{region.kind},{region.core},{name}"
        )


def trace_csv(counted: Profile) -> Iterator[str]:
    """Iterate over the lines of ``trace.csv``: one retired instruction each."""
    firsts = first_of(counted.steps)
    yield "core,pc,queue,instruction,start,end,sops,additions,comparisons,crc32"
    for step, done, start, end, check in zip(
        counted.steps, counted.done, counted.timing.starts, counted.timing.ends, counted.checks, strict=True
    ):
        name = step.instruction
        yield (
            f"{step.core},{step.index - firsts[step.core]},{name.queue},{name.name},{start},{end},"
            f"{done.sops},{done.additions},{done.comparisons},{check:08x}"
        )
