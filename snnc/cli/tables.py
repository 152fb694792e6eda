"""Tables that several commands print."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from snnc.cli.output import Output, printable

if TYPE_CHECKING:
    from snnc.pipeline import PassRecord

__all__ = ["bytes_text", "pass_rows", "show_pairs", "show_passes"]


def pass_rows(records: Sequence[PassRecord]) -> list[dict[str, Any]]:
    """Return what the passes did, for the JSON document."""
    return [
        {
            "name": record.name,
            "semantics": record.semantics,
            "changed": record.changed,
            "rewrites": len(record.rewrites),
            "nodes_before": record.nodes_before,
            "nodes_after": record.nodes_after,
            "notes": [*record.notes],
            "cost": record.to_json()["cost"],
        }
        for record in records
    ]


def show_passes(output: Output, records: Sequence[PassRecord], *, notes: bool = True) -> None:
    """Print the passes that changed something or have something to say, and count the others."""
    shown = [record for record in records if record.changed or record.notes]
    wide = output.width >= 60
    rows = []
    for record in shown:
        nodes = f"{record.nodes_before} -> {record.nodes_after}"
        cells = [record.name, record.semantics if wide else record.semantics[:6], str(len(record.rewrites))]
        rows.append([*cells, nodes] if wide else cells)
    headings = ["pass", "kind", "rewrites", "nodes"] if wide else ["pass", "kind", "n"]
    output.table(headings, rows, right=(2,))
    idle = len(records) - len(shown)
    if idle:
        output.result(f"{idle} more passes found nothing to change")
    for record in shown if notes else ():
        for note in record.notes:
            show_note(output, f"{record.name}: {note}")


def show_note(output: Output, text: str) -> None:
    """Print a remark, wrapped to the width of the terminal."""
    for line in textwrap.wrap(
        printable(text), max(output.width, 20), initial_indent="  ", subsequent_indent="    "
    ):
        output.result(line)


def show_pairs(output: Output, pairs: Sequence[tuple[str, str]]) -> None:
    """Print labels and values, one pair a line, wrapped to the width of the terminal."""
    label_width = max((len(label) for label, _ in pairs), default=0)
    for label, value in pairs:
        head = f"{label.ljust(label_width)}  "
        lines = textwrap.wrap(printable(value), max(output.width - len(head), 16)) or [""]
        output.result(head + lines[0])
        for line in lines[1:]:
            output.result(" " * len(head) + line)


def bytes_text(count: int) -> str:
    """Write a number of bytes with a unit: ``1.2 MB``."""
    size = float(count)
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.4g} {unit}"
        size /= 1000
    return f"{size:.4g} GB"
