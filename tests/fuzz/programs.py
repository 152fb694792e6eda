"""Programs of ExpG-1 that somebody changed: proofs and simulator agree, and only typed errors come out.

python -m tests.fuzz.programs [TURNS] [SEED]

A change is one that a hand could make in a listing: another number in a field, another register, a token left
out or put in, an instruction that is doubled, moved or replaced. Each changed program goes through text and
back, is opened and proved as that of a bundle, and is executed in program order and under drawn orders of the
queues, all time-steps at once and one by one. What is proved must run, and give the same bits in every order;
what is not must end with an error of snnc.
"""

from __future__ import annotations

import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from snnc.compile import ConvertOptions, convert
from snnc.emit.compiled import Compiled, compile_program, proofs
from snnc.emit.record import program_from, record_of
from snnc.emit.routing import routing
from snnc.errors import InputError
from snnc.isa.arch import Arch
from snnc.isa.assembly import assemble, disassemble
from snnc.isa.codec import Instruction, encode_all
from snnc.isa.program import Port
from snnc.isa.table import FORMS, OPCODES, QUEUES, REGISTERS, partners
from snnc.runtimes.expg1 import Machine
from tests.conftest import Net
from tests.isa.conftest import TINY, attention, residual

__all__ = ["Outcome", "Subject", "change", "judge", "subjects"]

_NUMBERS = (-1, 0, 1, 2, 3, 7, 8, 15, 16, 31, 32, 63, 64, 255, 256, 4095, 65535, 1 << 24, 1 << 32)
Changed = list[Instruction]


@dataclass(frozen=True)
class Subject:
    """A sound program with what a run of it needs.

    Attributes:
        made: The program.
        record: What a bundle holds of it beside words and constants.
        routes: Its routing table.
        ports: What the host writes, by tensor; any values of their ranges.
    """

    made: Compiled
    record: bytes
    routes: Mapping[str, Any]
    ports: Mapping[str, Any]


@dataclass(frozen=True)
class Outcome:
    """What became of a changed program.

    Attributes:
        proved: Whether no proof found anything.
        stopped: Code of the error that ended a run; empty if none did.
        same: Whether all runs gave the same bits.
    """

    proved: bool
    stopped: str
    same: bool

    @property
    def right(self) -> bool:
        """Whether the proofs promised no more than the runs kept."""
        return not self.proved or (not self.stopped and self.same)


def _any(port: Port, generator: np.random.Generator) -> Any:
    lows, highs = port.limits()
    return generator.integers(lows, highs, port.place.shape, np.int64, endpoint=True)


def subjects(*, small: bool = False) -> list[Subject]:
    """Return small programs: convolutions and attention, on one core; if not small, on others too."""
    nets: dict[Callable[..., Any], ConvertOptions] = {
        residual: ConvertOptions(weights="int8"),
        attention: ConvertOptions(timesteps=6, groups=3, calibrate="random:8"),
    }
    found, generator = [], np.random.default_rng(0)
    for build, options in nets.items():
        model = convert(build(Net).model(), options).model
        for arch in (None, TINY, Arch(cores=3))[: 1 if small else 3]:
            made = compile_program(model, arch)
            ports = {port.tensor: _any(port, generator) for port in made.program.inputs if not port.late}
            found.append(Subject(made, record_of(made.program), routing(made.program), ports))
    return found


def change(program: tuple[Instruction, ...], draw: random.Random) -> Changed:
    """Return a program with one to three changes, as long as it was."""
    changed = list(program)
    for _ in range(draw.choice((1, 1, 1, 2, 3))):
        at = draw.randrange(len(changed))
        old, kind = changed[at], draw.randrange(8)
        if kind <= 2 and old.fields:
            changed[at] = replace(old, fields=_other_number(old, changed, draw))
        elif kind == 3:
            changed[at] = _other_tokens(old, draw)
        elif kind == 4:
            other = draw.randrange(len(changed))
            changed[at], changed[other] = changed[other], old
        elif kind == 5:
            changed[at] = changed[draw.randrange(len(changed))]
        elif kind == 6:
            changed[at] = Instruction("NOP", {}, old.queue, old.pop, old.push)
        else:
            changed[at] = _any_instruction(old, draw)
    return changed


def _other_number(old: Instruction, program: Changed, draw: random.Random) -> dict[str, int]:
    item = draw.choice(old.form.fields)
    same = [other.fields[item.name] for other in draw.choices(program, k=8) if item.name in other.fields]
    near = old.fields[item.name] + draw.choice((-16, -1, 1, 16))
    value = draw.choice([near, draw.choice(_NUMBERS), draw.randint(item.low, item.high), *same])
    if item.kind == "register":
        value %= REGISTERS
    return {**old.fields, item.name: min(max(value, item.low), item.high)}


def _other_tokens(old: Instruction, draw: random.Random) -> Instruction:
    def tokens(now: str) -> str:
        other = draw.choice(partners(old.queue))
        kept = set(now) ^ {other}
        return "".join(queue for queue in QUEUES if queue in kept)

    return replace(old, pop=tokens(old.pop)) if draw.random() < 0.5 else replace(old, push=tokens(old.push))


def _any_instruction(old: Instruction, draw: random.Random) -> Instruction:
    form = FORMS[draw.choice([item.name for item in OPCODES.values()])]
    fields = {
        item.name: old.fields.get(item.name, draw.choice((item.low, draw.randint(item.low, item.high))))
        for item in form.fields
    }
    fields = {item.name: min(max(fields[item.name], item.low), item.high) for item in form.fields}
    queue = old.queue if form.queue == "any" else form.queue
    keep = (old.pop, old.push) if queue == old.queue else ("", "")
    return Instruction(form.name, fields, queue, *keep)


def judge(subject: Subject, changed: Changed, draw: random.Random) -> Outcome:
    """Prove and run a changed program.

    Raises:
        BaseException: Something that is no refusal of snnc.
    """
    text = disassemble(changed)
    assert assemble(text) == changed
    binary = encode_all(changed)
    try:
        program = program_from(subject.record, binary, subject.made.program.image)
    except InputError as error:
        return Outcome(False, error.code, True)
    try:
        found, reach = proofs(program, binary, subject.routes)
        proved = not found and not reach.overflows
    except InputError:
        proved = False
    results, stopped = [], ""
    for order, seed in (
        ("parallel", None),
        ("serial", draw.randrange(100)),
        ("parallel", draw.randrange(100)),
    ):
        try:
            outputs, _ = Machine(program, binary, order=order).run(subject.ports, seed=seed)  # type: ignore[arg-type]
        except InputError as error:
            stopped = error.code
            break
        results.append(b"".join(outputs[name].tobytes() for name in sorted(outputs)))
    return Outcome(proved, stopped, len(set(results)) <= 1)


def run(
    found: list[Subject], turns: int, seed: int
) -> Iterator[tuple[int, float, Outcome | BaseException, str]]:
    """Iterate over the outcomes of changed programs, their seconds and what was changed."""
    for turn in range(turns):
        draw = random.Random(seed * 1_000_003 + turn)
        subject = draw.choice(found)
        changed = change(subject.made.program.instructions, draw)
        before = disassemble(subject.made.program.instructions).splitlines()
        lines = [b for a, b in zip(before, disassemble(changed).splitlines(), strict=False) if a != b]
        begin = time.process_time()
        try:
            outcome: Outcome | BaseException = judge(subject, changed, draw)
        except Exception as error:  # noqa: BLE001  Whatever it is, it is what is looked for.
            outcome = error
        yield turn, time.process_time() - begin, outcome, "; ".join(lines)[:300]


def main() -> int:
    """Run; print what was counted and every outcome that must not be."""
    turns, seed = (int(number) for number in (*sys.argv[1:], *("1000", "0")[len(sys.argv) - 1 :]))
    counted: Counter[str] = Counter()
    for turn, seconds, outcome, lines in run(subjects(), turns, seed):
        wrong = not isinstance(outcome, Outcome) or not outcome.right or seconds > 10
        if wrong:
            print(f"turn {turn} of seed {seed}, {seconds:.1f} s: {outcome!r}: {lines}", flush=True)
        name = f"{outcome.proved} {outcome.stopped}" if isinstance(outcome, Outcome) else repr(outcome)[:60]
        counted[f"{'WRONG ' * wrong}{name}"] += 1
    print(*(f"{count} {name}" for name, count in counted.most_common()), sep="\n")
    return int(any(name.startswith("WRONG") for name in counted))


if __name__ == "__main__":
    sys.exit(main())
