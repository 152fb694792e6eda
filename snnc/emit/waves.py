"""A trace as waves: which instruction each queue works on, and the synaptic operations so far."""

from __future__ import annotations

import io

from vcd import VCDWriter

from snnc.emit.profile import Profile
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
        pcs = {q: writer.register_var(f"core0.{q}", "pc", "integer", size=32, init=0) for q in QUEUES}
        busy = {q: writer.register_var(f"core0.{q}", "busy", "wire", size=1, init=0) for q in QUEUES}
        sops = writer.register_var("core0", "sops", "integer", size=64, init=0)
        done = 0
        for time, _, index, begins in sorted(events):
            queue_name = counted.steps[index].instruction.queue
            if begins:
                writer.change(pcs[queue_name], time, index)
            else:
                done += counted.done[index].sops
                writer.change(sops, time, done)
            writer.change(busy[queue_name], time, int(begins))
    return stream.getvalue()
