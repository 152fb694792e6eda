"""``snnc run``: execute a spiking model on samples."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from snnc.cli import options
from snnc.cli.output import Output
from snnc.cli.tables import show_pairs

if TYPE_CHECKING:
    from snnc.runtimes import Runtime

__all__ = ["command"]


@options.command(
    "run",
    "Run a spiking model on any number of samples and write its outputs.",
    "snnc run model.snn.onnx --input x.npz --output y.npz\n"
    "snnc run model.snn.onnx --input x.npy --runtime numpy-timestep",
)
@click.argument("model", metavar="OUT.snn.onnx|BUNDLE")
@options.samples
@click.option("--output", "target", metavar="FILE", help="Where the outputs go: .npz keyed by name, or .npy.")
@options.runtime
@options.seed
def command(
    output: Output, *, model: str, source: str | None, target: str | None, runtime: str, seed: int
) -> None:
    """Run a spiking model."""
    from snnc.arrays import check_suffix, sample_count, write_arrays
    from snnc.data import load_samples
    from snnc.errors import UsageError
    from snnc.files import check_output

    if source is None:
        raise UsageError("SNN200", "Missing option '--input'.")
    if target is not None:
        check_output(target, force=output.settings.force, inputs=[model, source])
    executor = _executor(model, runtime)
    if target is not None:
        check_suffix(target, len(executor.outputs))
    samples = load_samples(source, executor.inputs, seed=seed)
    if source.startswith("random:"):
        output.say(f"note: running on {source} samples, not on real data")
    start = time.perf_counter()
    results = executor.run(samples)
    seconds = time.perf_counter() - start
    if target is not None:
        write_arrays(target, results, force=output.settings.force, inputs=[model, source])
    count = sample_count(samples)
    show_pairs(
        output,
        [
            ("samples", str(count)),
            ("runtime", f"{runtime}, {1000 * seconds / count:.3g} ms a sample"),
            *((f"output {name}", f"{array.dtype}{list(array.shape)}") for name, array in results.items()),
            ("written", target or "nothing; add --output y.npz to keep the outputs"),
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
        }
    )


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
