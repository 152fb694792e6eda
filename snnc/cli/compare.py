"""``snnc compare``: any two states of a network, tensor by tensor."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from snnc.cli import options
from snnc.cli.output import Output, printable
from snnc.cli.tables import show_note, show_pairs

if TYPE_CHECKING:
    from snnc.debug.compare import CompareReport, Row

__all__ = ["command"]


@options.command(
    "compare",
    "Compare any two of a source, a dump of a pass, a spiking model and a bundle, tensor by tensor; "
    "exit 5 if they differ more than they may.",
    "snnc compare model.onnx model.snn.onnx --data x.npz\n"
    "snnc compare passes/069-integer-weights.onnx model.snn.onnx --data x.npz --save-differing bad.npz",
)
@click.argument("first", metavar="A")
@click.argument("second", metavar="B")
@options.data
@click.option(
    "--bits", is_flag=True, help="Every code and output bit must agree; so it is for two exact states."
)
@options.sqnr
@click.option(
    "--agreement",
    type=options.Number(0, 1),
    metavar="SHARE",
    help="Least share of samples of the same class, 0 to 1.",
)
@click.option("--largest-error", type=options.Number(0), metavar="E", help="Largest error of an output.")
@click.option(
    "--save-differing", metavar="FILE.npz", help="Write the samples that differ; it serves as --data."
)
@options.seed
def command(
    output: Output,
    *,
    first: str,
    second: str,
    data: str | None,
    bits: bool,
    sqnr: float | None,
    agreement: float | None,
    largest_error: float | None,
    save_differing: str | None,
    seed: int,
) -> int:
    """Compare two states of a network."""
    from snnc.arrays import check_suffix, write_arrays
    from snnc.data import load_samples, source_files
    from snnc.debug.compare import Limits, compare
    from snnc.debug.states import open_state
    from snnc.errors import UsageError
    from snnc.files import check_output

    if data is None:
        raise UsageError("SNN237", "compare needs samples", hint="add --data x.npz")
    inputs: list[str | Path] = [first, second, *source_files(data)]
    if save_differing is not None:
        check_suffix(save_differing, 2)
        check_output(save_differing, force=output.settings.force, inputs=inputs)
    left, right = open_state(first), open_state(second)
    samples = load_samples(data, right.inputs, seed=seed)
    if data.startswith("random:"):
        output.say(f"note: comparing on {data} samples, not on real data")
    stream = output.progress_stream()
    live = stream.isatty()

    def progress(done: int, count: int) -> None:
        if live:
            stream.write(f"\rcompared {done} of {count} samples" + ("\n" if done == count else ""))

    limits = Limits(bits or None, sqnr, agreement, largest_error)
    report = compare(left, right, samples, limits, progress=progress)
    saved = None
    if save_differing is not None and report.differing:
        kept = {name: array[report.differing] for name, array in samples.items()}
        write_arrays(save_differing, kept, force=output.settings.force, inputs=inputs)
        saved = save_differing
    _show(output, report, saved)
    mismatch = report.mismatch()
    if mismatch is not None and not output.settings.json:
        raise mismatch
    output.document(_document(report, saved))
    if mismatch is not None:
        output.complain(mismatch)
        return 5
    return 0


def _show(output: Output, report: CompareReport, saved: str | None) -> None:
    from snnc.debug.distance import OutputDistance

    rows = []
    for row in report.rows:
        distance, codes = row.distance, row.codes
        noise = (
            "exact" if distance.noise == 0 else "" if distance.decibel is None else f"{distance.decibel:.1f}"
        )
        cosine = "" if distance.cosine is None else f"{distance.cosine:.6f}"
        differ = "" if codes is None else str(codes.mismatches)
        rows.append(
            [row.tensor, str(distance.elements), differ, f"{distance.largest_error:.3g}", noise, cosine]
        )
    output.table(
        ["tensor", "elements", "differ", "largest error", "dB", "cosine"], rows, right=(1, 2, 3, 4, 5)
    )
    output.result()
    pairs = [
        ("A", f"{report.first[0]}, {report.first[1]}"),
        ("B", f"{report.second[0]}, {report.second[1]}"),
        ("samples", f"{report.samples}, of which {len(report.differing)} differ"),
    ]
    for row in report.outputs:
        if isinstance(row.distance, OutputDistance) and row.classes:
            pairs.append(
                (f"{row.tensor}, same class", f"{100 * row.distance.agreeing / row.distance.samples:.2f} %")
            )
    required = "every bit the same" if report.bits else f"outputs within {report.limits.decibel:g} dB of A's"
    pairs.append(("required", required))
    if report.unpaired:
        pairs.append(("not compared", f"{report.unpaired} tensors of B, which A does not have"))
    if saved is not None:
        pairs.append(("written", f"{saved}: the samples that differ"))
    show_pairs(output, pairs)
    for note in report.notes:
        show_note(output, f"note: {note}")
    output.result(printable("PASS" if report.passed else f"FAIL: {'; '.join(report.reasons)}"))


def _document(report: CompareReport, saved: str | None) -> dict[str, Any]:
    from snnc.debug.distance import OutputDistance

    return {
        "a": {"file": report.first[0], "kind": report.first[1]},
        "b": {"file": report.second[0], "kind": report.second[1]},
        "samples": report.samples,
        "passed": report.passed,
        "bits_required": report.bits,
        "limits": {
            "sqnr_db": None if report.bits else report.limits.decibel,
            "agreement": report.limits.agreement,
            "largest_error": report.limits.error,
        },
        "tensors": [_tensor(row) for row in report.rows],
        "unpaired": report.unpaired,
        "same_class": {
            row.tensor: row.distance.agreeing / row.distance.samples
            for row in report.outputs
            if isinstance(row.distance, OutputDistance) and row.classes
        },
        "first_difference": _first(report.first_difference),
        "differing_samples": report.differing,
        "saved": saved,
        "reasons": report.reasons,
        "notes": report.notes,
    }


def _tensor(row: Row) -> dict[str, Any]:
    return {
        "tensor": row.tensor,
        "in_a": row.first,
        "output": row.output,
        "elements": row.distance.elements,
        "mismatches": None if row.codes is None else row.codes.mismatches,
        "largest_error": row.distance.largest_error,
        "sqnr_db": row.distance.decibel,
        "cosine": row.distance.cosine,
    }


def _first(row: Row | None) -> dict[str, Any] | None:
    if row is None:
        return None
    place = row.codes.first if row.codes is not None else None
    index, expected, found = place if place is not None else (None, None, None)
    return {"tensor": row.tensor, "index": None if index is None else [*index], "a": expected, "b": found}
