"""``snnc inspect``: what is in a file, what it costs, and why a node was left alone."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import click

from snnc.cli import options
from snnc.cli.output import Output, printable
from snnc.cli.tables import bytes_text, show_pairs

if TYPE_CHECKING:
    from snnc.ir import Model, Value

__all__ = ["command"]


@options.command(
    "inspect",
    "Show what is in a model: dialect, inputs, outputs, operators, codes; with --data also what it costs.",
    "snnc inspect model.onnx\n"
    "snnc inspect model.snn.onnx --data x.npz\n"
    "snnc inspect model.onnx --why /conv1/Conv",
)
@click.argument("file", metavar="FILE")
@click.option(
    "--why", metavar="NODE", help="Say what the passes did at a node, and why others left it alone."
)
@options.data
@options.seed
def command(output: Output, *, file: str, why: str | None, data: str | None, seed: int) -> None:
    """Show what is in a model."""
    from snnc.ir import load
    from snnc.verify import dialect_of, verify_dialect

    if why is not None:
        _explain(output, file, why)
        return
    model = load(file)
    dialect = dialect_of(model)
    facts = _facts(model)
    problems = verify_dialect(model, dialect) if dialect in ("quant", "spike") else []
    show_pairs(
        output,
        [
            ("file", file),
            ("dialect", _dialect_text(dialect, model)),
            ("nodes", str(facts["nodes"])),
            ("weights", f"{facts['parameters']} numbers, {bytes_text(facts['weight_bytes'])}"),
            *(("input", _spec_text(spec)) for spec in facts["inputs"]),
            *(("output", _spec_text(spec)) for spec in facts["outputs"]),
            *((name, value) for name, value in facts["metadata"].items() if len(value) <= 200),
        ],
    )
    output.table(
        ["operator", "count", "first node"],
        [[row["operator"], str(row["count"]), row["first"]] for row in facts["operators"]],
        right=(1,),
    )
    neurons = _neurons(model)
    if neurons:
        output.table(
            ["neuron layer", "T", "G", "levels", "signed"],
            [
                [
                    row["name"],
                    str(row["timesteps"]),
                    str(row["groups"]),
                    str(row["levels"]),
                    "yes" if row["signed"] else "",
                ]
                for row in neurons
            ],
            right=(1, 2, 3),
        )
    for problem in problems:
        output.result(printable(f"not a valid {dialect} graph: {problem}"))
    cost = _cost(output, model, data, seed) if data is not None else None
    output.document(
        {
            "file": file,
            "dialect": dialect,
            "problems": [str(problem) for problem in problems],
            **facts,
            "neuron_layers": neurons,
            "cost": cost,
        }
    )


def _facts(model: Model) -> dict[str, Any]:
    counts: Counter[str] = Counter()
    first: dict[str, str] = {}
    for node in model.graph:
        operator = f"{node.domain}::{node.op_type}" if node.domain else node.op_type
        counts[operator] += 1
        first.setdefault(operator, node.name or "")
    tensors = [
        value.const_value for value in model.graph.initializers.values() if value.const_value is not None
    ]
    return {
        "ir_version": model.ir_version,
        "opsets": {
            domain or "ai.onnx": version for domain, version in sorted(model.graph.opset_imports.items())
        },
        "producer": model.producer_name or "",
        "metadata": dict(sorted(model.metadata_props.items())),
        "nodes": len(model.graph),
        "parameters": sum(int(tensor.size) for tensor in tensors),
        "weight_bytes": sum(int(tensor.nbytes) for tensor in tensors),
        "inputs": [_spec(value) for value in model.graph.inputs],
        "outputs": [_spec(value) for value in model.graph.outputs],
        "operators": [
            {"operator": name, "count": count, "first": first[name]}
            for name, count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        ],
    }


def _dialect_text(dialect: str | None, model: Model) -> str:
    foreign = sorted({node.domain for node in model.graph if node.domain not in ("", "ai.onnx")})
    if dialect is None:
        return f"foreign operators of {', '.join(foreign)}"
    return "ann, with quantisers of snnc" if dialect == "ann" and foreign else dialect


def _spec(value: Value) -> dict[str, Any]:
    shape = None
    if value.shape is not None:
        shape = [dim if isinstance(dim, int) else dim.value for dim in value.shape]
    return {"name": value.name, "dtype": value.dtype.name.lower() if value.dtype else None, "shape": shape}


def _spec_text(spec: dict[str, Any]) -> str:
    sizes = (
        "?" if spec["shape"] is None else ", ".join("?" if dim is None else str(dim) for dim in spec["shape"])
    )
    return f"{spec['name']}: {spec['dtype'] or 'unknown type'}[{sizes}]"


def _neurons(model: Model) -> list[dict[str, Any]]:
    from snnc.ir import attributes
    from snnc.ops import book_of

    rows = []
    for node in model.graph:
        if node.domain == "ai.snnc" and node.op_type in ("ExpGIF", "ExpGIFGain", "Encode", "Quantise"):
            book = book_of(attributes(node))
            rows.append(
                {
                    "name": node.metadata_props.get("snnc.source") or node.name,
                    "operator": node.op_type,
                    "timesteps": book.timesteps,
                    "groups": book.groups,
                    "partition": book.partition,
                    "levels": book.levels,
                    "signed": book.signed,
                }
            )
    return rows


def _cost(output: Output, model: Model, data: str, seed: int) -> dict[str, Any]:
    from snnc.arrays import sample_count
    from snnc.cost import measure, render
    from snnc.data import load_samples
    from snnc.runtimes import create

    runtime = create("numpy", model)
    samples = load_samples(data, runtime.inputs, seed=seed)
    report = measure(model, samples, runtime.run, data=f"{sample_count(samples)} samples of {data}")
    output.result(render(report, output.width).rstrip("\n"))
    return report.to_dict()


def _explain(output: Output, file: str, why: str) -> None:
    """Convert the model in memory and tell what every pass did at one node."""
    from difflib import get_close_matches

    from snnc.compile import ConvertOptions, convert
    from snnc.errors import SnncError, UsageError
    from snnc.ir import load
    from snnc.pipeline import Instrument, PassRecord

    names = [node.name for node in load(file).graph if node.name]
    if why not in names:
        near = get_close_matches(why, names, n=3)
        raise UsageError(
            "SNN236",
            f"{file!r} has no node {why!r}",
            hint=f"did you mean {', '.join(near)}?" if near else f"its nodes: {', '.join(names[:10])}",
        )

    class Recorder(Instrument):
        def __init__(self) -> None:
            self.records: list[PassRecord] = []

        def after(self, index: int, record: PassRecord, model: Model) -> None:
            self.records.append(record)

    recorder = Recorder()
    ending: str | None = None
    try:
        convert(file, ConvertOptions(), instruments=[recorder])
    except SnncError as error:
        ending = str(error)
    events = []
    for record in recorder.records:
        for rewrite in record.rewrites:
            if why in rewrite.removed or why in rewrite.added:
                text = f"{rewrite.rule}{f': {rewrite.note}' if rewrite.note else ''}"
                events.append({"pass": record.name, "event": "rewritten", "text": text})
        for entry in record.not_matched:
            if entry.node == why:
                events.append({"pass": record.name, "event": "left alone", "text": entry.reason})
    output.table(
        ["pass", "what happened", "why"], [[row["pass"], row["event"], row["text"]] for row in events]
    )
    if not events:
        output.result(f"no pass looked at {printable(why)!r} closely: it stays as it is")
    if ending is not None:
        output.result(printable(f"the conversion ends with {ending}"))
    output.document({"file": file, "node": why, "events": events, "conversion_error": ending})
