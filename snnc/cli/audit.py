"""``snnc audit``: prove that a converted network multiplies nowhere between encoder and readout."""

from __future__ import annotations

from pathlib import Path

import click

from snnc.cli import options
from snnc.cli.options import command as make_command
from snnc.cli.output import Output

__all__ = ["command"]

PROVED = "tokens, deadlock, races, memory, operands, overflow, messages, routes"

#: What stands for an operation between encoder and readout.
_LOWERED = {
    "products with constants": "as shifts and additions",
    "squares": "as shifts and additions",
    "square roots": "digit by digit: additions, comparisons",
}


def _between(name: str, count: int) -> str:
    return f"{count}, {_LOWERED[name]}" if count and name in _LOWERED else str(count)


@make_command(
    "audit",
    "Check that a model or a bundle multiplies nowhere between encoder and readout, and prove the words of a "
    "bundle again; exit 5 if not.",
    "snnc audit model.snn.onnx\nsnnc audit model.snn.onnx --json\nsnnc audit bundle/",
)
@click.argument("model", metavar="MODEL.snn.onnx|BUNDLE")
@options.words
def command(output: Output, *, model: str, words: str | None) -> int:
    """Audit a model."""
    from snnc import __version__
    from snnc.compile import load_spiking
    from snnc.cost.audit import OTHER_BODY, audit
    from snnc.errors import MismatchError, Problem, UsageError, Where

    if Path(model).is_dir():
        from snnc.emit.audit import audit_bundle
        from snnc.emit.bundle import check_files, open_bundle, routes_of

        compiled = open_bundle(model, words)
        check_files(model)
        found, props = audit_bundle(compiled, routes_of(model)), compiled.model.metadata_props
        report = found.report
        output.table(
            ["instruction", "count"], [[name, str(count)] for name, count in found.instructions.items()]
        )
        output.prose(f"{found.multiplying} of {sum(found.instructions.values())} words take a multiplier")
        wrong = found.findings
        about = {
            "by_instruction": dict(found.instructions),
            "multiplying": found.multiplying,
            "findings": [str(problem) for problem in wrong],
        }
        if not wrong:
            output.prose(f"proved of the words: {PROVED}")
    else:
        if words is not None:
            raise UsageError("SNN298", "--words are the words of a bundle, and this is a model")
        spiking = load_spiking(model)
        report, props, about, wrong = audit(spiking), spiking.metadata_props, None, ()
    output.table(["computes with", "nodes"], [[kind, str(count)] for kind, count in report.counts().items()])
    output.table(
        ["nodes with", "between encoder and readout", "on the host"],
        [[name, _between(name, inside), str(host)] for name, (inside, host) in report.operations().items()],
    )
    output.result()
    for row in report.host:
        why = f", {row.note}" if row.allowed else ""
        output.prose(f"on the host: {row.node} ({row.op}){why}")
    output.document(
        {
            "model": model,
            "multiplication_free": report.clean,
            "claim": report.claim,
            "counts": report.counts(),
            "operations": {
                name: {"between": inside, "host": host}
                for name, (inside, host) in report.operations().items()
            },
            "nodes": [{**row.__dict__, "operations": [*row.operations]} for row in report.rows],
            **({} if about is None else {"words": about}),
        }
    )
    if wrong:
        error = MismatchError(
            "SNN541",
            f"the words of the bundle are not proved: {len(wrong)} finding(s)",
            where=Where(file=words or model),
            problems=wrong[:20],
        )
        output.complain(error)
        return error.exit_code
    if report.clean:
        output.prose(report.claim)
        return 0
    if all(row.note == OTHER_BODY for row in report.findings):
        said = props.get("snnc.version")
        writer = f"snnc {said}" if said not in (None, __version__) else "another state of snnc"
        error = MismatchError(
            "SNN521",
            f"defines {len(report.findings)} operator(s) in another way than this snnc, {__version__}",
            where=Where(file=model),
            problems=[Problem(row.note, Where(node=row.op)) for row in report.findings],
            hint=f"the file was written by {writer}, or changed afterwards: convert the source again"
            + (", and write the bundle again" if about is not None else ""),
        )
        output.complain(error)
        return error.exit_code
    error = MismatchError(
        "SNN520",
        f"{len(report.findings)} node(s) multiply between encoder and readout, or may",
        where=Where(file=model),
        problems=[Problem(f"{row.op}: {row.note}", Where(node=row.node)) for row in report.findings],
    )
    output.complain(error)
    return error.exit_code
