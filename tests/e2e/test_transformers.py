"""Float transformers with LayerNorm and softmax: integers from the first code to the readout, everywhere.

``vit_torchscript`` (GELU) and ``vit_dynamo`` (ReLU, scaled_dot_product_attention) are made by
tests/sources/make_vit.py. The tests on MNIST run where SNNC_MNIST names a folder with
``vit_mnist_d64x6.onnx`` and MNIST's t10k files, and are skipped elsewhere.
"""

from __future__ import annotations

import gzip
import os
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from snnc.compile import Conversion, ConvertOptions, convert
from snnc.cost import measure
from snnc.debug.verify import verify
from snnc.ir import load
from snnc.runtimes import NumpyPacked, OnnxRuntime

Array = npt.NDArray[Any]
SOURCES = Path(__file__).resolve().parents[1] / "sources"
MNIST = Path(os.environ.get("SNNC_MNIST", "no such folder"))
NAMES = ["vit_torchscript", "vit_dynamo"]


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "calibration.npz"
    np.savez(path, image=np.random.default_rng(3).random((48, 3, 8, 8), dtype=np.float32))
    return path


@pytest.fixture(scope="module")
def conversions(samples: Path) -> dict[str, Conversion]:
    options = ConvertOptions(groups=4, calibrate=str(samples))
    return {name: convert(SOURCES / f"{name}.onnx", options) for name in NAMES}


@pytest.fixture(scope="module")
def images() -> Array:
    return np.random.default_rng(4).random((6, 3, 8, 8), dtype=np.float32)


@pytest.mark.parametrize("name", NAMES)
def test_all_runtimes_agree(conversions: dict[str, Conversion], images: Array, name: str) -> None:
    report = verify(SOURCES / f"{name}.onnx", conversions[name].model, {"image": images})
    assert len(report.agreements) == 6
    for agreement in report.agreements:
        assert agreement.identical, f"{agreement.runtime}: {agreement.first}"
    assert report.distances[0].decibel is not None
    assert report.distances[0].decibel > 20


@pytest.mark.parametrize("name", NAMES)
def test_what_the_network_is_made_of(conversions: dict[str, Conversion], name: str) -> None:
    ops = Counter(node.op_type for node in conversions[name].model.graph)
    assert ops["NormGain"] == ops["NormPotential"] == 5
    assert ops["MembraneMax"] == 2
    assert ops["ExpGIFGain"] == 5 + 2
    assert not set(ops) & {
        "Softmax",
        "LayerNormalization",
        "Exp",
        "Div",
        "Sqrt",
        "ReduceMax",
        "Erf",
        "Einsum",
    }


def test_inputs_far_outside_the_calibration_saturate(
    conversions: dict[str, Conversion], images: Array
) -> None:
    wild = {"image": np.concatenate([images * 1000, -images * 1000, 0 * images])[::3]}
    name = "vit_torchscript"
    report = verify(SOURCES / f"{name}.onnx", conversions[name].model, wild)
    assert report.identical


def test_cost_counts_gains_and_roots(conversions: dict[str, Conversion], images: Array) -> None:
    model = conversions["vit_torchscript"].model
    report = measure(model, {"image": images[:2]}, NumpyPacked(model).run)
    rows = {kind: [row for row in report.layers if row.op == kind] for kind in ("ExpGIFGain", "NormGain")}
    assert all(row.additions > 0 and row.comparisons > 0 for row in rows["ExpGIFGain"] + rows["NormGain"])
    assert len(rows["NormGain"]) == 5


def test_a_network_that_normalises_its_input_is_refused(tmp_path: Path, samples: Path) -> None:
    import onnx

    from snnc.errors import UnsupportedError

    text = """<ir_version: 10, opset_import: ["" : 17]>
    g (float[N, 4] image) => (float[N, 1] y) <float[4] g = {1, 1, 1, 1}, float[4, 1] w = {1, 2, 3, 4}> {
      n = LayerNormalization(image, g)
      y = MatMul(n, w)
    }"""
    path = tmp_path / "norm.onnx"
    onnx.save(onnx.parser.parse_model(text), path)
    data = tmp_path / "x.npz"
    np.savez(data, image=np.random.default_rng(0).random((8, 4), dtype=np.float32))
    with pytest.raises(UnsupportedError, match="LayerNormalization"):
        convert(path, ConvertOptions(calibrate=str(data)))


def mnist(count: int, *, last: bool = False) -> tuple[Array, Array]:
    """Return normalised images and labels of the test set, the first or last ones."""
    files = {"t10k-images-idx3-ubyte.gz": 16, "t10k-labels-idx1-ubyte.gz": 8}
    pixels, labels = (
        np.frombuffer(gzip.decompress((MNIST / name).read_bytes()), np.uint8, offset=offset)
        for name, offset in files.items()
    )
    part = slice(-count, None) if last else slice(0, count)
    scaled = ((pixels.reshape(-1, 1, 28, 28)[part] / 255 - 0.1307) / 0.3081).astype(np.float32)
    return scaled, labels[part]


@pytest.fixture(scope="module")
def mnist_vit(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Conversion]:
    source = MNIST / "vit_mnist_d64x6.onnx"
    if not source.exists():
        pytest.skip("set SNNC_MNIST to a folder with vit_mnist_d64x6.onnx and MNIST's t10k files")
    path = tmp_path_factory.mktemp("mnist") / "calibration.npz"
    np.savez(path, x=mnist(128, last=True)[0])
    return source, convert(source, ConvertOptions(groups=4, calibrate=str(path)))


@pytest.mark.slow
def test_mnist_transformer_is_the_same_everywhere(mnist_vit: tuple[Path, Conversion]) -> None:
    source, conversion = mnist_vit
    images, labels = mnist(4)
    report = verify(source, conversion.model, {"x": images}, labels)
    assert report.identical
    assert report.distances[0].decibel is not None
    assert report.distances[0].decibel > 28


@pytest.mark.slow
def test_mnist_transformer_is_as_accurate(mnist_vit: tuple[Path, Conversion]) -> None:
    source, conversion = mnist_vit
    images, labels = mnist(1000)
    float_logits = next(iter(OnnxRuntime(load(source)).run({"x": images}).values()))
    logits = next(iter(OnnxRuntime(conversion.model).run({"x": images}).values()))
    right = [float((scores.argmax(axis=1) == labels).mean()) for scores in (float_logits, logits)]
    assert abs(right[0] - right[1]) <= 0.003
    assert float((float_logits.argmax(axis=1) == logits.argmax(axis=1)).mean()) >= 0.995
