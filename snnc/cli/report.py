"""``snnc report``: one page that tells what a converted network does on data, and the proof of its claims."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import click

from snnc.cli import options
from snnc.cli.output import Output, printable
from snnc.cli.tables import bytes_text, show_pairs

__all__ = ["command"]


@options.command(
    "report",
    "Write one page that works offline: claims and proofs, accuracy, spikes, energy, passes, the graph.",
    "snnc report model.snn.onnx --data x.npz --labels y.npy --source model.onnx -o report.html\n"
    "snnc report model.snn.onnx --data x.npz -o report.html --trace spikes.npz",
)
@click.argument("model", metavar="OUT.snn.onnx")
@options.data
@options.labels
@click.option("--source", metavar="MODEL.onnx", help="What the model was converted from, to compare with.")
@options.outputs
@options.trace
@click.option(
    "--measured",
    "count",
    metavar="N",
    type=click.IntRange(1),
    default=128,
    show_default=True,
    help="Samples, at most, that spikes, energy and the curve of T and G are measured on.",
)
@click.option(
    "--verified",
    metavar="N",
    type=click.IntRange(1),
    default=16,
    show_default=True,
    help="Samples, at most, that every tensor of every runtime is compared on.",
)
@click.option(
    "--trade-off",
    metavar="T:G,...|none",
    help="Points of the curve of T and G; each converts the source once.  [default: a dozen up to its T]",
)
@click.option("--dump", metavar="DIR", help="Take the passes from what convert --dump-passes wrote.")
@click.option(
    "--plots/--no-plots",
    default=None,
    help="Draw plots with Vega (pip install 'snnc[report]').  [default: if it is installed]",
)
@options.seed
def command(
    output: Output,
    *,
    model: str,
    data: str | None,
    labels: str | None,
    source: str | None,
    target: str | None,
    trace: str | None,
    count: int,
    verified: int,
    trade_off: str | None,
    dump: str | None,
    plots: bool | None,
    seed: int,
) -> int:
    """Write a report."""
    from snnc.arrays import read_labels
    from snnc.compile import load_spiking
    from snnc.data import load_samples, source_files
    from snnc.errors import UsageError
    from snnc.files import atomic_writes, check_output, place_beside
    from snnc.report.content import Plan, build
    from snnc.report.page import check_library, page
    from snnc.report.spikes import write_traces
    from snnc.report.tradeoff import parse_points
    from snnc.runtimes import create

    if data is None:
        raise UsageError("SNN237", "report needs samples", hint="add --data x.npz")
    target = target or place_beside(model, ".html")
    beside = str(Path(target).with_suffix(".json"))
    written = [target, beside, *([trace] if trace is not None else [])]
    if len({os.path.realpath(path) for path in written}) != len(written):
        raise UsageError("SNN255", "page, JSON and traces would be one file", hint="end the page in .html")
    inputs: list[str | Path] = [path for path in (model, labels, source) if path is not None]
    inputs += [*source_files(data), *(Path(dump).glob("*") if dump is not None else ())]
    for path in written:
        check_output(path, force=output.settings.force, inputs=inputs)
    check_library(plots)
    points = None if trade_off is None else () if trade_off == "none" else tuple(parse_points(trade_off))
    network = load_spiking(model)
    samples = load_samples(data, create("numpy", network).inputs, seed=seed)
    if data.startswith("random:"):
        output.say(f"note: measured on {data} samples, not on real data")
    truth = read_labels(labels) if labels is not None else None
    found = build(
        model,
        samples,
        truth,
        source,
        plan=Plan(samples=count, verified=verified, points=points),
        data=data if data.startswith("random:") else Path(data).name,
        dump=dump,
        command=_again(model, data, labels, source, target),
        progress=lambda text: output.say(f"measuring: {text}"),
    )
    text = page(found, interactive=plots)
    document = json.dumps(found.content, indent=1, ensure_ascii=True, allow_nan=False) + "\n"
    force = output.settings.force
    files = [(beside, _writer(document))]
    if trace is not None:
        few = {name: array[:count] for name, array in samples.items()}

        def write(stream: BinaryIO) -> None:
            write_traces(stream, network, few)

        files.append((trace, write))
    atomic_writes([*files, (target, _writer(text))], force=force, inputs=inputs)
    claims = found.content["claims"]
    words = {True: "holds", False: "FAILS", None: "not checked"}
    show_pairs(output, [(words[claim["holds"]], claim["claim"]) for claim in claims])
    for path in written:
        output.result(printable(f"written: {path}, {bytes_text(Path(path).stat().st_size)}"))
    output.document({"model": model, "written": written, "report": found.content})
    return 5 if any(claim["holds"] is False for claim in claims) else 0


def _again(model: str, data: str, labels: str | None, source: str | None, target: str) -> str:
    """Return the command that makes this report, with names instead of places."""
    words = ["snnc", "report", Path(model).name, "--data"]
    words.append(data if data.startswith("random:") else Path(data).name)
    words += ["--labels", Path(labels).name] if labels is not None else []
    words += ["--source", Path(source).name] if source is not None else []
    return shlex.join([*words, "-o", Path(target).name])


def _writer(text: str) -> Callable[[BinaryIO], None]:
    def write(stream: BinaryIO) -> None:
        from snnc.report.page import encoded

        stream.write(encoded(text))

    return write
