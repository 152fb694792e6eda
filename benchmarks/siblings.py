"""BSViT and the transformer whose thresholds adapt, as examples/05_siblings trained them, converted.

    python benchmarks/siblings.py --runs runs --data-set mnist5k --mnist-test FOLDER

Compares every code and logit of the test images in all runtimes as benchmarks/ge2mst.py does, counts spikes
and operations, and of each layer of the converted file the firing rate. Writes a section of RESULTS.md and
siblings.json.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "examples"))

from ge2mst import across, images_of  # noqa: E402
from report import processor, write_section  # noqa: E402

from snnc.compile import ConvertOptions, convert  # noqa: E402
from snnc.cost import measure  # noqa: E402
from snnc.cost.audit import audit  # noqa: E402
from snnc.ir import load  # noqa: E402
from snnc.runtimes import NumpyPacked  # noqa: E402

NAMES = {"bsvit": "BSViT", "adaptive": "thresholds that adapt"}
_HEAD = (
    "network",
    "parameters",
    "processor minutes",
    "accuracy, torch",
    "spiking",
    "unequal codes and logits",
    "audit",
    "spikes per neuron: mean, most",
    "SOPs",
    "energy, µJ: with, without host",
)


def judge(options: argparse.Namespace, name: str, images: Any, labels: Any) -> dict[str, Any]:
    """Convert, compare and count."""
    path = options.runs / f"{name}.onnx"
    # The latency encoder rounds pixels, which nothing has quantised: its ranges come from samples.
    rounds = any(node.op_type in ("Round", "Cast") and "encode" in node.name for node in load(path).graph)
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "x.npz"
        np.savez(data, x=images[:64])
        conversion = convert(path, ConvertOptions(calibrate=str(data) if rounds else None))
        record = options.runs / f"{name}.across.json"
        full = across(path, conversion.model, images, labels, record, first=options.verified)
    report = measure(conversion.model, {"x": images[: options.counted]}, NumpyPacked(conversion.model).run)
    figures = report.to_dict()
    neurons = [layer for layer in figures["layers"] if layer["kind"] == "neuron"]
    return {
        "spiking_accuracy": round(100 * full["right"] / full["images"], 2),
        "compared": full["compared"],
        "unequal": full["unequal"],
        "clean": audit(conversion.model).clean,
        "per_image": {key: value for key, value in figures["per_image"].items() if np.isscalar(value)},
        "rates": {
            layer["name"]: round(100 * layer["spikes"] / layer["neurons"] / layer["timesteps"], 2)
            for layer in neurons
        },
    }


def lines_of(results: dict[str, Any]) -> list[str]:
    """Return the table."""
    lines = [f"| {' | '.join(_HEAD)} |", f"| {' | '.join(['---'] * len(_HEAD))} |"]
    for name, entry in results.items():
        figures = entry["per_image"]
        cells = [NAMES[name.rpartition("_")[2]], f"{entry['parameters']:,}", str(entry["cpu_minutes"])]
        cells += [f"{entry['accuracy']:.2f} %", f"{entry['spiking_accuracy']:.2f} %"]
        cells += [f"{entry['unequal']} of {entry['compared']:,}", "clean" if entry["clean"] else "not clean"]
        cells += [f"{figures['spikes_per_neuron']:.3f}, {figures['most_spikes']}"]
        cells += [f"{figures['sops'] / 1e6:.2f} M"]
        costs = (figures[key] / 1e6 for key in ("energy_with_host_pj", "energy_spikes_pj"))
        lines.append(f"| {' | '.join([*cells, ', '.join(f'{cost:.2f}' for cost in costs)])} |")
    return lines


def main() -> int:
    """Measure and record."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--data-set", choices=("fashion", "mnist5k"), default="fashion")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--mnist-test", type=Path)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--verified", type=int, default=200)
    parser.add_argument("--counted", type=int, default=256)
    options = parser.parse_args()
    path = HERE / "siblings.json"
    results: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
    images, labels = images_of(options, border=0)
    for name, record in json.loads((options.runs / "RESULTS.json").read_text()).items():
        if name.startswith(options.data_set) and name.rpartition("_")[2] in NAMES:
            results[name] = {**record, **judge(options, name, images, labels)}
            print(name, results[name], flush=True)
            path.write_text(json.dumps(results, indent=1, sort_keys=True) + "\n")
    note = (
        "MNIST: trained on 5,000 images, tested on all 10,000. Unequal: the quantised network against "
        "numpy, packed and time-stepped, stock onnxruntime with all optimisations, and the native "
        "operators on all of them, onnxruntime's other levels and the simulator of ExpG-1 on the first 200. "
        f"Operations of {options.counted:,} images. {processor()}; "
        "`python examples/05_siblings/train.py`, "
        "`python benchmarks/siblings.py --runs RUNS --data-set mnist5k --mnist-test FOLDER`."
    )
    write_section(HERE / "RESULTS.md", "BSViT and thresholds that adapt", [*lines_of(results), "", note])
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
