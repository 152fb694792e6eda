"""Energy reference table and action counts in Accelergy's form, so that others can price the work anew."""

from __future__ import annotations

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
    yield from _table("adders", {"add": adder, "compare": adder})
    for memory, energy in sorted(prices_of(compiled.program.arch).items()):
        yield from _table(memory, {"byte": energy})


def _table(name: str, actions: dict[str, float]) -> Iterator[str]:
    yield f"      - name: core0.{name}"
    yield "        actions:"
    for action, energy in actions.items():
        yield f"          - name: {action}"
        yield "            arguments: {}"
        yield f"            energy: {energy:.6g}"


def action_counts(compiled: Compiled, counted: Profile) -> Iterator[str]:
    """Iterate over the lines of ``action_counts.yaml``: how often each happened in the golden sample."""
    adds = sum(item.sops + item.additions for item in counted.done)
    compares = sum(item.comparisons for item in counted.done)
    moved: dict[str, int] = {}
    for item in counted.done:
        for memory, size in item.traffic.items():
            moved[memory] = moved.get(memory, 0) + size
    yield "action_counts:"
    yield f"    version: {_VERSION}"
    yield "    local:"
    yield from _counts("adders", {"add": adds, "compare": compares})
    for memory in sorted(prices_of(compiled.program.arch)):
        yield from _counts(memory, {"byte": moved.get(memory, 0)})


def _counts(name: str, actions: dict[str, int]) -> Iterator[str]:
    yield f"      - name: core0.{name}"
    yield "        action_counts:"
    for action, count in actions.items():
        yield f"          - name: {action}"
        yield "            arguments: {}"
        yield f"            counts: {count}"
