"""A trained float transformer with LayerNorm and softmax, converted after training.

Everything here runs on ``examples/models/vit_mnist_d64x6.onnx``. MNIST itself is not in this repository: the
slow tests run where SNNC_MNIST names a folder with its t10k files, and are skipped elsewhere. Full figures,
calibrated on training images, are those of benchmarks/pretrained.py.
"""

from __future__ import annotations

import gzip
import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from snnc.compile import Conversion, ConvertOptions, convert
from snnc.cost.audit import audit
from snnc.debug.verify import default_runtimes, verify
from snnc.ir import load
from snnc.runtimes import OnnxRuntime

Array = npt.NDArray[Any]
MODELS = Path(__file__).resolve().parents[2] / "examples" / "models"
SOURCE = MODELS / "vit_mnist_d64x6.onnx"
MNIST = Path(os.environ.get("SNNC_MNIST", "no such folder"))


def normalised(pixels: Array) -> Array:
    scaled: Array = ((pixels - 0.1307) / 0.3081).astype(np.float32)
    return scaled


@pytest.fixture(scope="module")
def garments() -> Array:
    """Images that are no digits but look like images: enough for whatever does not depend on accuracy."""
    return normalised(np.load(MODELS / "fashion_sample.npz")["x"])


@pytest.fixture(scope="module")
def conversion(garments: Array, tmp_path_factory: pytest.TempPathFactory) -> Conversion:
    path = tmp_path_factory.mktemp("garments") / "calibration.npz"
    np.savez(path, x=garments[:8])
    return convert(SOURCE, ConvertOptions(groups=4, calibrate=str(path)))


def test_only_the_input_encoder_and_the_readout_are_on_the_host(conversion: Conversion) -> None:
    report = audit(conversion.model)
    assert report.clean
    own = {row.op.removeprefix("ai.snnc::") for row in report.host if row.op.startswith("ai.snnc::")}
    assert own == {"FixedPointEncode", "HostMatMul", "Readout"}


def test_runtimes_agree_on_an_image(conversion: Conversion, garments: Array) -> None:
    chosen = {name: default_runtimes()[name] for name in ("numpy", "numpy-timestep", "onnxruntime (all)")}
    report = verify(SOURCE, conversion.model, {"x": garments[200:201]}, runtimes=chosen)
    assert report.identical
    assert len(report.agreements) == 3
    assert report.distances[0].samples == 1


def mnist(first: int, last: int) -> tuple[Array, Array]:
    """Return some images of the test set and their labels."""
    if not (MNIST / "t10k-images-idx3-ubyte.gz").exists():
        pytest.skip("set SNNC_MNIST to a folder with MNIST's t10k files")
    files = {"t10k-images-idx3-ubyte.gz": 16, "t10k-labels-idx1-ubyte.gz": 8}
    pixels, labels = (
        np.frombuffer(gzip.decompress((MNIST / name).read_bytes()), np.uint8, offset=offset)
        for name, offset in files.items()
    )
    return normalised(pixels.reshape(-1, 1, 28, 28)[first:last] / 255), labels[first:last]


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory: pytest.TempPathFactory) -> Conversion:
    """Calibrated on the last images of the test set, on which nothing is judged."""
    path = tmp_path_factory.mktemp("mnist") / "calibration.npz"
    np.savez(path, x=mnist(9872, 10_000)[0])
    return convert(SOURCE, ConvertOptions(groups=4, calibrate=str(path)))


@pytest.mark.slow
def test_all_runtimes_agree_on_digits(calibrated: Conversion) -> None:
    images, labels = mnist(0, 4)
    report = verify(SOURCE, calibrated.model, {"x": images}, labels)
    assert len(report.agreements) == 6
    assert report.identical
    assert report.distances[0].decibel is not None
    assert report.distances[0].decibel > 28


@pytest.mark.slow
def test_as_accurate_as_the_float_network(calibrated: Conversion) -> None:
    images, labels = mnist(0, 1000)
    float_logits = next(iter(OnnxRuntime(load(SOURCE)).run({"x": images}).values()))
    logits = next(iter(OnnxRuntime(calibrated.model).run({"x": images}).values()))
    right = [float((scores.argmax(axis=1) == labels).mean()) for scores in (float_logits, logits)]
    assert right[0] > 0.95
    assert abs(right[0] - right[1]) <= 0.003
    assert float((float_logits.argmax(axis=1) == logits.argmax(axis=1)).mean()) >= 0.995
