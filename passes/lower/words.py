"""The last step: descriptor registers, tokens, words."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate

from snnc.isa.arch import Arch
from snnc.isa.codec import Instruction
from snnc.isa.program import DTYPE_OF, Descriptor, Line, dense
from snnc.isa.table import DTYPES, FORMS, MEMORIES, QUEUES, REGISTERS
from snnc.passes.lower.folding import Ref
from snnc.passes.lower.tile import Macro
from snnc.passes.lower.tokens import Access, order_queues

__all__ = ["Words", "assemble_words"]

_FRAME = "(program)"


@dataclass
class Words:
    """The programs of all cores, one behind the other, with their lines.

    Attributes:
        instructions: The words.
        lines: What each instruction is for.
        place: Index of each macro in the words.
    """

    instructions: list[Instruction] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)
    place: list[int] = field(default_factory=list)


def _descriptor(ref: Ref) -> Descriptor:
    size = DTYPE_OF[ref.buffer.dtype].itemsize
    base = ref.buffer.address + ref.offset * size
    return Descriptor(ref.buffer.home, ref.buffer.dtype, base, ref.shape, ref.strides)


class _Registers:
    """The descriptors that the queues hold; the one that was used longest ago goes first."""

    def __init__(self) -> None:
        self.held: dict[str, OrderedDict[Descriptor, int]] = {queue: OrderedDict() for queue in QUEUES}

    def take(self, queue: str, places: Sequence[Descriptor]) -> tuple[list[int], list[Instruction]]:
        """Return the register of each descriptor, and the instructions that set those that are not held."""
        held = self.held[queue]
        setup: list[Instruction] = []
        for place in places:
            if place in held:
                held.move_to_end(place)
                continue
            if len(held) < REGISTERS:
                register = len(held)
            else:
                _, register = held.popitem(last=False)
            held[place] = register
            setup += _set(queue, register, place)
        return [held[place] for place in places], setup


def _set(queue: str, register: int, place: Descriptor) -> list[Instruction]:
    extents = {f"n{3 - axis}": n for axis, n in enumerate(place.shape)}
    fields = {
        "td": register,
        "mem": MEMORIES.index(place.memory),
        "dt": DTYPES.index(place.dtype),
        "base": place.base,
        **extents,
    }
    result = [Instruction("TDESC", fields, queue)]
    # Extents of 1 have any stride.
    natural = dense(place.shape)
    if any(s != d and n > 1 for n, s, d in zip(place.shape, place.strides, natural, strict=True)):
        steps = {f"s{3 - axis}": stride for axis, stride in enumerate(place.strides)}
        result.append(Instruction("TSTRIDE", {"td": register, **steps}, queue))
    return result


def assemble_words(order: Sequence[Macro], arch: Arch) -> Words:
    """Make the program of instructions whose buffers have addresses.

    Args:
        order: Instructions of all cores in one order.
        arch: The machine.
    """
    resolved = [{name: _descriptor(ref) for name, ref in macro.lowered.refs.items()} for macro in order]
    accesses: list[Access] = []
    for macro, places in zip(order, resolved, strict=True):
        form = FORMS[macro.lowered.name]
        touched = tuple((places[item.name], item.role != "reads") for item in form.fields if item.role)
        giver = len(accesses) - 1 if form.name == "RECV" else None
        other = macro.peer if form.name in ("SEND", "RECV") else None
        accesses.append(Access(form.queue, touched, core=macro.core, giver=giver, peer=other))
    accesses += [Access("C", (), waits=True, core=core) for core in range(arch.cores)]
    cores = [_Core() for _ in range(arch.cores)]
    # Core and place in its program of each macro; each core's last access is its end.
    where: dict[int, tuple[int, int]] = {}
    for entry in order_queues(accesses, arch.token_depth, arch.cores):
        core = cores[entry.core]
        if 0 <= entry.index < len(order):
            macro = order[entry.index]
            name, line = (
                macro.lowered.name,
                Line(macro.node, macro.tensor, macro.tile, macro.spikes, macro.mean),
            )
            fields = {**macro.lowered.fields, **core.registers_for(name, resolved[entry.index], line)}
        else:
            name, line = entry.name or "HALT", Line(_FRAME)
            fields = {} if entry.name else {"code": 0}
        if entry.tag >= 0:
            fields |= {"core": entry.peer, "tag": entry.tag}
        where[entry.index] = (entry.core, len(core.instructions))
        core.put(
            Instruction(
                name,
                {item.name: fields[item.name] for item in FORMS[name].fields},
                entry.queue,
                _sorted(entry.pop),
                _sorted(entry.push),
            ),
            line,
        )
    starts = list(accumulate((len(core.instructions) for core in cores), initial=0))
    return Words(
        [item for core in cores for item in core.instructions],
        [line for core in cores for line in core.lines],
        [starts[where[index][0]] + where[index][1] for index in range(len(order))],
    )


class _Core:
    """The program of one core while it is made."""

    def __init__(self) -> None:
        self.instructions: list[Instruction] = []
        self.lines: list[Line] = []
        self.registers = _Registers()

    def put(self, instruction: Instruction, line: Line) -> None:
        """Append an instruction."""
        self.instructions.append(instruction)
        self.lines.append(line)

    def registers_for(self, name: str, places: Mapping[str, Descriptor], line: Line) -> dict[str, int]:
        """Set the descriptors of an instruction that are not set; return the number of each."""
        form = FORMS[name]
        names = [item.name for item in form.fields if item.kind == "register"]
        numbers, setup = self.registers.take(form.queue, [places[item] for item in names])
        for instruction in setup:
            self.put(instruction, line)
        return dict(zip(names, numbers, strict=True))


def _sorted(queues: set[str]) -> str:
    return "".join(queue for queue in QUEUES if queue in queues)
