"""The ``snnc`` command: a group that loads a command only when it is used."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from difflib import get_close_matches
from importlib import import_module
from typing import Any, NoReturn

import click

from snnc import __version__
from snnc.cli.guard import guarded
from snnc.cli.options import common
from snnc.cli.output import Settings
from snnc.errors import UsageError

__all__ = ["COMPLETE", "cli"]

#: Variable by which a shell asks what a word may become.
COMPLETE = "_SNNC_COMPLETE"

#: Intent, then command name and module. A module imports nothing heavy before its command runs.
COMMANDS: dict[str, dict[str, str]] = {
    "Begin": {"init": "snnc.cli.init", "completion": "snnc.cli.completion"},
    "Convert and run": {"convert": "snnc.cli.convert", "run": "snnc.cli.run"},
    "Check and measure": {
        "verify": "snnc.cli.verify",
        "audit": "snnc.cli.audit",
        "inspect": "snnc.cli.inspect",
        "report": "snnc.cli.report",
    },
    "Instructions of ExpG-1": {
        "emit": "snnc.cli.emit",
        "sim": "snnc.cli.sim",
        "asm": "snnc.cli.asm",
        "disasm": "snnc.cli.disasm",
    },
    "Find a fault": {
        "compare": "snnc.cli.compare",
        "bisect": "snnc.cli.bisect",
        "reduce": "snnc.cli.reduce",
        "diff": "snnc.cli.diff",
    },
    "Passes one by one": {"opt": "snnc.cli.opt", "passes": "snnc.cli.passes"},
    "Help": {"explain": "snnc.cli.explain", "doctor": "snnc.cli.doctor"},
}

_EXAMPLES = """\
  snnc init demo/
  snnc inspect model.onnx
  snnc convert model.onnx --timesteps 4 --groups 2 -o model.snn.onnx
  snnc run model.snn.onnx --input x.npz --output y.npz
  snnc verify model.onnx model.snn.onnx --data x.npz
"""


class Commands(click.Group):
    """A group whose commands are imported on first use and whose errors become exit codes."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the commands, grouped by intent."""
        return [name for group in COMMANDS.values() for name in group]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one command."""
        for group in COMMANDS.values():
            if cmd_name in group:
                found = import_module(group[cmd_name]).command
                if not isinstance(found, click.Command):
                    raise TypeError(f"{group[cmd_name]}.command is not a click command")
                return found
        return None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command the user named; suggest near ones."""
        name = args[0]
        if self.get_command(ctx, name) is None and not name.startswith("-") and not ctx.resilient_parsing:
            near = get_close_matches(name, self.list_commands(ctx), n=2)
            hint = f" Did you mean {' or '.join(near)}?" if near else ""
            raise click.UsageError(f"No such command {name!r}.{hint}", ctx)
        return super().resolve_command(ctx, args)

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write examples first, then the commands by intent."""
        self.format_usage(ctx, formatter)
        self.format_help_text(ctx, formatter)
        with formatter.section("Examples"):
            formatter.write("\n".join(f"{line}" for line in _EXAMPLES.splitlines()) + "\n")
        for title, group in COMMANDS.items():
            rows = []
            for name in group:
                found = self.get_command(ctx, name)
                rows.append((name, found.get_short_help_str(limit=100) if found else ""))
            with formatter.section(title):
                formatter.write_dl(rows)
        options = [record for p in self.get_params(ctx) if (record := p.get_help_record(ctx)) is not None]
        with formatter.section("Options (the flags may also follow the command)"):
            formatter.write_dl(options)

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> NoReturn:
        """Run the command line and leave with its exit code."""
        arguments = list(sys.argv[1:] if args is None else args)

        name = prog_name or "snnc"
        asked = os.environ.get(complete_var or COMPLETE)
        if asked:
            variable = complete_var or COMPLETE
            sys.exit(guarded(lambda: self._complete(name, variable, asked, extra), arguments))

        def run() -> object:
            with self.make_context(name, [*arguments], **extra) as context:
                return self.invoke(context)

        sys.exit(guarded(run, arguments))

    def _complete(self, name: str, variable: str, asked: str, extra: dict[str, Any]) -> None:
        """Answer a shell that asks, by variables of the environment, what a word may become."""
        from click.shell_completion import shell_complete

        hint = (
            f"shells set {variable} where 'snnc completion SHELL' taught them to; otherwise: unset {variable}"
        )
        try:
            status = shell_complete(self, extra, name, variable, asked)
        except (KeyError, ValueError) as error:  # COMP_WORDS and COMP_CWORD are not there, or no number
            text = f"the variable {variable} asks for {asked!r}, but the words to complete are not there"
            raise UsageError("SNN200", text, hint=hint) from error
        if status:
            raise UsageError("SNN200", f"the variable {variable} asks for {asked!r}", hint=hint)


@click.command(
    "snnc",
    cls=Commands,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    help="Turn a trained neural network (ONNX) into a spiking one that computes the same, bit for bit.",
)
@click.version_option(__version__, prog_name="snnc")
@common
@click.pass_context
def cli(context: click.Context, /, *, json_: bool, **flags: bool) -> None:
    """Keep the global flags for the command, or show the help."""
    context.obj = Settings(json=json_, **flags)
    if context.invoked_subcommand is None:
        click.echo(context.get_help())
