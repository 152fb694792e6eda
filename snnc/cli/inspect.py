"""``snnc inspect``: what is in a file, what it costs, and why a node was left alone."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from snnc.cli import options
from snnc.cli.output import Output, printable
from snnc.cli.tables import bytes_text, show_pairs

if TYPE_CHECKING:
    from snnc.ir import Model, Value
    from snnc.survey import Survey

__all__ = ["command"]


@options.command(
    "inspect",
    "Show what is in a model: dialect, inputs, outputs, operators, codes; with --data also what it costs.",
    "snnc inspect model.onnx\n"
    "snnc inspect model.snn.onnx --data x.npz\n"
    "snnc inspect model.onnx --why /conv1/Conv\n"
    "snnc inspect bundle/",
)
@click.argument("file", metavar="FILE|BUNDLE")
@click.option(
    "--why", metavar="NODE", help="Say what became of a node or tensor, and why passes left it alone."
)
@options.data
@options.seed
def command(output: Output, *, file: str, why: str | None, data: str | None, seed: int) -> int:
    """Show what is in a model."""
    from snnc.errors import SnncError
    from snnc.ir import load
    from snnc.ops import check_codes
    from snnc.verify import dialect_of, verify_dialect

    bundle = _bundle(output, file) if Path(file).is_dir() else None
    if bundle is not None:
        file = str(Path(file) / bundle.pop("network"))
    if why is not None:
        from snnc.cli.why import explain

        explain(output, file, why)
        return 0
    model = load(file)
    if data is not None:
        # What is not executed may be looked at, whatever it is.
        check_codes(model, file)
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
    try:
        found = _support(output, file, model) if dialect in ("ann", None) else None
        cost = _cost(output, model, data, seed) if data is not None else None
    except SnncError as error:
        # Samples name their own file.
        error.in_file(file)
        raise
    output.document(
        {
            "file": file,
            "dialect": dialect,
            "problems": [str(problem) for problem in problems],
            **facts,
            "neuron_layers": neurons,
            "cost": cost,
            "support": _support_rows(found) if found is not None else None,
            "unsupported": [str(problem) for problem in found.problems] if found is not None else [],
            "remedy": found.remedy if found is not None else None,
            **({} if bundle is None else {"bundle": bundle}),
        }
    )
    refusal = found.refusal() or found.error if found is not None else None
    if refusal is None:
        return 0
    refusal.in_file(file)
    output.complain(refusal)
    return refusal.exit_code


def _bundle(output: Output, folder: str) -> dict[str, Any]:
    """Show what is in a bundle beside its network."""
    from snnc.emit.bundle import NETWORK, report_of
    from snnc.errors import InputError, Where

    found = report_of(folder)
    try:
        rows = _report_rows(folder, found)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError("SNN369", f"its report is damaged: {error!r}", where=Where(file=folder)) from error
    show_pairs(output, rows)
    return {**found, "network": NETWORK}


def _report_rows(folder: str, found: dict[str, Any]) -> list[tuple[str, str]]:
    cycles, energy = found["cycles"], found["picojoules"]
    return [
        ("bundle", f"{folder}, ExpG {found['isa']}, {found['scope']}"),
        ("instructions", f"{found['instructions']:,}, {found['multiplications']} with a multiplier"),
        ("cycles", f"{cycles['counted']:,} (expected {cycles['expected']:,}, worst {cycles['worst']:,})"),
        ("latency", f"{found['latency_time_steps']} time-steps"),
        ("SOPs", f"{found['sops']:,}"),
        ("energy", ", ".join(f"{name} {value / 1e6:.4g} µJ" for name, value in energy.items())),
        *((memory, _use_text(use)) for memory, use in found["memory_bytes"].items()),
        *(("on the host", str(name)) for name in found["host"]["before"] + found["host"]["after"]),
    ]


def _use_text(use: dict[str, int]) -> str:
    peak, capacity, bound = (bytes_text(use[key]) for key in ("peak", "capacity", "lower_bound"))
    return f"peak {peak} of {capacity}, lower bound {bound}"


def _support(output: Output, file: str, model: Model) -> Survey | None:
    """Show what of a source model can be converted, before anything is converted."""
    from snnc.compile import look_through

    if "snnc.format" in model.metadata_props:
        return None
    found = look_through(file)
    output.result("what a conversion does with them:")
    output.table(
        ["operator", *_STATUSES],
        [
            [row["operator"], *(str(row[status]) if row[status] else "" for status in _STATUSES)]
            for row in _support_rows(found)
        ],
        right=(1, 2, 3, 4),
    )
    return found


_STATUSES = ("supported", "folded", "host", "unsupported")


def _support_rows(found: Survey) -> list[dict[str, Any]]:
    counts: dict[str, Counter[str]] = {}
    for fate in found.fates:
        counts.setdefault(fate.op, Counter())[fate.status] += 1
    return [
        {"operator": op, **{status: count[status] for status in _STATUSES}}
        for op, count in sorted(counts.items())
    ]


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
    from snnc.errors import SnncError
    from snnc.ir import attributes
    from snnc.ops import book_of

    rows = []
    for node in model.graph:
        if node.domain == "ai.snnc" and node.op_type in ("ExpGIF", "ExpGIFGain", "Encode", "Quantise"):
            try:
                book = book_of(attributes(node))
            except SnncError:
                # Listed among the problems.
                continue
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
    output.results(render(report, output.width).rstrip("\n"))
    return report.to_dict()
