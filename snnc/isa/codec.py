"""Instructions as words of 128 bits, and back; both directions are generated from the table."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from snnc.errors import InputError, InternalError
from snnc.isa.table import FORMS, HEADER, OPCODES, QUEUES, WORD_BITS, Form, partners

__all__ = ["WORD_BYTES", "Instruction", "decode", "decode_all", "encode", "encode_all", "place"]

WORD_BYTES = WORD_BITS // 8


@dataclass(frozen=True)
class Instruction:
    """One instruction.

    Attributes:
        name: Mnemonic.
        fields: Value of every field by name.
        queue: Queue that executes it, one of ``L``, ``C``, ``N``, ``S``.
        pop: Queues of which it takes a token first.
        push: Queues to which it gives a token in the end.
    """

    name: str
    fields: Mapping[str, int] = field(default_factory=dict)
    queue: str = ""
    pop: str = ""
    push: str = ""

    @property
    def form(self) -> Form:
        """Its row of the table."""
        return FORMS[self.name]


def _mask(queue: str, others: str) -> int:
    names = partners(queue)
    if any(other not in names for other in others) or len(set(others)) != len(others):
        raise InternalError("SNN170", f"queue {queue} has no token line to each of '{others}'")
    return sum(1 << names.index(other) for other in others)


def _lines(queue: str, mask: int) -> str:
    return "".join(name for index, name in enumerate(partners(queue)) if mask >> index & 1)


def encode(instruction: Instruction) -> int:
    """Return the word of an instruction.

    Args:
        instruction: Mnemonic and fields; an empty queue stands for the one that the table gives.

    Raises:
        InternalError: SNN170, a field is missing, unknown or out of range, or the queue is wrong.
    """
    form = FORMS.get(instruction.name)
    if form is None:
        raise InternalError("SNN170", f"there is no instruction {instruction.name}")
    queue = instruction.queue or ("" if form.queue == "any" else form.queue)
    if queue not in QUEUES or not queue or form.queue not in ("any", queue):
        raise InternalError("SNN170", f"{form.name} does not run on queue '{instruction.queue}'")
    if set(instruction.fields) != {item.name for item in form.fields}:
        raise InternalError("SNN170", f"{form.name} has the fields {[item.name for item in form.fields]}")
    head = {
        "op": form.opcode,
        "pop": _mask(queue, instruction.pop),
        "push": _mask(queue, instruction.push),
        "queue": QUEUES.index(queue) if form.queue == "any" else 0,
    }
    word, shift = 0, 0
    for name, width in HEADER:
        word |= head[name] << shift
        shift += width
    for item in form.fields:
        value = instruction.fields[item.name]
        if not item.low <= value <= item.high:
            raise InternalError(
                "SNN170", f"{form.name}: {item.name}={value} is not in {item.low}..{item.high}"
            )
        stored = value - 1 if item.kind == "biased" else value
        word |= (stored & ((1 << item.bits) - 1)) << shift
        shift += item.bits
    return word


def decode(word: int) -> Instruction:
    """Return the instruction of a word.

    Raises:
        InputError: SNN360, the word is of no instruction, or reserved bits are not zero.
    """
    head: dict[str, int] = {}
    rest = word
    for name, width in HEADER:
        head[name] = rest & ((1 << width) - 1)
        rest >>= width
    form = OPCODES.get(head["op"])
    if form is None:
        raise InputError("SNN360", f"0x{word:032x} has the unknown opcode 0x{head['op']:02x}")
    if form.queue == "any":
        if head["queue"] >= len(QUEUES):
            raise InputError("SNN360", f"0x{word:032x} names queue {head['queue']}")
        queue = QUEUES[head["queue"]]
    else:
        queue = form.queue
        if head["queue"]:
            raise InputError("SNN360", f"0x{word:032x}: reserved bits 15..12 of {form.name} are not zero")
    fields: dict[str, int] = {}
    for item in form.fields:
        value = rest & ((1 << item.bits) - 1)
        rest >>= item.bits
        if item.kind == "biased":
            value += 1
        elif item.kind == "signed" and value >> (item.bits - 1):
            value -= 1 << item.bits
        if value > item.high:
            raise InputError("SNN360", f"0x{word:032x}: {item.name}={value} of {form.name} has no meaning")
        fields[item.name] = value
    if rest:
        raise InputError("SNN360", f"0x{word:032x}: reserved bits of {form.name} are not zero")
    return Instruction(form.name, fields, queue, _lines(queue, head["pop"]), _lines(queue, head["push"]))


def encode_all(instructions: Iterable[Instruction]) -> bytes:
    """Return a program as bytes, each word little endian."""
    return b"".join(encode(item).to_bytes(WORD_BYTES, "little") for item in instructions)


def decode_all(binary: bytes) -> Iterator[Instruction]:
    """Iterate over the instructions of a program.

    Raises:
        InputError: SNN360, a word is no instruction; SNN361, the size is not a multiple of the word's.
    """
    if len(binary) % WORD_BYTES:
        raise InputError("SNN361", f"a program of {len(binary)} bytes is not made of words of {WORD_BYTES}")
    for start in range(0, len(binary), WORD_BYTES):
        yield decode(int.from_bytes(binary[start : start + WORD_BYTES], "little"))


def place(index: int) -> str:
    """Return the address of an instruction as listings print it."""
    return f"{index * WORD_BYTES:06x}"
