"""``snnc verify``: compare source, quantised network and every runtime."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from snnc.cli import options
from snnc.cli.output import Output
from snnc.cli.tables import show_note, show_pairs

if TYPE_CHECKING:
    from snnc.debug.distance import Distance, OutputDistance
    from snnc.debug.verify import Agreement, VerifyReport

__all__ = ["command"]


@options.command(
    "verify",
    "Compare a spiking model with its source, tensor by tensor, in every runtime; exit 5 on a difference.",
    "snnc verify model.onnx model.snn.onnx --data x.npz\n"
    "snnc verify model.onnx model.snn.onnx --data x.npz --labels y.npy",
)
@click.argument("source", metavar="MODEL.onnx")
@click.argument("converted", metavar="OUT.snn.onnx")
@options.data
@options.labels
@options.seed
def command(
    output: Output, *, source: str, converted: str, data: str | None, labels: str | None, seed: int
) -> int:
    """Compare a spiking model with its source."""
    from snnc.arrays import read_labels
    from snnc.compile import load_spiking
    from snnc.data import load_samples
    from snnc.debug.verify import verify
    from snnc.errors import UsageError
    from snnc.runtimes import create

    if data is None:
        raise UsageError("SNN237", "verify needs samples", hint="add --data x.npz")
    model = load_spiking(converted)
    samples = load_samples(data, create("numpy", model).inputs, seed=seed)
    if data.startswith("random:"):
        output.say(f"note: comparing on {data} samples, not on real data")
    stream = output.progress_stream()
    live = stream.isatty()

    def progress(done: int, count: int) -> None:
        if live:
            stream.write(f"\rcompared {done} of {count} samples" + ("\n" if done == count else ""))

    truth = read_labels(labels) if labels is not None else None
    report = verify(source, model, samples, truth, progress=progress)
    _show(output, report)
    mismatch = report.first_mismatch()
    if mismatch is not None and not output.settings.json:
        raise mismatch
    output.document(
        {
            "model": source,
            "converted": converted,
            "samples": report.samples,
            "bit_identical": report.identical,
            "runtimes": [_agreement(entry) for entry in report.agreements],
            "source_distance": [_distance(entry) for entry in report.distances],
            "tensors": [_tensor(report, name) for name in _tensor_names(report)],
            "accuracy": {name: correct / report.samples for name, correct in report.accuracy.items()},
            "notes": [*report.notes],
        }
    )
    if mismatch is not None:
        output.complain(mismatch)
    return 0 if report.identical else 5


def _show(output: Output, report: VerifyReport) -> None:
    rows = []
    for entry in report.agreements:
        tensors = entry.tensors.values()
        elements = sum(comparison.elements for comparison in tensors)
        cells = [entry.runtime, str(len(entry.tensors)), str(elements), str(entry.mismatches)]
        if report.accuracy:
            cells.append(_percent(report, entry.runtime))
        rows.append(cells)
    headings = ["runtime", "tensors", "elements", "differ"] + (["accuracy"] if report.accuracy else [])
    output.table(headings, rows, right=(1, 2, 3, 4))
    output.result()
    _show_tensors(output, report)
    pairs = [("samples", str(report.samples))]
    for distance in report.distances:
        noise = "no error" if distance.decibel is None else f"{distance.decibel:.1f} dB"
        text = f"{noise}, largest error {distance.largest_error:.4g}"
        agreeing = f"same class for {100 * distance.agreeing / distance.samples:.2f} %"
        pairs.append((f"{distance.tensor}, quantised vs source", f"{text}, {agreeing}"))
    pairs += [
        (f"accuracy, {name}", _percent(report, name))
        for name in ("source", "oracle")
        if name in report.accuracy
    ]
    show_pairs(output, pairs)
    for note in report.notes:
        show_note(output, f"note: {note}")
    if report.identical:
        output.prose("bit-identical: every code and every output bit equals the quantised network's")
    else:
        wrong = [entry.runtime for entry in report.agreements if not entry.identical]
        output.prose(f"DIFFERENT from the quantised network: {', '.join(wrong)}")


def _show_tensors(output: Output, report: VerifyReport) -> None:
    """Print every tensor: whether any runtime differs, and how far the quantised one is from the source's."""
    rows = []
    for name in _tensor_names(report):
        entry = _tensor(report, name)
        cells = [name, str(entry["elements"]), str(entry["mismatches"])]
        distance = _distance_of(report, name)
        if distance is not None:
            exact = distance.noise == 0.0
            noise = "exact" if exact else "" if distance.decibel is None else f"{distance.decibel:.1f}"
            cells += [noise, f"{distance.largest_error:.3g}"]
        elif report.tensors or report.distances:
            cells += ["", ""]
        rows.append(cells)
    headings = ["tensor", "elements", "differ"]
    if report.tensors or report.distances:
        headings += ["dB to source", "largest error"]
    output.table(headings, rows, right=(1, 2, 3, 4))
    output.result()


def _tensor_names(report: VerifyReport) -> list[str]:
    return list(dict.fromkeys(name for entry in report.agreements for name in entry.tensors))


def _distance_of(report: VerifyReport, name: str) -> Distance | None:
    outputs = {distance.tensor: distance for distance in report.distances}
    return outputs.get(name, report.tensors.get(name))


def _tensor(report: VerifyReport, name: str) -> dict[str, Any]:
    compared = [entry.tensors[name] for entry in report.agreements if name in entry.tensors]
    distance = _distance_of(report, name)
    return {
        "tensor": name,
        "elements": compared[0].elements,
        "mismatches": sum(comparison.mismatches for comparison in compared),
        "source": None
        if distance is None
        else {
            "tensor": distance.tensor,
            "sqnr_db": distance.decibel,
            "cosine": distance.cosine,
            "largest_error": distance.largest_error,
        },
    }


def _percent(report: VerifyReport, name: str) -> str:
    return f"{100 * report.accuracy[name] / report.samples:.2f} %" if name in report.accuracy else ""


def _agreement(entry: Agreement) -> dict[str, Any]:
    first = entry.first
    return {
        "runtime": entry.runtime,
        "identical": entry.identical,
        "tensors": len(entry.tensors),
        "elements": sum(comparison.elements for comparison in entry.tensors.values()),
        "mismatches": entry.mismatches,
        "first": None
        if first is None
        else {
            "tensor": first.tensor,
            "mismatches": first.mismatches,
            "index": [*first.first[0]] if first.first is not None else None,
            "expected": first.first[1] if first.first is not None else None,
            "found": first.first[2] if first.first is not None else None,
        },
    }


def _distance(entry: OutputDistance) -> dict[str, Any]:
    return {
        "output": entry.tensor,
        "sqnr_db": entry.decibel,
        "largest_error": entry.largest_error,
        "same_class": entry.agreeing / entry.samples,
    }
