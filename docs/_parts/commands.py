"""The reference of the command line, from the commands themselves."""

from __future__ import annotations

import click

from snnc.cli.group import COMMANDS, cli

__all__ = ["reference"]


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*").replace("\n", " ")


def _rows(command: click.Command, context: click.Context, leave_out: set[str]) -> list[str]:
    rows = []
    for parameter in command.params:
        if isinstance(parameter, click.Argument) or parameter.name in leave_out:
            continue
        record = parameter.get_help_record(context)
        if record is not None:
            rows.append(f"| `{record[0].replace('|', chr(92) + '|')}` | {_cell(record[1])} |")
    return rows


def _table(rows: list[str]) -> str:
    return "\n".join(["| option | meaning |", "|---|---|", *rows]) + "\n"


def _command(name: str, everywhere: set[str]) -> str:
    found = cli.get_command(click.Context(cli), name)
    if found is None:
        raise ValueError(f"there is no command {name!r}")
    context = click.Context(found, info_name=f"snnc {name}")
    usage = " ".join(found.collect_usage_pieces(context))
    # A command's help is its sentence, then the heading "Examples" and the examples.
    text, _, examples = (found.help or "").replace("\b", "").partition("Examples:")
    parts = [f"### snnc {name}\n", _escaped(text.strip()) + "\n", f"```text\nsnnc {name} {usage}\n```\n"]
    rows = _rows(found, context, everywhere)
    if rows:
        parts.append(_table(rows))
    if examples.strip():
        lines = "\n".join(f"$ {line.strip()}" for line in examples.strip().splitlines())
        parts.append(f"```console\n{lines}\n```\n")
    return "\n".join(parts)


def _escaped(text: str) -> str:
    return text.replace("<", "&lt;").replace("*", "\\*")


def reference() -> str:
    """Return the reference as Markdown: what holds everywhere, then the commands by intent."""
    common = {str(parameter.name) for parameter in cli.params}
    parts = ["## Flags of every command\n", _table(_rows(cli, click.Context(cli), {"version"}))]
    for title, group in COMMANDS.items():
        parts.append(f"## {title}\n")
        parts += [_command(name, common) for name in group]
    return "\n".join(parts)
