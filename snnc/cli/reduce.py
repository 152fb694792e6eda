"""``snnc reduce``: a small model that still fails as a large one does."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import click

from snnc.cli import options
from snnc.cli.output import Output, printable
from snnc.cli.tables import show_pairs

__all__ = ["command"]

_SAMPLES = 8


@options.command(
    "reduce",
    "Shrink a model that fails to a small one that still fails in the same way.",
    "snnc reduce model.onnx --fails convert -o small.onnx\n"
    "snnc reduce model.onnx --fails compare --calibrate x.npz --sqnr 20\n"
    "snnc reduce model.onnx --check 'python check.py {}' --cuts constants",
)
@click.argument("model", metavar="MODEL.onnx")
@click.option(
    "--check",
    metavar="COMMAND",
    help="The model fails if this command does not end with 0; {} is its path. A part has to end with the "
    "same exit status.",
)
@click.option(
    "--fails",
    type=click.Choice(["convert", "compare"]),
    help="The model fails if it cannot be converted; or if what it is converted to differs from it.",
)
@options.sqnr
@click.option(
    "--cuts",
    type=click.Choice(["inputs", "constants"]),
    default="inputs",
    show_default=True,
    help="What a tensor becomes whose maker is taken out.",
)
@click.option(
    "--most-checks", type=click.IntRange(1), default=500, show_default=True, help="Checks to run at most."
)
@options.data
@options.outputs
@options.settings
def command(
    output: Output,
    *,
    model: str,
    check: str | None,
    fails: str | None,
    sqnr: float | None,
    cuts: Literal["inputs", "constants"],
    most_checks: int,
    data: str | None,
    target: str | None,
    **given: Any,
) -> None:
    """Shrink a failing model."""
    from snnc.arrays import arrays_output
    from snnc.compile import ConvertOptions
    from snnc.data import first_samples, named_samples, source_files
    from snnc.debug.compare import Limits
    from snnc.debug.reduce import compares, converts, fails_script, observe, reduce_model
    from snnc.debug.script import Script
    from snnc.errors import UsageError
    from snnc.files import check_output, place_beside
    from snnc.ir import data_files, load, save
    from snnc.ops import attach_functions
    from snnc.runtimes.numpy_runtime import input_specs

    if (check is None) == (fails is None):
        raise UsageError("SNN297", "say how the model fails", hint="--check 'COMMAND {}' or --fails convert")
    target = target or place_beside(model, ".reduced.onnx")
    beside = f"{target.removesuffix('.onnx')}.npz"
    context = click.get_current_context()
    given["labels"] = None
    calibrate, seed = given["calibrate"], given["seed"]
    inputs: list[str | Path] = [model, *source_files(data or ""), *source_files(calibrate or "")]
    for place in (target, beside):
        check_output(place, force=output.settings.force, inputs=inputs)
    choices = ConvertOptions(**{**options.chosen(context, given), "calibrate": None})
    if check is not None:
        failing = fails_script(Script(check))
    elif fails == "convert":
        failing = converts(choices, calibrate=calibrate is not None)
    else:
        failing = compares(choices, Limits(decibel=sqnr), calibrate=calibrate is not None)
    whole = load(model)
    inputs += [*data_files(whole), *filter(None, [options.recipe_of(context)])]
    for place in (target, beside):
        check_output(place, force=output.settings.force, inputs=inputs)
    count = 1 if cuts == "constants" else _SAMPLES
    source = named_samples(data or calibrate or f"random:{count}", seed=seed)
    samples = first_samples(source, input_specs(whole), count)
    known = observe(whole, samples, one=cuts == "constants")
    stream = output.progress_stream()

    def progress(nodes: int, checks: int) -> None:
        stream.write(f"{nodes} nodes still fail, after {checks} checks\n")

    done = reduce_model(whole, known, failing, cuts=cuts, most=most_checks, progress=progress)
    attach_functions(done.model)
    save(done.model, target, also=[arrays_output(beside, done.data)] if done.data else [])
    graph = done.model.graph
    nodes = [{"name": node.name or "", "operator": node.op_type} for node in graph]
    names = [[value.name or "" for value in values] for values in (graph.inputs, graph.outputs)]
    show_pairs(
        output,
        [
            ("fails by", done.failure),
            ("nodes", f"{done.nodes_before} -> {done.nodes_after}, after {done.checks} checks"),
            ("left", ", ".join(f"{each['name']} ({each['operator']})" for each in nodes[:20])),
            ("inputs", ", ".join(names[0]) or "none"),
            ("outputs", ", ".join(names[1])),
        ],
    )
    output.result(printable(f"written: {target}" + (f", its inputs: {beside}" if done.data else "")))
    output.document(
        {
            "model": model,
            "output": target,
            "data": beside if done.data else None,
            "failure": done.failure,
            "nodes_before": done.nodes_before,
            "nodes_after": done.nodes_after,
            "checks": done.checks,
            "nodes": nodes,
            "inputs": names[0],
            "outputs": names[1],
        }
    )
