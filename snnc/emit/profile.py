"""One simulated sample, line by line: cycles and energy, counted, expected and at worst."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from snnc.cost.activity import Activity, estimated, measured
from snnc.cost.machine import Energy, Timing, energy, prices_of, schedule, total
from snnc.emit.compiled import Compiled
from snnc.emit.vectors import Vectors
from snnc.isa.order import GIVES, peer
from snnc.isa.program import Step, follow
from snnc.runtimes.expg1.machine import Order

__all__ = ["Profile", "profile"]

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Profile:
    """What one sample costs.

    Attributes:
        steps: The program with operands.
        done: What each instruction did.
        expected: What it would do if every code were as likely as any other.
        worst: What it would do if every code had its most spikes.
        energies: Energy of each instruction, as counted.
        timing: When each ran, as counted.
        delays: Cycles that a message is under way from one core to another.
        checks: CRC-32 of what each wrote; 0 where it wrote nothing.
        ports: What the host wrote, by tensor.
        device: What the machine gave, by tensor.
        outputs: Outputs of the network.
        vectors: Vectors for the Verilog units, files by name.
    """

    steps: list[Step]
    done: list[Activity]
    expected: list[Activity]
    worst: list[Activity]
    energies: list[Energy]
    timing: Timing
    checks: list[int]
    ports: dict[str, Array]
    device: dict[str, Array]
    outputs: dict[str, Array]
    vectors: dict[str, bytes] = field(default_factory=dict)
    delays: Mapping[tuple[int, int], int] = field(default_factory=dict)

    @property
    def energy(self) -> Energy:
        """The sum of all lines."""
        return total(self.energies)

    @property
    def sops(self) -> int:
        """Synaptic operations."""
        return sum(item.sops for item in self.done)

    def makespans(self) -> tuple[int, int, int]:
        """Return cycles in all: as counted, expected, at worst."""
        expected = schedule(self.steps, [item.cycles for item in self.expected], self.delays)
        worst = schedule(self.steps, [item.cycles for item in self.worst], self.delays)
        return self.timing.makespan, expected.makespan, worst.makespan


def profile(compiled: Compiled, feeds: Mapping[str, Array], *, order: Order = "parallel") -> Profile:
    """Simulate one sample and count.

    Args:
        compiled: The program.
        feeds: Inputs of the network, one sample.
        order: Parallel or serial time-steps.
    """
    program = compiled.program
    steps = list(follow(program.instructions))
    hops = [program.hops(step.core, peer(step)) if step.instruction.name in GIVES else 0 for step in steps]
    count = len(program.sites)
    delays = {
        (first, second): program.hops(first, second) * program.arch.hop_cycles
        for first in range(count)
        for second in range(count)
    }
    runtime = compiled.runtime(order=order)
    done: dict[int, Activity] = {}
    checks = [0] * len(steps)
    vectors = Vectors()

    def watch(step: Step, given: Mapping[str, Array], written: Array | None) -> None:
        done[step.index] = measured(step, given, program.arch, hops[step.index])
        vectors.watch(step, given, written)
        if written is not None:
            checks[step.index] = zlib.crc32(np.ascontiguousarray(written).tobytes())

    ports, device, _ = runtime.execute(feeds, watch=watch)
    outputs = runtime.finish({**feeds, **ports, **device})
    counted = [done[index] for index in range(len(steps))]
    prices = prices_of(program.arch)
    return Profile(
        steps,
        counted,
        [
            estimated(step, line, program.arch, hops[step.index], worst=False)
            for step, line in zip(steps, program.lines, strict=True)
        ],
        [
            estimated(step, line, program.arch, hops[step.index], worst=True)
            for step, line in zip(steps, program.lines, strict=True)
        ],
        [energy(item, prices) for item in counted],
        schedule(steps, [item.cycles for item in counted], delays),
        checks,
        ports,
        device,
        outputs,
        vectors.files,
        delays,
    )
