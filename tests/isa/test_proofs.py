"""The proofs find what is wrong, and only that."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from snnc.emit.record import program_from, record_of
from snnc.errors import InputError
from snnc.isa.arch import Arch
from snnc.isa.codec import Instruction, encode_all
from snnc.isa.intervals import bound
from snnc.isa.program import Port, Region
from snnc.isa.proofs import overlaps, prove


def findings(made, instructions):
    program = made.program
    return prove(encode_all(instructions), program.arch, len(program.image), program.inputs)


def without(item: Instruction, field: str, token: str) -> Instruction:
    tokens = {"pop": item.pop, "push": item.push}
    tokens[field] = tokens[field].replace(token, "")
    return Instruction(item.name, item.fields, item.queue, **tokens)


@pytest.mark.parametrize(("name", "small"), [("residual", True), ("attention", False)])
def test_compiled_programs_are_proved(compiled, tiny, name, small):
    made = compiled(name, tiny if small else None)
    assert findings(made, made.program.instructions) == []
    assert overlaps(made.program.regions) == []
    assert 8 <= made.reach.accumulator_bits <= 64


def test_removing_any_token_bit_is_detected(compiled):
    made = compiled("residual")
    kinds: dict[str, int] = {}
    bits = [
        (index, field, token)
        for index, item in enumerate(made.program.instructions)
        for field in ("pop", "push")
        for token in getattr(item, field)
    ]
    assert len(bits) > 30
    for index, field, token in bits:
        instructions = list(made.program.instructions)
        instructions[index] = without(instructions[index], field, token)
        found = findings(made, instructions)
        assert found, (index, field, token)
        for finding in found:
            kinds[finding.kind] = kinds.get(finding.kind, 0) + 1
    assert {"stuck", "left over", "race"} <= set(kinds)


def test_without_any_token_there_are_races(compiled):
    made = compiled("residual")
    bare = [Instruction(item.name, item.fields, item.queue) for item in made.program.instructions]
    assert {finding.kind for finding in findings(made, bare)} == {"race"}


def test_a_removed_load_is_a_read_of_nothing(compiled):
    made = compiled("residual")
    instructions = list(made.program.instructions)
    place = next(i for i, item in enumerate(instructions) if item.name == "LD" and item.push)
    item = instructions[place]
    instructions[place] = Instruction("NOP", {}, "L", item.pop, item.push)
    assert "unset" in {finding.kind for finding in findings(made, instructions)}


def test_addresses_beyond_a_memory_are_found(compiled):
    made = compiled("residual")
    small = Arch(smem=made.program.bounds["SMEM"][0] - 16)
    assert {item.kind for item in prove(made.binary, small)} == {"bounds"}


def test_overlapping_regions_are_found():
    def region(name, address, size, first, last):
        return Region("SMEM", name, "staging", address, size, first, last)

    a = region("a", 0, 16, 0, 5)
    assert overlaps([a, region("b", 16, 16, 0, 5), region("c", 0, 16, 6, 9)]) == []
    (found,) = overlaps([a, region("b", 15, 16, 5, 9)])
    assert found.kind == "overlap" and "a and b" in found.text


def test_overflow_is_found_before_anything_runs(compiled):
    made = compiled("residual")
    port = made.program.inputs[0]
    wide = Port(port.tensor, port.place, -(2**50), 2**50)
    place = replace(port.place, dtype="i64")
    assert bound(made.program, made.binary).overflows == []
    if port.place.dtype == "i64":
        found = bound(replace(made.program, inputs=(replace(wide, place=place),)), made.binary)
        assert found.overflows and found.overflows[0].dtype == "i32"


@pytest.mark.parametrize(("name", "axis"), [("residual", 1), ("attention", 2)])
def test_each_channel_of_the_first_product_has_its_own_range(compiled, name, axis):
    """One range for all, that of the widest channel, sent sums of squares beyond 62 bits (SNN482)."""
    made = compiled(name)
    (port,) = made.program.inputs
    channels = port.channels
    assert channels is not None and channels.axis == axis
    assert (min(channels.lows), max(channels.highs)) == (port.low, port.high)
    assert len(set(channels.highs)) > 1
    narrow = min(range(len(channels.highs)), key=lambda index: channels.highs[index])
    place = tuple(narrow if a == axis else 0 for a in range(len(port.place.shape)))
    array = np.zeros(port.place.shape, np.int64)
    machine = made.runtime().machine
    array[place] = channels.highs[narrow]
    machine.write(port, array)
    array[place] += 1
    assert array.max() <= port.high
    with pytest.raises(InputError, match="SNN367"):
        machine.write(port, array)


def test_a_record_keeps_the_ranges_of_channels_and_refuses_other_counts(compiled):
    program = compiled("residual").program
    binary = encode_all(program.instructions)
    record = record_of(program)
    assert program_from(record, binary, program.image).inputs == program.inputs
    for spoil in (
        lambda own: own.__setitem__(1, own[1][:-1]),
        lambda own: own.__setitem__(0, 9),
        lambda own: own.__setitem__(2, [None] * len(own[2])),
    ):
        content = json.loads(record)
        spoil(content["inputs"][0][5])
        with pytest.raises(InputError, match="SNN369"):
            program_from(json.dumps(content).encode(), binary, program.image)


def test_bounds_hold_for_what_really_happens(compiled):
    """No result of a run leaves the range that the proof gives it."""
    from snnc.data import load_samples

    made = compiled("attention")
    runtime = made.runtime()
    ports = runtime.ports(load_samples("random:1", runtime.inputs, seed=9))
    checked = 0

    def watch(step, given, written):
        nonlocal checked
        if written is not None:
            low, high = made.reach.ranges[step.index]
            assert low <= written.min() and written.max() <= high, step
            checked += 1

    runtime.machine.run(ports, watch=watch)
    assert checked > 50
