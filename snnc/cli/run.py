"""``snnc run``: execute a spiking model on samples."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from snnc.cli import options
from snnc.cli.output import Output
from snnc.cli.tables import show_pairs

if TYPE_CHECKING:
    from snnc.files import OutputFile
    from snnc.runtimes import Runtime

__all__ = ["command"]


@options.command(
    "run",
    "Run a spiking model on any number of samples and write its outputs.",
    "snnc run model.snn.onnx --input x.npz --output y.npz\n"
    "snnc run model.snn.onnx --input x.npy --runtime numpy-timestep --trace spikes.npz",
)
@click.argument("model", metavar="OUT.snn.onnx|BUNDLE")
@options.samples
@click.option("--output", "target", metavar="FILE", help="Where the outputs go: .npz keyed by name, or .npy.")
@options.runtime
@options.trace
@options.seed
def command(
    output: Output,
    *,
    model: str,
    source: str | None,
    target: str | None,
    runtime: str,
    trace: str | None,
    seed: int,
) -> None:
    """Run a spiking model."""
    from snnc.arrays import arrays_output, check_suffix, sample_count
    from snnc.data import load_samples, source_files
    from snnc.errors import SnncError, UsageError
    from snnc.files import atomic_writes, check_output

    if source is None:
        raise UsageError("SNN200", "Missing option '--input'.")
    inputs = [*_files(model), *source_files(source)]
    if target is not None:
        check_output(target, force=output.settings.force, inputs=inputs)
    if trace is not None:
        _check_trace(trace, runtime, target)
        check_output(trace, force=output.settings.force, inputs=inputs)
    executor = _executor(model, runtime)
    if target is not None:
        check_suffix(target, len(executor.outputs))
    samples = load_samples(source, executor.inputs, seed=seed)
    if source.startswith("random:"):
        output.say(f"note: running on {source} samples, not on real data")
    start = time.perf_counter()
    try:
        results = executor.run(samples)
    except SnncError as error:
        error.in_file(model)
        raise
    seconds = time.perf_counter() - start
    files = [] if target is None else [arrays_output(target, results)]
    if trace is not None:
        files.append(_traces(trace, model, executor, samples))
    atomic_writes(files, force=output.settings.force, inputs=inputs)
    count = sample_count(samples)
    show_pairs(
        output,
        [
            ("samples", str(count)),
            ("runtime", f"{runtime}, {1000 * seconds / count:.3g} ms a sample"),
            *((f"output {name}", f"{array.dtype}{list(array.shape)}") for name, array in results.items()),
            ("written", target or "nothing; add --output y.npz to keep the outputs"),
            *([("spikes", trace)] if trace is not None else []),
        ],
    )
    output.document(
        {
            "model": model,
            "runtime": runtime,
            "samples": count,
            "seconds": seconds,
            "outputs": [
                {"name": name, "dtype": str(array.dtype), "shape": list(array.shape)}
                for name, array in results.items()
            ],
            "written": target,
            "trace": trace,
        }
    )


def _files(model: str) -> list[Path]:
    """Return the files of a model or a bundle that an output must not replace."""
    path = Path(model)
    return [each for each in path.rglob("*") if each.is_file()] if path.is_dir() else [path]


def _executor(model: str, runtime: str) -> Runtime:
    """Return what executes a model, or a bundle."""
    from snnc.compile import load_spiking
    from snnc.errors import UsageError, Where
    from snnc.runtimes import create

    if Path(model).is_dir():
        from snnc.emit.bundle import open_bundle

        if runtime != "expg1":
            raise UsageError(
                "SNN289", "a bundle is run by the simulator", where=Where(file=model), hint="--runtime expg1"
            )
        return open_bundle(model).runtime()
    if runtime == "expg1":
        from snnc.emit.compiled import compile_program

        return compile_program(load_spiking(model)).runtime()
    return create(runtime, load_spiking(model))


def _check_trace(trace: str, runtime: str, target: str | None) -> None:
    from snnc.errors import UsageError, Where

    where = Where(file=trace)
    if not trace.endswith(".npz"):
        raise UsageError("SNN256", "spikes are written as .npz", where=where)
    if runtime == "expg1":
        hint = "snnc sim BUNDLE --trace FILE.csv tells what the machine did; other runtimes write spikes"
        raise UsageError("SNN256", "the simulator sends no spikes by name", where=where, hint=hint)
    if target is not None and os.path.realpath(target) == os.path.realpath(trace):
        raise UsageError("SNN256", "outputs and spikes would be one file", where=where)


def _traces(trace: str, model: str, executor: Runtime, samples: Mapping[str, Any]) -> OutputFile:
    """Return every spike that this runtime sends, as an output."""
    from snnc.compile import load_spiking
    from snnc.report.spikes import write_traces

    network = load_spiking(model)

    def write(stream: BinaryIO) -> None:
        write_traces(stream, network, samples, runtime=executor)

    return trace, write
