"""snnc's native operators beside SpikingJelly running its own conversion of the same network.

    benchmarks/setup_spikingjelly.sh .venv-spikingjelly
    python benchmarks/spikingjelly_speed.py --spikingjelly .venv-spikingjelly/bin/python --networks resnet18

A network is a name of timm's (random weights, `pip install timm`), `ge2mst_small` and so on (snnc's own, in
float), or an ONNX file with one image input `x`. Images of standard normal noise, the same four for
calibration on both sides. Agreement is the signal-to-noise ratio of the logits against the float network's.
For each of snnc's settings the least number of time-steps is searched with which one of SpikingJelly's
recipes agrees as well; then all take turns, one image, one thread, medians of processor time. `--only times`
repeats the second part alone. Writes `benchmarks/spikingjelly_speed.json`, where other networks stay, and a
section of `benchmarks/RESULTS.md`.
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
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from native import export  # noqa: E402
from report import processor, write_section  # noqa: E402
from scale import run  # noqa: E402
from spikingjelly_speed_tables import TITLE, section, winners  # noqa: E402
from spikingjelly_transformers import chain  # noqa: E402

from snnc.compile import ConvertOptions, convert  # noqa: E402
from snnc.ir import infer_shapes, load, save  # noqa: E402
from snnc.runtimes import OnnxRuntime, ort  # noqa: E402

Logits = npt.NDArray[np.float32]
Entry = dict[str, Any]
SETTINGS = ((4, 2), (8, 4))
#: From so many steps on agreement grows slower with each doubling.
SLOWING = 32
#: Those that send spikes; the likely ones first, since nothing is tried beyond the least T that is known.
SPIKING = (
    "STA, spiking encoder",
    "channel-wise, 99.9 %",
    "channel-wise, maximum",
    "threshold balancing",
    "rate, 99.9 %",
    "rate, maximum",
)
#: Those that send real numbers and compute every operator in float: one step of them is the float network.
#: SpikeZIP is one of them where there are none of the quantisers that it replaces.
EQUIVALENT = ("STA, equivalent", "TD-equivalent", "SpikeZIP")
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


def agreement(logits: Logits, reference: Logits) -> tuple[float, float]:
    """Return the signal-to-noise ratio in dB (NaN for NaN) and the share of equal choices in percent."""
    noise = float(np.square(logits.astype(np.float64) - reference).sum())
    power = float(np.square(reference.astype(np.float64)).sum())
    same = float((logits.argmax(1) == reference.argmax(1)).mean())
    return (10 * math.log10(power / noise) if noise else math.inf), 100 * same


def is_hopeless(found: Mapping[int, float], steps: int, goal: float, largest: int) -> bool:
    """Return whether the gain of the last doubling, made at each doubling to come, would not suffice.

    Args:
        found: Agreement, dB, of numbers of steps, half of ``steps`` among them.
        steps: The last one tried.
        goal: The agreement looked for, dB.
        largest: Most steps to try.
    """
    if steps < SLOWING:
        return False
    gain = max(0.0, found[steps] - found[steps // 2])
    return found[steps] + gain * math.log2(largest / steps) < goal


def least(decibel: Callable[[int], float], goal: float, largest: int, *, patient: bool = False) -> int | None:
    """Search the least number of steps with an agreement, which is taken to grow with them.

    Args:
        decibel: Agreement of a number of steps.
        goal: The agreement looked for.
        largest: Most steps to try, at least 1.
        patient: Whether to go on where `is_hopeless`.

    Returns:
        That number; None if the largest does not suffice either, or would not.
    """
    below, steps, found = 0, 1, {}
    while not (found.setdefault(steps, decibel(steps)) >= goal):
        lost = math.isnan(found[steps]) or steps == largest
        if lost or (steps == 2 * below and not patient and is_hopeless(found, steps, goal, largest)):
            return None
        below, steps = steps, min(2 * steps, largest)
    while steps - below > 1:
        middle = (below + steps) // 2
        below, steps = (below, middle) if decibel(middle) >= goal else (middle, steps)
    return steps


def pool_first(nodes: Sequence[Entry]) -> list[Entry]:
    """Return nodes with a maximum before the ReLU that only it reads: the same function.

    A maximum over spikes of one step is no maximum over rates, so that recipes for ReLU want it there.
    """
    made = list(nodes)
    for at, relu in enumerate(nodes):
        readers = [place for place, node in enumerate(nodes) if relu["output"] in node["inputs"]]
        if relu["op"] != "Relu" or len(readers) != 1 or nodes[readers[0]]["op"] != "MaxPool":
            continue
        pool = nodes[readers[0]]
        # The ReLU keeps the name that is read afterwards, the maximum gets the one that is no longer read.
        made[at] = {**pool, "inputs": relu["inputs"], "output": relu["output"]}
        made[readers[0]] = {**relu, "inputs": [relu["output"]], "output": pool["output"]}
    return made


class Worker:
    """SpikingJelly's side: a process for each recipe, so that all can take turns."""

    def __init__(self, python: Path, work: Path, recipe: str, reference: Logits) -> None:
        command = [str(python), str(HERE / "spikingjelly_speed_worker.py"), str(work), recipe]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        self.recipe, self._reference = recipe, reference
        self.refused: str | None = None
        #: Of each number of steps tried: agreement, and from which step on outputs are summed.
        self.tried: dict[int, Entry] = {}

    def _ask(self, question: Entry) -> Entry:
        assert self._process.stdin is not None and self._process.stdout is not None
        print(json.dumps(question), file=self._process.stdin, flush=True)
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"SpikingJelly's side, {self.recipe}: ended with {self._process.wait()}")
        answer: Entry = json.loads(line)
        return answer

    def decibel(self, steps: int) -> float:
        """Return the agreement of so many steps; NaN for a refusal."""
        if steps not in self.tried and self.refused is None:
            answer = self._ask({"answers": steps})
            if "refused" in answer:
                self.refused = str(answer["refused"])
                return math.nan
            decibel, same = agreement(np.array(answer["logits"], np.float32), self._reference)
            self.tried[steps] = {"decibel": decibel, "same": same, "start": answer["start"]}
            print(self.recipe, steps, self.tried[steps], flush=True)
        return math.nan if self.refused is not None else float(self.tried[steps]["decibel"])

    def clock(self, steps: int) -> Callable[[], float]:
        """Return what runs one image and says its processor time."""
        return lambda: float(self._ask({"seconds": steps})["seconds"])

    def versions(self) -> dict[str, str]:
        """Return the versions of its packages."""
        found = self._ask({"versions": ["spikingjelly", "torch", "numpy"]})
        return {f"{name} (SpikingJelly's side)": number for name, number in found.items()}

    def end(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def attempt(worker: Worker, goals: Sequence[float], most: Sequence[int], *, patient: bool = False) -> Entry:
    """Search the least number of steps for each goal, of at most so many; return what there is to record."""
    reached = [
        least(worker.decibel, goal, largest, patient=patient)
        for goal, largest in zip(goals, most, strict=True)
    ]
    worker.end()
    entry = {"recipe": worker.recipe, "reached": reached}
    if worker.refused is not None:
        return {**entry, "refused": worker.refused}
    # JSON has no NaN.
    return entry | {
        "tried": {
            str(steps): {**row, "decibel": None if math.isnan(row["decibel"]) else row["decibel"]}
            for steps, row in sorted(worker.tried.items())
        }
    }


def race(
    goals: Sequence[float], largest: int, recipes: Sequence[str], start: Callable[[str], Worker]
) -> list[Entry]:
    """Try recipes, each up to the fewest steps that suffice for one before it.

    Args:
        goals: Agreements looked for, dB.
        largest: Most steps to try.
        recipes: Names.
        start: Starts SpikingJelly's side with one of them.

    Returns:
        What is known of each recipe. Where no recipe reaches a goal, the best one has been tried to the end.
    """
    most, entries = [largest] * len(goals), []
    for recipe in recipes:
        entries.append(attempt(start(recipe), goals, most))
        most = [min(found or known, known) for found, known in zip(entries[-1]["reached"], most, strict=True)]
        print(entries[-1], flush=True)
    for recipe, _, reaches in winners(entries, len(goals)):
        place = next(place for place, entry in enumerate(entries) if entry["recipe"] == recipe)
        if not reaches and str(largest) not in entries[place]["tried"]:
            entries[place] = attempt(start(recipe), goals, [largest] * len(goals), patient=True)
            print(entries[place], flush=True)
    return entries


class Network:
    """A network on both sides."""

    def __init__(self, name: str, options: argparse.Namespace, folder: Path) -> None:
        self.name, self._options = Path(name).stem, options
        rng = np.random.default_rng(0)
        calibration = rng.standard_normal((4, 3, 224, 224)).astype(np.float32)
        self.images = rng.standard_normal((options.images, 3, 224, 224)).astype(np.float32)
        np.savez(folder / "data.npz", images=self.images, calibration=calibration)
        np.savez(folder / "x.npz", x=calibration)
        source, self._work = self._prepare(name, folder)
        plain = onnxruntime.SessionOptions()
        plain.intra_op_num_threads = 1
        session = onnxruntime.InferenceSession(str(source), plain, providers=["CPUExecutionProvider"])
        self.reference: Logits = session.run(None, {"x": self.images})[0]
        self.float = self._timed(session)
        self.ours: list[Entry] = []
        self.clocks: list[Callable[[], float]] = []
        for steps, groups in SETTINGS:
            target = folder / f"{self.name}.t{steps}g{groups}.snn.onnx"
            if not target.exists():
                chosen = ConvertOptions(calibrate=str(folder / "x.npz"), timesteps=steps, groups=groups)
                save(convert(source, chosen).model, target)
            native = OnnxRuntime(load(target), stock=False, threads=1).session
            decibel, same = agreement(native.run(None, {"x": self.images})[0], self.reference)
            self.ours.append({"timesteps": steps, "groups": groups, "decibel": decibel, "same": same})
            self.clocks.append(self._timed(native))
            print(self.name, self.ours[-1], flush=True)

    def _prepare(self, name: str, folder: Path) -> tuple[Path, Path]:
        """Return a network as ONNX, and the file that describes it to SpikingJelly's side."""
        source, weights = Path(name), folder / f"{self.name}.npz"
        if source.suffix != ".onnx":
            source = folder / f"{name}.ts.onnx"
            if not source.exists():
                export(name, source)
        work: Entry = {"weights": str(weights), "data": str(folder / "data.npz")}
        if name in MEASURES:
            run(_WEIGHTS, name, weights)
            measures = {**_COMMON, **MEASURES[name], "class_token": True, "activation": "gelu"}
            work |= {"kind": "transformer", "measures": measures}
        else:
            # onnxruntime works out all shapes, which are those of one image then.
            plain = onnxruntime.SessionOptions()
            plain.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
            plain.add_free_dimension_override_by_name("n", 1)
            plain.optimized_model_filepath = str(folder / f"{self.name}.plain.onnx")
            onnxruntime.InferenceSession(str(source), plain, providers=["CPUExecutionProvider"])
            model = load(plain.optimized_model_filepath)
            infer_shapes(model)
            nodes, arrays = chain(model)
            for node, described in zip(model.graph, nodes, strict=True):
                if node.op_type == "MatMul" and not described["weights"]:
                    shape = node.inputs[0].shape
                    assert shape is not None
                    described["inner"] = shape[-1]
            np.savez(weights, **arrays)
            work |= {"kind": "chain", "nodes": pool_first(nodes)}
            if any(node["op"] == "Reshape" for node in nodes):
                work["batch"] = 1
        path = folder / f"{self.name}.json"
        path.write_text(json.dumps(work))
        return source, path

    def _timed(self, session: Any) -> Callable[[], float]:
        image = self.images[:1]

        def seconds() -> float:
            start = time.process_time()
            session.run(None, {"x": image})
            return time.process_time() - start

        return seconds

    def start(self, recipe: str) -> Worker:
        """Start SpikingJelly's side with a recipe."""
        return Worker(self._options.spikingjelly, self._work, recipe, self.reference)


def search(network: Network, options: argparse.Namespace) -> Entry:
    """Return what agrees how well, without times."""
    check = network.start("float")
    # What SpikingJelly converts must be the network.
    if not check.decibel(1) >= 80:
        raise SystemExit(f"{network.name}: torch's network agrees with the file's in {check.tried[1]}")
    check.end()
    goals = [row["decibel"] for row in network.ours]
    entries = race(goals, options.largest, options.recipes, network.start)
    return {
        "images": options.images,
        "largest": options.largest,
        "snnc": network.ours,
        "recipes": entries,
        "equivalent": race([max(goals)], 1, EQUIVALENT, network.start),
    }


def take_turns(network: Network, result: Entry, rounds: int) -> None:
    """Time both sides in turns, after one that does not count; write medians in ms into the result."""
    chosen = winners(result["recipes"], len(SETTINGS))
    wanted = dict.fromkeys([("float", 1), *((recipe, steps) for recipe, steps, _ in chosen)])
    wanted |= {(entry["recipe"], 1): None for entry in result["equivalent"] if entry["reached"][0]}
    # A process for each, since some recipes convert anew for another number of steps.
    workers = {(recipe, steps): network.start(recipe) for recipe, steps in wanted}
    clocks = {("onnxruntime", 0): network.float}
    clocks |= {
        ("snnc", row["timesteps"]): clock for row, clock in zip(network.ours, network.clocks, strict=True)
    }
    clocks |= {key: worker.clock(key[1]) for key, worker in workers.items()}
    times: dict[tuple[str, int], list[float]] = {key: [] for key in clocks}
    for _ in range(rounds + 1):
        for key, clock in clocks.items():
            times[key].append(clock())
    result["versions"] = {package: version(package) for package in ("snnc", "numpy", "onnxruntime")}
    result["versions"] |= workers["float", 1].versions()
    for worker in workers.values():
        worker.end()
    result["rounds"] = rounds
    result["ms"] = [
        {"runs": runs, "steps": steps, "ms": round(1e3 * statistics.median(found[1:]), 2)}
        for (runs, steps), found in times.items()
    ]


def main() -> int:
    """Measure and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--spikingjelly", type=Path, required=True, help="Python that has SpikingJelly")
    parser.add_argument("--networks", nargs="+", default=["deit_tiny_patch16_224"])
    parser.add_argument("--recipes", nargs="+", choices=SPIKING, default=SPIKING)
    parser.add_argument("--largest", type=int, default=256, help="most time-steps to try")
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", choices=["times"], help="leave the search as it was recorded")
    parser.add_argument("--folder", type=Path, help="where networks are kept; default: a temporary one")
    options = parser.parse_args()
    folder = options.folder or Path(tempfile.mkdtemp())
    folder.mkdir(parents=True, exist_ok=True)
    if ort.native_library() is None:
        raise SystemExit(f"no native library: {ort.native_problem()}")
    file = HERE / "spikingjelly_speed.json"
    results = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    for name in options.networks:
        network = Network(name, options, folder)
        result = results.get(network.name, {})
        if options.only is None:
            result = search(network, options)
        elif result.get("snnc") != network.ours:
            raise SystemExit(f"{name}: the search that was recorded is not of this network; leave out --only")
        take_turns(network, result, options.rounds)
        results[network.name] = result | {"machine": processor()}
        file.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    write_section(HERE / "RESULTS.md", TITLE, section(results))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
