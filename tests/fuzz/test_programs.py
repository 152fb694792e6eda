"""A slice of `tests.fuzz.programs`: what is proved of a changed program holds when it runs."""

from __future__ import annotations

from dataclasses import replace

import pytest

from snnc.emit.compiled import proofs
from snnc.emit.record import program_from
from snnc.isa.codec import encode_all
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


@pytest.mark.slow
def test_many_changed_programs() -> None:
    for turn, _, outcome, lines in run(subjects(), 2000, seed=12):
        assert isinstance(outcome, Outcome) and outcome.right, f"turn {turn}: {outcome!r}: {lines}"
