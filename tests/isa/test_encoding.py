"""Words, instructions and text say the same thing."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from snnc.emit.report import multiplications
from snnc.errors import InputError, InternalError
from snnc.isa.__main__ import updated
from snnc.isa.assembly import assemble, disassemble, header, line_of
from snnc.isa.codec import Instruction, decode, decode_all, encode, encode_all
from snnc.isa.table import FORMS, HEADER, QUEUES, WORD_BITS, partners

ROOT = Path(__file__).resolve().parents[2]


def draw(dice: random.Random) -> Instruction:
    form = dice.choice(list(FORMS.values()))
    queue = dice.choice(QUEUES) if form.queue == "any" else form.queue
    fields = {
        item.name: dice.choice([item.low, item.high, dice.randint(item.low, item.high)])
        for item in form.fields
    }
    tokens = ["".join(q for q in partners(queue) if dice.random() < 0.5) for _ in range(2)]
    return Instruction(form.name, fields, queue, *tokens)


@given(st.integers(0, 2**32))
@settings(max_examples=300, deadline=None)
def test_random_instructions_round_trip(seed):
    instruction = draw(random.Random(seed))
    word = encode(instruction)
    assert 0 <= word < 1 << WORD_BITS
    assert decode(word) == instruction
    assert assemble(f"{header()}\n{line_of(instruction)}") == [instruction]


def test_random_words_are_refused_or_canonical():
    dice, refused = random.Random(5), 0
    for _ in range(20000):
        word = dice.getrandbits(WORD_BITS)
        try:
            found = decode(word)
        except InputError as error:
            assert error.code == "SNN360"
            refused += 1
        else:
            assert encode(found) == word
    assert refused > 19000


@pytest.mark.parametrize("name", sorted(FORMS))
def test_each_reserved_bit_is_refused(name):
    form = FORMS[name]
    word = encode(
        Instruction(name, {item.name: item.low for item in form.fields}, "C" if form.queue == "any" else "")
    )
    assert form.bits <= WORD_BITS
    spare = list(range(form.bits, WORD_BITS)) + ([] if form.queue == "any" else [12, 13, 14, 15])
    for bit in spare:
        with pytest.raises(InputError, match="SNN360"):
            decode(word | 1 << bit)


def test_opcodes_and_field_names_are_unique():
    assert len({form.opcode for form in FORMS.values()}) == len(FORMS)
    assert sum(width for _, width in HEADER) == 16
    for form in FORMS.values():
        names = [item.name for item in form.fields]
        assert len(set(names)) == len(names)


def test_programs_round_trip_as_bytes_and_text():
    dice = random.Random(11)
    program = [draw(dice) for _ in range(400)]
    binary = encode_all(program)
    text = disassemble(decode_all(binary))
    assert encode_all(assemble(text)) == binary
    assert disassemble(assemble(text)) == text


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("C  SMM     acc=0, lhs=1", "SNN362"),
        ("L  FIRE    dst=0, src=1, thr=2, lut=3", "SNN362"),
        ("C  FIRE    dst=0, src=1, thr=2, lut=32", "SNN362"),
        ("C  FIRE    dst=0, src=1, thr=2, lut=-1", "SNN362"),
        ("C  FIRE    src=0, dst=1, thr=2, lut=3", "SNN362"),
        ("C  NOP ?C", "SNN362"),
        ("C  NOP ?SL", "SNN362"),
        ("C  TIMES   dst=0", "SNN362"),
        ("mov r1, r2", "SNN362"),
        (".expg 2.0", "SNN363"),
    ],
)
def test_bad_lines_are_refused_with_their_number(line, code):
    with pytest.raises(InputError, match="line 2") as caught:
        assemble(f"{header()}\n{line}\n")
    assert caught.value.code == code


def test_a_program_without_a_version_is_refused():
    with pytest.raises(InputError, match="SNN363"):
        assemble("C  NOP\n")


def test_half_a_word_is_refused():
    with pytest.raises(InputError, match="SNN361"):
        list(decode_all(bytes(24)))


@pytest.mark.parametrize(
    "bad",
    [
        Instruction("NOP"),
        Instruction("SMM", {}, "C"),
        Instruction("HALT", {"code": 1 << 16}, "C"),
        Instruction("HALT", {"code": 0}, "C", "C"),
        Instruction("LD", {"dst": 0, "src": 0}, "S"),
    ],
)
def test_the_encoder_refuses_what_the_table_does_not_have(bad):
    with pytest.raises(InternalError, match="SNN170"):
        encode(bad)


def test_the_specification_page_is_what_the_table_says():
    page = (ROOT / "docs" / "expg1.md").read_text(encoding="utf-8")
    assert updated(page) == page
    assert all(f"### `{name}`" in page for name in FORMS)


def test_multiplications_are_counted_by_the_table(monkeypatch):
    program = [draw(random.Random(seed)) for seed in range(200)]
    assert multiplications(program) == 0
    smuggled = {**FORMS, "VALU": replace(FORMS["VALU"], multiplies=True)}
    monkeypatch.setattr("snnc.emit.report.FORMS", smuggled)
    assert multiplications(program) == sum(item.name == "VALU" for item in program) > 0


def test_no_instruction_multiplies():
    words = {word.lower() for form in FORMS.values() for word in form.name.split()}
    assert not words & {"mul", "mac", "div", "mulh", "madd"}
