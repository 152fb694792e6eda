"""A network compiled for ExpG-1, with the proofs about its words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from snnc.emit.routing import routing
from snnc.errors import InternalError, Problem, UnsupportedError, Where
from snnc.ir import Model
from snnc.isa.arch import Arch
from snnc.isa.codec import encode_all
from snnc.isa.intervals import Reach, bound
from snnc.isa.program import Program
from snnc.isa.proofs import Finding, overlaps, prove
from snnc.isa.routes import check_routes
from snnc.passes.lower.lower import lower
from snnc.runtimes.expg1 import Expg1
from snnc.runtimes.expg1.machine import Order

__all__ = ["Compiled", "compile_program", "proofs"]


@dataclass(frozen=True)
class Compiled:
    """A proved program.

    Attributes:
        model: The network.
        program: The program.
        binary: Its words.
        reach: Range of every result.
    """

    model: Model
    program: Program
    binary: bytes
    reach: Reach

    def runtime(self, *, order: Order = "parallel", seed: int | None = None) -> Expg1:
        """Return an executor of the words.

        Args:
            order: ``parallel`` or ``serial`` time-steps.
            seed: None for program order; a number draws legal interleavings of the queues.
        """
        return Expg1(self.model, self.program, self.binary, order=order, seed=seed)


def compile_program(model: Model, arch: Arch | None = None) -> Compiled:
    """Compile a network and prove its program.

    Args:
        model: A converted network.
        arch: The machine; None for the reference sizes.

    Raises:
        UnsupportedError: SNN470 to SNN472, something has no instructions; SNN480, SNN481, it does not fit;
            SNN482, a sum may leave its element type.
        InternalError: SNN172, a proof fails.
    """
    program = lower(model, arch)
    binary = encode_all(program.instructions)
    found, reach = proofs(program, binary, routing(program))
    if found:
        raise InternalError(
            "SNN172",
            "the compiled program is wrong",
            problems=[
                Problem(f"{item.kind}: {item.text}", Where(node=program.lines[max(0, item.pc)].node))
                for item in found[:20]
            ],
        )
    if reach.overflows:
        raise UnsupportedError(
            "SNN482",
            "results may leave their element type",
            problems=[
                Problem(f"{item.low} .. {item.high} in {item.dtype}", Where(node=program.lines[item.pc].node))
                for item in reach.overflows[:20]
            ],
            hint="convert with narrower weights or fewer time-steps",
        )
    return Compiled(model, program, binary, reach)


def proofs(program: Program, binary: bytes, routes: Mapping[str, Any]) -> tuple[list[Finding], Reach]:
    """Prove a program from its words.

    Args:
        program: Machine, constants, ports, memory map.
        binary: Its words.
        routes: Its routing table.

    Returns:
        What is wrong, empty if nothing is; and the range of every result.
    """
    found = prove(binary, program.arch, len(program.image), program.inputs) + overlaps(program.regions)
    found += check_routes(binary, routes) if not found else []
    reach = Reach([], {}) if found else bound(program, binary)
    return found + reach.stops, reach
