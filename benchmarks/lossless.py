"""The shipped networks on the full Fashion-MNIST test set: mismatches, accuracy, spikes, energy.

    python benchmarks/lossless.py

Converts `examples/models/fashion_{cnn,transformer}_t4g{1,2,4}.onnx`, compares the quantised network with
every runtime in every code and every logit bit, and counts spikes and operations. Writes
`benchmarks/lossless.json` and a section of `benchmarks/RESULTS.md`; ends with status 1 if anything
differs.
"""

from __future__ import annotations

import argparse
import json
import platform
import shlex
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path.insert(0, str(ROOT / "examples"))

from data import fashion_mnist  # noqa: E402
from report import processor, write_section  # noqa: E402

from snnc.compile import ConvertOptions, convert  # noqa: E402
from snnc.cost import measure  # noqa: E402
from snnc.debug.verify import verify  # noqa: E402
from snnc.ir import load  # noqa: E402
from snnc.runtimes import create  # noqa: E402

MODELS = ROOT / "examples" / "models"
NETWORKS = ("fashion_cnn", "fashion_transformer")
GROUPS = (4, 2, 1)

_INTRODUCTION = """\
{images:,} test images. *Float* is the architecture trained in float, *source* the trained network with
ExpG quantisers in float arithmetic, *quantised* the same with integer weights and fixed-point input,
*spiking* what it became, in every runtime. *Compared* counts codes and logits per runtime, *unequal*
those that differ in any. *Spikes* are per neuron: mean, most. Energy is in the papers' convention, with
the first layer and without."""


def float_accuracy(name: str, images: np.ndarray, labels: np.ndarray) -> float:
    """Return the accuracy of the network trained in float, in percent."""
    runtime = create("ort", load(MODELS / f"{name}_float.onnx"))
    logits = runtime.run({runtime.inputs[0].name: images})[runtime.outputs[0]]
    return 100 * float((logits.argmax(axis=1) == labels).mean())


def judge(name: str, groups: int, images: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    """Convert one network, compare all runtimes with the quantised network, count what it costs."""
    source = MODELS / f"{name}_t4g{groups}.onnx"
    model = convert(source, ConvertOptions(timesteps=4, groups=groups)).model
    inputs = {create("numpy", model).inputs[0].name: images}
    start = time.perf_counter()

    def progress(done: int, of: int) -> None:
        if sys.stderr.isatty() or done == of:
            print(f"\r{source.name}: {done}/{of} images", end="\n" if done == of else "", file=sys.stderr)

    report = verify(source, model, inputs, labels, progress=progress)
    seconds = time.perf_counter() - start
    cost = measure(model, inputs, create("numpy", model).run)
    counts = {who: 100 * right / report.samples for who, right in report.accuracy.items()}
    runtimes = [agreement.runtime for agreement in report.agreements]
    return {
        "accuracy_source": counts["source"],
        "accuracy_quantised": counts["oracle"],
        "accuracy_spiking": {who: counts[who] for who in runtimes},
        "compared_per_runtime": sum(tensor.elements for tensor in report.agreements[0].tensors.values()),
        "mismatches": {agreement.runtime: agreement.mismatches for agreement in report.agreements},
        "cost": cost.totals(),
        "seconds": round(seconds, 1),
    }


def table(result: dict[str, Any]) -> list[str]:
    """Return the section of RESULTS.md."""
    lines = [
        _INTRODUCTION.format(**result),
        "",
        "| model | G | float | source | quantised | spiking | compared | unequal | spikes | SOPs | µJ |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for key, row in result["networks"].items():
        name, groups = key.rsplit("_t4g", 1)
        spiking = sorted(set(row["accuracy_spiking"].values()))
        cost = row["cost"]
        lines.append(
            f"| {name} | {groups} | {result['float'][name]:.2f} % | {row['accuracy_source']:.2f} % "
            f"| {row['accuracy_quantised']:.2f} % | {', '.join(f'{value:.2f} %' for value in spiking)} "
            f"| {row['compared_per_runtime']:,} | {sum(row['mismatches'].values())} "
            f"| {cost['spikes_per_neuron']:.3f}, {cost['most_spikes']} | {cost['sops'] / 1e6:.2f} M "
            f"| {cost['energy_with_host_pj'] / 1e6:.2f}, {cost['energy_spikes_pj'] / 1e6:.2f} |"
        )
    runtimes = next(iter(result["networks"].values()))["mismatches"]
    lines += [
        "",
        f"- T = 4 everywhere; runtimes: {', '.join(runtimes)}",
        f"- machine: {result['machine']}",
        f"- versions: Python {platform.python_version()}, "
        + ", ".join(f"{name} {number}" for name, number in result["versions"].items()),
        f"- command: `{result['command']}`",
    ]
    return lines


def main() -> int:
    """Judge all networks; return the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="folder of the Fashion-MNIST idx files")
    parser.add_argument("--images", type=int, default=10_000, help="test images")
    parser.add_argument("--groups", type=int, nargs="+", default=GROUPS, choices=GROUPS, help="networks by G")
    parser.add_argument("--jobs", type=int, default=2, help="networks judged at the same time")
    parser.add_argument("--json", type=Path, default=HERE / "lossless.json")
    options = parser.parse_args()
    test, test_labels = fashion_mnist(options.data, "test")
    images = (test[: options.images].numpy() / np.float32(255)).astype(np.float32)
    labels = test_labels[: options.images].numpy()
    cases = [(name, groups) for groups in options.groups for name in NETWORKS[::-1]]
    with ProcessPoolExecutor(options.jobs) as pool:
        futures = {case: pool.submit(judge, *case, images, labels) for case in cases}
        for case, future in futures.items():
            print(case, json.dumps(future.result(), sort_keys=True), flush=True)
        networks = {f"{name}_t4g{groups}": futures[name, groups].result() for name, groups in sorted(cases)}
    result = {
        "command": shlex.join(["python", "benchmarks/lossless.py", *sys.argv[1:]]),
        "float": {name: float_accuracy(name, images, labels) for name in NETWORKS},
        "images": len(images),
        "machine": processor(),
        "networks": networks,
        "versions": {name: version(name) for name in ("snnc", "numpy", "onnxruntime")},
    }
    options.json.write_text(json.dumps(result, indent=2, sort_keys=True) + "\n")
    write_section(HERE / "RESULTS.md", "The shipped networks, bit for bit", table(result))
    return int(any(sum(row["mismatches"].values()) for row in result["networks"].values()))


if __name__ == "__main__":
    raise SystemExit(main())
