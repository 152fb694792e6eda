"""``snnc convert``: a trained network in, a spiking network out."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from snnc.cli import options
from snnc.cli.output import Output, printable
from snnc.cli.tables import pass_rows, show_note, show_passes

if TYPE_CHECKING:
    from snnc.coding import Partition
    from snnc.cost import CostReport
    from snnc.ir import Model

__all__ = ["command"]

#: Samples that the closing cost table is measured on.
_COST_SAMPLES = 64
_RANDOM_SAMPLES = 8


@options.command(
    "convert",
    "Convert an ONNX model into a spiking one that computes the same, bit for bit.",
    "snnc convert model.onnx --timesteps 4 --groups 2 -o model.snn.onnx\n"
    "snnc convert model.onnx --calibrate x.npz\n"
    "snnc convert model.onnx --dump-passes passes/",
)
@click.argument("model", metavar="MODEL.onnx")
@options.outputs
@options.timesteps
@options.groups
@options.partition
@options.weights
@options.calibrate
@options.dump_passes
@options.seed
def command(
    output: Output,
    *,
    model: str,
    target: str | None,
    timesteps: int | None,
    groups: int | None,
    partition: Partition,
    weights: str,
    calibrate: str | None,
    dump_passes: str | None,
    seed: int,
) -> None:
    """Convert a model."""
    from snnc.compile import ConvertOptions, convert
    from snnc.cost import render
    from snnc.files import check_output
    from snnc.ir import save
    from snnc.pipeline import Dump, Instrument, Progress

    target = target or _default_target(model)
    check_output(target, force=output.settings.force, inputs=[model, *([calibrate] if calibrate else [])])
    instruments: list[Instrument] = [Progress(output.progress_stream())]
    if dump_passes is not None:
        replay = ["snnc", *sys.argv[1:]]
        instruments.append(Dump(dump_passes, force=output.settings.force, replay=replay))
    choices = ConvertOptions(
        timesteps=timesteps,
        groups=groups,
        partition=partition,
        weights=weights,
        calibrate=calibrate,
        seed=seed,
    )
    converted = convert(model, choices, instruments=instruments)
    save(converted.model, target)
    show_passes(output, converted.records)
    output.result()
    cost = _measure(converted.model, calibrate, seed)
    output.result(render(cost, output.width).rstrip("\n"))
    if calibrate is None:
        show_note(
            output,
            f"random inputs make random spikes; for figures to quote: snnc inspect {target} --data x.npz",
        )
    output.result()
    output.result(printable(f"written: {target}"))
    command = shlex.join(["snnc", "verify", model, target, "--data", calibrate or "x.npz"])
    output.result(printable(f"next:    {command}"))
    output.document(
        {
            "model": model,
            "output": target,
            "options": {
                "timesteps": timesteps,
                "groups": groups,
                "partition": partition,
                "weights": weights,
                "calibrate": calibrate,
                "seed": seed,
            },
            "passes": pass_rows(converted.records),
            "cost": cost.to_dict(),
        }
    )


def _default_target(model: str) -> str:
    path = Path(model)
    return str(path.with_name(path.name.removesuffix(".onnx") + ".snn.onnx"))


def _measure(model: Model, calibrate: str | None, seed: int) -> CostReport:
    """Count spikes and operations on a few samples: the calibration's, or random ones."""
    from snnc.arrays import load_samples, sample_count
    from snnc.cost import measure
    from snnc.runtimes import create

    runtime = create("numpy", model)
    samples = load_samples(calibrate or f"random:{_RANDOM_SAMPLES}", runtime.inputs, seed=seed)
    samples = {name: array[:_COST_SAMPLES] for name, array in samples.items()}
    source = calibrate or "random inputs"
    return measure(model, samples, runtime.run, data=f"{sample_count(samples)} samples of {source}")
