"""``snnc opt``: run chosen passes over a model; replays the reproducer of a failed conversion."""

from __future__ import annotations

import sys

import click

from snnc.cli import options
from snnc.cli.output import Output
from snnc.cli.reproducer import leaving_reproducer
from snnc.cli.tables import pass_rows, show_passes

__all__ = ["command"]


@options.command(
    "opt",
    "Run chosen passes over a model, one by one, with all checks. Replays the reproducer of a failure.",
    "snnc opt model.onnx --passes sort-nodes,fold-batch-norm -o folded.onnx\n"
    "snnc opt passes/044-fold-batch-norm.onnx --passes 'fold-scales,sort-nodes' -o next.onnx\n"
    "snnc opt DIR/reproducer.onnx --passes 'failing-pass{option=value}'",
)
@click.argument("model", metavar="MODEL.onnx")
@options.passes
@options.outputs
@options.dump_passes
def command(output: Output, *, model: str, spec: str, target: str | None, dump_passes: str | None) -> None:
    """Run passes over a model."""
    from snnc.files import check_output
    from snnc.ir import data_files, load, save
    from snnc.ops import attach_functions
    from snnc.passes.catalog import ALL_PASSES
    from snnc.pipeline import Before, Dump, Instrument, Progress, parse_pipeline, run_pipeline
    from snnc.verify import INVARIANTS

    steps = parse_pipeline(spec, ALL_PASSES)
    if target is not None:
        check_output(target, force=output.settings.force, inputs=[model])
    graph = load(model)
    if target is not None:
        check_output(target, force=output.settings.force, inputs=data_files(graph))
    # What holds at the start is found out, not believed: every invariant is cheap enough to be checked.
    given = {name for name, invariant in INVARIANTS.items() if not invariant.check(graph)}
    instruments: list[Instrument] = [Progress(output.progress_stream())]
    if dump_passes is not None:
        replay = ["snnc", *sys.argv[1:]]
        instruments.append(Dump(dump_passes, force=output.settings.force, replay=replay))
    before = Before()
    with leaving_reproducer(output, before, refusals=dump_passes is None):
        done = run_pipeline(graph, steps, given=given, instruments=[*instruments, before], verify="all")
    if target is not None:
        attach_functions(graph)
        save(graph, target)
    show_passes(output, done.records)
    if target is not None:
        output.result(f"written: {target}")
    output.document({"passes": pass_rows(done.records), "output": target, "holds": sorted(done.holds)})
