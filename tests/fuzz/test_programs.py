"""A slice of `tests.fuzz.programs`: what is proved of a changed program holds when it runs."""

from __future__ import annotations

from dataclasses import replace

import pytest

from snnc.emit.compiled import proofs
from snnc.emit.record import program_from
from snnc.isa.codec import encode_all
from snnc.isa.proofs import Finding
from snnc.runtimes.expg1 import Machine
from tests.fuzz.programs import Outcome, Subject, run, subjects


@pytest.fixture(scope="module")
def found() -> list[Subject]:
    return subjects(small=True)


def test_changed_programs_keep_what_is_proved_of_them(found: list[Subject]) -> None:
    outcomes = []
    for turn, seconds, outcome, lines in run(found, 60, seed=11):
        assert isinstance(outcome, Outcome), f"turn {turn}: {outcome!r}: {lines}"
        assert outcome.right, f"turn {turn}: {outcome}: {lines}"
        assert seconds < 10, f"turn {turn} takes {seconds} s: {lines}"
        outcomes.append(outcome)
    # The changes are neither all harmless nor all found at first sight.
    assert 2 < sum(outcome.proved for outcome in outcomes) < 40
    assert sum(not outcome.proved and not outcome.stopped for outcome in outcomes) > 2


def test_bytes_read_as_another_type_are_found(found: list[Subject]) -> None:
    """Intervals are those of elements: a proof of codes must not rest on bytes of a membrane."""
    subject = found[0]
    changed = list(subject.made.program.instructions)
    for index, item in enumerate(changed):
        if item.name == "TDESC" and item.fields["dt"] == 1 and item.queue == "C":
            changed[index] = replace(item, fields={**item.fields, "dt": 0})
    binary = encode_all(changed)
    program = program_from(subject.record, binary, subject.made.program.image)
    kinds = {finding.kind for finding in proofs(program, binary, subject.routes)[0]}
    assert kinds == {"type"}


def _with(subject: Subject, name: str, **fields: int) -> tuple[list[Finding], int]:
    """Change the first instruction of a name; return what the proofs find, and its place."""
    changed = list(subject.made.program.instructions)
    place = next(index for index, item in enumerate(changed) if item.name == name)
    changed[place] = replace(changed[place], fields={**changed[place].fields, **fields})
    binary = encode_all(changed)
    program = program_from(subject.record, binary, subject.made.program.image)
    return proofs(program, binary, subject.routes)[0], place


def test_a_maximum_of_nothing_is_found(found: list[Subject]) -> None:
    """The step is so long that the second window lies outside."""
    findings, place = _with(found[0], "POOL", sy=200)
    assert [(item.kind, item.pc) for item in findings if "sees nothing" in item.text] == [("stop", place)]


def test_constants_cannot_be_overwritten(found: list[Subject]) -> None:
    subject = found[0]
    changed = list(subject.made.program.instructions)
    place = max(i for i, item in enumerate(changed) if item.queue == "S" and item.fields.get("mem") == 0)
    changed[place] = replace(changed[place], fields={**changed[place].fields, "base": 0})
    binary = encode_all(changed)
    program = program_from(subject.record, binary, subject.made.program.image)
    findings, _ = proofs(program, binary, subject.routes)
    assert findings[0].kind == "bounds" and "onto the constants" in findings[0].text


def test_a_root_of_what_is_negative_is_one(found: list[Subject]) -> None:
    """Sums in place of sums of squares: no proof has to know that roots are taken of what is at least 0."""
    subject = found[1]
    changed = [
        replace(item, fields={**item.fields, "f": 0})
        if item.name == "RED" and item.fields["f"] == 3
        else item
        for item in subject.made.program.instructions
    ]
    binary = encode_all(changed)
    program = program_from(subject.record, binary, subject.made.program.image)
    findings, reach = proofs(program, binary, subject.routes)
    assert not findings and not reach.overflows
    Machine(program, binary).run(subject.ports)


@pytest.mark.slow
def test_many_changed_programs() -> None:
    for turn, _, outcome, lines in run(subjects(), 2000, seed=12):
        assert isinstance(outcome, Outcome) and outcome.right, f"turn {turn}: {outcome!r}: {lines}"
