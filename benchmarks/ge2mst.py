"""The Ge2mS-T networks of examples/04_ge2mst, converted: accuracy, exactness, and operations by module.

    python benchmarks/ge2mst.py --runs runs --data-set fashion --images 10000 --verified 64

``--runs`` is the folder that examples/04_ge2mst/train.py wrote. ``--network NAME=FILE.onnx`` adds networks of
which operations alone are counted, on ``--samples``. Writes RESULTS.md, ge2mst.json and, for each network, a
plot of the operations by stage in the form of the paper's figure 3, under their bound of G a MAC.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "examples"))
sys.path.insert(0, str(HERE.parent / "examples" / "04_ge2mst"))

from report import processor, write_section  # noqa: E402

from snnc.compile import convert  # noqa: E402
from snnc.cost import measure  # noqa: E402
from snnc.debug.verify import verify  # noqa: E402
from snnc.runtimes import NumpyPacked, OnnxRuntime  # noqa: E402

PARTS = ("down-sampling", "convolution", "attention", "feed-forward")
#: Operations (10^9) and energy (mJ) that the paper prints.
PAPER = {"small": (1.29, 1.16), "base": (2.14, 1.92), "large": (3.15, 2.83)}
COLOURS = ("#9aa5b1", "#4c78a8", "#e45756", "#72b7b2")


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
    """Sum operations, their bound, spikes and neurons of each stage and part, for one image."""
    table: dict[str, dict[str, dict[str, float]]] = {}
    for layer in layers:
        stage, part = place_of(layer["name"])
        entry = table.setdefault(stage, {}).setdefault(
            part, dict.fromkeys(("sops", "bound", "spikes", "neurons"), 0.0)
        )
        if layer["kind"] == "synapse":
            entry["sops"] += layer["sops"] / images
            entry["bound"] += layer["limit"] * layer["macs"] / images
        elif layer["kind"] == "neuron":
            entry["spikes"] += layer["spikes"] / images
            entry["neurons"] += layer["neurons"] / images
    return table


def plot(table: dict[str, dict[str, dict[str, float]]], title: str) -> str:
    """Return an SVG: operations of each stage stacked by part, and their bound as an outline."""
    stages = [name for name in sorted(table) if name.startswith("stage")]
    top = max(sum(part["bound"] for part in table[stage].values()) for stage in stages) or 1
    rows = [
        '<svg xmlns="http://www.w3.org/2000/svg" width="560" height="320" style="font: 12px sans-serif">',
        f'<rect width="560" height="320" fill="white"/><text x="20" y="20">{title}</text>',
    ]
    for place, stage in enumerate(stages):
        x, base = 50 + 90 * place, 280.0
        bound = sum(part["bound"] for part in table[stage].values())
        high = 230 * bound / top
        rows.append(
            f'<rect x="{x}" y="{base - high:.1f}" width="56" height="{high:.1f}" fill="none" stroke="#555" '
            'stroke-dasharray="4 3"/>'
        )
        for part, colour in zip(PARTS, COLOURS, strict=True):
            high = 230 * table[stage].get(part, {}).get("sops", 0.0) / top
            base -= high
            rows.append(f'<rect x="{x}" y="{base:.1f}" width="56" height="{high:.1f}" fill="{colour}"/>')
        rows.append(f'<text x="{x}" y="298">{stage}</text>')
    for place, (part, colour) in enumerate(zip(PARTS, COLOURS, strict=True)):
        y = 60 + 20 * place
        rows.append(f'<rect x="410" y="{y - 10}" width="12" height="12" fill="{colour}"/>')
        rows.append(f'<text x="428" y="{y}">{part}</text>')
    rows.append(
        f'<text x="410" y="160">outline: the bound,</text><text x="410" y="176">at most {top:.3g}</text>'
    )
    return "\n".join([*rows, "</svg>"]) + "\n"


def images_of(options: argparse.Namespace) -> tuple[Any, Any]:
    """Return test images as the networks take them, and labels."""
    import torch
    from timed import load

    data = load(argparse.Namespace(**vars(options), shift=0), "test", 2)
    inputs, truth = data.batch(torch.arange(min(options.images, len(data))), None)
    return inputs.contiguous().numpy(), truth.numpy()


def counted(model: Any, feeds: dict[str, Any], name: str) -> dict[str, Any]:
    """Measure a converted network; writes its plot."""
    report = measure(model, feeds, NumpyPacked(model).run).to_dict()
    table = by_module(report["layers"], report["images"])
    (HERE / f"ge2mst_{name}.svg").write_text(plot(table, f"synaptic operations an image: {name}"))
    kept = ("sops", "sop_bound", "spikes_per_neuron", "most_spikes", "host_macs", "dense_macs")
    figures = {key: report["per_image"][key] for key in kept}
    figures |= {key: report["per_image"][key] for key in ("energy_spikes_pj", "energy_with_host_pj")}
    return {"images": report["images"], "per_image": figures, "modules": table}


def trained(options: argparse.Namespace, name: str, images: Any, labels: Any) -> dict[str, Any]:
    """Convert, verify and measure one trained network."""
    path = options.runs / f"{name}.onnx"
    conversion = convert(path)
    few = {"x": images[: options.verified]}
    report = verify(path, conversion.model, few)
    right = 0
    runtime = OnnxRuntime(conversion.model, "all")
    for start in range(0, len(images), 250):
        part = runtime.run({"x": images[start : start + 250]})
        right += int((next(iter(part.values())).argmax(1) == labels[start : start + 250]).sum())
    return {
        "spiking_accuracy": round(100 * right / len(images), 2),
        "spiking_images": len(images),
        "verified_images": len(few["x"]),
        "runtimes": len(report.agreements),
        "unequal": sum(entry.mismatches for entry in report.agreements),
        **counted(conversion.model, {"x": images[:32]}, name),
    }


def full_size(size: str, folder: Path) -> tuple[Path, dict[str, Any]]:
    """Export a network of the paper's size with random weights; returns the file and two images."""
    import torch

    import snnc
    from snnc.models import ge2mst
    from snnc.nn import reestimate_batch_norm

    torch.manual_seed(0)
    network = ge2mst(size, groups=2)
    images = torch.rand(4, 3, 224, 224, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        network(images)  # thresholds come from the first batch
    reestimate_batch_norm(network, [images])
    path = folder / f"{size}.onnx"
    snnc.export(network, images[:1], path, exporter="torchscript")
    return path, {"x": images[:2].numpy()}


def lines_of(results: dict[str, Any]) -> list[str]:
    """Return the tables."""
    head = (
        "| network | samples seen | CPU minutes | accuracy, torch | spiking | unequal codes and logits | "
        "spikes per neuron: mean, most | SOPs | bound G·MACs | energy, µJ: with, without first layer |"
    )
    lines = [head, "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |"]
    for name, entry in results.items():
        if "samples_seen" not in entry:
            continue
        figures = entry.get("per_image")
        cells = [name, f"{entry['samples_seen']:,}" if "samples_seen" in entry else "none"]
        cells += [str(entry.get("cpu_minutes", "")), f"{entry['accuracy']} %" if "accuracy" in entry else ""]
        cells += [
            f"{entry['spiking_accuracy']} % of {entry['spiking_images']:,}"
            if "spiking_accuracy" in entry
            else ""
        ]
        cells += [f"{entry['unequal']} on {entry['verified_images']} images" if "unequal" in entry else ""]
        if figures is None:
            cells += [""] * 4
        else:
            cells += [f"{figures['spikes_per_neuron']:.3f}, {figures['most_spikes']}"]
            cells += [f"{figures['sops'] / 1e6:.2f} M", f"{figures['sop_bound'] / 1e6:.2f} M"]
            with_host, alone = figures["energy_with_host_pj"], figures["energy_spikes_pj"]
            cells += [f"{with_host / 1e6:.2f}, {alone / 1e6:.2f}"]
        lines.append(f"| {' | '.join(cells)} |")
    lines += [
        "",
        "At 224 x 224, beside what the paper prints of its trained networks:",
        "",
    ]
    lines += [
        "| network | bound G·MACs | SOPs, random weights | paper | energy, mJ | with first layer | paper |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for size, (operations, energy) in PAPER.items():
        figures = results.get(f"{size}_224_random_t4g2", {}).get("per_image")
        if figures is not None:
            counts = [f"{figures[key] / 1e9:.2f} G" for key in ("sop_bound", "sops")]
            costs = [f"{figures[key] / 1e9:.2f}" for key in ("energy_spikes_pj", "energy_with_host_pj")]
            cells = [size, *counts, f"{operations} G", *costs, str(energy)]
            lines.append(f"| {' | '.join(cells)} |")
    lines += ["", "Synaptic operations an image by module, in thousands, and their bound:", ""]
    lines += ["| network | stage | " + " | ".join(PARTS) + " |", "| --- | --- | --- | --- | --- | --- |"]
    for name, entry in results.items():
        for stage, parts in sorted(entry.get("modules", {}).items()):
            if stage.startswith("stage"):
                texts = [
                    f"{parts[part]['sops'] / 1e3:.1f} of {parts[part]['bound'] / 1e3:.1f}"
                    if part in parts
                    else ""
                    for part in PARTS
                ]
                lines.append(f"| {name} | {stage} | {' | '.join(texts)} |")
    return lines


def main() -> int:
    """Measure and record."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=Path)
    parser.add_argument("--data-set", choices=("fashion", "cifar10"), default="fashion")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--verified", type=int, default=64)
    parser.add_argument("--full-size", action="store_true", help="the three networks at 224 x 224 as well")
    parser.add_argument("--network", action="append", default=[], metavar="NAME=FILE.onnx")
    parser.add_argument("--samples", type=Path, help=".npz for the networks of --network")
    options = parser.parse_args()
    path = HERE / "ge2mst.json"
    results: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
    if options.runs is not None:
        images, labels = images_of(options)
        for name, record in json.loads((options.runs / "RESULTS.json").read_text()).items():
            if not name.startswith(options.data_set):
                continue
            results[name] = dict(record)
            if "_expg_" in name:
                results[name] |= trained(options, name, images, labels)
            print(name, {key: results[name][key] for key in results[name] if key != "modules"}, flush=True)
            path.write_text(json.dumps(results, indent=1, sort_keys=True) + "\n")
    for size in PAPER if options.full_size else ():
        with tempfile.TemporaryDirectory() as folder:
            file, feeds = full_size(size, Path(folder))
            name = f"{size}_224_random_t4g2"
            results[name] = counted(convert(file).model, feeds, name)
        print(name, results[name]["per_image"], flush=True)
        path.write_text(json.dumps(results, indent=1, sort_keys=True) + "\n")
    for text in options.network:
        name, _, file = text.partition("=")
        conversion = convert(file)
        results[name] = counted(conversion.model, dict(np.load(options.samples)), name)
        print(name, results[name]["per_image"], flush=True)
        path.write_text(json.dumps(results, indent=1, sort_keys=True) + "\n")
    note = (
        "Trained for the processor time stated, a small part of what such networks need: the accuracies show "
        "that training works and that conversion loses nothing, not how good the architecture is. "
        "Fashion-MNIST: `--size small`. At 224 x 224: random weights and images. "
        f"{processor()}; `python examples/04_ge2mst/train.py`, "
        "`python benchmarks/ge2mst.py --runs RUNS --full-size`."
    )
    write_section(HERE / "RESULTS.md", "Ge2mS-T", [*lines_of(results), "", note])
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
