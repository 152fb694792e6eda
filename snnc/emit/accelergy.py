"""Energy reference table and action counts in Accelergy's form, so that others can price the work anew."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from snnc.cost.constants import price
from snnc.cost.machine import prices_of
from snnc.emit.compiled import Compiled
from snnc.emit.profile import Profile

__all__ = ["action_counts", "reference_table"]

_VERSION = "0.4"


def reference_table(compiled: Compiled) -> Iterator[str]:
    """Iterate over the lines of ``ERT.yaml``: pJ of each action."""
    yield "ERT:"
    yield f"    version: {_VERSION}"
    yield "    tables:"
    adder = price("int32_add")
    prices = sorted(prices_of(compiled.program.arch).items())
    for core in range(compiled.program.arch.cores):
        yield from _table(f"core{core}.adders", {"add": adder, "compare": adder})
        for memory, energy in prices:
            yield from _table(f"core{core}.{memory}", {"byte": energy})


def _table(name: str, actions: dict[str, float]) -> Iterator[str]:
    yield f"      - name: {name}"
    yield "        actions:"
    for action, energy in actions.items():
        yield f"          - name: {action}"
        yield "            arguments: {}"
        yield f"            energy: {energy:.6g}"


def action_counts(compiled: Compiled, counted: Profile) -> Iterator[str]:
    """Iterate over the lines of ``action_counts.yaml``: how often each happened in the golden sample."""
    yield "action_counts:"
    yield f"    version: {_VERSION}"
    yield "    local:"
    for core in range(compiled.program.arch.cores):
        done = [counted.done[step.index] for step in counted.steps if step.core == core]
        adds = sum(item.sops + item.additions for item in done)
        compares = sum(item.comparisons for item in done)
        moved: Counter[str] = Counter()
        for item in done:
            moved.update(item.traffic)
        yield from _counts(f"core{core}.adders", {"add": adds, "compare": compares})
        for memory in sorted(prices_of(compiled.program.arch)):
            yield from _counts(f"core{core}.{memory}", {"byte": moved[memory]})


def _counts(name: str, actions: dict[str, int]) -> Iterator[str]:
    yield f"      - name: {name}"
    yield "        action_counts:"
    for action, count in actions.items():
        yield f"          - name: {action}"
        yield f"            counts: {count}"
