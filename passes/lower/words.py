"""The last step: descriptor registers, tokens, words."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field

from snnc.isa.arch import Arch
from snnc.isa.codec import Instruction
from snnc.isa.program import DTYPE_OF, Descriptor, Line, dense
from snnc.isa.table import DTYPES, FORMS, MEMORIES, QUEUES, REGISTERS
from snnc.passes.lower.expand import Ref
from snnc.passes.lower.tile import Macro
from snnc.passes.lower.tokens import Access, order_queues

__all__ = ["Words", "assemble_words"]

_FRAME = "(program)"


@dataclass
class Words:
    """A program with its lines.

    Attributes:
        instructions: The program.
        lines: What each instruction is for.
        place: Index of each macro in the program.
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
        order: Instructions in program order.
        arch: The machine.
    """
    resolved = [{name: _descriptor(ref) for name, ref in macro.lowered.refs.items()} for macro in order]
    accesses = []
    for macro, places in zip(order, resolved, strict=True):
        form = FORMS[macro.lowered.name]
        touched = tuple((places[item.name], item.role != "reads") for item in form.fields if item.role)
        accesses.append(Access(form.queue, touched))
    accesses.append(Access("C", (), waits=True))
    tokens = order_queues(accesses, arch.token_depth)
    words = Words()
    registers = _Registers()
    for index, (macro, places) in enumerate(zip(order, resolved, strict=True)):
        form = FORMS[macro.lowered.name]
        names = [item.name for item in form.fields if item.kind == "register"]
        line = Line(macro.node, macro.tensor, macro.tile, macro.spikes, macro.mean)
        numbers, setup = registers.take(form.queue, [places[name] for name in names])
        for instruction in setup:
            words.instructions.append(instruction)
            words.lines.append(line)
        fields = {**macro.lowered.fields, **dict(zip(names, numbers, strict=True))}
        words.place.append(len(words.instructions))
        words.instructions.append(
            Instruction(
                form.name,
                {item.name: fields[item.name] for item in form.fields},
                form.queue,
                _sorted(tokens.pop[index]),
                _sorted(tokens.push[index]),
            )
        )
        words.lines.append(line)
    words.instructions.append(Instruction("HALT", {"code": 0}, "C", _sorted(tokens.pop[-1]), ""))
    words.lines.append(Line(_FRAME))
    return words


def _sorted(queues: set[str]) -> str:
    return "".join(queue for queue in QUEUES if queue in queues)
