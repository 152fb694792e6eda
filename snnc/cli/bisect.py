"""``snnc bisect``: the first pass after which a property of a network fails."""

from __future__ import annotations

import shlex
import sys
from typing import TYPE_CHECKING, Any

import click

from snnc.cli import options
from snnc.cli.output import Output, printable
from snnc.cli.tables import show_pairs

if TYPE_CHECKING:
    from snnc.arrays import Array
    from snnc.debug.bisect import Bisection, Judgement, Metric
    from snnc.debug.steps import Failure, Step
    from snnc.errors import SnncError

__all__ = ["command"]


@options.command(
    "bisect",
    "Find the first pass after which a property of a network fails, and the tensor, node and rewrite in it; "
    "exit 5 if there is one.",
    "snnc bisect model.onnx --data x.npz\n"
    "snnc bisect passes/ --data x.npz --labels y.npy --metric accuracy --threshold 0.9\n"
    "snnc bisect passes/ --metric script --script 'python check.py {}'",
)
@click.argument("model", metavar="MODEL.onnx|DUMPS")
@options.data
@click.option(
    "--metric",
    type=click.Choice(["claims", "sqnr", "accuracy", "agreement", "script"]),
    default="claims",
    show_default=True,
    help="The property: no pass costs more than its kind may; SQNR of the outputs to the source's; share of "
    "samples classified as labelled, or as the source does; a command that ends with 0.",
)
@click.option(
    "--threshold",
    type=options.DECIBELS,
    metavar="X",
    help="From where on it holds: dB, or a share.  [default: 10 dB; 0.9; accuracy: 0.02 below the source's]",
)
@click.option(
    "--script",
    metavar="COMMAND",
    help="Command for --metric script; {} is the path of a model; exit status 0 means that it is good.",
)
@click.option(
    "--samples",
    "most",
    type=click.IntRange(1),
    metavar="N",
    help="Use the first N samples.  [default: 16; 128 for accuracy and agreement]",
)
@click.option("--binary", is_flag=True, help="Halve the range: fewer states are judged, if none recovers.")
@options.settings
@options.dump_passes
def command(
    output: Output,
    *,
    model: str,
    data: str | None,
    metric: Metric,
    threshold: float | None,
    script: str | None,
    most: int | None,
    binary: bool,
    dump_passes: str | None,
    **given: Any,
) -> int:
    """Find the guilty pass."""
    from snnc.arrays import read_labels
    from snnc.data import first_samples, named_samples
    from snnc.debug.bisect import bisect
    from snnc.debug.script import Script
    from snnc.debug.steps import is_dump, read_dump
    from snnc.errors import SnncError
    from snnc.runtimes.numpy_runtime import input_specs

    labels, given["labels"] = given["labels"], None
    judge = Script(script) if script is not None else None
    truth = read_labels(labels) if labels is not None else None
    refused: SnncError | None = None
    if is_dump(model):
        steps, failure = read_dump(model)
    else:
        steps, failure, refused = _convert(output, model, given, dump_passes)
    stream = output.progress_stream()

    def progress(found: Judgement) -> None:
        stream.write(f"[{found.index:3}] {found.name}: {found.text}\n")

    try:
        samples: dict[str, Array] | None = None
        if data is not None:
            count = most or (128 if metric in ("accuracy", "agreement") else 16)
            specs = input_specs(steps[0].open())
            samples = first_samples(named_samples(data, seed=given["seed"]), specs, count)
        found = bisect(
            steps,
            failure,
            samples,
            metric,
            threshold,
            labels=truth,
            script=judge,
            binary=binary,
            progress=progress,
        )
    except SnncError:
        if refused is None:
            raise
        raise refused from None
    # A pass that refuses the model may only see what an earlier one spoiled.
    if refused is not None and found.guilty is None:
        raise refused
    folder = model if is_dump(model) else dump_passes
    _show(output, found, model, folder)
    error = found.error()
    if error is not None and not output.settings.json:
        raise error
    output.document(_document(found, model, folder))
    if error is None:
        return 0
    output.complain(error)
    return 5


def _convert(
    output: Output, model: str, given: dict[str, Any], dump_passes: str | None
) -> tuple[list[Step], Failure | None, SnncError | None]:
    """Convert and keep all states, also where a pass fails; return the error too if it refused the model."""
    from snnc.compile import ConvertOptions, convert
    from snnc.debug.steps import Recorder
    from snnc.errors import SnncError
    from snnc.pipeline import Dump, Instrument

    recorder = Recorder()
    instruments: list[Instrument] = [recorder]
    if dump_passes is not None:
        replay = ["snnc", *sys.argv[1:]]
        instruments.append(Dump(dump_passes, force=output.settings.force, replay=replay))
    choices = ConvertOptions(**options.chosen(click.get_current_context(), given))
    output.say(f"converting {printable(model)}")
    try:
        convert(model, choices, instruments=instruments)
    except Exception as error:
        # A pass that fails is what this command is for.
        if recorder.failure is None:
            raise
        refused = error if recorder.failure.refusal and isinstance(error, SnncError) else None
        return recorder.steps, recorder.failure, refused
    return recorder.steps, None, None


def _show(output: Output, found: Bisection, model: str, folder: str | None) -> None:
    rows = [
        [str(each.index), each.name, each.semantics, each.text, "" if each.good else "FAILS"]
        for each in found.judgements
    ]
    output.table(["", "pass", "kind", found.metric, ""], rows, right=(0,))
    output.result()
    name = _name(found)
    if name is None:
        output.result("the property holds after every pass")
        return
    pairs = [("guilty pass", f"{name}, number {_index(found)}")]
    if found.guilty is not None:
        pairs.append(("because", found.guilty.text))
    place = found.place
    if place is not None:
        pairs.append(("first tensor", f"{place.tensor}: {place.text}"))
        pairs.append(("node", f"{place.node} ({place.operator})"))
    if found.step is not None:
        pairs.append(("rewrites", str(len(found.step.rewrites))))
    if place is not None and place.rewrite is not None:
        rewrite = place.rewrite
        moved = [f"removed {', '.join(rewrite.removed[:4])}"] if rewrite.removed else []
        moved += [f"added {', '.join(rewrite.added[:4])}"] if rewrite.added else []
        pairs.append(("first rewrite", "; ".join([rewrite.rule, *moved, *filter(None, [rewrite.note])])))
    replay = _replay(found, folder)
    pairs.append(
        ("replay", replay or f"keep the states with --dump-passes DIR, then snnc bisect DIR, not {model}")
    )
    show_pairs(output, pairs)


def _name(found: Bisection) -> str | None:
    if found.failure is not None:
        return found.failure.name
    return found.guilty.name if found.guilty is not None else None


def _index(found: Bisection) -> int:
    if found.failure is not None:
        return found.failure.index
    return found.guilty.index if found.guilty is not None else 0


def _file(step: Step | None, folder: str | None) -> str | None:
    if step is None or folder is None:
        return None
    return f"{folder.rstrip('/')}/{step.index:03d}-{step.name}.onnx"


def _replay(found: Bisection, folder: str | None) -> str | None:
    """Return the one command that runs the guilty pass again on the state before it."""
    before = _file(found.before, folder)
    if found.failure is not None and folder is not None:
        return shlex.join(["cat", f"{folder.rstrip('/')}/reproducer.txt"])
    if found.step is None or before is None:
        return None
    return shlex.join(["snnc", "opt", before, "--passes", found.step.spec])


def _document(found: Bisection, model: str, folder: str | None) -> dict[str, Any]:
    name = _name(found)
    place, step = found.place, found.step
    rewrite = place.rewrite if place is not None else None
    guilty = None
    if name is not None:
        reason = found.failure.error if found.failure is not None else ""
        guilty = {
            "index": _index(found),
            "pass": name,
            "semantics": step.semantics if step is not None else None,
            "options": step.spec if step is not None else None,
            "reason": found.guilty.text if found.guilty is not None else reason,
            "tensor": place.tensor if place is not None else None,
            "node": place.node if place is not None else None,
            "operator": place.operator if place is not None else None,
            "difference": place.text if place is not None else None,
            "rewrites": len(step.rewrites) if step is not None else 0,
            "rewrite": None
            if rewrite is None
            else {
                "rule": rewrite.rule,
                "removed": [*rewrite.removed],
                "added": [*rewrite.added],
                "note": rewrite.note,
            },
            "before": _file(found.before, folder),
            "after": _file(step, folder),
            "replay": _replay(found, folder),
        }
    return {
        "model": model,
        "metric": found.metric,
        "threshold": found.threshold,
        "samples": found.samples,
        "holds": guilty is None,
        "states": [
            {
                "index": each.index,
                "pass": each.name,
                "semantics": each.semantics,
                "value": each.value,
                "holds": each.good,
                "text": each.text,
            }
            for each in found.judgements
        ],
        "guilty": guilty,
    }
