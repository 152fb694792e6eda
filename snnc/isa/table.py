"""The one table of ExpG-1: every instruction with its fields, from which all else is generated.

Encoder, decoder, assembler, disassembler, hazard analysis and the specification page read this table; none
of them knows an instruction by itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

__all__ = [
    "DTYPES",
    "FORMS",
    "HEADER",
    "MEMORIES",
    "OPCODES",
    "QUEUES",
    "REGISTERS",
    "VERSION",
    "WORD_BITS",
    "Field",
    "Form",
    "partners",
]

VERSION = (1, 2)
"""Version of the encoding; a change of any field raises it."""

WORD_BITS = 128
REGISTERS = 32
"""Descriptor registers of each queue."""

QUEUES = "LCNS"
"""Load DMA, compute, network, store DMA; each works in order, and only tokens order one against another."""

MEMORIES = ("DRAM", "WMEM", "SMEM", "AMEM", "TMEM")
"""Address spaces by number: shared memory, weights, codes, membranes, tables and constants."""

DTYPES = ("i8", "u8", "i16", "u16", "i32", "i64")
"""Element types by number, little endian."""

HEADER = (("op", 6), ("pop", 3), ("push", 3), ("queue", 4))
"""The low 16 bits of every word; ``queue`` is zero where the instruction fixes the queue."""

Kind = Literal["unsigned", "biased", "signed", "register", "flag"]
Role = Literal["", "reads", "writes", "updates"]


@dataclass(frozen=True)
class Field:
    """One field of an instruction.

    Attributes:
        name: Its name in assembly.
        bits: Its width.
        kind: ``unsigned``; ``biased`` (stores the value less one); ``signed`` (two's complement);
            ``register`` (a descriptor of the instruction's queue); ``flag`` (one bit).
        role: What the instruction does with the described elements.
        doc: Its meaning.
        choices: Names of the values, where they have names; they are what assembly shows.
        extents: What the four extents of the described elements must be: ``1``, or a letter that stands for
            the same number wherever the instruction has it; ``j+1`` is one more than ``j``.
        dram: Whether the described elements lie in DRAM; else they lie on the core.
    """

    name: str
    bits: int
    kind: Kind
    role: Role = ""
    doc: str = ""
    choices: tuple[str, ...] = ()
    extents: tuple[str, ...] = ()
    dram: bool = False

    @property
    def low(self) -> int:
        """Smallest value."""
        return -(1 << (self.bits - 1)) if self.kind == "signed" else int(self.kind == "biased")

    @property
    def high(self) -> int:
        """Largest value."""
        if self.choices:
            return len(self.choices) - 1
        if self.kind == "signed":
            return (1 << (self.bits - 1)) - 1
        return (1 << self.bits) - 1 + int(self.kind == "biased")


@dataclass(frozen=True)
class Form:
    """One instruction.

    Attributes:
        opcode: Bits 5..0.
        name: Mnemonic.
        queue: Queue that executes it; ``any`` if bits 15..12 say so.
        fields: Fields from bit 16 upwards.
        doc: Semantics, exact and complete.
        multiplies: Whether it takes a multiplier: more than additions, shifts, comparisons and table reads.
    """

    opcode: int
    name: str
    queue: str
    fields: tuple[Field, ...]
    doc: str
    multiplies: bool = False

    @property
    def bits(self) -> int:
        """Bits that are used, the header included."""
        return sum(width for _, width in HEADER) + sum(field.bits for field in self.fields)

    def operands(self, *roles: str) -> tuple[str, ...]:
        """Return the names of the descriptor fields with one of some roles."""
        return tuple(field.name for field in self.fields if field.role in roles)


def _reg(name: str, role: Role, extents: str = "a b c d", *, dram: bool = False) -> Field:
    return Field(name, 5, "register", role, extents=tuple(extents.split()), dram=dram)


def _flag(name: str, doc: str) -> Field:
    return Field(name, 1, "flag", doc=doc)


def _window(*, dilated: bool) -> tuple[Field, ...]:
    steps = tuple(Field(name, 8, "biased", doc="step of the window") for name in ("sy", "sx"))
    pads = tuple(Field(name, 9, "signed", doc="rows or columns before the first") for name in ("pt", "pl"))
    gaps = tuple(Field(name, 8, "biased", doc="spacing inside the window") for name in ("dy", "dx"))
    return (*steps, *pads, *(gaps if dilated else ()))


_PEER = Field("core", 8, "unsigned", doc="the other core")
_TAG = Field("tag", 24, "unsigned", doc="number of the message")
_PORT = Field("port", 16, "unsigned", doc="number of the tensor among outputs or inputs")
_T = Field("t", 5, "biased", doc="time-steps of the spikes: bits of their magnitude")
_SUB = _flag("sub", "1 subtracts")
_ADD = _flag("add", "1 adds to what the accumulator holds, 0 starts from zero")
_IMM = Field("imm", 33, "signed", doc="a constant")
_USE = _flag("useimm", "1 takes the constant in place of the last operand")

_ALL = (
    Form(0x00, "NOP", "any", (), "Tokens only."),
    Form(0x01, "HALT", "any", (Field("code", 16, "unsigned"),), "The end of the program."),
    Form(
        0x02,
        "TDESC",
        "any",
        (
            Field("td", 5, "unsigned", doc="register"),
            Field("mem", 3, "unsigned", doc="address space", choices=MEMORIES),
            Field("dt", 3, "unsigned", doc="element type", choices=DTYPES),
            Field("base", 36, "unsigned", doc="address of the first element, in bytes"),
            *(Field(f"n{axis}", 16, "biased", doc="extent") for axis in (3, 2, 1, 0)),
        ),
        "Set a descriptor of the queue: element (i3, i2, i1, i0) is at base + (i3 s3 + i2 s2 + i1 s1 + i0 "
        "s0) times the size of an element. The strides become dense: s0 = 1, s1 = n0, s2 = n1 s1, s3 = n2 "
        "s2.",
    ),
    Form(
        0x03,
        "TSTRIDE",
        "any",
        (
            Field("td", 5, "unsigned", doc="register"),
            *(Field(f"s{axis}", 26, "signed", doc="stride, in elements") for axis in (3, 2, 1, 0)),
        ),
        "Set the strides of a descriptor. Slices, transposes, splits, windows, heads and dilated groups "
        "are strides; stride 0 repeats an element.",
    ),
    Form(
        0x08,
        "LD",
        "L",
        (_reg("dst", "writes"), _reg("src", "reads", dram=True)),
        "dst = src, one in DRAM, the other on the core; extents and element types are equal.",
    ),
    Form(
        0x09,
        "ST",
        "S",
        (_reg("dst", "writes", dram=True), _reg("src", "reads")),
        "dst = src, from the core to DRAM; extents and element types are equal.",
    ),
    Form(
        0x0A,
        "LDX",
        "L",
        (
            _reg("dst", "writes", "1 1 i j"),
            _reg("table", "reads", "1 q r j", dram=True),
            _reg("index", "reads", "1 1 1 i"),
            Field("rows", 24, "biased", doc="rows of the table"),
        ),
        "Look-up: dst[0, 0, i, j] = table[0, k div r, k mod r, j], k = index[0, 0, 0, i], the table in DRAM, "
        "the index on the core; a negative index counts from the end, k + rows. An index outside -rows .. "
        "rows - 1 stops the machine.",
    ),
    Form(
        0x10,
        "SMM",
        "C",
        (
            _reg("acc", "updates", "a b m n"),
            _reg("lhs", "reads", "a b m k"),
            _reg("rhs", "reads", "a b k n"),
            _T,
            _ADD,
            _SUB,
        ),
        "Spikes times rows: acc[a, b, m, n] gets, for each k and each set bit i of |lhs[a, b, m, k]|, "
        "rhs[a, b, k, n] << i, negated where lhs is negative or sub is 1. rhs holds weights, or codes "
        "(attention).",
    ),
    Form(
        0x11,
        "SCONV",
        "C",
        (
            _reg("acc", "updates", "b y x o"),
            _reg("inp", "reads", "b r s c"),
            _reg("w", "reads", "i j c o"),
            *_window(dilated=True),
            _T,
            _ADD,
        ),
        "The same over a window: acc[b, y, x, o] gets inp[b, y sy - pt + i dy, x sx - pl + j dx, c] times "
        "w[i, j, c, o] by shift and add. Outside of inp there is no spike.",
    ),
    Form(
        0x12,
        "SDWC",
        "C",
        (
            _reg("acc", "updates", "b y x c"),
            _reg("inp", "reads", "b r s c"),
            _reg("w", "reads", "1 i j c"),
            *_window(dilated=True),
            _T,
            _ADD,
        ),
        "Depthwise: acc[b, y, x, c] gets inp[b, y sy - pt + i dy, x sx - pl + j dx, c] times w[0, i, j, c].",
    ),
    Form(
        0x13,
        "POOL",
        "C",
        (
            _reg("dst", "updates", "b y x c"),
            _reg("src", "reads", "b r s c"),
            Field("f", 2, "unsigned", doc="function", choices=("sum", "max", "min")),
            Field("kh", 8, "biased", doc="rows of the window"),
            Field("kw", 8, "biased", doc="columns of the window"),
            *_window(dilated=True),
            _flag("add", "1 goes on from what dst holds, 0 starts anew"),
        ),
        "dst[b, y, x, c] = f of src over the window, and with add = 1 of what dst holds. Outside of src "
        "nothing is added, and nothing wins.",
    ),
    Form(
        0x14,
        "RED",
        "C",
        (
            _reg("dst", "writes", "a b c 1"),
            _reg("src", "reads", "a b c k"),
            Field("f", 2, "unsigned", doc="function", choices=("sum", "max", "min", "squares")),
        ),
        "dst[a, b, c, 0] = f of src[a, b, c, :]. A square is a sum of shifts of the element, gated by its "
        "own bits.",
    ),
    Form(
        0x15,
        "FIRE",
        "C",
        (
            _reg("dst", "writes", "1 a b c"),
            _reg("src", "reads", "1 a b c"),
            _reg("thr", "reads", "a b c j"),
            _reg("lut", "reads", "1 1 1 j+1"),
        ),
        "The neuron, ExpG-IF: dst[0, a, b, c] = lut[0, 0, 0, #{j : src[0, a, b, c] >= thr[a, b, c, j]}]; "
        "thresholds ascend along j. Found by binary search.",
    ),
    Form(
        0x16,
        "FIREG",
        "C",
        (
            _reg("dst", "writes", "1 a b c"),
            _reg("src", "reads", "1 a b c"),
            _reg("thr", "reads", "a b c j"),
            _reg("lut", "reads", "1 1 1 j+1"),
            _reg("gain", "reads", "1 a b c"),
            Field("f", 6, "unsigned", doc="fraction bits"),
        ),
        "The neuron with adaptive thresholds: dst[0, a, b, c] = lut[0, 0, 0, #{j : (src << f) >= max(gain, "
        "1) * thr[a, b, c, j]}], gain[0, a, b, c]. The product is a sum of shifts of thr, gated by the "
        "bits of the gain.",
    ),
    Form(
        0x17,
        "VALU",
        "C",
        (
            _reg("dst", "writes"),
            _reg("a", "reads"),
            _reg("b", "reads"),
            Field("f", 2, "unsigned", doc="function", choices=("add", "sub", "max", "min")),
            _USE,
            _IMM,
        ),
        "dst = f(a, b), element by element, or f(a, imm), and then b is the register of a.",
    ),
    Form(
        0x18,
        "SHA",
        "C",
        (_reg("dst", "writes"), _reg("a", "reads"), _reg("b", "reads"), _USE, _IMM),
        "Scale by constants: dst = sum of a << i over the set bits i of |b|, negated where b is negative; "
        "or of |imm|, and then b is the register of a.",
    ),
    Form(
        0x19,
        "SEW",
        "C",
        (_reg("dst", "writes"), _reg("a", "reads"), _reg("b", "reads"), _T),
        "Spikes times held codes, element by element: dst = sum of b << i over the set bits i of |a|, "
        "negated where a is negative.",
    ),
    Form(
        0x1A,
        "SHR",
        "C",
        (_reg("dst", "writes"), _reg("a", "reads"), Field("sh", 6, "unsigned", doc="bits dropped")),
        "dst = floor((a + half) / 2^sh), half = 2^sh / 2 rounded down: half up, on a coarser grid.",
    ),
    Form(
        0x1B,
        "ISQRT",
        "C",
        (_reg("dst", "writes"), _reg("a", "reads")),
        "dst = max(1, root of a rounded down), digit by digit: 31 subtractions and comparisons; 1 where a is "
        "negative, as no digit fits.",
    ),
    Form(
        0x1C,
        "MOV",
        "C",
        (_reg("dst", "writes"), _reg("src", "reads")),
        "dst = src, where the strides of a layout cannot be had otherwise, or in a wider type.",
    ),
    Form(
        0x1D,
        "SEL",
        "C",
        (
            _reg("dst", "writes"),
            _reg("a", "reads"),
            _reg("b", "reads"),
            _reg("gate", "reads"),
            _flag("zero", "b is 0"),
        ),
        "dst = a where the gate is not zero, else b, or else 0; with zero = 1, b is the register of a.",
    ),
    Form(
        0x1E,
        "BITS",
        "C",
        (
            _reg("dst", "writes"),
            _reg("src", "reads"),
            Field("sh", 5, "unsigned", doc="first bit"),
            Field("bits", 5, "biased", doc="bits kept"),
        ),
        "Some time-steps of a code: dst = (|src| >> sh) mod 2^bits, with the sign of src.",
    ),
    Form(
        0x1F,
        "FILL",
        "C",
        (_reg("dst", "writes"), _IMM),
        "dst = imm.",
    ),
    Form(
        0x20,
        "SEND",
        "N",
        (_reg("src", "reads"), _PEER, _TAG),
        "The elements of src, in order, go to another core as one message. Messages between two cores arrive "
        "in the order in which they were sent.",
    ),
    Form(
        0x21,
        "RECV",
        "N",
        (_reg("dst", "writes"), _PEER, _TAG),
        "dst = the elements of the next message of another core. Its tag, extents and element type must be "
        "those that are given here.",
    ),
    Form(
        0x22,
        "SIGNAL",
        "N",
        (_PEER, _TAG),
        "A message without elements: what this instruction waited for is done. Orders accesses of cores to "
        "DRAM.",
    ),
    Form(
        0x23,
        "AWAIT",
        "N",
        (_PEER, _TAG),
        "Takes the next message of another core, which must have no elements and this tag.",
    ),
    Form(
        0x28,
        "HGET",
        "N",
        (_reg("src", "reads", dram=True), _PORT),
        "The host takes a tensor out of DRAM: output number `port` of the program.",
    ),
    Form(
        0x29,
        "HPUT",
        "N",
        (_reg("dst", "writes", dram=True), _PORT),
        "The host puts a tensor into DRAM: input number `port` of the program, computed from what it has "
        "taken before.",
    ),
)

FORMS: Mapping[str, Form] = MappingProxyType({form.name: form for form in _ALL})
"""Every instruction by mnemonic."""

OPCODES: Mapping[int, Form] = MappingProxyType({form.opcode: form for form in _ALL})
"""Every instruction by opcode."""


def partners(queue: str) -> str:
    """Return the queues that the three pop and push bits of a queue name, lowest bit first."""
    return QUEUES.replace(queue, "")
