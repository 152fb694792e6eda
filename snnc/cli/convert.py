"""``snnc convert``: a trained network in, a spiking network out."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from snnc.cli import automatic, options
from snnc.cli.output import Output, printable
from snnc.cli.progress import SampleCounter
from snnc.cli.reproducer import leaving_reproducer
from snnc.cli.tables import pass_rows, show_note, show_passes
from snnc.settings import SETTINGS, format_recipe

if TYPE_CHECKING:
    from snnc.cli.pipes import Piped
    from snnc.compile import Conversion
    from snnc.cost import CostReport
    from snnc.files import OutputFile
    from snnc.runtimes import Runtime

__all__ = ["command"]

#: Samples that the closing cost table is measured on: fewer where a network has many neurons.
_COST_SAMPLES = 64
_COST_ELEMENTS = 1 << 26
_RANDOM_SAMPLES = 8


@options.command(
    "convert",
    "Convert an ONNX model into a spiking one that computes the same, bit for bit.",
    "snnc convert model.onnx --timesteps 4 --groups 2 -o model.snn.onnx\n"
    "snnc convert model.onnx --calibrate x.npz\n"
    "snnc convert - -o - < model.onnx > model.snn.onnx\n"
    "snnc convert model.onnx --dump-passes passes/",
)
@click.argument("model", metavar="MODEL.onnx")
@options.outputs
@options.settings
@options.save_recipe
@options.dump_passes
def command(
    output: Output,
    *,
    model: str,
    target: str | None,
    save_recipe: str | None,
    dump_passes: str | None,
    **given: Any,
) -> None:
    """Convert a model."""
    from snnc.cli.pipes import piped

    with piped(output, model, target) as place:
        _convert(output, place, save_recipe, dump_passes, given)


def _convert(
    output: Output,
    place: Piped,
    save_recipe: str | None,
    dump_passes: str | None,
    given: Mapping[str, Any],
) -> None:
    """Convert a model whose files are known."""
    from snnc.compile import ConvertOptions, convert
    from snnc.cost.audit import audit
    from snnc.data import source_files
    from snnc.errors import InternalError, Problem, UsageError, Where
    from snnc.files import check_output, place_beside
    from snnc.ir import companion, data_files, save
    from snnc.pipeline import Before, Dump, Instrument, Progress

    model, target = place.source, place.target or place_beside(place.source, ".snn.onnx")
    context = click.get_current_context()
    choices = ConvertOptions(**options.chosen(context, given))
    inputs: list[str | Path] = [
        model,
        *filter(None, (choices.labels, options.recipe_of(context))),
        *source_files(choices.calibrate or ""),
    ]
    check_output(target, force=output.settings.force, inputs=inputs)
    if save_recipe is not None:
        check_output(save_recipe, force=output.settings.force, inputs=inputs)
        if os.path.realpath(save_recipe) == os.path.realpath(target):
            raise UsageError(
                "SNN231", "the recipe would be the same file as the model", where=Where(file=save_recipe)
            )
    instruments: list[Instrument] = [Progress(output.progress_stream())]
    if dump_passes is not None:
        replay = ["snnc", *sys.argv[1:]]
        instruments.append(Dump(dump_passes, force=output.settings.force, replay=replay))
    choices, chosen = automatic.resolve(output, model, choices)
    counter = SampleCounter(output.progress_stream(), "  calibrating")
    before = Before()
    with leaving_reproducer(output, before, refusals=False):
        converted = convert(model, choices, instruments=[*instruments, before], progress=counter)
    report = audit(converted.model)
    if not report.clean:
        raise InternalError(
            "SNN159",
            report.claim,
            where=Where(file=model),
            problems=[Problem(f"{row.op}: {row.note}", Where(node=row.node)) for row in report.findings],
        )
    inputs += data_files(converted.model)
    beside = companion(converted.model, target)
    places: list[str | Path] = [target] if beside is None else [beside, target]
    for path in places:
        check_output(path, force=output.settings.force, inputs=inputs)
    # Measured before anything is written: data that cannot be read must not leave a model behind.
    calibrate = choices.calibrate
    cost = _measure(converted, calibrate, choices.seed, model)
    recipe = []
    if save_recipe is not None:
        check_output(save_recipe, force=output.settings.force, inputs=inputs)
        recipe.append(_recipe(save_recipe, converted))
    save(converted.model, target, also=recipe)
    show_passes(output, converted.records)
    _show_untrue(output, converted)
    _show_calibration(output, converted, choices.calibrate)
    _show_cost(output, cost, calibrate, target)
    output.prose(report.claim)
    _show_next(output, place, target, calibrate)
    note = options.differing(context, converted.model.metadata_props)
    if note is not None:
        output.say(f"note: {note}")
    output.document(
        {
            "model": place.shown,
            "output": target,
            "options": {setting.name: getattr(choices, setting.name) for setting in SETTINGS},
            "passes": pass_rows(converted.records),
            "audit": {"multiplication_free": report.clean, "claim": report.claim},
            "cost": cost.to_dict(),
            "auto": automatic.document(chosen),
            "calibration": None if converted.calibration is None else converted.calibration.to_dict(),
        }
    )


def _show_cost(output: Output, cost: CostReport, calibrate: str | None, target: str) -> None:
    """Print what one sample costs, and say if the samples were nothing real."""
    from snnc.cost import render

    output.result()
    output.results(render(cost, output.width).rstrip("\n"))
    if calibrate is None:
        show_note(
            output,
            f"random inputs make random spikes; for figures to quote: snnc inspect {target} --data x.npz",
        )
    output.result()


def _show_next(output: Output, place: Piped, target: str, calibrate: str | None) -> None:
    """Say what was written and what to do with it."""
    output.result(printable(f"written: {place.written or target}"))
    if not place.streams:
        command = shlex.join(["snnc", "verify", place.shown, target, "--data", calibrate or "x.npz"])
        output.result(printable(f"next:    {command}"))


def _show_untrue(output: Output, converted: Conversion) -> None:
    """Warn of shapes and types that the source declares and does not have."""
    notes = [note for each in converted.records if each.name == "check-consistency" for note in each.notes]
    found = list(dict.fromkeys(notes))
    if found:
        more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
        output.say(printable(f"warning: {found[0]}{more}: what the file declares is not believed"))


def _show_calibration(output: Output, converted: Conversion, source: str | None) -> None:
    """Say what the quantisers were chosen from, and loudly if that was nothing real."""
    record = converted.calibration
    if record is None:
        return
    output.prose(f"calibrated on {record.samples} samples, sha256 {record.sha256[:16]}")
    clipped = {name: numbers.get("clipped") or 0.0 for name, numbers in record.codes.items()}
    if any(clipped.values()):
        name = max(clipped, key=lambda each: clipped[each])
        show_note(output, f"most values beyond the code: {clipped[name]:.2%} at {name}; such inputs saturate")
    if source is not None and source.startswith("random:"):
        output.say(
            f"warning: calibrated on {source}, not on data: codes fit noise, and accuracy will suffer; "
            "give samples of what the network is for: --calibrate x.npz"
        )


def _recipe(path: str, converted: Conversion) -> OutputFile:
    """Return the settings that were used, as a recipe to be written."""
    from snnc import __version__

    values = {setting.name: getattr(converted.options, setting.name) for setting in SETTINGS}
    notes = (f"snnc {__version__}", f"source {converted.model.metadata_props['snnc.source']}")
    text = format_recipe(values, Path(path).parent, notes)

    def write(stream: BinaryIO) -> None:
        stream.write(text.encode())

    return path, write


def _require_finite(converted: Conversion, runtime: Runtime, samples: Mapping[str, Any], source: str) -> None:
    """Refuse a network whose host gives its neurons infinite values: they would saturate without a word."""
    import numpy as np

    from snnc.errors import InputError, Where

    graph = converted.model.graph
    given = {value.name for value in graph.inputs}
    encoded = [node.inputs[0] for node in graph if node.op_type in ("FixedPointEncode", "Encode")]
    names = sorted({value.name for value in encoded if value is not None and value.name} - given)
    found = runtime.run(samples, names) if names else {}
    for name in names:
        if not np.isfinite(found[name]).all():
            raise InputError(
                "SNN346",
                "the calibration data give values here that are not finite",
                where=Where(file=source, tensor=name),
                hint="leave out the samples that cause them, or the division or root in front",
            )


def _measure(converted: Conversion, calibrate: str | None, seed: int, source: str) -> CostReport:
    """Count spikes and operations on a few samples: the calibration's, or random ones.

    Raises:
        InputError: SNN346, naming the file of the source, if the samples lead to values that are not finite.
    """
    from snnc.arrays import sample_count
    from snnc.cost import measure, required_taps
    from snnc.data import first_samples, named_samples
    from snnc.ir.taps import elements_per_sample
    from snnc.runtimes import create

    model = converted.model
    runtime = create("numpy", model)
    most = min(_COST_SAMPLES, max(1, _COST_ELEMENTS // elements_per_sample(model, required_taps(model))))
    # What can be read only once was kept when it calibrated.
    given = converted.samples or named_samples(calibrate or f"random:{_RANDOM_SAMPLES}", seed=seed)
    samples = first_samples(given, runtime.inputs, most)
    if calibrate is not None:
        _require_finite(converted, runtime, samples, source)
    given_by = calibrate or "random inputs"
    return measure(model, samples, runtime.run, data=f"{sample_count(samples)} samples of {given_by}")
