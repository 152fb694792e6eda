"""The claims about a bundle: multiplication-free, by its graph and its words, whose proofs are made again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from snnc.cost.audit import AuditReport, AuditRow, audit
from snnc.emit.compiled import Compiled, proofs
from snnc.emit.report import multiplications
from snnc.errors import Problem, Where
from snnc.isa.program import Program
from snnc.isa.table import FORMS

__all__ = ["BundleAudit", "audit_bundle"]


@dataclass(frozen=True)
class BundleAudit:
    """The outcome of an audit of a bundle.

    Attributes:
        report: The graph's audit, with a finding for each node whose instructions multiply.
        instructions: How often each instruction occurs in the words.
        multiplying: How many of the words take a multiplier.
        findings: What the proofs of the words find; empty if they hold.
    """

    report: AuditReport
    instructions: Mapping[str, int]
    multiplying: int
    findings: tuple[Problem, ...]


def audit_bundle(compiled: Compiled, routes: Mapping[str, Any]) -> BundleAudit:
    """Audit a bundle that was opened.

    Args:
        compiled: Its network and its words; what the host executes is the host's, by the graph's audit.
        routes: Its routing table.
    """
    report = audit(compiled.model)
    program = compiled.program
    wrong: Counter[tuple[str, str]] = Counter()
    for item, line in zip(program.instructions, program.lines, strict=True):
        if FORMS[item.name].multiplies:
            wrong[line.node, item.name] += 1
    rows = [
        AuditRow(node, name, "finding", f"{count} instruction(s) that take a multiplier")
        for (node, name), count in sorted(wrong.items())
    ]
    return BundleAudit(
        AuditReport((*report.rows, *rows)),
        dict(sorted(Counter(item.name for item in program.instructions).items())),
        multiplications(program.instructions),
        tuple(_findings(compiled, routes)),
    )


def _findings(compiled: Compiled, routes: Mapping[str, Any]) -> Iterator[Problem]:
    """Iterate over what the proofs find wrong with the words."""
    program = compiled.program
    found, reach = proofs(program, compiled.binary, routes)
    for item in found:
        yield Problem(f"{item.kind}: {item.text}", _place(program, item.pc))
    for over in reach.overflows:
        text = f"overflow: {over.low} .. {over.high} in {over.dtype}"
        yield Problem(text, _place(program, over.pc))


def _place(program: Program, pc: int) -> Where:
    return Where(node=program.lines[pc].node) if pc >= 0 else Where()
