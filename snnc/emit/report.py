"""What ``report.json`` of a bundle says: size, fit, cost, proofs."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable
from typing import Any

from snnc.cost.machine import constants_file, prices_of
from snnc.emit.compiled import Compiled
from snnc.emit.profile import Profile
from snnc.isa.codec import Instruction
from snnc.isa.order import GIVES
from snnc.isa.table import FORMS, QUEUES, VERSION

__all__ = ["multiplications", "report"]


#: Sizes of batches with an estimate of energy: parameters come from DRAM once a batch, not once an image.
_BATCHES = (1, 8, 64)


def multiplications(instructions: Iterable[Instruction]) -> int:
    """Return how many instructions take a multiplier, by the table of the instruction set."""
    return sum(FORMS[item.name].multiplies for item in instructions)


def report(compiled: Compiled, counted: Profile) -> dict[str, Any]:
    """Return the report of a compiled network and its golden sample."""
    program = compiled.program
    cores = len(program.sites)
    made, expected, worst = counted.makespans()
    energy = counted.energy
    sops = max(1, counted.sops)
    moved = sum(item.traffic.get("DRAM", 0) for item in counted.done)
    dram = moved * prices_of(program.arch)["DRAM"]
    parameters = _parameter_bytes(compiled, counted) * prices_of(program.arch)["DRAM"]
    peaks = {
        memory: {"peak": peak, "lower_bound": bound, "capacity": program.arch.capacity(memory)}
        for memory, (peak, bound) in program.bounds.items()
    }
    return {
        "scope": "reference architecture ExpG-1: estimates from published 45 nm figures, no silicon",
        "isa": ".".join(map(str, VERSION)),
        "instructions": len(program.instructions),
        "by_instruction": dict(sorted(Counter(item.name for item in program.instructions).items())),
        "memory_bytes": peaks,
        "cycles": {"counted": made, "expected": expected, "worst": worst},
        "milliseconds": {"counted": made / program.arch.clock_mhz / 1000},
        "utilisation": {
            queue: sum(counted.timing.busy[core, queue] for core in range(cores)) / max(1, made * cores)
            for queue in QUEUES
        },
        "cores": _cores(compiled, counted),
        "latency_time_steps": program.latency,
        "sops": counted.sops,
        "additions": sum(item.additions for item in counted.done),
        "comparisons": sum(item.comparisons for item in counted.done),
        "picojoules": {"papers": energy.papers, "datapath": energy.datapath, "full": energy.full},
        "picojoules_per_sop": {
            "datapath": energy.datapath / sops,
            "without_dram": (energy.full - dram) / sops,
            "full": energy.full / sops,
        },
        "picojoules_per_image_of_batch": {
            str(size): energy.full - parameters * (1 - 1 / size) for size in _BATCHES
        },
        "constants_sha256": hashlib.sha256(constants_file()).hexdigest(),
        "multiplications": multiplications(program.instructions),
        "host": {"before": list(program.host[0]), "after": list(program.host[1])},
        "proofs": {
            "tokens": "every token that is given is taken; no queue waits for ever",
            "races": "every two accesses to common bytes, one of them a write, are ordered",
            "memory": "no two things that are alive share bytes; nothing is read before it is written",
            "overflow": f"no result leaves its type for any input; the widest has "
            f"{compiled.reach.accumulator_bits} bits",
        },
    }


def _cores(compiled: Compiled, counted: Profile) -> list[dict[str, Any]]:
    """Return what each core has and does: its place, instructions, work, memories."""
    program, made = compiled.program, max(1, counted.timing.makespan)
    found = []
    for core, (site, bounds) in enumerate(zip(program.sites, program.core_bounds, strict=True)):
        own = [step for step in counted.steps if step.core == core]
        sent = [step for step in own if step.instruction.name == "SEND"]
        found.append(
            {
                "site": list(site),
                "instructions": len(own),
                "sops": sum(counted.done[step.index].sops for step in own),
                "messages": sum(step.instruction.name in GIVES for step in own),
                "bytes_sent": sum(
                    place.elements * place.itemsize for step in sent for place in step.operands.values()
                ),
                "utilisation": {queue: counted.timing.busy[core, queue] / made for queue in QUEUES},
                "memory_bytes": {
                    memory: {"peak": peak, "lower_bound": bound} for memory, (peak, bound) in bounds.items()
                },
            }
        )
    return found


def _parameter_bytes(compiled: Compiled, counted: Profile) -> int:
    """Return the bytes of constants that one sample loads from DRAM."""
    end = len(compiled.program.image)
    return sum(
        counted.done[step.index].traffic.get("DRAM", 0)
        for step in counted.steps
        if step.instruction.name == "LD" and step.operands["src"].span[1] <= end
    )
