"""Pages from the registries of snnc: ops, passes, operators of sources, code books."""

from __future__ import annotations

import inspect
import textwrap

from snnc.coding import CodeBook
from snnc.ops import DOMAIN, LAYOUT, OPS, VERSION, OpDef
from snnc.passes.analysis.activations import ACTIVATION_OPS
from snnc.passes.catalog import ALL_PASSES
from snnc.passes.recognise import remedies
from snnc.verify.dialects import HOST_INTEGERS, QUANT, SHAPE_ARITHMETIC
from snnc.verify.dialects import LAYOUT as MOVES

__all__ = ["code_books", "functions", "operators", "ops", "passes", "refused"]

_DIALECTS = {
    "quant": "Ops of the quantised graph",
    "host": "Ops of the host",
    "spike": "Ops of the spiking graph",
}


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*")


def _names(names: frozenset[str] | set[str]) -> str:
    return ", ".join(f"`{name}`" for name in sorted(names))


def _op(op: OpDef) -> str:
    # The text of a definition is set as written: its formulas use *, <, | and _ for what they mean.
    # The first line of a docstring is not indented, the others are.
    first, _, rest = op.doc.partition("\n")
    parts = [f"### {op.name}\n", f"{_cell(first)}\n"]
    if rest.strip():
        parts.append(f"```text\n{textwrap.dedent(rest).strip()}\n```\n")
    parts.append(f"```text\n{op.name}({', '.join(op.inputs)}) -> {op.output}\n```\n")
    if op.attributes:
        parts.append("| attribute | type | default | meaning |\n|---|---|---|---|")
        for item in op.attributes:
            default = "required" if item.required else "may be absent"
            default = f"`{item.default}`" if item.default is not None else default
            parts.append(f"| `{item.name}` | {item.kind} | {default} | {_cell(item.doc)} |")
        parts.append("")
    return "\n".join(parts)


def ops() -> str:
    """Return the specification of every op of the domain, by dialect."""
    count = f"Domain `{DOMAIN}`, version {VERSION}: {len(OPS)} ops.\n"
    parts = [count]
    for dialect, title in _DIALECTS.items():
        parts.append(f"## {title}\n")
        parts += [_op(op) for op in OPS.values() if op.dialect == dialect]
    parts.append("## Standard operators on spikes\n")
    parts.append(
        f"These move elements and nothing else, so they need no op of their own: {_names(set(LAYOUT))}.\n"
    )
    return "\n".join(parts)


def passes() -> str:
    """Return one row for each pass, in the order of a conversion, with its declarations."""
    rows = [
        "| | pass | kind | what it does | requires | establishes | invalidates |",
        "|---|---|---|---|---|---|---|",
    ]
    for number, entry in enumerate(ALL_PASSES, 1):
        summary = inspect.cleandoc(entry.__doc__ or "").split("\n\n")[0]
        sets = (entry.requires, entry.establishes, entry.invalidates)
        declared = " | ".join(_names(set(names)) for names in sets)
        semantics = getattr(entry, "semantics", "")
        kind = semantics if isinstance(semantics, str) else "depends on its options"
        rows.append(f"| {number} | `{entry.name}` | {kind} | {_cell(summary)} | {declared} |")
    return "\n".join(rows) + "\n"


def operators() -> str:
    """Return how each standard operator that a quantised graph may hold is taken."""
    standard = QUANT.standard or frozenset()
    arithmetic = standard - MOVES - SHAPE_ARITHMETIC - HOST_INTEGERS - ACTIVATION_OPS
    products = arithmetic & {"Conv", "MatMul"}
    pools = arithmetic & {
        "AveragePool",
        "GlobalAveragePool",
        "MaxPool",
        "ReduceMax",
        "ReduceMean",
        "ReduceSum",
    }
    rows = [
        (
            "multiply with weights, or two coded values",
            products,
            "spikes add weights, or rows of a held operand",
        ),
        ("pool and reduce", pools, "spike trains merged, or membranes added and compared"),
        ("add, scale, clip", arithmetic - products - pools, "folded into thresholds, or sums of membranes"),
        ("activation functions", set(ACTIVATION_OPS), "a table of thresholds of the neuron behind them"),
        ("move elements", set(MOVES), "on spikes and membranes as they are"),
        ("arithmetic on shapes", set(SHAPE_ARITHMETIC), "on int64, outside of the network"),
        ("integer inputs: masks, positions", set(HOST_INTEGERS), "on the host, listed and billed"),
    ]
    lines = ["| operators that | are | and become |", "|---|---|---|"]
    lines += [f"| {title} | {_names(set(names))} | {text} |" for title, names, text in rows]
    return "\n".join(lines) + "\n"


def functions() -> str:
    """Return the passes that turn other operators into those."""
    found = []
    for entry in ALL_PASSES:
        family = entry.__module__.split(".")[2]
        text = inspect.cleandoc(entry.__doc__ or "")
        _, _, rest = text.partition("Matches:\n")
        if family in ("canonical", "recognise") and rest:
            matches = rest.split("\nLeaves alone:")[0].split("\nKeeps:")[0]
            found.append(f"| `{entry.name}` | {_cell(matches)} |")
    return "\n".join(["| pass | matches |", "|---|---|", *found]) + "\n"


def refused() -> str:
    """Return the operators that are always refused, by the remedy that the error names."""
    by_remedy: dict[str, set[str]] = {}
    for name, remedy in remedies.REFUSED.items():
        by_remedy.setdefault(remedy, set()).add(name)
    lines = ["| operators | what the refusal says |", "|---|---|"]
    lines += [f"| {_names(names)} | {_cell(remedy)} |" for remedy, names in by_remedy.items()]
    return "\n".join(lines) + "\n"


def code_books() -> str:
    """Return the code books of a few T and G."""
    lines = ["| T | G | partition | levels | M | comparisons | codes |", "|---|---|---|---|---|---|---|"]
    for timesteps, groups, partition in (
        (4, 1, "interleaved"), (4, 2, "interleaved"), (4, 2, "contiguous"), (4, 3, "interleaved"),
        (4, 4, "interleaved"), (6, 2, "interleaved"), (8, 2, "interleaved"), (8, 4, "interleaved"),
    ):  # fmt: skip
        book = CodeBook(timesteps, groups, partition)  # type: ignore[arg-type]
        codes = book.codes.tolist()
        text = ", ".join(map(str, codes if len(codes) <= 16 else [*codes[:12], "…", codes[-1]]))
        lines.append(
            f"| {timesteps} | {groups} | {partition} | {book.levels} | {book.magnitude} "
            f"| {book.comparisons} | {text} |"
        )
    return "\n".join(lines) + "\n"
