"""Operands must be what the table says; a program in which one is not is found, and never executed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from snnc.emit.record import program_from, record_of
from snnc.errors import InputError
from snnc.isa.codec import Instruction, encode_all
from snnc.isa.intervals import bound
from snnc.isa.operands import fault
from snnc.isa.program import Descriptor, Port, Step, dense
from snnc.isa.proofs import prove
from snnc.isa.table import FORMS


def at(memory, base, *shape, dtype="i8", strides=None):
    return Descriptor(memory, dtype, base, shape, strides or dense(shape))


def step(name, queue="C", **operands):
    fields = {item.name: max(0, item.low) for item in FORMS[name].fields}
    return Step(0, Instruction(name, fields, queue), operands)


def product(**changed):
    places = {
        "acc": at("AMEM", 0, 1, 2, 3, 4, dtype="i32"),
        "lhs": at("SMEM", 0, 1, 2, 3, 5),
        "rhs": at("WMEM", 0, 1, 2, 5, 4),
    }
    return step("SMM", **{**places, **changed})


def test_operands_that_go_together():
    assert fault(product()) is None
    assert fault(product(rhs=at("SMEM", 0, 1, 2, 5, 4, strides=(0, 0, 4, 1)))) is None
    neuron = {
        "dst": at("SMEM", 0, 1, 1, 2, 3),
        "src": at("AMEM", 0, 1, 1, 2, 3, dtype="i32"),
        "thr": at("TMEM", 0, 1, 2, 3, 8, dtype="i32", strides=(0, 0, 8, 1)),
        "lut": at("TMEM", 96, 1, 1, 1, 9),
    }
    assert fault(step("FIRE", **neuron)) is None
    assert "j+1 with a = 1, b = 2, c = 3, j = 8" in fault(
        step("FIRE", **{**neuron, "lut": at("TMEM", 96, 1, 1, 1, 8)})
    )
    assert fault(step("LD", "L", dst=at("SMEM", 0, 1, 1, 1, 4), src=at("DRAM", 0, 1, 1, 1, 4))) is None


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"rhs": at("WMEM", 0, 1, 2, 6, 4)}, "rhs: extents"),
        ({"lhs": at("SMEM", 0, 1, 1, 3, 5)}, "lhs: extents"),
        ({"rhs": at("DRAM", 0, 1, 2, 5, 4)}, "rhs lies in DRAM"),
        ({"acc": at("AMEM", 0, 1, 2, 3, 4, dtype="i32", strides=(24, 0, 4, 1))}, "an element twice"),
        ({"acc": at("AMEM", 0, 1, 2, 3, 4, dtype="i32", strides=(0, 2, 1, 1))}, "an element twice"),
        ({"rhs": at("AMEM", 90, 1, 2, 5, 4)}, "shares bytes with rhs"),
        ({"rhs": at("AMEM", 0, 1, 2, 5, 4, strides=(0, 0, 0, 0))}, "shares bytes with rhs"),
    ],
)
def test_operands_that_do_not(changed, text):
    assert text in fault(product(**changed))


def test_elements_apart_in_a_way_that_does_not_nest():
    """Strides 3 and 2 meet only at 6: two by three elements all lie apart, three by four do not."""
    for shape, good in (((1, 1, 2, 3), True), ((1, 1, 3, 4), False)):
        place = at("SMEM", 0, *shape, strides=(0, 0, 3, 2))
        source = at("AMEM", 0, *shape)
        assert (fault(step("MOV", dst=place, src=source)) is None) == good


def test_types_of_a_move_and_bytes_between_bytes():
    wide = at("DRAM", 0, 1, 1, 1, 4, dtype="i16")
    assert "cannot be moved" in fault(step("LD", "L", dst=at("SMEM", 0, 1, 1, 1, 4), src=wide))
    even = at("SMEM", 0, 1, 1, 1, 8, strides=(0, 0, 0, 2))
    assert fault(step("MOV", dst=even, src=replace(even, base=1))) is None
    assert fault(step("MOV", dst=even, src=replace(even, base=2))) is not None


def swapped(made, name, **fields):
    """The program with other fields in the first instruction of a name."""
    instructions = list(made.program.instructions)
    place = next(i for i, item in enumerate(instructions) if item.name == name)
    item = instructions[place]
    instructions[place] = Instruction(name, {**item.fields, **fields}, item.queue, item.pop, item.push)
    return encode_all(instructions)


def test_a_program_with_a_wrong_operand_is_found_and_not_opened(compiled):
    made = compiled("residual")
    program = made.program
    binary = swapped(made, "FIRE", lut=made.program.instructions[0].fields.get("td", 0))
    found = prove(binary, program.arch, len(program.image), program.inputs)
    assert "form" in {item.kind for item in found}
    assert program_from(record_of(program), made.binary, program.image) == program
    with pytest.raises(InputError, match=r"SNN36[58]: instruction"):
        program_from(record_of(program), binary, program.image)


def test_what_the_machine_would_stop_at_is_found_before(compiled):
    made = compiled("attention")
    assert bound(made.program, made.binary).stops == []
    (stop, *_) = bound(made.program, swapped(made, "SMM", t=1)).stops
    assert "time-steps" in stop.text
    image = bytearray(made.program.image)
    name, table = next(item for item in made.program.constants if item[0].endswith(".thresholds"))
    values = np.frombuffer(made.program.image, "<i4", table.elements, table.base)
    image[table.base : table.base + 4] = int(values[1] + 1).to_bytes(4, "little", signed=True)
    stops = bound(replace(made.program, image=bytes(image)), made.binary).stops
    assert {item.text.split(": ")[1] for item in stops} == {"its thresholds do not ascend"}, name


def test_what_is_computed_on_the_way_may_not_overflow_either(compiled):
    made = compiled("attention")
    assert bound(made.program, made.binary).overflows == []
    found = bound(made.program, swapped(made, "FIREG", f=60)).overflows
    assert found and found[0].dtype == "i64"


def test_an_index_beyond_its_table_is_found(compiled):
    """A port that may hold any number, in front of a look-up."""
    made = compiled("residual")
    words = [
        Instruction(
            "TDESC", {"td": 0, "mem": 0, "dt": 1, "base": 0, "n3": 1, "n2": 1, "n1": 4, "n0": 2}, "L"
        ),
        Instruction(
            "TDESC", {"td": 1, "mem": 0, "dt": 4, "base": 8, "n3": 1, "n2": 1, "n1": 1, "n0": 3}, "L"
        ),
        Instruction(
            "TDESC", {"td": 2, "mem": 4, "dt": 4, "base": 0, "n3": 1, "n2": 1, "n1": 1, "n0": 3}, "L"
        ),
        Instruction("LD", {"dst": 2, "src": 1}, "L"),
        Instruction(
            "TDESC", {"td": 3, "mem": 2, "dt": 1, "base": 0, "n3": 1, "n2": 1, "n1": 3, "n0": 2}, "L"
        ),
        Instruction("LDX", {"dst": 3, "table": 0, "index": 2, "rows": 4}, "L"),
        Instruction("HALT", {"code": 0}, "C"),
    ]
    for low, high, good in ((-4, 3, True), (-5, 3, False), (0, 4, False)):
        port = Port("ids", at("DRAM", 8, 3, dtype="i32"), low, high)
        program = replace(made.program, instructions=tuple(words), image=bytes(8), inputs=(port,), outputs=())
        assert (bound(program, encode_all(words)).stops == []) == good


def test_constants_that_are_cut_off_are_refused(compiled):
    made = compiled("residual")
    last = max((place for _, place in made.program.constants), key=lambda place: place.base)
    short = replace(made.program, image=made.program.image[: last.base + 1])
    with pytest.raises(InputError, match="SNN366"):
        bound(short, made.binary)
