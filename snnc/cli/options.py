"""Every option of the command line, declared once: one name, one type, one default, one help text."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import click

from snnc.cli.output import Output, Settings
from snnc.settings import SETTINGS, Setting, by_name, read_recipe

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

__all__ = [
    "chosen",
    "command",
    "common",
    "data",
    "differing",
    "dump_passes",
    "labels",
    "outputs",
    "passes",
    "recipe_of",
    "runtime",
    "samples",
    "save_recipe",
    "seed",
    "settings",
    "sqnr",
    "trace",
    "words",
]

#: Key of a context's memory: the recipe that was read.
_RECIPE = "snnc.recipe"
#: The same: the metadata of the converted file that stood in for a recipe.
_MANIFEST = "snnc.manifest"

F = TypeVar("F", bound=Callable[..., Any])

_COMMON = (
    click.option("--json", "json_", is_flag=True, help="Print one JSON document on stdout."),
    click.option("--quiet", is_flag=True, help="Print nothing but results and errors."),
    click.option("--force", is_flag=True, help="Replace existing output files."),
    click.option("--no-color", is_flag=True, help="Never use colours."),
    click.option("--debug", is_flag=True, help="Show the traceback of an unexpected error."),
    click.option("--allow-hardlinks", is_flag=True, help="Read weights from files that are hard links."),
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
            allow_hardlinks: bool,
            **options: Any,
        ) -> int:
            above = context.obj if isinstance(context.obj, Settings) else Settings()
            settings = Settings(
                json=json_ or above.json,
                quiet=quiet or above.quiet,
                force=force or above.force,
                no_color=no_color or above.no_color,
                debug=debug or above.debug,
                allow_hardlinks=allow_hardlinks or above.allow_hardlinks,
            )
            if not settings.allow_hardlinks:
                return function(Output(settings, name), **options) or 0
            from snnc.ir import hard_links_allowed

            with hard_links_allowed():
                return function(Output(settings, name), **options) or 0

        examples = "\b\nExamples:\n" + "\n".join(f"  {line}" for line in epilog.strip().splitlines())
        made = click.command(name, help=help_, epilog=examples)(common(run))
        for parameter in made.params:
            if isinstance(parameter.type, click.types.StringParamType):
                parameter.type = _Place.of(parameter) or parameter.type
        return made

    return decorate


class _Place(click.types.StringParamType):
    """A text that a shell completes as a file, a folder, or an operator of ONNX."""

    def __init__(self, kind: str) -> None:
        self._kind = kind

    @classmethod
    def of(cls, parameter: click.Parameter) -> _Place | None:
        """Return the type of a parameter, judged by its placeholder; None if it names no place."""
        words = parameter.metavar or ""
        if words == "OP|NODE":
            return cls("operator")
        if any(word in words for word in ("FILE", ".onnx", "BUNDLE", "DATA", ".s")):
            return cls("file")
        return cls("dir") if words == "DIR" else None

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Let the shell list files; list operators ourselves."""
        from click.shell_completion import CompletionItem

        if self._kind != "operator":
            return [CompletionItem(incomplete, type=self._kind)]
        from snnc.cost.audit import STANDARD_OPERATORS

        return [CompletionItem(name) for name in STANDARD_OPERATORS if name.startswith(incomplete)]


def _option(setting: Setting) -> Callable[[F], F]:
    """Make the option of a setting: one name, one type, one default, one help text everywhere."""
    text = setting.help
    if setting.default_text is not None:
        text += f"  [default: {setting.default_text}]"
    named: dict[str, Any] = {
        "metavar": setting.metavar,
        "help": text,
        "default": setting.default,
        "show_default": setting.default is not None and not setting.many,
        "envvar": setting.variable,
    }
    flag = setting.flag
    if setting.kind == "bool":
        flag = f"{flag}/--no-{flag.removeprefix('--')}"
        named.pop("metavar")
    elif setting.choices:
        named["type"] = click.Choice(setting.choices)
        named.pop("metavar")
    elif setting.kind == "int":
        low, high = (None if limit is None else int(limit) for limit in (setting.low, setting.high))
        named["type"] = click.IntRange(low, high)
    elif setting.kind == "float":
        named["type"] = Number(setting.low, setting.high)
    if setting.many:
        named.update(multiple=True, default=None, metavar=setting.metavar)
    return click.option(flag, setting.name, **named)


def settings(function: F) -> F:
    """Add the flags of all settings of a conversion, and ``--recipe``."""
    for setting in reversed(SETTINGS):
        function = _option(setting)(function)
    return click.option(
        "--recipe",
        metavar="FILE.toml|OUT.snn.onnx",
        envvar="SNNC_RECIPE",
        is_eager=True,
        expose_value=False,
        callback=_read_recipe,
        help="Take settings from a recipe, or from a converted file, which records its own; flags and "
        "SNNC_* variables win.",
    )(function)


def _read_recipe(context: click.Context, parameter: click.Parameter, path: str | None) -> None:
    """Make the settings of a recipe the defaults of this command."""
    if path is None:
        return
    values = read_recipe(path) if not path.endswith(".onnx") else _recorded(context, path)
    context.default_map = {**(context.default_map or {}), **values}
    context.meta[_RECIPE] = path


def _recorded(context: click.Context, path: str) -> dict[str, Any]:
    """Return the settings that a converted file records; it is the manifest of its own conversion."""
    from snnc.compile import load_spiking, options_of_file

    model = load_spiking(path)
    context.meta[_MANIFEST] = dict(model.metadata_props)
    held = options_of_file(model)
    return {setting.name: getattr(held, setting.name) for setting in SETTINGS if setting.recorded}


def differing(context: click.Context, found: Mapping[str, str]) -> str | None:
    """Say why a conversion by the settings of a converted file is not that conversion again, or nothing.

    Args:
        context: Context of the command.
        found: Metadata of what was made now.
    """
    held: Mapping[str, str] | None = context.meta.get(_MANIFEST)
    if held is None:
        return None
    names = {
        "snnc.version": "another version of snnc",
        "snnc.source": "another source",
        "snnc.options": "other settings",
        "snnc.calibration": "other calibration data",
    }
    other = [text for key, text in names.items() if held.get(key) != found.get(key)]
    return f"not the conversion of {context.meta[_RECIPE]} again: {', '.join(other)}" if other else None


def chosen(context: click.Context, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings as ``ConvertOptions`` takes them.

    Rules for layers that flags give come behind those of the recipe, so that they win; of all other settings
    the nearest source counts.

    Args:
        context: Context of the command.
        given: What click made of flags, environment and recipe.
    """
    values = {setting.name: given[setting.name] for setting in SETTINGS}
    for setting in SETTINGS:
        if not setting.many:
            continue
        values[setting.name] = tuple(values[setting.name] or ())
        source = context.get_parameter_source(setting.name)
        if setting.kind == "rule" and source is not click.core.ParameterSource.DEFAULT_MAP:
            values[setting.name] = (*(context.default_map or {}).get(setting.name, ()), *values[setting.name])
    return values


def recipe_of(context: click.Context) -> str | None:
    """Return the path of the recipe that this command read, if any."""
    found: str | None = context.meta.get(_RECIPE)
    return found


dump_passes = click.option(
    "--dump-passes",
    metavar="DIR",
    type=click.Path(file_okay=False),
    help="Write the model after every pass that changes it, a log, and a reproducer on failure.",
)
save_recipe = click.option(
    "--save-recipe",
    metavar="FILE.toml",
    type=click.Path(dir_okay=False),
    help="Write all settings, defaults too, as a recipe that gives the same bytes again.",
)
seed = _option(by_name()["seed"])
outputs = click.option(
    "-o", "--output", "target", metavar="FILE", type=click.Path(dir_okay=False), help="Output file."
)
data = click.option(
    "--data", metavar="DATA", help="Samples: .npz keyed by input name, .npy, a folder of .npy, or random:N."
)
samples = click.option(
    "--input",
    "source",
    metavar="DATA",
    help="Samples: .npz keyed by input name, .npy, a folder of .npy, or random:N.",
)
labels = _option(by_name()["labels"])
runtime = click.option(
    "--runtime",
    type=click.Choice(["numpy", "numpy-timestep", "ort", "ort-stock", "expg1"]),
    default="numpy",
    show_default=True,
    help="Executor: numpy on packed codes, numpy spike by spike (the definition), onnxruntime, or the "
    "simulator of ExpG-1.",
)
trace = click.option(
    "--trace",
    metavar="FILE",
    help="Write a trace. run, report: every spike, .npz, int8 [samples, T, ...] by name of the tensor. "
    "sim: retired instructions of the first sample, .csv or .vcd.",
)
words = click.option(
    "--words",
    metavar="FILE.bin",
    help="Words to take in place of the bundle's own, such as what 'snnc asm' wrote.",
)


class Number(click.FloatRange):
    """A number in a range. NaN, which lies in every one for Python, is in none: nothing is less than it."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the number."""
        number = super().convert(value, param, ctx)
        if number != number:  # noqa: PLR0124 - NaN
            self.fail(f"{value!r} is not a number.", param, ctx)
        return number


#: Beyond a thousand no power of ten is a float; equality is asked for with ``--bits``.
DECIBELS = Number(-1000, 1000)

sqnr = click.option(
    "--sqnr",
    type=DECIBELS,
    metavar="DB",
    help="Least SQNR of each output in dB.  [default: 80 between two float states, else 10]",
)
passes = click.option(
    "--passes",
    "--pipeline",
    "spec",
    required=True,
    metavar="SPEC",
    help="Pipeline such as 'sort-nodes,fold-batch-norm{option=value}'.",
)
