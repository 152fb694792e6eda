"""``snnc passes``: list the passes, or explain some of them."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

import click

from snnc.cli.options import command as make_command
from snnc.cli.output import Output
from snnc.cli.tables import show_pairs

if TYPE_CHECKING:
    from snnc.pipeline.contract import Pass

__all__ = ["command"]


@make_command(
    "passes",
    "List the passes; with names, explain these: options, what they require and establish, what they change.",
    "snnc passes\nsnnc passes integer-weights\nsnnc passes --json",
)
@click.argument("names", metavar="[PASS]...", nargs=-1)
def command(output: Output, *, names: Sequence[str]) -> None:
    """List or explain passes."""
    from snnc.errors import UsageError
    from snnc.passes.catalog import ALL_PASSES

    known = {entry.name: entry for entry in ALL_PASSES}
    for name in names:
        if name not in known:
            near = get_close_matches(name, known, n=3)
            hint = f"did you mean {' or '.join(map(repr, near))}?" if near else "see 'snnc passes'"
            raise UsageError("SNN221", f"there is no pass {name!r}", hint=hint)
    chosen = [known[name] for name in names] or list(ALL_PASSES)
    rows = [_row(entry) for entry in chosen]
    if names:
        for number, entry in enumerate(chosen):
            if number:
                output.result()
            _explain(output, entry, rows[number])
    else:
        output.table(
            ["pass", "kind", "what it does"],
            [[row["name"], row["semantics"], row["summary"]] for row in rows],
        )
    output.document({"passes": rows})


def _row(entry: type[Pass]) -> dict[str, Any]:
    text = (entry.__doc__ or "").strip().splitlines()
    return {
        "name": entry.name,
        "semantics": entry.semantics,
        "requires": sorted(entry.requires),
        "establishes": sorted(entry.establishes),
        "invalidates": sorted(entry.invalidates),
        "summary": text[0] if text else "",
    }


def _explain(output: Output, entry: type[Pass], row: dict[str, Any]) -> None:
    """Print what the class says of itself, and what the pipeline's proof knows of it."""
    from snnc.passes.catalog import ALL_PASSES

    output.result(f"{entry.name}, {entry.semantics}")
    output.result()
    output.results(inspect.cleandoc(entry.__doc__ or ""))
    output.result()
    giving = {
        name: [other.name for other in ALL_PASSES if name in other.establishes] for name in row["requires"]
    }
    requires = [f"{name} (from {', '.join(others) or 'the start'})" for name, others in giving.items()]
    pairs = [
        ("requires", ", ".join(requires) or "nothing"),
        ("establishes", ", ".join(row["establishes"]) or "nothing"),
        ("invalidates", ", ".join(row["invalidates"]) or "nothing"),
        *(
            (f"option {option.name.replace('_', '-')}", f"{_type(option)}{_default(option)}")
            for option in _options(entry)
        ),
        ("run it alone", f"snnc opt MODEL.onnx --passes {entry.name} -o OUT.onnx"),
    ]
    show_pairs(output, pairs)


def _options(entry: type[Pass]) -> list[dataclasses.Field[Any]]:
    if not dataclasses.is_dataclass(entry):
        return []
    return [option for option in dataclasses.fields(entry) if option.init and option.repr]


def _type(option: dataclasses.Field[Any]) -> str:
    return option.type if isinstance(option.type, str) else option.type.__name__


def _default(option: dataclasses.Field[Any]) -> str:
    return "" if option.default is dataclasses.MISSING else f", {option.default!r} unless given"
