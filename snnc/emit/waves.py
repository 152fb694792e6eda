"""A trace as waves: what each queue works on, tokens that wait between queues, synaptic operations so far."""

from __future__ import annotations

import io

from vcd import VCDWriter

from snnc.emit.profile import Profile
from snnc.isa.order import cores_of, first_of
from snnc.isa.table import QUEUES

__all__ = ["trace_vcd"]


def trace_vcd(counted: Profile) -> str:
    """Return a VCD file; one unit of time is one cycle."""
    stream = io.StringIO()
    events: list[tuple[int, int, int, bool]] = []
    for step, start, end in zip(counted.steps, counted.timing.starts, counted.timing.ends, strict=True):
        # At equal times an instruction ends before the next one begins.
        events += [(end, 0, step.index, False), (start, 1, step.index, True)]
    with VCDWriter(stream, timescale="1 ns", date="", comment="", version="") as writer:
        cores = range(cores_of(counted.steps))
        queues = [(core, queue) for core in cores for queue in QUEUES]
        scopes = {queue: f"core{queue[0]}.{queue[1]}" for queue in queues}
        pcs = {q: writer.register_var(scopes[q], "pc", "integer", size=32, init=0) for q in queues}
        busy = {q: writer.register_var(scopes[q], "busy", "wire", size=1, init=0) for q in queues}
        sops = [writer.register_var(f"core{core}", "sops", "integer", size=64, init=0) for core in cores]
        lines = sorted(
            {(s.core, s.instruction.queue, other) for s in counted.steps for other in s.instruction.push}
        )
        tokens = {
            line: writer.register_var(f"core{line[0]}", f"tokens_{line[1]}_{line[2]}", "integer", 8, init=0)
            for line in lines
        }
        waiting = dict.fromkeys(lines, 0)
        done = [0 for _ in cores]
        firsts = first_of(counted.steps)
        for time, _, index, begins in sorted(events):
            step = counted.steps[index]
            queue = (step.core, step.instruction.queue)
            moved = (
                [((step.core, other, queue[1]), -1) for other in step.instruction.pop]
                if begins
                else [((*queue, other), 1) for other in step.instruction.push]
            )
            for line, change in moved:
                waiting[line] += change
                writer.change(tokens[line], time, waiting[line])
            if begins:
                writer.change(pcs[queue], time, index - firsts[step.core])
            else:
                done[step.core] += counted.done[index].sops
                writer.change(sops[step.core], time, done[step.core])
            writer.change(busy[queue], time, int(begins))
    return stream.getvalue()
