"""What benchmarks/ge2mst.py shows: operations by module as data, as a table and as a plot, and all tables."""

from __future__ import annotations

import re
from typing import Any

__all__ = ["by_module", "lines_of", "plot"]

PARTS = ("down-sampling", "convolution", "attention", "feed-forward")
#: Operations (10^9) and energy (mJ) that the paper prints.
PAPER = {"small": (1.29, 1.16), "base": (2.14, 1.92), "large": (3.15, 2.83)}
COLOURS = ("#9aa5b1", "#4c78a8", "#e45756", "#72b7b2")
DATA_SETS = {"cifar10": "CIFAR-10", "fashion": "Fashion-MNIST"}
NETWORKS = {
    "ge2mst_expg_t4g2": "Ge2mS-T, (T, G) = (4, 2)",
    "ge2mst_expg_t4g4": "Ge2mS-T, (T, G) = (4, 4)",
    "ge2mst_float": "the same in float",
    "spikformer_lif_t4": "Spikformer, LIF, T = 4",
}
PICOJOULES = 0.9  # a synaptic operation


def place_of(name: str) -> tuple[str, str]:
    """Return stage and part of a node of a Ge2mS-T by its name, in either exporter's form."""
    found = re.findall(r"stages\.(\d)\.(\d+)", name)
    if not found:
        return ("stem", "stem") if "stem" in name or "merge" in name else ("head", "head")
    stage, _ = found[-1]
    if "mixer" in name:
        return f"stage {int(stage) + 1}", "convolution" if stage == "0" else "attention"
    return f"stage {int(stage) + 1}", "feed-forward" if "feed_forward" in name else "down-sampling"


def by_module(layers: list[dict[str, Any]], images: int) -> dict[str, dict[str, dict[str, float]]]:
    """Sum operations, their bound and energy, spikes and neurons of each stage and part, for one image.

    ``slots`` are neurons times their time-steps: spikes over slots is the firing rate.
    """
    table: dict[str, dict[str, dict[str, float]]] = {}
    for layer in layers:
        stage, part = place_of(layer["name"])
        entry = table.setdefault(stage, {}).setdefault(
            part, dict.fromkeys(("sops", "bound", "energy_pj", "spikes", "neurons", "slots"), 0.0)
        )
        if layer["kind"] == "synapse":
            entry["sops"] += layer["sops"] / images
            entry["bound"] += layer["limit"] * layer["macs"] / images
            entry["energy_pj"] += PICOJOULES * layer["sops"] / images
        elif layer["kind"] == "neuron":
            entry["spikes"] += layer["spikes"] / images
            entry["neurons"] += layer["neurons"] / images
            entry["slots"] += layer["timesteps"] * layer["neurons"] / images
    return table


def _height(value: float, top: float) -> float:
    return 230 * value / top


def plot(table: dict[str, dict[str, dict[str, float]]], title: str) -> str:
    """Return an SVG: operations of each stage stacked by part, and their bound as an outline."""
    stages = [name for name in sorted(table) if name.startswith("stage")]
    top = max(sum(part["bound"] for part in table[stage].values()) for stage in stages) or 1
    rows = [
        '<svg xmlns="http://www.w3.org/2000/svg" width="620" height="320" style="font: 12px sans-serif">',
        f'<rect width="620" height="320" fill="white"/><text x="20" y="20">{title}</text>',
    ]
    for place, stage in enumerate(stages):
        x, base = 50 + 90 * place, 280.0
        parts = table[stage]
        high = _height(sum(part["bound"] for part in parts.values()), top)
        rows.append(
            f'<rect x="{x}" y="{base - high:.1f}" width="56" height="{high:.1f}" fill="none" stroke="#555" '
            'stroke-dasharray="4 3"/>'
        )
        for part, colour in zip(PARTS, COLOURS, strict=True):
            high = _height(parts.get(part, {}).get("sops", 0.0), top)
            base -= high
            rows.append(f'<rect x="{x}" y="{base:.1f}" width="56" height="{high:.1f}" fill="{colour}"/>')
        energy = sum(part["energy_pj"] for part in parts.values()) / 1e6
        rows.append(f'<text x="{x}" y="298">{stage}</text><text x="{x}" y="312">{energy:.3g} µJ</text>')
    for place, (part, colour) in enumerate(zip(PARTS, COLOURS, strict=True)):
        y = 60 + 20 * place
        rows.append(f'<rect x="430" y="{y - 10}" width="12" height="12" fill="{colour}"/>')
        rows.append(f'<text x="448" y="{y}">{part}</text>')
    rows.append(
        f'<text x="430" y="160">outline: the bound, G · MACs,</text><text x="430" y="176">'
        f"at most {top:.3g}</text>"
    )
    return "\n".join([*rows, "</svg>"]) + "\n"


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _head(*names: str) -> list[str]:
    return [_row(list(names)), _row(["---"] * len(names))]


def _split(name: str) -> tuple[str, str]:
    data, _, rest = name.partition("_")
    return DATA_SETS.get(data, data), NETWORKS.get(rest, rest)


def _minutes(entry: dict[str, Any]) -> str:
    found = [f"{entry['cpu_minutes']}", f"{entry.get('wall_minutes', '')}"]
    if (step := entry.get("alone_seconds_per_step")) is not None:
        found.append(f"{step * entry['samples_seen'] / entry['batch'] / 60:.1f}")
    return ", ".join(found)


def _trained(results: dict[str, Any]) -> list[str]:
    lines = _head(
        "data set",
        "network",
        "parameters",
        "minutes: of the processor, on the clock then, alone",
        "samples seen",
        "accuracy, torch",
        "spiking",
        "unequal codes and logits",
        "spikes per neuron: mean, most",
        "SOPs",
        "bound G·MACs",
        "energy, µJ: with, without first layer",
    )
    for name in [f"{data}_{network}" for data in DATA_SETS for network in NETWORKS]:
        entry = results.get(name)
        if entry is None or "samples_seen" not in entry:
            continue
        cells = [*_split(name), f"{entry['parameters']:,}", _minutes(entry)]
        cells += [f"{entry['samples_seen']:,}", f"{entry['accuracy']:.2f} %"]
        found = _converted(entry)
        if found:  # the bound stands before the energy
            found.insert(-1, f"{entry['per_image']['sop_bound'] / 1e6:.2f} M")
        lines.append(_row([*cells, *(found or [""] * 6)]))
    return lines


def _longer(results: dict[str, Any]) -> list[str]:
    found = {name: entry for name, entry in results.items() if "trained_on" in entry}
    if not found:
        return []
    lines = _head(
        "trained on",
        "network",
        "epochs, batch, precision",
        "accuracy, torch",
        "spiking",
        "unequal codes and logits",
        "spikes per neuron: mean, most",
        "SOPs",
        "energy, µJ: with, without first layer",
    )
    for _, entry in sorted(found.items()):
        settings = entry["settings"]
        is_float = settings.get("variant") == "float"
        name = "the same in float" if is_float else f"Ge2mS-T, (T, G) = (4, {settings['groups']})"
        cells = [entry["trained_on"], name, f"{entry['epochs']}, {entry['batch']}, {entry['precision']}"]
        cells += [f"{entry['accuracy']:.2f} %", *(_converted(entry) or [""] * 5)]
        lines.append(_row(cells))
    text = (
        "The networks of the table above for CIFAR-10, trained for longer on a GPU by `python -m snnc.train` "
        "and converted and compared on the processor:"
    )
    return [text, "", *lines, ""]


def _converted(entry: dict[str, Any]) -> list[str]:
    """Return accuracy on spikes, comparison, spikes, operations and energy; nothing if not converted."""
    figures = entry.get("per_image")
    if figures is None:
        return []
    costs = [figures[key] / 1e6 for key in ("energy_with_host_pj", "energy_spikes_pj")]
    return [
        f"{entry['spiking_accuracy']:.2f} % of {entry['spiking_images']:,}",
        f"{entry['unequal']} of {entry['compared']:,}",
        f"{figures['spikes_per_neuron']:.3f}, {figures['most_spikes']}",
        f"{figures['sops'] / 1e6:.2f} M",
        ", ".join(f"{cost:.2f}" for cost in costs),
    ]


def _full_size(results: dict[str, Any]) -> list[str]:
    lines = _head(
        "network",
        "bound G·MACs",
        "SOPs, random weights",
        "lightly trained",
        "paper",
        "energy, mJ: random, lightly trained",
        "paper",
        "first layer, mJ",
    )
    for size, (operations, energy) in PAPER.items():
        found = [
            results.get(f"{size}_224_{kind}_t4g2", {}).get("per_image") for kind in ("random", "trained")
        ]
        if found[0] is None:
            continue
        sops = [f"{figures['sops'] / 1e9:.2f} G" if figures else "" for figures in found]
        costs = [f"{figures['energy_spikes_pj'] / 1e9:.2f}" for figures in found if figures]
        host = (found[0]["energy_with_host_pj"] - found[0]["energy_spikes_pj"]) / 1e9
        bound = f"{found[0]['sop_bound'] / 1e9:.2f} G"
        lines.append(
            _row([size, bound, *sops, f"{operations} G", ", ".join(costs), f"{energy}", f"{host:.2f}"])
        )
    return lines


def _module(part: dict[str, float], scale: float) -> str:
    rate = f", {part['spikes'] / part['slots']:.3f}" if part.get("slots") else ""
    energy = part.get("energy_pj", PICOJOULES * part["sops"]) / scale
    return f"{part['sops'] / scale:.3g} of {part['bound'] / scale:.3g}, {energy:.2g}{rate}"


_MODULES = """\
By module and image: synaptic operations of their bound, energy of the operations (µJ where they are counted
in millions, nJ in thousands), and spikes a neuron and time-step. Plots: `benchmarks/ge2mst_*.svg`; data:
`benchmarks/ge2mst.json`."""


def lines_of(results: dict[str, Any]) -> list[str]:
    """Return the tables of RESULTS.md."""
    lines = [*_trained(results), "", *_longer(results)]
    lines += ["At 224 x 224, beside what the paper prints of its trained networks:", ""]
    lines += [*_full_size(results), "", _MODULES, "", *_head("network", "stage", *PARTS)]
    for name, entry in sorted(results.items()):
        unit, scale = ("M", 1e6) if "_224_" in name else ("k", 1e3)
        for stage, parts in sorted(entry.get("modules", {}).items()):
            if stage.startswith("stage"):
                texts = [_module(parts[part], scale) if part in parts else "" for part in PARTS]
                lines.append(_row([f"{name}, {unit}", stage, *texts]))
    return lines
