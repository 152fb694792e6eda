"""``snnc sim``: execute a bundle."""

from __future__ import annotations

import time
from pathlib import Path

import click

from snnc.cli import options
from snnc.cli.output import Output
from snnc.cli.tables import show_pairs

__all__ = ["command"]


@options.command(
    "sim",
    "Execute the words of a bundle; without --input the golden sample, exit 5 if the outputs differ.",
    "snnc sim bundle/\nsnnc sim bundle/ --input x.npz --output y.npz --order serial\n"
    "snnc sim bundle/ --interleaving 7 --trace trace.csv\nsnnc sim bundle/ --words changed.bin",
)
@click.argument("bundle", metavar="BUNDLE")
@options.samples
@click.option("--output", "target", metavar="FILE", help="Where the outputs go: .npz keyed by name, or .npy.")
@click.option(
    "--order",
    type=click.Choice(["parallel", "serial"]),
    default="parallel",
    show_default=True,
    help="Time-steps of a code all at once, or one after the other.",
)
@click.option("--interleaving", type=int, metavar="SEED", help="Draw a legal interleaving of the queues.")
@options.words
@options.trace
@options.seed
def command(
    output: Output,
    *,
    bundle: str,
    source: str | None,
    target: str | None,
    order: str,
    interleaving: int | None,
    words: str | None,
    trace: str | None,
    seed: int,
) -> int:
    """Simulate."""
    from snnc.arrays import arrays_output, check_suffix, sample_count
    from snnc.data import load_samples, source_files
    from snnc.emit.bundle import open_bundle
    from snnc.emit.golden import compare, golden
    from snnc.emit.trace import trace_output
    from snnc.errors import UsageError
    from snnc.files import atomic_writes, check_output

    force = output.settings.force
    inputs: list[str | Path] = [*Path(bundle).rglob("*"), *source_files(source or ""), *filter(None, [words])]
    for path in (target, trace):
        if path is not None:
            check_output(path, force=force, inputs=inputs)
    if trace is not None and not trace.endswith((".csv", ".vcd")):
        raise UsageError("SNN288", "a trace is a .csv or a .vcd file")
    compiled = open_bundle(bundle, words)
    runtime = compiled.runtime(order=order, seed=interleaving)  # type: ignore[arg-type]
    if target is not None:
        check_suffix(target, len(runtime.outputs))
    kept = golden(bundle, compiled) if source is None else None
    samples = kept[0] if kept is not None else load_samples(source or "", runtime.inputs, seed=seed)
    output.say("on the host, in numpy: " + (", ".join(map(str, sum(compiled.program.host, ()))) or "nothing"))
    start = time.perf_counter()
    inner = [port.tensor for port in compiled.program.outputs if port.tensor not in runtime.outputs]
    everything = runtime.run(samples, inner if kept is not None else ())
    seconds = time.perf_counter() - start
    results = {name: everything[name] for name in runtime.outputs}
    files = [] if target is None else [arrays_output(target, results)]
    if trace is not None:
        files.append(trace_output(compiled, samples, trace, order=order))  # type: ignore[arg-type]
    atomic_writes(files, force=force, inputs=inputs)
    count = sample_count(samples)
    wrong = compare(everything, kept[1]) if kept is not None else None
    show_pairs(
        output,
        [
            ("samples", str(count)),
            (
                "order",
                f"{order}, {'program order' if interleaving is None else f'interleaving {interleaving}'}",
            ),
            ("time", f"{seconds / count:.3g} s a sample"),
            *((f"output {name}", f"{array.dtype}{list(array.shape)}") for name, array in results.items()),
            *([("written", target)] if target else []),
            *([("trace", trace)] if trace else []),
            *([] if kept is None else [("golden sample", "differs" if wrong else "the same bits")]),
        ],
    )
    output.document(
        {
            "bundle": bundle,
            "samples": count,
            "order": order,
            "seconds": seconds,
            "written": target,
            "trace": trace,
            "golden": None if kept is None else wrong is None,
        }
    )
    if wrong is not None:
        wrong.in_file(bundle)
        output.complain(wrong)
        return wrong.exit_code
    return 0
