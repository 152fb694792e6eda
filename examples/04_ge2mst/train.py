"""Train a small Ge2mS-T, the same network in float, or a LIF transformer, each for the same processor time.

    python examples/04_ge2mst/train.py --data-set fashion --variant expg --groups 2 --minutes 30 --out runs

The speed is measured first; from it follow the samples that the time allows. ``RESULTS.json`` says how many
they were, and the accuracy on the full test set. For data of one's own see ``python -m snnc.train --help``.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from cifar10 import DEVIATION, MEAN, cifar10
from data import DataError, fashion_mnist
from model import build
from training import record

import snnc
from snnc.train import Arrays, FitOptions, accuracy, fit

_PROBE = 8  # steps to measure the speed with


def arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data-set", choices=("fashion", "cifar10"), default="fashion")
    parser.add_argument("--data", type=Path, help="see examples/data.py and examples/cifar10.py")
    parser.add_argument("--variant", choices=("expg", "float", "lif"), default="expg")
    parser.add_argument("--timesteps", type=int, default=4)
    parser.add_argument("--groups", type=int, default=2)
    parser.add_argument("--minutes", type=float, default=30, help="processor time to train for")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--rate", type=float, default=4e-3, help="peak learning rate")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="bfloat16")
    parser.add_argument("--out", type=Path, default=Path("runs"))
    return parser.parse_args()


def load(options: argparse.Namespace, split: str) -> tuple[Tensor, Tensor]:
    """Return images, uint8 ``(N, C, 32, 32)``, and labels; Fashion-MNIST gets a border of two zeros."""
    if options.data_set == "cifar10":
        return cifar10(options.data, split)
    images, labels = fashion_mnist(options.data, split)
    return nn.functional.pad(images, (2, 2, 2, 2)), labels


def affordable(options: argparse.Namespace, data: Arrays) -> int:
    """Return the number of steps that fit into the processor time."""
    torch.manual_seed(options.seed)
    network = build(options.variant, data.shape[0], timesteps=options.timesteps, groups=options.groups)
    chosen = FitOptions(epochs=1, batch=options.batch, precision=options.precision, statistics=0)
    fit(network, data, FitOptions(**{**vars(chosen), "stop_after": 2}), quiet=True)
    start = time.process_time()
    fit(network, data, FitOptions(**{**vars(chosen), "stop_after": _PROBE}), quiet=True)
    return max(20, int(options.minutes * 60 * _PROBE / (time.process_time() - start)))


def main() -> int:
    """Train, evaluate, export and record; return the exit status."""
    options = arguments()
    torch.set_num_threads(options.threads)
    try:
        images, labels = load(options, "train")
        test_images, test_labels = load(options, "test")
    except DataError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    scale: dict[str, Any] = (
        {"mean": MEAN, "deviation": DEVIATION, "shift": 4} if options.data_set == "cifar10" else {}
    )
    test = Arrays(test_images, test_labels, **scale)
    steps = affordable(options, Arrays(images, labels, **scale))
    epochs = max(1, -(-steps * options.batch // len(images)))
    chosen = torch.randperm(len(images), generator=torch.Generator().manual_seed(options.seed))
    chosen = chosen[: steps // epochs * options.batch]
    train = Arrays(images[chosen], labels[chosen], **scale)
    code = f"_t{options.timesteps}g{options.groups}" if options.variant == "expg" else ""
    name = f"{options.data_set}_ge2mst_{options.variant}{code}"
    torch.manual_seed(options.seed)
    network = build(options.variant, train.shape[0], timesteps=options.timesteps, groups=options.groups)
    wall, start = time.perf_counter(), time.process_time()
    fit(
        network,
        train,
        FitOptions(
            epochs=epochs,
            batch=options.batch,
            rate=options.rate,
            seed=options.seed,
            precision=options.precision,
            statistics=4_000,
            log_steps=20,
        ),
        folder=options.out / name,
        resume=False,
    )
    result = {
        "accuracy": round(accuracy(network, test), 2),
        "batch": options.batch,
        "cpu_minutes": round((time.process_time() - start) / 60, 1),
        "epochs": epochs,
        "parameters": sum(part.numel() for part in network.parameters()),
        "precision": options.precision,
        "samples_seen": epochs * len(train),
        "seed": options.seed,
        "test_images": len(test),
        "torch": torch.__version__,
        "wall_minutes": round((time.perf_counter() - wall) / 60, 1),
    }
    torch.save(network.state_dict(), options.out / f"{name}.pt")
    record(options.out, name, result)
    print(f"{name}: {result['accuracy']} % of {len(test)} test images, {result['samples_seen']} samples seen")
    if options.variant != "lif":
        network = network.to(memory_format=torch.contiguous_format)
        path = options.out / f"{name}.onnx"
        snnc.export(network, torch.zeros(1, *train.shape), path, exporter="torchscript")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
