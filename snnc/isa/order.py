"""Queues, cores, and a legal order of the instructions of all cores."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from snnc.errors import InputError
from snnc.isa.program import Step
from snnc.isa.table import QUEUES

__all__ = ["GIVES", "TAKES", "Queue", "cores_of", "first_of", "in_queues", "in_turn", "peer"]

Queue = tuple[int, str]
"""A core and one of its queues."""

GIVES = frozenset({"SEND", "SIGNAL"})
"""Instructions that give a message."""
TAKES = frozenset({"RECV", "AWAIT"})
"""Instructions that take one."""


def cores_of(steps: Sequence[Step]) -> int:
    """Return how many cores a program is for."""
    return 1 + max((step.core for step in steps), default=0)


def in_queues(steps: Sequence[Step]) -> dict[Queue, list[Step]]:
    """Deal instructions out to their queues, each in program order."""
    result: dict[Queue, list[Step]] = {
        (core, queue): [] for core in range(cores_of(steps)) for queue in QUEUES
    }
    for step in steps:
        result[step.core, step.instruction.queue].append(step)
    return result


def first_of(steps: Iterable[Step]) -> dict[int, int]:
    """Return the index of the first instruction of every core."""
    found: dict[int, int] = {}
    for step in steps:
        found.setdefault(step.core, step.index)
    return found


def peer(step: Step) -> int:
    """Return the core at the other end of a message."""
    return step.instruction.fields["core"]


def in_turn(steps: Iterable[Step]) -> Iterator[Step]:
    """Iterate over a program in a legal order: every core in the order of its text, as far as messages allow.

    Raises:
        InputError: SNN368, cores wait for messages that never come.
    """
    programs: dict[int, list[Step]] = {}
    for step in steps:
        programs.setdefault(step.core, []).append(step)
    waiting: Counter[tuple[int, int]] = Counter()
    heads = dict.fromkeys(programs, 0)
    moved = True
    while moved:
        moved = False
        for core, program in programs.items():
            while heads[core] < len(program):
                step = program[heads[core]]
                name = step.instruction.name
                if name in TAKES:
                    if not waiting[peer(step), core]:
                        break
                    waiting[peer(step), core] -= 1
                yield step
                if name in GIVES:
                    waiting[core, peer(step)] += 1
                heads[core] += 1
                moved = True
    stuck = [program[heads[core]].index for core, program in programs.items() if heads[core] < len(program)]
    if stuck:
        raise InputError("SNN368", f"deadlock: instructions {stuck} wait for messages")
