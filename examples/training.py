"""What both Fashion-MNIST examples share: float training, ExpG fine-tuning, export, bookkeeping."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from data import DataError, fashion_mnist
from torch import Tensor, nn

import snnc
from snnc.train import Arrays, FitOptions, accuracy, fit


@dataclass(frozen=True)
class Recipe:
    """What distinguishes one example from the other.

    Attributes:
        name: Stem of the file names, such as ``fashion_cnn``.
        float_network: Makes the float network.
        spiking_network: Makes the network with ExpG quantisers from ``(timesteps, groups)``.
        example_input: Makes one input for the export.
        float_rate: Peak learning rate of float training.
        fine_tune_rate: Peak learning rate when a checkpoint is given.
    """

    name: str
    float_network: Callable[[], nn.Module]
    spiking_network: Callable[[int, int], nn.Module]
    example_input: Callable[[], Tensor]
    float_rate: float
    fine_tune_rate: float


def arguments(name: str) -> argparse.Namespace:
    """Parse the command line of an example's ``train.py``."""
    parser = argparse.ArgumentParser(description=f"Train {name} on Fashion-MNIST and export it to ONNX.")
    parser.add_argument("--data", type=Path, help="folder of the idx .gz files")
    parser.add_argument("--epochs", type=int, default=8, help="0: evaluate and export --init")
    parser.add_argument("--timesteps", type=int, default=4, help="T of every code")
    parser.add_argument("--groups", type=int, default=4, help="G of every code: at most G spikes per neuron")
    parser.add_argument("--float", action="store_true", dest="is_float", help="train the float network")
    parser.add_argument("--init", type=Path, help="checkpoint (.pt) to start from")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--rate", type=float, help="peak learning rate")
    parser.add_argument("--limit", type=int, help="use only so many training images")
    parser.add_argument("--bfloat16", action="store_true", help="train in bfloat16; evaluation is float32")
    parser.add_argument("--out", type=Path, default=Path("runs"), help="folder for .pt, .onnx, RESULTS.json")
    return parser.parse_args()


def fit_options(options: argparse.Namespace, rate: float) -> FitOptions:
    """Return how the examples train: batches re-estimate BatchNorm from the first 20,000 images."""
    return FitOptions(
        epochs=options.epochs,
        batch=options.batch,
        rate=rate,
        seed=options.seed,
        precision="bfloat16" if options.bfloat16 else "float32",
        evaluate_epochs=0,
    )


def record(folder: Path, name: str, result: dict[str, Any]) -> None:
    """Add ``result`` under ``name`` to ``folder/RESULTS.json``."""
    path = folder / "RESULTS.json"
    table = json.loads(path.read_text()) if path.is_file() else {}
    table[name] = result
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(table, indent=2, sort_keys=True) + "\n")
    temporary.replace(path)


def command(options: argparse.Namespace) -> str:
    """Return the command line that repeats a run, with the files of this machine under ``runs``."""
    script = Path(sys.argv[0]).resolve()
    words = ["python", f"examples/{script.parent.name}/{script.name}"]
    words += (
        ["--float"] if options.is_float else ["--timesteps", options.timesteps, "--groups", options.groups]
    )
    words += ["--epochs", options.epochs, "--batch", options.batch, "--seed", options.seed]
    words += ["--threads", options.threads]
    words += ["--rate", options.rate] if options.rate else []
    words += ["--limit", options.limit] if options.limit else []
    words += ["--bfloat16"] if options.bfloat16 else []
    words += ["--init", f"runs/{options.init.name}"] if options.init else []
    return " ".join(map(str, [*words, "--out", "runs"]))


def main(recipe: Recipe) -> int:
    """Train, re-estimate BatchNorm, evaluate, export and record; returns the exit status."""
    options = arguments(recipe.name)
    torch.manual_seed(options.seed)
    torch.set_num_threads(options.threads)
    try:
        images, labels = fashion_mnist(options.data, "train")
        test_images, test_labels = fashion_mnist(options.data, "test")
    except DataError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    train = Arrays(images[: options.limit], labels[: options.limit])
    test = Arrays(test_images, test_labels)
    if options.is_float:
        name, network = f"{recipe.name}_float", recipe.float_network()
    else:
        name = f"{recipe.name}_t{options.timesteps}g{options.groups}"
        network = recipe.spiking_network(options.timesteps, options.groups)
    rate = options.rate or (recipe.fine_tune_rate if options.init else recipe.float_rate)
    if options.init:
        state = torch.load(options.init, weights_only=True, map_location="cpu")
        # A float checkpoint has no thresholds: those come from the first batch.
        network.load_state_dict(state, strict=options.epochs == 0)
    started = time.perf_counter()
    if options.epochs:
        fit(network, train, fit_options(options, rate))
    options.out.mkdir(parents=True, exist_ok=True)
    result = {
        "accuracy": round(accuracy(network, test), 2),
        "command": command(options),
        "epochs": options.epochs,
        "minutes": round((time.perf_counter() - started) / 60, 1),
        "parameters": sum(p.numel() for p in network.parameters()),
        "seed": options.seed,
        "test_images": len(test),
        "torch": torch.__version__,
    }
    print(f"{name}: {result['accuracy']:.2f} % of {len(test)} test images", flush=True)
    if options.epochs:
        torch.save(network.state_dict(), options.out / f"{name}.pt")
        record(options.out, name, result)
    # The file takes the usual layout of memory; channels_last is for training speed only.
    network = network.to(memory_format=torch.contiguous_format)
    snnc.export(network, recipe.example_input(), options.out / f"{name}.onnx")
    return 0
