"""The Ge2mS-T networks of examples/04_ge2mst, converted: accuracy, exactness, and operations by module.

    python benchmarks/ge2mst.py --runs runs --data-set fashion
    python benchmarks/ge2mst.py --full-size --light-steps 40 --data cifar10.npz

``--runs`` is the folder that examples/04_ge2mst/train.py wrote. Every code and every logit of ``--images``
test images is compared between the quantised network and numpy, packed and time-stepped, stock onnxruntime
with all of its optimisations, and the native operators; of the first ``--verified`` at onnxruntime's other
levels and in the simulator of ExpG-1, too. ``--full-size`` counts the three networks at 224 x 224, with
random weights and, with ``--light-steps``, trained for so many steps on CIFAR-10 enlarged to 64 x 64 and
then to 224 x 224. ``--folder NAME=FOLDER`` adds a network that ``python -m snnc.train`` trained
(``--trained-on`` says where), compared and counted as those of ``--runs``. ``--network NAME=FILE.onnx``
adds networks of which operations alone are counted, on ``--samples``. ``--alone`` measures the wall time of
a training step of each recorded network, on a machine that should have nothing else to do. Writes
RESULTS.md, ge2mst.json and, for each network, a plot of the operations by stage in the form of the paper's
figure 3, under their bound of G a MAC.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "examples"))
sys.path.insert(0, str(HERE.parent / "examples" / "04_ge2mst"))

from ge2mst_tables import PAPER, by_module, lines_of, plot  # noqa: E402
from report import processor, write_section  # noqa: E402

from snnc.compile import convert  # noqa: E402
from snnc.cost import measure  # noqa: E402
from snnc.debug.verify import VerifyReport, default_runtimes, verify  # noqa: E402
from snnc.emit.compiled import compile_program  # noqa: E402
from snnc.ir import Model, model_digest  # noqa: E402
from snnc.isa.arch import Arch  # noqa: E402
from snnc.runtimes import NumpyPacked, OnnxRuntime, Runtime  # noqa: E402

_NOTE = """\
Trained for the processor time stated (of the steps, one thread), a small part of what such networks need:
the accuracies show that training works and that conversion loses nothing, not how good the architecture is.
The networks of a data set were given equal processor time (Fashion-MNIST's Spikformer, trained later: equal
time *alone*), not trained side by side; on the clock they took longer and unequally (*on the clock, then*),
for the machine had other work. *Alone* is the wall time of the same steps on a machine with nothing else
running, from 10 of them. `--steps`, samples seen divided by 128, repeats a run whatever the speed.
In torch all 10,000 test images. Unequal codes and logits: the quantised network against numpy, packed and
time-stepped, stock onnxruntime with all optimisations, and the native operators on the images that *spiking*
states, onnxruntime's other three levels and the simulator of ExpG-1 on the first 200.
Operations are of 256 images. Spikformer: SpikingJelly's LIF neurons,
backpropagation through time; not converted: their hard reset is no sum of codes, so it would take
calibration data, and be approximate.
At 224 x 224, two images: random weights and images, or trained for some steps of 16 images of CIFAR-10
enlarged to 64 x 64, then shown enlarged to 224 x 224."""
_COMMANDS = (
    "`python examples/04_ge2mst/train.py --data-set cifar10 --variant expg --groups 2 --minutes 5` and so on "
    "(Fashion-MNIST: 2; its Spikformer `--variant lif --steps 70`), "
    "those for a GPU in `examples/04_ge2mst/README.md`, `python benchmarks/ge2mst.py --runs RUNS`, "
    "`python benchmarks/ge2mst.py --data-set cifar10 --folder NAME=FOLDER`, "
    "`python benchmarks/ge2mst.py --alone`, "
    "`python benchmarks/ge2mst.py --full-size --light-steps 24`"
)
_CHUNK = 500
FAST = {"numpy": NumpyPacked, "onnxruntime (all)": lambda model: OnnxRuntime(model, "all")}


def images_of(options: argparse.Namespace, border: int = 2) -> tuple[Any, Any]:
    """Return test images as the networks take them, and labels."""
    import torch
    from timed import load

    data = load(argparse.Namespace(**vars(options), shift=0), "test", border)
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


def everywhere() -> dict[str, Callable[[Model], Runtime]]:
    """Return what whole test sets are compared in."""
    stock = default_runtimes()
    return {
        **{name: stock[name] for name in ("numpy", "numpy-timestep", "onnxruntime (all)")},
        "native operators": lambda model: OnnxRuntime(model, "all", stock=False),
    }


def besides() -> dict[str, Callable[[Model], Runtime]]:
    """Return what the first images are compared in, too: onnxruntime's other levels and the simulator."""
    return {
        **{name: make for name, make in default_runtimes().items() if name not in everywhere()},
        "ExpG-1 simulator": lambda model: compile_program(model, Arch()).runtime(),
    }


def across(
    source: Path,
    model: Model,
    images: Any,
    labels: Any,
    record: Path,
    *,
    first: int = 0,
    seconds: float = float("inf"),
) -> dict[str, Any]:
    """Compare every code and logit of the quantised network with all runtimes; a run that was cut goes on.

    Args:
        source: The network that was converted.
        model: What it was converted to.
        images: Test images.
        labels: Their classes.
        record: Where the state is kept.
        first: Images that are compared in the slower ones, too.
        seconds: Processor time after which to stop, to go on later.
    """
    state = {"images": 0, "compared": 0, "unequal": 0, "right": 0, "seconds": 0.0}
    state |= {"digest": model_digest(model), "runtimes": list(everywhere()), "first": first}
    if record.is_file():
        found = json.loads(record.read_text())
        if all(found.get(key) == state[key] for key in ("digest", "runtimes", "first")):
            state = found
    begun = time.process_time()

    def judge(part: Any, runtimes: dict[str, Callable[[Model], Runtime]]) -> VerifyReport:
        report = verify(source, model, {"x": part}, runtimes=runtimes)
        state["compared"] += sum(
            tensor.elements for entry in report.agreements for tensor in entry.tensors.values()
        )
        state["unequal"] += sum(entry.mismatches for entry in report.agreements)
        return report

    if first and not state["images"]:
        judge(images[:first], besides())
    packed = NumpyPacked(model)
    while state["images"] < len(images) and time.process_time() - begun < seconds:
        start, since = state["images"], time.process_time()
        part = images[start : start + _CHUNK]
        judge(part, everywhere())
        logits = packed.run({"x": part})[packed.outputs[0]]
        state["right"] += int((logits.argmax(1) == labels[start : start + _CHUNK]).sum())
        state["images"] += len(part)
        state["seconds"] += time.process_time() - since
        record.write_text(json.dumps(state))
        print(f"{record.stem}: {state['images']} images, {state['unequal']} unequal", flush=True)
    return state


def trained(
    options: argparse.Namespace, name: str, path: Path, record: Path, images: Any, labels: Any
) -> dict[str, Any]:
    """Convert, verify and measure one trained network; ``record`` keeps how far the comparison came."""
    conversion = convert(path)
    compared = across(
        path, conversion.model, images, labels, record, first=options.verified, seconds=options.seconds
    )
    return {
        "spiking_accuracy": round(100 * compared["right"] / compared["images"], 2),
        "spiking_images": compared["images"],
        "comparisons": compared,
        "compared": compared["compared"],
        "unequal": compared["unequal"],
        **counted(conversion.model, {"x": images[: options.counted]}, name),
    }


def of_folder(options: argparse.Namespace, text: str, images: Any, labels: Any) -> tuple[str, dict[str, Any]]:
    """Return the name and the record of a network that ``python -m snnc.train`` wrote, ``NAME=FOLDER``."""
    name, _, place = text.partition("=")
    folder = Path(place)
    found = json.loads((folder / "result.json").read_text())
    entry = {key: found[key] for key in ("accuracy", "epochs", "parameters", "test_samples", "torch")}
    entry |= {key: found["options"][key] for key in ("batch", "precision", "rate", "seed")}
    entry |= {"settings": found["settings"], "trained_on": options.trained_on}
    if "groups" in found["settings"]:
        path, record = folder / "network.onnx", folder / "across.json"
        entry |= trained(options, name, path, record, images, labels)
    return name, entry


def full_size(size: str, folder: Path, light: Any = None, steps: int = 0) -> Path:
    """Export a network of the paper's size; returns the file, which two images lie beside.

    Args:
        size: Its name.
        folder: Where to write.
        light: CIFAR-10's training images and labels, to train with; ``None``: random weights and images.
        steps: Steps to train for, 16 images each.
    """
    import torch

    import snnc
    from snnc.models import ge2mst
    from snnc.nn import reestimate_batch_norm
    from snnc.train import Arrays, FitOptions, fit

    torch.manual_seed(0)
    torch.set_num_threads(1)
    network = ge2mst(size, groups=2)

    def enlarged(pictures: Any, side: int) -> Any:
        return torch.nn.functional.interpolate(pictures.float() / 255, (side, side), mode="bilinear")

    if light is None:
        images = torch.rand(4, 3, 224, 224, generator=torch.Generator().manual_seed(1))
        with torch.no_grad():
            network(images)  # thresholds come from the first batch
    else:
        pictures, labels = light
        few = enlarged(pictures[: 16 * steps], 64).mul(255).round().to(torch.uint8)
        options = FitOptions(epochs=1, batch=16, rate=2e-3, precision="bfloat16", statistics=0)
        fit(network, Arrays(few, labels[: 16 * steps], shift=4, mirror=True), options, quiet=True)
        network = network.to(memory_format=torch.contiguous_format)
        images = enlarged(pictures[-4:], 224)
    reestimate_batch_norm(network, [images])
    path = folder / f"{size}_{'random' if light is None else 'trained'}.onnx"
    snnc.export(network, images[:1], path, exporter="torchscript")
    np.savez(path.with_suffix(".npz"), x=images[:2].numpy())
    return path


def machines(results: dict[str, Any]) -> str:
    """Return what the records were made on, and where the steps were timed alone."""
    made = {entry["processor"] for entry in results.values()}
    timed = {entry["alone_on"] for entry in results.values() if "alone_on" in entry}
    return " and ".join(sorted(made)) + "".join(f"; alone: {each}" for each in sorted(timed))


def light_data(options: argparse.Namespace) -> Any:
    """Return the images and labels of CIFAR-10 that light training takes, and four more."""
    from cifar10 import cifar10

    return cifar10(options.data, "train", 16 * options.light_steps + 4)


def timed_networks(results: dict[str, Any], data_set: str) -> list[str]:
    """Return the names of the trained networks for a data set."""
    return [name for name in results if name.startswith(f"{data_set}_") and "samples_seen" in results[name]]


def alone(name: str) -> float:
    """Return the seconds of wall time of a training step of a recorded network, one thread.

    Args:
        name: Of its record, ``cifar10_ge2mst_float``...
    """
    import torch
    from model import build

    from snnc.train import Arrays, FitOptions, fit

    data, _, rest = name.partition("_")
    channels = 3 if data == "cifar10" else 1
    variant = "lif" if "lif" in rest else "float" if "float" in rest else "expg"
    torch.set_num_threads(1)
    torch.manual_seed(0)
    network = build(variant, channels, groups=4 if rest.endswith("g4") else 2)
    images = torch.randint(0, 256, (1280, channels, 32, 32), dtype=torch.uint8)
    samples = Arrays(images, torch.arange(1280) % 10)
    steps = {"precision": "bfloat16", "statistics": 0}
    fit(network, samples, FitOptions(epochs=1, stop_after=2, **steps), quiet=True)  # type: ignore[arg-type]
    start = time.perf_counter()
    fit(network, samples, FitOptions(epochs=1, **steps), quiet=True)  # type: ignore[arg-type]
    return (time.perf_counter() - start) / 10


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=Path)
    parser.add_argument("--folder", action="append", default=[], metavar="NAME=FOLDER")
    parser.add_argument("--trained-on", default=processor(), help="machine that --folder was trained on")
    parser.add_argument("--data-set", choices=("fashion", "cifar10"), default="fashion")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="for each, of these; go on later")
    parser.add_argument("--verified", type=int, default=200, help="images for all levels and the simulator")
    parser.add_argument("--counted", type=int, default=256, help="images of which operations are counted")
    parser.add_argument("--full-size", action="store_true", help="the three networks at 224 x 224")
    parser.add_argument("--light-steps", type=int, default=0, help="steps of light training of these")
    parser.add_argument("--keep", type=Path, help="folder to keep these networks in, and to find them")
    parser.add_argument("--sizes", nargs="+", choices=tuple(PAPER), default=tuple(PAPER))
    parser.add_argument("--alone", action="store_true", help="wall time of a step of each trained network")
    parser.add_argument("--network", action="append", default=[], metavar="NAME=FILE.onnx")
    parser.add_argument("--samples", type=Path, help=".npz for the networks of --network")
    return parser.parse_args()


def main() -> int:
    """Measure and record."""
    options = _options()
    path = HERE / "ge2mst.json"
    results: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}

    def keep(name: str, entry: dict[str, Any]) -> None:
        # Read again: another process may have measured other networks meanwhile.
        if path.is_file():
            results.update(json.loads(path.read_text()))
        results[name] = {"processor": processor(), **entry}
        print(name, {key: entry[key] for key in entry if key != "modules"}, flush=True)
        path.write_text(json.dumps(results, indent=1, sort_keys=True) + "\n")

    images, labels = images_of(options) if options.runs or options.folder else (None, None)
    for text in options.folder:
        keep(*of_folder(options, text, images, labels))
    if options.runs is not None:
        for name, record in json.loads((options.runs / "RESULTS.json").read_text()).items():
            if name.startswith(f"{options.data_set}_") and "bsvit" not in name and "adaptive" not in name:
                paths = [options.runs / f"{name}{ending}" for ending in (".onnx", ".across.json")]
                more = trained(options, name, *paths, images, labels) if "_expg_" in name else {}
                before = results.get(name, {})  # how long a step takes is the network's, not the run's
                alone_then = {key: before[key] for key in before if key.startswith("alone_")}
                keep(name, {**alone_then, **record, **more})
    for name in timed_networks(results, options.data_set) if options.alone else ():
        seconds = round(alone(name), 4)
        keep(name, {**results[name], "alone_seconds_per_step": seconds, "alone_on": processor()})
    light = light_data(options) if options.full_size and options.light_steps else None
    for size in options.sizes if options.full_size else ():
        with tempfile.TemporaryDirectory() as folder:
            kind = "random" if light is None else "trained"
            file = (options.keep or Path(folder)) / f"{size}_{kind}.onnx"
            if not file.with_suffix(".npz").is_file():
                full_size(size, file.parent, light, options.light_steps)
            feeds = dict(np.load(file.with_suffix(".npz")))
            conversion = convert(file)
            entry = counted(conversion.model, feeds, f"{size}_224_{kind}_t4g2")
            keep(f"{size}_224_{kind}_t4g2", entry)
            checked = verify(file, conversion.model, {"x": feeds["x"][:1]}, runtimes=FAST)
            unequal = sum(agreement.mismatches for agreement in checked.agreements)
            compared = {"images": checked.samples, "runtimes": list(FAST), "unequal": unequal}
            keep(f"{size}_224_{kind}_t4g2", {"comparisons": compared, **entry})
    for text in options.network:
        name, _, file_name = text.partition("=")
        keep(name, counted(convert(file_name).model, dict(np.load(options.samples)), name))
    note = f"{_NOTE} {machines(results)}; {_COMMANDS}."
    write_section(HERE / "RESULTS.md", "Ge2mS-T", [*lines_of(results), "", note])
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
