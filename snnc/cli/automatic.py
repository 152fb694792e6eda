"""``snnc convert --auto``: choosing codes for a target, and saying what came of it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from snnc.cli.output import Output, printable

if TYPE_CHECKING:
    from snnc.auto import AutoResult, Trial
    from snnc.compile import ConvertOptions

__all__ = ["document", "resolve"]

_ROWS = 12


def resolve(output: Output, model: str, options: ConvertOptions) -> tuple[ConvertOptions, AutoResult | None]:
    """Replace a target by the codes that meet it, and show them.

    Args:
        output: Streams of the command.
        model: Path of the model.
        options: Options as given.

    Raises:
        MismatchError: SNN530, the target cannot be met; the error says what can.
        UsageError: SNN285, labels without a target; others see `snnc.auto.choose`.
    """
    from snnc.arrays import read_labels
    from snnc.auto import choose
    from snnc.errors import MismatchError, UsageError

    if options.auto is None:
        if options.labels is not None:
            raise UsageError(
                "SNN285", "--labels are read by --auto alone", hint="snnc verify takes labels too"
            )
        return options, None
    labels = read_labels(options.labels) if options.labels is not None else None
    stream = output.progress_stream()
    live = stream.isatty()
    last = ""

    def progress(text: str, done: int, count: int) -> None:
        nonlocal last
        if live:
            stream.write(f"\r  {text}: {done} of {count}    " + ("\n" if done == count else ""))
        elif text != last:
            stream.write(f"  {text}\n")
        last = text

    result = choose(model, options, labels, progress)
    _show(output, result, labelled=labels is not None)
    if not result.met:
        raise MismatchError(
            "SNN530",
            f"the target {result.target.text!r} cannot be met: the nearest is {result.nearest}",
            hint=f"nothing was written; --auto {result.nearest}, or more calibration data",
        )
    return replace(result.options, calibrate=options.calibrate), result


def document(result: AutoResult | None) -> dict[str, Any] | None:
    """Return the result for the JSON document."""
    if result is None:
        return None
    return {
        "target": result.target.text,
        "met": result.met,
        "nearest": result.nearest,
        "judged": result.judged,
        "fitted": result.fitted,
        "chosen": _trial(result.chosen),
        "default": _trial(result.default),
        "sensitivity": [dict(row) for row in result.sensitivity],
    }


def _trial(trial: Trial) -> dict[str, float]:
    return {"loss": trial.loss, "spikes": trial.spikes, "energy_pj": trial.energy}


def _show(output: Output, result: AutoResult, *, labelled: bool) -> None:
    what = "accuracy lost" if labelled else "other class"
    rows = [
        [name, f"{trial.loss:.2f} points", f"{trial.spikes:.3f}", f"{trial.energy / 1e6:.4g} µJ"]
        for name, trial in (("default settings", result.default), ("chosen", result.chosen))
    ]
    output.table(["", what, "spikes/neuron", "energy"], rows, right=(1, 2, 3))
    ordered = sorted(result.sensitivity, key=lambda row: (-row["damage"], row["name"]))
    rows = [
        [
            row["name"],
            " ".join(f"{key}={value}" for key, value in row["chosen"].items()),
            "" if row["sqnr_db"] is None else f"{row['sqnr_db']:.1f} dB",
            f"{row['damage']:.2e}",
        ]
        for row in ordered[:_ROWS]
    ]
    output.table(["most damage", "chosen", "signal to noise", "predicted"], rows, right=(2, 3))
    if len(ordered) > _ROWS:
        output.result(f"and {len(ordered) - _ROWS} more; --json or --save-recipe has all of them")
    one = 100 / result.judged
    output.result(
        printable(
            f"judged on {result.judged} held-out samples (one is {one:.2f} points), calibrated on "
            f"{result.fitted} others; target {result.target.text}: {'met' if result.met else 'NOT met'}"
        )
    )
