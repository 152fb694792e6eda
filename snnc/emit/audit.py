"""The claim "multiplication-free" about a bundle: about its graph, and about every one of its words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from snnc.cost.audit import AuditReport, AuditRow, audit
from snnc.emit.compiled import Compiled
from snnc.emit.report import multiplications
from snnc.isa.table import FORMS

__all__ = ["BundleAudit", "audit_bundle"]


@dataclass(frozen=True)
class BundleAudit:
    """The outcome of an audit of a bundle.

    Attributes:
        report: The graph's audit, with a finding for each node whose instructions multiply.
        instructions: How often each instruction occurs in the words.
        multiplying: How many of the words take a multiplier.
    """

    report: AuditReport
    instructions: Mapping[str, int]
    multiplying: int


def audit_bundle(compiled: Compiled) -> BundleAudit:
    """Audit a bundle that was opened.

    Args:
        compiled: Its network and its words; what the host executes is the host's, by the graph's audit.
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
    )
