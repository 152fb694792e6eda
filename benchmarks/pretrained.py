"""Pre-trained float networks, converted after training: accuracy, agreement, what it costs.

    python benchmarks/pretrained.py --models MODELS --mnist MNIST --mnist-train TRAIN --cifar10 CIFAR10

Each network is calibrated on training images, converted at the defaults of `--groups 4` (T = 8) and at T = 4
and G = 4, and judged on the test set. All runtimes are compared with the quantised network in every code and
every output bit on a part of it, numpy and onnxruntime with each other on a larger one. Writes
`benchmarks/pretrained.json` row by row, so that an interrupted run goes on, and a section of
`benchmarks/RESULTS.md`; ends with status 1 if anything differs or an audit finds something.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import tempfile
import time
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from networks import NETWORKS, Data, Network, add_data_options, load_data, say
from report import processor, write_section

from snnc.compile import ConvertOptions, convert
from snnc.cost import measure
from snnc.cost.audit import audit
from snnc.debug.distance import OutputDistance
from snnc.debug.verify import verify
from snnc.errors import SnncError
from snnc.ir import Model, load
from snnc.runtimes import OnnxRuntime, create

Array = npt.NDArray[Any]
HERE = Path(__file__).resolve().parent
DEFAULT = "defaults"
#: Images on which spikes and operations are counted.
COUNTED = 200
SETTINGS = {DEFAULT: ConvertOptions(groups=4), "T4G4": ConvertOptions(timesteps=4, groups=4)}
COMMAND = (
    "python benchmarks/pretrained.py --models MODELS --mnist MNIST --mnist-train TRAIN --cifar10 CIFAR10"
)

_INTRODUCTION = """\
Float networks, calibrated on {calibration} training images, judged on test images (column *images*).
*Agree* is the share of images where float and spiking network name the same class, *SNR* the
signal-to-noise ratio of the logits. *Unequal* counts codes and outputs that differ: those of six runtimes
from the quantised network's on {verified} images, and onnxruntime's outputs from numpy's on {shared}.
*Audit*: what multiplies between encoder and readout. Spikes per neuron (mean, most), synaptic operations
and energy in the papers' convention, with the host, are per image, counted on {counted}; *dense* is the
float network's energy."""


_HEADINGS = ("network", "code", "images", "float", "spiking", "agree", "SNR, dB", "unequal", "audit", "host")
_HEADINGS = (*_HEADINGS, "spikes", "SOPs", "µJ", "dense, µJ")


def source_logits(source: Path, images: Array, batch: int = 250) -> Array:
    """Return the outputs of a float network, not optimised."""
    runtime = OnnxRuntime(load(source), optimisation="none")
    name = runtime.inputs[0].name
    parts = [
        runtime.run({name: images[start : start + batch]})[runtime.outputs[0]]
        for start in range(0, len(images), batch)
    ]
    return np.concatenate(parts).reshape(len(images), -1)


def run(model: Model, kind: str, images: Array, batch: int = 100) -> Array:
    """Return the logits of a spiking network, from the runtime of that kind."""
    runtime, parts = create(kind, model), []
    name, output = runtime.inputs[0].name, runtime.outputs[0]
    for start in range(0, len(images), batch):
        part = images[start : start + batch]
        parts.append(runtime.run({name: part})[output].reshape(len(part), -1))
        if sys.stderr.isatty():
            print(f"\r{start + len(part)}/{len(images)} images", end="", file=sys.stderr)
    return np.concatenate(parts)


def judge(
    source: Path,
    options: ConvertOptions,
    calibration: Array,
    images: Array,
    labels: Array,
    verified: int = 0,
    shared: int = 0,
    counted: int = COUNTED,
) -> dict[str, Any]:
    """Convert one network in one way and measure everything.

    Args:
        source: Float network.
        options: T and G.
        calibration: Inputs to calibrate on.
        images: Inputs to judge on.
        labels: Their classes.
        verified: On how many images all runtimes are compared in every code; 0: none.
        shared: On how many images numpy's logits are compared with onnxruntime's.
        counted: On how many images spikes and operations are counted.
    """
    name = create("ort", load(source)).inputs[0].name
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "calibration.npz"
        np.savez(data, **{name: calibration})
        start = time.perf_counter()
        conversion = convert(source, _with_data(options, data))
        seconds = time.perf_counter() - start
    model = conversion.model
    report = audit(model)
    reference = source_logits(source, images)
    logits = run(model, "numpy", images)
    cost = measure(model, {name: images[:counted]}, create("numpy", model).run)
    distance = OutputDistance("logits")
    distance.add(reference, logits)
    result: dict[str, Any] = {
        "images": len(images),
        "float": _accuracy(reference, labels),
        "spiking": _accuracy(logits, labels),
        "agreement": 100 * distance.agreeing / distance.samples,
        "decibel": distance.decibel,
        "audit": {
            "clean": report.clean,
            "findings": sorted(f"{row.op} {row.node}" for row in report.findings),
            "host": sorted({row.op for row in report.host if row.op.startswith("ai.snnc")}),
        },
        "cost": {**cost.totals(), "images": cost.images},
        "seconds_converting": round(seconds, 1),
    }
    if verified:
        outcome = verify(source, model, {name: images[:verified]})
        compared = outcome.agreements[0].tensors.values()
        result["verified"] = {
            "images": verified,
            "compared_per_runtime": sum(tensor.elements for tensor in compared),
            "unequal": {agreement.runtime: agreement.mismatches for agreement in outcome.agreements},
        }
    if shared:
        again = run(model, "ort", images[:shared])
        unequal = int(np.count_nonzero(_bits(again) != _bits(logits[:shared])))
        result["shared"] = {"images": len(again), "unequal": unequal, "logits": again.size}
    return result


def _with_data(options: ConvertOptions, data: Path) -> ConvertOptions:
    return replace(options, calibrate=str(data))


def _accuracy(logits: Array, labels: Array) -> float:
    return 100 * float((logits.argmax(axis=1) == labels).mean())


def _bits(logits: Array) -> Array:
    return np.ascontiguousarray(logits, dtype=np.float32).view(np.int32)


def holds(row: dict[str, Any]) -> bool:
    """Whether a row's claims hold: nothing differs, nothing multiplies."""
    return bool(row["audit"]["clean"]) and differing(row) == 0


def differing(row: dict[str, Any]) -> int:
    """Return how many codes and output bits differ, over all comparisons of a row."""
    codes = sum(row["verified"]["unequal"].values()) if "verified" in row else 0
    return codes + (row["shared"]["unequal"] if "shared" in row else 0)


def table(result: dict[str, Any]) -> list[str]:
    """Return the section of RESULTS.md."""
    rows = [row for network in result["networks"].values() for row in network["rows"].values()]
    verified, shared = (
        ", ".join(sorted({f"{row[key]['images']:,}" for row in rows if key in row})) or "no"
        for key in ("verified", "shared")
    )
    lines = [
        _INTRODUCTION.format(
            calibration=result["calibration"], verified=verified, shared=shared, counted=COUNTED
        ),
        "",
        "| " + " | ".join(_HEADINGS) + " |",
        "|" + "---|" * len(_HEADINGS),
    ]
    for key, network in result["networks"].items():
        for setting, row in network["rows"].items():
            lines.append(_line(NETWORKS[key].title, "T = 8, G = 4" if setting == DEFAULT else setting, row))
        if "refused" in network:
            lines.append(f"| {NETWORKS[key].title} | {network['refused']} |" + " |" * (len(_HEADINGS) - 2))
    return [
        *lines,
        "",
        f"- machine: {result['machine']}",
        f"- versions: Python {platform.python_version()}, "
        + ", ".join(f"{name} {number}" for name, number in result["versions"].items()),
        f"- command: `{result['command']}`",
    ]


def _line(title: str, code: str, row: dict[str, Any]) -> str:
    cost, noise = row["cost"], "" if row["decibel"] is None else f"{row['decibel']:.1f}"
    unequal = ""
    if "verified" in row:
        compared = row["verified"]["compared_per_runtime"] + row.get("shared", {"logits": 0})["logits"]
        unequal = f"{differing(row):,} of {compared:,}"
    audited = "clean" if row["audit"]["clean"] else "; ".join(row["audit"]["findings"])
    host = ", ".join(op.removeprefix("ai.snnc::") for op in row["audit"]["host"])
    cells = [
        title,
        code,
        f"{row['images']:,}",
        f"{row['float']:.2f} %",
        f"{row['spiking']:.2f} %",
        f"{row['agreement']:.2f} %",
        noise,
        unequal,
        audited,
        host,
        f"{cost['spikes_per_neuron']:.3f}, {cost['most_spikes']:.0f}",
        f"{cost['sops'] / 1e6:.2f} M",
        f"{cost['energy_with_host_pj'] / 1e6:.2f}",
        f"{cost['energy_dense_float_pj'] / 1e6:.2f}",
    ]
    return "| " + " | ".join(cells) + " |"


class Record:
    """The file of results, written after every row."""

    def __init__(self, path: Path, options: argparse.Namespace) -> None:
        self.path = path
        found = json.loads(path.read_text()) if path.is_file() else {"networks": {}}
        chosen = {name: getattr(options, name) for name in ("images", "verified", "shared")}
        found |= {"calibration": options.calibration, "machine": processor()}
        found["command"] = " ".join([COMMAND, *(f"--{name} {count}" for name, count in chosen.items())])
        found["versions"] = {name: version(name) for name in ("snnc", "numpy", "onnxruntime")}
        self.result: dict[str, Any] = found

    def of(self, key: str, network: Network, data: Data) -> dict[str, Any]:
        """Return the entry of a network."""
        entry: dict[str, Any] = self.result["networks"].setdefault(key, {"rows": {}})
        entry |= {"data": data.words, "title": network.title}
        entry.pop("refused", None)
        return entry

    def write(self) -> None:
        """Write the file and the section of RESULTS.md."""
        order = [key for key in NETWORKS if key in self.result["networks"]]
        self.result["networks"] = {key: self.result["networks"][key] for key in order}
        temporary = self.path.with_suffix(".tmp")
        temporary.write_text(json.dumps(self.result, indent=2) + "\n")
        temporary.replace(self.path)
        write_section(HERE / "RESULTS.md", "Pre-trained networks", table(self.result))


def find(network: Network, folders: list[Path]) -> Path | None:
    """Return the file of a network, or None."""
    return next((path for folder in folders if (path := folder / network.file).is_file()), None)


def main() -> int:
    """Judge all networks that are at hand; return the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_data_options(parser)
    parser.add_argument("--networks", nargs="+", choices=list(NETWORKS), default=list(NETWORKS))
    parser.add_argument("--settings", nargs="+", choices=list(SETTINGS), default=list(SETTINGS))
    parser.add_argument("--images", type=int, default=10_000, help="test images")
    parser.add_argument("--calibration", type=int, default=256, help="training images")
    parser.add_argument("--verified", type=int, default=16, help="images on which all runtimes are compared")
    parser.add_argument("--shared", type=int, default=1000, help="images on which onnxruntime runs as well")
    parser.add_argument("--again", action="store_true", help="measure what is in the file already")
    parser.add_argument("--json", type=Path, default=HERE / "pretrained.json")
    options = parser.parse_args()
    data = load_data(options, options.calibration)
    record = Record(options.json, options)
    for key in options.networks:
        network = NETWORKS[key]
        source = find(network, options.models)
        if source is None or network.data not in data:
            say(f"skipped: {network.title}: {network.file} or its data are not at hand")
            continue
        entry = record.of(key, network, data[network.data])
        for setting in options.settings:
            if setting in entry["rows"] and not options.again:
                continue
            images = data[network.data].test[: options.images]
            labels = data[network.data].labels[: len(images)]
            calibration, inputs = network.prepare(data[network.data].train), network.prepare(images)
            start = time.perf_counter()
            try:
                compared = (options.verified, options.shared)
                row = judge(source, SETTINGS[setting], calibration, inputs, labels, *compared)
            except SnncError as error:
                entry["refused"] = str(error)
                say(f"{key} {setting}: {error}")
                break
            row["seconds"] = round(time.perf_counter() - start, 1)
            entry["rows"][setting] = row
            record.write()
            say(f"{key} {setting}: {_line(network.title, setting, row)}")
    record.write()
    rows = [row for entry in record.result["networks"].values() for row in entry["rows"].values()]
    return int(not all(map(holds, rows)))


if __name__ == "__main__":
    raise SystemExit(main())
