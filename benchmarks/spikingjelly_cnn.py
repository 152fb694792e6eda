"""snnc against SpikingJelly's converter: the same CNN, the same images, side by side in one run.

    benchmarks/setup_spikingjelly.sh .venv-spikingjelly
    python benchmarks/spikingjelly_cnn.py --spikingjelly .venv-spikingjelly/bin/python

Nothing is trained here. Both convert the float network `examples/models/fashion_cnn_float.onnx`, calibrated
on training images; snnc besides converts the same architecture fine-tuned with ExpG quantisers.
Accuracy and spikes are those of the Fashion-MNIST test images. Each side runs on one thread in its own
environment; times are medians of rounds in which all contestants take turns. Writes
`benchmarks/spikingjelly_cnn.json` and a section of `benchmarks/RESULTS.md`.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

# Before numpy and onnxruntime start their threads.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["OPENBLAS_NUM_THREADS"] = "1"
os.environ["MKL_NUM_THREADS"] = "1"

import numpy as np

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path.insert(0, str(ROOT / "examples"))

from data import fashion_mnist  # noqa: E402
from report import processor, write_section  # noqa: E402

from snnc.compile import ConvertOptions, convert  # noqa: E402
from snnc.cost import measure  # noqa: E402
from snnc.ir import constant, load  # noqa: E402
from snnc.runtimes import create  # noqa: E402

MODELS = ROOT / "examples" / "models"
STEPS = (4, 8, 16, 32, 64)
RECIPES = ("rate", "channel-wise", "threshold balancing")
BATCHES = (1, 32)
# Threshold balancing raises its thresholds batch by batch: with 1,000 images it stays at 45 % accuracy.
CALIBRATION = 10_000
OUR_CALIBRATION = 256

_TIMES = "- times: medians of {rounds} rounds in which all rows took turns; load average before {load:.1f}"

_INTRODUCTION = """\
Residual CNN of `examples/01_residual_cnn` ({neurons:,.0f} neurons), {images:,} Fashion-MNIST test images.
The float network classifies {float_accuracy:.2f} % of them."""

_DIFFERENCES = """\
SpikingJelly converts the float network without training, calibrated on {calibration:,} training images. So
do snnc's rows called *calibrated*, on {our_calibration:,} of them; its other networks were fine-tuned
from the same float network with quantisers in place. What is not equal: SpikingJelly's spikes are worth
the same at every step, those of snnc halve from step to step. SpikingJelly computes the first convolution
in float at every step, snnc once in fixed point.

Recipes: `rate` is RateCodingRecipe at 99.9 %, `channel-wise` the same per channel with half thresholds,
`threshold balancing` is LocalThresholdBalancingRecipe. Of SpikingJelly's two step modes the faster one is
shown."""


class Worker:
    """SpikingJelly in its own environment, asked over pipes."""

    def __init__(self, python: str, *arguments: str) -> None:
        command = [python, str(HERE / "spikingjelly_worker.py"), *arguments]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._requests, self._answers = self.process.stdin, self.process.stdout

    def ask(self, call: str, **arguments: Any) -> Any:
        """Send one request and wait for its answer."""
        print(json.dumps({"call": call, **arguments}), file=self._requests, flush=True)
        line = self._answers.readline()
        if not line:
            raise SystemExit(f"SpikingJelly's side ended with status {self.process.wait()}")
        return json.loads(line)


def folded_weights(path: Path) -> dict[str, np.ndarray]:
    """Return weights and biases of the float network by module name; BatchNorm is folded in the file."""
    arrays = {name: constant(value) for name, value in load(path).graph.initializers.items()}
    weights = {name: array for name, array in arrays.items() if name.endswith(".weight")}
    for name in list(weights):
        stem = name.removesuffix("weight")
        weights[f"{stem}bias"] = arrays.get(f"{name}_bias", arrays.get(f"{stem}bias"))
    missing = [name for name, array in weights.items() if array is None]
    if missing:
        raise SystemExit(f"{path.name} has no {', '.join(missing)}")
    return weights


@dataclass(frozen=True)
class Contestant:
    """One of snnc's conversions.

    Attributes:
        source: File under `examples/models`.
        timesteps: T.
        groups: G.
        calibrated: Whether the source is the float network, quantised by calibration.
    """

    source: str
    timesteps: int
    groups: int
    calibrated: bool

    @property
    def key(self) -> str:
        """What the measurements are kept under."""
        return f"{'calibrated' if self.calibrated else 'fine-tuned'} T{self.timesteps}G{self.groups}"

    def convert(self, calibration: Path) -> Any:
        """Return the spiking model."""
        data = str(calibration) if self.calibrated else None
        options = ConvertOptions(timesteps=self.timesteps, groups=self.groups, calibrate=data)
        return convert(MODELS / self.source, options).model


CONTESTANTS = (
    Contestant("fashion_cnn_t4g2.onnx", 4, 2, False),
    Contestant("fashion_cnn_t4g4.onnx", 4, 4, False),
    Contestant("fashion_cnn_float.onnx", 4, 4, True),
    Contestant("fashion_cnn_float.onnx", 8, 4, True),
)


def digest(path: Path) -> str:
    """Return the first digits of a file's SHA-256."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def judge_ours(contestant: Contestant, model: Any, images: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    """Run all images in the packed runtime; accuracy, spikes, synaptic operations."""
    runtime = create("numpy", model)
    logits: list[np.ndarray] = []

    def run(inputs: Any, taps: Any) -> Any:
        results = runtime.run(inputs, taps)
        logits.append(results[runtime.outputs[0]])
        return results

    report = measure(model, {runtime.inputs[0].name: images}, run, batch=100)
    right = int((np.concatenate(logits).argmax(axis=1) == labels).sum())
    return {
        "timesteps": contestant.timesteps,
        "groups": contestant.groups,
        "calibrated": contestant.calibrated,
        "accuracy": 100 * right / len(labels),
        "spikes_per_image": report.spikes,
        "spikes_per_neuron": report.spikes_per_neuron,
        "most_spikes": report.most_spikes,
        "neurons": report.neurons,
        "sops": report.sops,
    }


def judge(
    worker: Worker, models: dict[Contestant, Any], images: np.ndarray, labels: np.ndarray
) -> dict[str, Any]:
    """Run all images on both sides; accuracy and spikes."""
    ours = {
        contestant.key: judge_ours(contestant, model, images, labels) for contestant, model in models.items()
    }
    (own,) = {judged["neurons"] for judged in ours.values()}
    theirs = {}
    for recipe in RECIPES:
        print(f"SpikingJelly, {recipe}: {len(images)} images ...", flush=True)
        theirs[recipe] = worker.ask("evaluate", recipe=recipe, steps=list(STEPS))
        neurons = theirs[recipe].pop("neurons")
        if neurons != own:
            raise SystemExit(f"the networks differ: {neurons} neurons against {own}")
    return {"snnc": ours, "spikingjelly": theirs}


def clock(model: Any, runtime: str, images: np.ndarray) -> Any:
    """Return a function that runs the images once and returns seconds per image."""
    executor = create(runtime, model, batch_size=len(images), threads=1)
    feed = {executor.inputs[0].name: images}
    executor.run(feed)

    def once() -> float:
        start = time.perf_counter()
        executor.run(feed)
        return (time.perf_counter() - start) / len(images)

    return once


def take_times(
    worker: Worker, models: dict[Contestant, Any], images: np.ndarray, rounds: int
) -> dict[str, Any]:
    """Let all contestants take turns for some rounds; median seconds per image by contestant and batch."""
    clocks = {
        (f"snnc {contestant.key} {runtime}", batch): clock(model, runtime, images[:batch])
        for contestant, model in models.items()
        for runtime in ("numpy", "ort", "numpy-timestep")
        for batch in BATCHES
    }
    samples: dict[tuple[str, int], list[float]] = {key: [] for key in clocks}
    modes: dict[tuple[str, int, int, str], list[float]] = {}
    for _ in range(rounds):
        for key, once in clocks.items():
            samples[key].append(statistics.median(once() for _ in range(5)))
        for recipe in RECIPES:
            for steps in STEPS:
                for batch in BATCHES:
                    for mode, seconds in worker.ask("time", recipe=recipe, steps=steps, batch=batch).items():
                        modes.setdefault((recipe, steps, batch, mode), []).append(seconds)
    result: dict[str, Any] = {}
    for (name, batch), values in samples.items():
        result.setdefault(name, {})[str(batch)] = statistics.median(values)
    for recipe in RECIPES:
        for steps in STEPS:
            result[f"spikingjelly {recipe} T{steps}"] = {
                # Multi-step or step by step, whichever mode is faster here.
                str(batch): min(statistics.median(modes[recipe, steps, batch, mode]) for mode in ("m", "s"))
                for batch in BATCHES
            }
    return result


def table(result: dict[str, Any]) -> list[str]:
    """Return the section of RESULTS.md."""
    ours, theirs = result["judged"]["snnc"], result["judged"]["spikingjelly"]
    neurons = next(iter(ours.values()))["neurons"]
    lines = [
        _INTRODUCTION.format(neurons=neurons, **result),
        "",
        f"| converter | T | accuracy | spikes per image | per neuron | ms per image | batch {BATCHES[1]} |",
        "|---|---|---|---|---|---|---|",
    ]

    def row(name: str, steps: int, judged: dict[str, Any], times: dict[str, float]) -> str:
        milliseconds = " | ".join(f"{1000 * times[str(batch)]:.2f}" for batch in BATCHES)
        return (
            f"| {name} | {steps} | {judged['accuracy']:.2f} % | {judged['spikes_per_image']:,.0f} "
            f"| {judged['spikes_per_image'] / neurons:.3f} | {milliseconds} |"
        )

    times = result["times"]["seconds_per_image"]
    for key, judged in ours.items():
        for runtime, words in (
            ("numpy", "numpy packed"),
            ("ort", "onnxruntime"),
            ("numpy-timestep", "numpy, step by step"),
        ):
            kind = "calibrated" if judged["calibrated"] else "fine-tuned"
            name = f"snnc, {kind}, G={judged['groups']}, {words}"
            lines.append(row(name, judged["timesteps"], judged, times[f"snnc {key} {runtime}"]))
    for recipe in RECIPES:
        for steps in STEPS:
            judged = {key: values[str(steps)] for key, values in theirs[recipe].items()}
            lines.append(
                row(f"SpikingJelly, {recipe}", steps, judged, times[f"spikingjelly {recipe} T{steps}"])
            )
    commands = {result["times"]["command"], result["judged"]["command"]}
    versions = ", ".join(f"{name} {number}" for name, number in result["versions"].items())
    lines += [
        "",
        _DIFFERENCES.format(**result),
        "",
        f"- machine: {result['machine']}; one thread each",
        f"- versions: Python {platform.python_version()}, {versions}",
        _TIMES.format(**result["times"]),
        *(f"- command: `{command}`" for command in sorted(commands)),
    ]
    return lines


def main() -> None:
    """Run the comparison."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--spikingjelly", default=".venv-spikingjelly/bin/python", help="Python with SpikingJelly"
    )
    parser.add_argument("--data", type=Path, help="folder of the Fashion-MNIST idx files")
    parser.add_argument("--images", type=int, default=10_000, help="test images")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--only", choices=("accuracy", "times"), help="repeat one half, keep the other of the last run"
    )
    parser.add_argument("--json", type=Path, default=HERE / "spikingjelly_cnn.json")
    options = parser.parse_args()

    train, _ = fashion_mnist(options.data, "train")
    test, test_labels = fashion_mnist(options.data, "test")
    images = (test[: options.images].numpy() / np.float32(255)).astype(np.float32)
    labels = test_labels[: options.images].numpy()
    calibration = (train[:CALIBRATION].numpy() / np.float32(255)).astype(np.float32)

    float_model = MODELS / "fashion_cnn_float.onnx"
    with tempfile.TemporaryDirectory() as folder:
        weights, data = Path(folder) / "weights.npz", Path(folder) / "data.npz"
        np.savez(weights, **folded_weights(float_model))
        np.savez(data, calibration=calibration, images=images, labels=labels)
        definition = ROOT / "examples" / "01_residual_cnn" / "model.py"
        worker = Worker(options.spikingjelly, str(definition), str(weights), str(data))
        ann = worker.ask("ann")
    runtime = create("ort", load(float_model), threads=1)
    ours = runtime.run({runtime.inputs[0].name: images[:100]})[runtime.outputs[0]]
    difference = float(np.abs(ours - np.array(ann["logits"])).max())
    if difference > 1e-3:
        raise SystemExit(f"the two sides do not have the same float network: logits differ by {difference}")

    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "calibration.npz"
        np.savez(data, x=calibration[:OUR_CALIBRATION])
        models = {contestant: contestant.convert(data) for contestant in CONTESTANTS}
    sources = sorted({MODELS / contestant.source for contestant in CONTESTANTS})
    result: dict[str, Any] = {
        "calibration": CALIBRATION,
        "our_calibration": OUR_CALIBRATION,
        "float_accuracy": ann["accuracy"],
        "images": len(images),
        "machine": processor(),
        "networks": {path.name: digest(path) for path in sources},
        "versions": {
            **{name: version(name) for name in ("snnc", "onnxruntime", "numpy")},
            **{f"{name} (SpikingJelly's side)": number for name, number in worker.ask("versions").items()},
        },
    }
    kept = {}
    if options.only:
        kept = json.loads(options.json.read_text()) if options.json.is_file() else dict(result)
        if any(kept.get(key) != result[key] for key in result):
            raise SystemExit(f"{options.json.name} was made from other networks, images or versions")
    for recipe in RECIPES:
        worker.ask("convert", recipe=recipe)
    command = shlex.join(["python", "benchmarks/spikingjelly_cnn.py", *sys.argv[1:]])
    if options.only != "accuracy":
        result["times"] = {"command": command, "load": os.getloadavg()[0], "rounds": options.rounds}
        result["times"]["seconds_per_image"] = take_times(worker, models, images, options.rounds)
    if options.only != "times":
        result["judged"] = {"command": command, **judge(worker, models, images, labels)}
    result = {**kept, **result}
    options.json.write_text(json.dumps(result, indent=2, sort_keys=True) + "\n")
    if "times" in result and "judged" in result:
        write_section(HERE / "RESULTS.md", "SpikingJelly's converter on the residual CNN", table(result))


if __name__ == "__main__":
    main()
