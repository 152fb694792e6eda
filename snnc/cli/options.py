"""Every option of the command line, declared once: one name, one type, one default, one help text."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import click

from snnc.cli.output import Output, Settings

__all__ = [
    "calibrate",
    "command",
    "common",
    "data",
    "dump_passes",
    "groups",
    "labels",
    "outputs",
    "partition",
    "passes",
    "runtime",
    "seed",
    "timesteps",
    "weights",
]

F = TypeVar("F", bound=Callable[..., Any])

_COMMON = (
    click.option("--json", "json_", is_flag=True, help="Print one JSON document on stdout."),
    click.option("--quiet", is_flag=True, help="Print nothing but results and errors."),
    click.option("--force", is_flag=True, help="Replace existing output files."),
    click.option("--no-color", is_flag=True, help="Never use colours."),
    click.option("--debug", is_flag=True, help="Show the traceback of an unexpected error."),
)


def common(function: F) -> F:
    """Add the global flags; they may stand before or after the name of a command."""
    for option in reversed(_COMMON):
        function = option(function)
    return function


def command(name: str, help_: str, epilog: str) -> Callable[[Callable[..., int | None]], click.Command]:
    """Make a command: its function gets an :class:`Output` first and then its own options.

    Args:
        name: Name on the command line.
        help_: What it does; the first sentence is shown in the list of commands.
        epilog: Examples, one a line.
    """

    def decorate(function: Callable[..., int | None]) -> click.Command:
        @click.pass_context
        @functools.wraps(function)
        def run(
            context: click.Context,
            /,
            *,
            json_: bool,
            quiet: bool,
            force: bool,
            no_color: bool,
            debug: bool,
            **options: Any,
        ) -> int:
            above = context.obj if isinstance(context.obj, Settings) else Settings()
            settings = Settings(
                json=json_ or above.json,
                quiet=quiet or above.quiet,
                force=force or above.force,
                no_color=no_color or above.no_color,
                debug=debug or above.debug,
            )
            return function(Output(settings, name), **options) or 0

        examples = "\b\nExamples:\n" + "\n".join(f"  {line}" for line in epilog.strip().splitlines())
        return click.command(name, help=help_, epilog=examples)(common(run))

    return decorate


timesteps = click.option(
    "--timesteps",
    type=click.IntRange(1, 16),
    metavar="T",
    help="Time-steps of the spike code, 1 to 16.  [default: the model's own bits, else 8]",
)
groups = click.option(
    "--groups",
    type=click.IntRange(1, 16),
    metavar="G",
    help="Groups: the most spikes a neuron may send, 1 to T.  [default: the model's own bits, else 4]",
)
partition = click.option(
    "--partition",
    type=click.Choice(["interleaved", "contiguous"]),
    default="interleaved",
    show_default=True,
    help="Which time-steps form a group.",
)
weights = click.option(
    "--weights",
    default="int8",
    show_default=True,
    metavar="FORM",
    help="Integer form of the weights: int2 to int16, or wide (the finest that stays exact).",
)
calibrate = click.option(
    "--calibrate",
    metavar="DATA",
    help="Samples to count spikes and operations on: .npz, .npy, a folder of .npy, or random:N.",
)
dump_passes = click.option(
    "--dump-passes",
    metavar="DIR",
    type=click.Path(file_okay=False),
    help="Write the model after every pass that changes it, a log, and a reproducer on failure.",
)
seed = click.option(
    "--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True, help="Seed of random choices."
)
outputs = click.option(
    "-o", "--output", "target", metavar="FILE", type=click.Path(dir_okay=False), help="Output file."
)
data = click.option(
    "--data", metavar="DATA", help="Samples: .npz keyed by input name, .npy, a folder of .npy, or random:N."
)
labels = click.option(
    "--labels",
    metavar="FILE",
    help="True classes, one integer a sample: .npy, or .npz with one array or one called 'labels'.",
)
runtime = click.option(
    "--runtime",
    type=click.Choice(["numpy", "numpy-timestep", "ort", "ort-stock"]),
    default="numpy",
    show_default=True,
    help="Executor: numpy on packed codes, numpy spike by spike (the definition), or onnxruntime.",
)
passes = click.option(
    "--passes",
    "spec",
    required=True,
    metavar="SPEC",
    help="Pipeline such as 'sort-nodes,fold-batch-norm{option=value}'.",
)
