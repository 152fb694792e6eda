"""``snnc completion``: what teaches a shell to complete commands, options and files."""

from __future__ import annotations

import click

from snnc.cli import options
from snnc.cli.output import Output

__all__ = ["command"]

_SHELLS = ("bash", "zsh", "fish", "powershell")


@options.command(
    "completion",
    "Print a script that makes a shell complete the words of snnc.",
    'eval "$(snnc completion bash)"\n'
    "snnc completion zsh >> ~/.zshrc\n"
    "snnc completion fish > ~/.config/fish/completions/snnc.fish",
)
@click.argument("shell", metavar="SHELL", type=click.Choice(_SHELLS))
def command(output: Output, *, shell: str) -> None:
    """Print the script of a shell."""
    from click.shell_completion import get_completion_class

    from snnc.cli.group import COMPLETE, cli
    from snnc.errors import EnvironmentFailure

    found = get_completion_class(shell)
    if found is None:
        raise EnvironmentFailure(
            "SNN615", f"this version of click knows nothing of {shell}", hint="pip install 'click>=8.5'"
        )
    script = found(cli, {}, "snnc", COMPLETE).source()
    output.results(script.rstrip("\n"))
    output.document({"shell": shell, "script": script})
