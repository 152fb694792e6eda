"""``snnc diff``: what two graphs do not have in common."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from snnc.cli import options
from snnc.cli.output import Output, printable
from snnc.cli.tables import show_pairs

if TYPE_CHECKING:
    from snnc.debug.diff import GraphDiff

__all__ = ["command"]


@options.command(
    "diff",
    "List what two graphs do not have in common; of two folders of dumps, pass by pass.",
    "snnc diff passes/068-fixed-point-input.onnx passes/069-integer-weights.onnx\n"
    "snnc diff passes-old/ passes-new/ --fail-on-difference",
)
@click.argument("first", metavar="A")
@click.argument("second", metavar="B")
@click.option("--fail-on-difference", is_flag=True, help="End with 5 if anything differs.")
def command(output: Output, *, first: str, second: str, fail_on_difference: bool) -> int:
    """Compare two graphs."""
    from snnc.debug.diff import diff_folders, diff_models
    from snnc.errors import MismatchError
    from snnc.ir import load

    alone: tuple[list[str], list[str]] = ([], [])
    if Path(first).is_dir() and Path(second).is_dir():
        diffs, *rest = diff_folders(first, second)
        alone = (rest[0], rest[1])
    else:
        diffs = [diff_models(load(first), load(second), (first, second))]
    _show(output, diffs, alone)
    same = all(each.same for each in diffs) and not any(alone)
    output.document(
        {
            "a": first,
            "b": second,
            "same": same,
            "only_in_a": alone[0],
            "only_in_b": alone[1],
            "models": [_document(each) for each in diffs],
        }
    )
    if same or not fail_on_difference:
        return 0
    output.complain(MismatchError("SNN552", f"{first!r} and {second!r} differ"))
    return 5


def _show(output: Output, diffs: list[GraphDiff], alone: tuple[list[str], list[str]]) -> None:
    pairs = [(f"only in {side}", ", ".join(names)) for side, names in zip("AB", alone, strict=True) if names]
    if len(diffs) > 1:
        differing = [each for each in diffs if not each.same]
        pairs.append(("dumps", f"{len(diffs)} in common, {len(differing)} of them differ"))
        if differing:
            pairs.append(("first that differs", Path(differing[0].first).name))
        diffs = differing[:1]
    for each in diffs:
        rows = [[change.what, change.kind, change.name, change.detail] for change in each.changes]
        if rows:
            output.table(["", "", "name", "what"], rows)
            output.result()
        pairs += [
            ("A", f"{each.first}, {each.nodes[0]} nodes"),
            ("B", f"{each.second}, {each.nodes[1]} nodes"),
        ]
    show_pairs(output, pairs)
    count = sum(len(each.changes) for each in diffs)
    output.result(printable(f"{count} differences" if count else "no difference"))


def _document(found: GraphDiff) -> dict[str, Any]:
    return {
        "a": found.first,
        "b": found.second,
        "nodes_a": found.nodes[0],
        "nodes_b": found.nodes[1],
        "changes": [
            {"what": each.what, "kind": each.kind, "name": each.name, "detail": each.detail}
            for each in found.changes
        ],
    }
