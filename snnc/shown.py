"""How results show themselves: one line in a terminal, tables in a notebook; whatever is in them is text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from html import escape
from typing import Any

__all__ = ["ShownConversion", "html_table"]

_STYLE = "text-align:left;font-variant-numeric:tabular-nums"


def html_table(headings: Sequence[str], rows: Sequence[Sequence[Any]], caption: str = "") -> str:
    """Return a table as HTML; every cell is text, whatever is in it.

    Args:
        headings: Heading of each column.
        rows: Cells.
        caption: What stands above.
    """
    above = f"<caption style='text-align:left'>{escape(caption)}</caption>" if caption else ""
    head = "".join(f"<th style='{_STYLE}'>{escape(text)}</th>" for text in headings)
    body = "".join(
        "<tr>" + "".join(f"<td style='{_STYLE}'>{escape(str(cell))}</td>" for cell in row) + "</tr>"
        for row in rows
    )
    return f"<table>{above}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


class ShownConversion:
    """A converted network's way to show itself; `snnc.compile.Conversion` inherits it."""

    model: Any
    records: Any
    calibration: Any

    def _layers(self) -> list[tuple[str, str, int, int, int, str]]:
        found = []
        for node in self.model.graph:
            values = {name: attr.value for name, attr in node.attributes.items()}
            if node.domain == "ai.snnc" and "timesteps" in values and "groups" in values:
                name = node.metadata_props.get("snnc.source") or node.name or ""
                codes = values.get("codes", ())
                signed = "yes" if values.get("signed") else ""
                found.append((name, node.op_type, values["timesteps"], values["groups"], len(codes), signed))
        return found

    def __repr__(self) -> str:
        """One line: how many layers of which codes, what was approximated."""
        codes = Counter(f"T{layer[2]}G{layer[3]}" for layer in self._layers())
        layers = ", ".join(f"{count} × {code}" for code, count in codes.items()) or "no neurons"
        changed = sum(record.semantics == "approximate" and record.changed for record in self.records)
        return (
            f"<{type(self).__name__}: {len(self.model.graph)} nodes; layers of neurons: {layers}; "
            f"{changed} approximate passes>"
        )

    def _repr_html_(self) -> str:
        """Tables for a notebook: layers of neurons, and passes that changed something."""
        layers = html_table(
            ("layer", "operator", "T", "G", "levels", "signed"), self._layers(), "Layers of neurons"
        )
        passes = html_table(
            ("pass", "kind", "rewrites", "nodes", "what it changed"),
            [
                (
                    r.name,
                    r.semantics,
                    len(r.rewrites),
                    f"{r.nodes_before} → {r.nodes_after}",
                    "; ".join(r.notes),
                )
                for r in self.records
                if r.changed
            ],
            "Passes that changed something",
        )
        return f"<p>{escape(repr(self))}</p>{layers}{passes}"
