"""The specification page, generated from the encoding table."""

from __future__ import annotations

from collections.abc import Iterator

from snnc.isa.arch import Arch
from snnc.isa.table import (
    DTYPES,
    FORMS,
    HEADER,
    MEMORIES,
    QUEUES,
    REGISTERS,
    VERSION,
    WORD_BITS,
    Form,
    partners,
)

__all__ = ["tables"]


_OPERANDS = (
    "Operands: behind each stand the four extents that it must have, slowest axis first. A letter is the "
    "same number wherever an instruction has it. Operands are on the core, save where the table says DRAM. "
    "What an instruction writes has no element twice, and shares no byte with what it reads."
)


def _bits(low: int, width: int) -> str:
    return f"{low + width - 1}..{low}" if width > 1 else str(low)


def _form(form: Form) -> Iterator[str]:
    queue = "any queue, bits 15..12" if form.queue == "any" else f"queue {form.queue}"
    yield f"### `{form.name}` (0x{form.opcode:02x}, {queue})"
    yield ""
    yield form.doc
    yield ""
    if not form.fields:
        return
    yield "| bits | field | stored as | meaning |"
    yield "| --- | --- | --- | --- |"
    low = sum(width for _, width in HEADER)
    for item in form.fields:
        stored = {"biased": "value - 1", "signed": "two's complement", "register": "descriptor"}.get(
            item.kind, ""
        )
        meaning = item.doc
        if item.role:
            does = {"reads": "read", "writes": "written", "updates": "read and written"}[item.role]
            meaning = f"{does}{' in DRAM' if item.dram else ''}, [{', '.join(item.extents)}]"
        if item.choices:
            named = ", ".join(f"{index} {name}" for index, name in enumerate(item.choices))
            meaning = f"{meaning}: {named}"
        yield f"| {_bits(low, item.bits)} | {item.name} | {stored} | {meaning} |"
        low += item.bits
    if low < WORD_BITS:
        yield f"| {_bits(low, WORD_BITS - low)} | | zero | reserved |"
    yield ""


def tables() -> str:
    """Return the generated part of ``docs/expg1.md``: header of a word, memories, instructions."""
    lines = [f"Version {VERSION[0]}.{VERSION[1]}. A word has {WORD_BITS} bits, little endian.", ""]
    lines += ["| bits | field | meaning |", "| --- | --- | --- |"]
    low = 0
    meaning = {
        "op": "opcode",
        "pop": "takes a token from each of three queues before it starts",
        "push": "gives a token to each of three queues when it is done",
        "queue": f"queue, 0..3 = {', '.join(QUEUES)}, where the instruction leaves it open; else zero",
    }
    for name, width in HEADER:
        lines.append(f"| {_bits(low, width)} | {name} | {meaning[name]} |")
        low += width
    lines += [f"| {_bits(low, WORD_BITS - low)} | | fields of the instruction, then zeros |", ""]
    named = "; ".join(f"{queue}: {', '.join(partners(queue))}" for queue in QUEUES)
    lines += [f"Token bits name the other queues, lowest bit first: {named}.", ""]
    lines += [f"Each queue has {REGISTERS} descriptor registers of its own.", ""]
    arch = Arch()
    lines += ["| memory | number | default size, bytes |", "| --- | --- | --- |"]
    lines += [f"| {name} | {index} | {arch.capacity(name):,} |" for index, name in enumerate(MEMORIES)]
    lines += ["", f"Element types: {', '.join(f'{i} {name}' for i, name in enumerate(DTYPES))}.", ""]
    lines += [_OPERANDS, ""]
    for form in FORMS.values():
        lines += _form(form)
    return "\n".join(lines).rstrip() + "\n"
