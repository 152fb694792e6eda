"""A cost report as rows of text, for tables of any width."""

from __future__ import annotations

from collections.abc import Sequence

from snnc.cost.layer import LayerCost
from snnc.cost.report import CostReport

__all__ = ["COLUMNS", "quantity", "render", "summary_rows", "table_rows"]

#: Heading of each column, with the order in which columns are left out on narrow terminals (0: never).
COLUMNS: tuple[tuple[str, int], ...] = (
    ("layer", 0),
    ("op", 4),
    ("code", 3),
    ("neurons", 5),
    ("spikes/neuron", 0),
    ("rate", 7),
    ("SOPs", 0),
    ("MACs", 2),
    ("compares", 6),
    ("energy", 1),
)

_NARROWEST_NAME = 12


def quantity(value: float, unit: str = "") -> str:
    """Write a number with four significant digits and a power-of-thousand prefix: ``1.234 M``.

    Args:
        value: Number, at least 0.
        unit: Unit that follows the prefix.
    """
    if 0 < value < 1 and unit:
        return f"{value * 1000:.4g} m{unit}"
    for exponent, prefix in enumerate(("", "k", "M", "G", "T", "P")):
        scaled = value / 1000**exponent
        if scaled < 999.95 or prefix == "P":
            text = f"{scaled:.4g}"
            return f"{text} {prefix}{unit}".rstrip()
    return f"{value:.4g}"


def _energy(picojoules: float) -> str:
    for limit, factor, unit in ((1e3, 1.0, "pJ"), (1e6, 1e-3, "nJ"), (1e9, 1e-6, "µJ"), (1e12, 1e-9, "mJ")):
        if picojoules < limit:
            return f"{picojoules * factor:.4g} {unit}"
    return f"{picojoules * 1e-12:.4g} J"


def _code(layer: LayerCost) -> str:
    if not layer.timesteps:
        return ""
    return f"T{layer.timesteps}G{layer.groups}{'±' if layer.signed else ''}"


def _row(layer: LayerCost, images: int) -> list[str]:
    def shown(count: int) -> str:
        return quantity(count / images) if count else ""

    fires = layer.neurons > 0
    return [
        layer.name,
        layer.op,
        _code(layer),
        shown(layer.neurons),
        f"{layer.spikes_per_neuron:.3f}" if fires else "",
        f"{layer.firing_rate:.3f}" if fires else "",
        shown(layer.sops),
        shown(layer.macs),
        shown(layer.comparisons),
        _energy(layer.energy / images) if layer.energy else "",
    ]


def table_rows(report: CostReport) -> list[list[str]]:
    """Return one row of cells per layer and a last row of totals, all per image; see `COLUMNS`.

    Rows that only add or pool are left out; the totals hold them. Energy is in the papers' convention,
    and its total includes the host.
    """
    rows = [_row(layer, report.images) for layer in report.layers if layer.kind != "other"]
    total = [
        "total",
        "",
        "",
        quantity(report.neurons),
        f"{report.spikes_per_neuron:.3f}",
        f"{report.firing_rate:.3f}",
        quantity(report.sops),
        quantity(report.dense_macs),
        quantity(report.comparisons),
        _energy(report.energy.with_host),
    ]
    return [*rows, total]


def summary_rows(report: CostReport) -> list[tuple[str, str]]:
    """Return the figures of the whole network as pairs of label and text, per image."""
    energy = report.energy
    share = (
        f"{100 * report.sops / report.sop_bound:.1f} % of the bound" if report.sop_bound else "no synapses"
    )
    rows = [
        ("measured on", report.data),
        ("neurons", quantity(report.neurons)),
        (
            "spikes",
            f"{quantity(report.spikes)}; {report.spikes_per_neuron:.3f} a neuron, most {report.most_spikes}",
        ),
        ("latency", f"{report.latency} time-steps (windows of T, one behind the other)"),
        ("firing rate", f"{report.firing_rate:.4f} (spikes per neuron and time-step)"),
        ("SOPs", f"{quantity(report.sops)}; {share} G*MACs = {quantity(report.sop_bound)}"),
        ("comparisons", quantity(report.comparisons)),
        ("other additions", f"{quantity(report.additions)} (joins, pooling, rescaling of membranes)"),
        ("host MACs", f"{quantity(report.host_macs)} of {quantity(report.dense_macs)} in the dense network"),
        ("energy, papers' convention", f"{_energy(energy.with_host)} (0.9 pJ per SOP + 4.6 pJ per host MAC)"),
        ("  without the host", f"{_energy(energy.spikes)} (0.9 pJ per SOP; no first layer, no readout)"),
        ("  dense float32", f"{_energy(energy.dense_float)} (4.6 pJ per MAC)"),
        ("energy, integer datapath", f"{_energy(energy.integer)} (0.1 pJ per SOP, comparison, addition)"),
        ("  dense int8", f"{_energy(energy.dense_int8)} (0.3 pJ per MAC)"),
    ]
    if report.sops_zero_skipping != report.sops:
        rows.insert(5, ("  skipping held zeros", quantity(report.sops_zero_skipping)))
    return rows


def _fitting_columns(cells: Sequence[Sequence[str]], width: int) -> list[int]:
    widths = [max(len(row[index]) for row in cells) for index in range(len(COLUMNS))]
    kept = list(range(len(COLUMNS)))
    # Names can be cut short, numbers cannot: columns go before digits do.
    widths[0] = min(widths[0], _NARROWEST_NAME)
    for index in sorted(range(len(COLUMNS)), key=lambda i: -COLUMNS[i][1]):
        if sum(widths[i] + 2 for i in kept) - 2 <= width or not COLUMNS[index][1]:
            break
        kept.remove(index)
    return kept


def render(report: CostReport, width: int = 100) -> str:
    """Return the report as plain text that keeps to a width.

    Args:
        report: What to write.
        width: Columns of the terminal; narrow ones lose table columns, and at last the ends of layer names.
    """
    cells = [[heading for heading, _ in COLUMNS], *table_rows(report)]
    kept = _fitting_columns(cells, width)
    widths = {index: max(len(row[index]) for row in cells) for index in kept}
    rest = sum(widths[index] + 2 for index in kept if index)
    widths[0] = max(min(widths[0], width - rest), 1)
    lines = []
    for number, row in enumerate(cells):
        if number in {1, len(cells) - 1}:
            lines.append("-" * (sum(widths.values()) + 2 * len(kept) - 2))
        first = _shortened(row[0], widths[0]).ljust(widths[0])
        lines.append("  ".join([first, *(row[i].rjust(widths[i]) for i in kept if i)]).rstrip())
    lines.append("")
    rows = summary_rows(report)
    label_width = max(len(label) for label, _ in rows)
    for label, text in rows:
        line = f"{label.ljust(label_width)}  {text}"
        lines.append(line if len(line) <= width else _wrapped(label, text, width))
    return "\n".join(lines) + "\n"


def _shortened(name: str, width: int) -> str:
    """Cut the front of a name: node names differ at their ends."""
    name = name.replace("\n", "\\n")
    return name if len(name) <= width else f"…{name[len(name) - width + 1 :]}"


def _wrapped(label: str, text: str, width: int) -> str:
    lines = [f"{label}:"]
    for word in text.split():
        if len(lines) > 1 and len(lines[-1]) + 1 + len(word) <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(f"    {word}")
    return "\n".join(lines)
