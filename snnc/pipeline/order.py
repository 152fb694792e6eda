"""Proving the order of a pipeline before it runs."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from snnc.errors import InternalError, Problem, UsageError, Where
from snnc.pipeline.contract import Pass

__all__ = ["check_order"]


def check_order(
    steps: Sequence[Pass], given: Collection[str] = (), *, known: Collection[str] | None = None
) -> tuple[frozenset[str], ...]:
    """Prove that every pass finds what it requires; nothing is ever reordered.

    Args:
        steps: The passes, in the order they will run.
        given: Invariants that hold before the first pass.
        known: Names of all invariants; default those of :data:`snnc.verify.INVARIANTS`.

    Returns:
        The invariants that hold before the first pass and after each pass: ``len(steps) + 1`` sets.

    Raises:
        UsageError: SNN220, if a pass requires something that does not hold; all such passes are listed.
        InternalError: SNN103, if a pass declares an invariant that does not exist, or one that it both
            establishes and invalidates.
    """
    if known is None:
        from snnc.verify import INVARIANTS

        known = INVARIANTS
    _check_declarations(steps, known)
    holds = frozenset(given)
    states = [holds]
    problems: list[Problem] = []
    hints: list[str] = []
    for index, step in enumerate(steps):
        for missing in sorted(step.requires - holds):
            problems.append(
                Problem(
                    f"needs {missing!r}, {_why_missing(steps, index, missing)}", Where(pass_name=step.name)
                )
            )
            hints += _hint(steps, index, missing)
        # Later passes are judged as if this one had run: one cause, one finding.
        holds = (holds - step.invalidates) | step.establishes
        states.append(holds)
    if problems:
        raise UsageError(
            "SNN220",
            "the passes are not in a workable order",
            problems=problems,
            hint="; ".join(dict.fromkeys(hints)) or None,
        )
    return tuple(states)


def _check_declarations(steps: Sequence[Pass], known: Collection[str]) -> None:
    problems: list[Problem] = []
    for step in steps:
        where = Where(pass_name=step.name)
        declared = step.requires | step.establishes | step.invalidates
        problems += [Problem(f"unknown invariant {name!r}", where) for name in sorted(declared - set(known))]
        problems += [
            Problem(f"both establishes and invalidates {name!r}", where)
            for name in sorted(step.establishes & step.invalidates)
        ]
        if step.semantics not in ("exact", "approximate"):
            problems.append(Problem(f"unknown semantics {step.semantics!r}", where))
    if problems:
        raise InternalError("SNN103", "a pass contradicts itself", problems=problems)


def _why_missing(steps: Sequence[Pass], index: int, name: str) -> str:
    for before in reversed(steps[:index]):
        if name in before.invalidates:
            return f"which {before.name!r} takes away"
    return "which nothing before it establishes"


def _hint(steps: Sequence[Pass], index: int, name: str) -> list[str]:
    later = [step.name for step in steps[index + 1 :] if name in step.establishes]
    if later:
        return [f"move {later[0]!r} before {steps[index].name!r}"]
    earlier = [step.name for step in steps[:index] if name in step.establishes]
    if earlier:
        return [f"run {earlier[-1]!r} again before {steps[index].name!r}"]
    return [f"put a pass that establishes {name!r} before {steps[index].name!r}"]
