"""``snnc passes``: list the passes."""

from __future__ import annotations

from snnc.cli.options import command as make_command
from snnc.cli.output import Output

__all__ = ["command"]


@make_command(
    "passes",
    "List the passes with what they need, what they give, and whether they are exact.",
    "snnc passes\nsnnc passes --json",
)
def command(output: Output) -> None:
    """List the passes."""
    from snnc.passes.catalog import ALL_PASSES

    rows = []
    for entry in ALL_PASSES:
        text = (entry.__doc__ or "").strip().splitlines()
        rows.append(
            {
                "name": entry.name,
                "semantics": entry.semantics,
                "requires": sorted(entry.requires),
                "establishes": sorted(entry.establishes),
                "invalidates": sorted(entry.invalidates),
                "summary": text[0] if text else "",
            }
        )
    output.table(
        ["pass", "kind", "what it does"],
        [[str(row["name"]), str(row["semantics"]), str(row["summary"])] for row in rows],
    )
    output.document({"passes": rows})
