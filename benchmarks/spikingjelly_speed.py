"""snnc's native operators beside SpikingJelly running its own conversion of the same vision transformer.

    benchmarks/setup_spikingjelly.sh .venv-spikingjelly
    python benchmarks/spikingjelly_speed.py --spikingjelly .venv-spikingjelly/bin/python

DeiT with random weights (timm, `pip install timm`), images of standard normal noise, the same four for
calibration on both sides. Agreement is the signal-to-noise ratio of the logits against the float network's,
and the share of images of the same largest logit. Processor time of one image, one thread, medians of rounds
in which all rows take turns. Writes a section of `benchmarks/RESULTS.md`.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from report import processor, write_section  # noqa: E402
from scale import _EXPORT, run  # noqa: E402

from snnc.compile import ConvertOptions, convert  # noqa: E402
from snnc.ir import load, save  # noqa: E402
from snnc.runtimes import OnnxRuntime  # noqa: E402

Logits = npt.NDArray[np.float32]
SETTINGS = ((4, 2), (8, 4))
RECIPES = ("STA, equivalent", "STA, spiking encoder")
#: Of timm's DeiT, by the names of `spikingjelly_transformers_worker.py`.
MEASURES = {
    "deit_tiny_patch16_224": {"width": 192, "hidden": 768, "heads": 3},
    "deit_small_patch16_224": {"width": 384, "hidden": 1536, "heads": 6},
}
_COMMON = {"size": 64, "length": 197, "depth": 12, "colours": 3, "patch": 16, "classes": 1000}

# The weights of the network that `_EXPORT` of scale.py writes.
_WEIGHTS = """
import sys
import numpy, torch, timm
name, path = sys.argv[1:]
torch.manual_seed(0)
network = timm.create_model(name, pretrained=False)
held = {key: value.numpy() for key, value in network.state_dict().items()}
renamed = {"patch_embed.proj": "embed", "norm": "norm", "head": "head"}
for block in range(len(network.blocks)):
    parts = {"attn.qkv": "qkv", "attn.proj": "out", "mlp.fc1": "first", "mlp.fc2": "second"}
    parts |= {"norm1": "norm1", "norm2": "norm2"}
    renamed |= {f"blocks.{block}.{key}": f"{block}/{value}" for key, value in parts.items()}
arrays = {new: held[f"{old}.weight"] for old, new in renamed.items()}
arrays |= {f"{new}_bias": held[f"{old}.bias"] for old, new in renamed.items()}
arrays |= {"token": held["cls_token"], "position": held["pos_embed"]}
arrays["epsilon"] = numpy.float64(network.norm.eps)
numpy.savez(path, **arrays)
"""


class Worker:
    """SpikingJelly's side: a process for each converted network, so that all rows can take turns."""

    def __init__(self, python: Path, work: Path, recipe: str, steps: int) -> None:
        command = [str(python), str(HERE / "spikingjelly_transformers_worker.py"), str(work), "--serve"]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        self.logits = np.array(self._ask({"recipe": recipe, "steps": steps})["logits"], np.float32)

    def _ask(self, question: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None and self._process.stdout is not None
        print(json.dumps(question), file=self._process.stdin, flush=True)
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer

    def seconds(self) -> float:
        """Run one image; return its processor time."""
        return float(self._ask({})["seconds"])

    def end(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def agreement(logits: Logits, reference: Logits) -> tuple[float, float]:
    """Return the signal-to-noise ratio in dB and the share of equal choices in percent."""
    noise = float(np.square(logits.astype(np.float64) - reference).sum())
    power = float(np.square(reference.astype(np.float64)).sum())
    same = float((logits.argmax(1) == reference.argmax(1)).mean())
    return (10 * math.log10(power / noise) if noise else math.inf), 100 * same


def timed(session: Any, image: Logits) -> Callable[[], float]:
    """Return what runs one image and says its processor time."""

    def seconds() -> float:
        start = time.process_time()
        session.run(None, {"x": image})
        return time.process_time() - start

    return seconds


def judge(name: str, options: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    """Measure all rows of one network."""
    source, weights, data = folder / f"{name}.ts.onnx", folder / f"{name}.npz", folder / "data.npz"
    if not source.exists():
        run(_EXPORT, name, source, "ts")
    run(_WEIGHTS, name, weights)
    rng = np.random.default_rng(0)
    calibration = rng.standard_normal((4, 3, 224, 224)).astype(np.float32)
    images = rng.standard_normal((options.images, 3, 224, 224)).astype(np.float32)
    np.savez(data, images=images, calibration=calibration)
    np.savez(folder / "x.npz", x=calibration)
    measures = {**_COMMON, **MEASURES[name], "class_token": True, "activation": "gelu"}
    work = folder / "work.json"
    work.write_text(
        json.dumps({"kind": "transformer", "measures": measures, "weights": str(weights), "data": str(data)})
    )

    plain = onnxruntime.SessionOptions()
    plain.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(source), plain, providers=["CPUExecutionProvider"])
    reference: Logits = session.run(None, {"x": images})[0]
    rows: list[dict[str, Any]] = []
    clocks: list[Callable[[], float]] = []

    def add(words: str, steps: str, logits: Logits, clock: Callable[[], float]) -> float:
        decibel, same = agreement(logits, reference)
        rows.append({"words": words, "steps": steps, "decibel": decibel, "same": same})
        clocks.append(clock)
        print(name, rows[-1], flush=True)
        return decibel

    add("float, onnxruntime", "", reference, timed(session, images[:1]))
    goal = 0.0
    for steps, groups in SETTINGS:
        target = folder / f"{name}.t{steps}g{groups}.snn.onnx"
        if not target.exists():
            made = convert(
                source, ConvertOptions(calibrate=str(folder / "x.npz"), timesteps=steps, groups=groups)
            )
            save(made.model, target)
        native = OnnxRuntime(load(target), stock=False, threads=1).session
        found = add(
            f"snnc, native, G = {groups}",
            str(steps),
            native.run(None, {"x": images})[0],
            timed(native, images[:1]),
        )
        goal = max(goal, found)
    workers = [Worker(options.spikingjelly, work, "float", 1)]
    add("float, torch", "", workers[0].logits, workers[0].seconds)
    for recipe in RECIPES:
        for steps in options.steps:
            workers.append(Worker(options.spikingjelly, work, recipe, steps))
            found = add(f"SpikingJelly, {recipe}", str(steps), workers[-1].logits, workers[-1].seconds)
            if found >= goal:
                break  # it needs no more steps
    times = [[clock() for clock in clocks] for _ in range(options.rounds + 1)][1:]
    for row, column in zip(rows, zip(*times, strict=True), strict=True):
        row["ms"] = 1e3 * statistics.median(column)
    for worker in workers:
        worker.end()
    return rows


def section(results: dict[str, list[dict[str, Any]]], options: argparse.Namespace) -> list[str]:
    """Return the section of RESULTS.md."""
    lines = [
        "Random weights, images of standard normal noise, the same network on both sides; one image, one",
        "thread, processor time. *SNR*: of the logits against the float network's. *Same*: images of which",
        "the largest logit is the same. *Times*: multiples of the time of snnc with T = 8, G = 4. A recipe",
        "gets twice the steps until it reaches the better SNR of snnc's two rows. *Equivalent* sends real",
        "numbers and computes all operators in float, so that one step of it is the float network; *spiking",
        "encoder* sends whole multiples of thresholds.",
        "",
        "| network | runs | T | SNR, dB | same | ms | times |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, rows in results.items():
        ours = next(row["ms"] for row in rows if row["words"].endswith("G = 4"))
        for row in rows:
            decibel = f"{row['decibel']:.1f}" if np.isfinite(row["decibel"]) else ""
            lines.append(
                f"| {name} | {row['words']} | {row['steps']} | {decibel} | {row['same']:.0f} % "
                f"| {row['ms']:.1f} | {row['ms'] / ours:.1f} |"
            )
    versions = ", ".join(f"{name} {version(name)}" for name in ("snnc", "numpy", "onnxruntime"))
    command = f"python benchmarks/spikingjelly_speed.py --spikingjelly PYTHON --networks {' '.join(results)}"
    command += f" --steps {' '.join(map(str, options.steps))}"
    command += f" --images {options.images} --rounds {options.rounds}"
    return [*lines, "", f"- machine: {processor()}", f"- versions: {versions}", f"- command: `{command}`"]


def main() -> int:
    """Measure and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--spikingjelly", type=Path, required=True, help="Python that has SpikingJelly")
    parser.add_argument("--networks", nargs="+", choices=MEASURES, default=["deit_tiny_patch16_224"])
    parser.add_argument("--steps", nargs="+", type=int, default=[1, 2, 4, 8, 16, 32])
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="where networks are kept; default: a temporary one")
    options = parser.parse_args()
    folder = options.folder or Path(tempfile.mkdtemp())
    folder.mkdir(parents=True, exist_ok=True)
    results = {name: judge(name, options, folder) for name in options.networks}
    write_section(
        HERE / "RESULTS.md", "SpikingJelly's speed on a vision transformer", section(results, options)
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
