"""The shipped networks, end to end: converted, run in every runtime, equal in every code and logit bit."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from snnc.arrays import read_arrays
from snnc.compile import ConvertOptions, convert
from snnc.cost import measure
from snnc.cost.audit import audit
from snnc.debug.verify import VerifyReport, verify
from snnc.ir import Model
from snnc.runtimes import create

MODELS = Path(__file__).resolve().parents[2] / "examples" / "models"
TEST_SET = Path("/usr/share/datasets/fashion-mnist")
NETWORKS = [(name, groups) for name in ("cnn", "transformer") for groups in (1, 2, 4)]


def convert_shipped(name: str, groups: int) -> tuple[Path, Model]:
    source = MODELS / f"fashion_{name}_t4g{groups}.onnx"
    return source, convert(source, ConvertOptions(timesteps=4, groups=groups)).model


def agree(name: str, groups: int, images: Any, labels: Any) -> VerifyReport:
    source, model = convert_shipped(name, groups)
    report = verify(source, model, {"x": images}, labels)
    assert len(report.agreements) == 6
    for agreement in report.agreements:
        assert agreement.mismatches == 0, f"{agreement.runtime}: {agreement.first}"
        assert agreement.tensors["logits"].elements == 10 * len(images)
        assert report.accuracy[agreement.runtime] == report.accuracy["oracle"]
    return report


@pytest.fixture(scope="module")
def sample() -> dict[str, Any]:
    return read_arrays(MODELS / "fashion_sample.npz")


@pytest.mark.parametrize(("name", "groups"), NETWORKS)
def test_a_few_images(name: str, groups: int, sample: dict[str, Any]) -> None:
    agree(name, groups, sample["x"][:8], sample["labels"][:8])


@pytest.mark.slow
@pytest.mark.parametrize(("name", "groups"), NETWORKS)
def test_slice_of_the_test_set(name: str, groups: int, sample: dict[str, Any]) -> None:
    report = agree(name, groups, sample["x"], sample["labels"])
    # The sample is drawn from the test set; by chance alone 256 images are off by up to six points.
    expected = json.loads((MODELS / "RESULTS.json").read_text())[f"fashion_{name}_t4g{groups}"]["accuracy"]
    assert abs(100 * report.accuracy["oracle"] / len(sample["labels"]) - expected) < 6


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("name", "groups"), NETWORKS)
def test_full_test_set(name: str, groups: int) -> None:
    files = [TEST_SET / f"t10k-{kind}-ubyte.gz" for kind in ("images-idx3", "labels-idx1")]
    if not all(file.is_file() for file in files):
        pytest.skip("needs the Debian package dataset-fashion-mnist")
    pixels, classes = (np.frombuffer(gzip.decompress(file.read_bytes()), np.uint8) for file in files)
    images = (pixels[16:].reshape(-1, 1, 28, 28) / np.float32(255)).astype(np.float32)
    report = agree(name, groups, images, classes[8:].astype(np.int64))
    results = json.loads((MODELS / "RESULTS.json").read_text())
    # The recorded accuracy is torch's, which adds floats in another order than onnxruntime: a few images.
    assert abs(report.accuracy["source"] / 100 - results[f"fashion_{name}_t4g{groups}"]["accuracy"]) <= 0.05
    if groups == 4:
        trained_in_float = results[f"fashion_{name}_float"]["accuracy"]
        assert report.accuracy["numpy-timestep"] / 100 >= trained_in_float - 1.0
        assert report.accuracy["oracle"] / 100 >= trained_in_float - 1.0


@pytest.mark.parametrize(("name", "groups"), NETWORKS)
def test_no_neuron_spikes_more_than_its_groups(name: str, groups: int, sample: dict[str, Any]) -> None:
    _, model = convert_shipped(name, groups)
    report = measure(model, {"x": sample["x"][:32]}, create("numpy", model).run)
    assert report.most_spikes == groups
    assert all(layer.groups == groups for layer in report.neuron_layers)
    assert 0 < report.spikes_per_neuron < groups
    assert 0 < report.sops < report.sop_bound


def test_the_shipped_bsvit_runs_alike_everywhere(sample: dict[str, Any]) -> None:
    conversion = convert(MODELS / "mnist_bsvit.onnx")
    report = verify(MODELS / "mnist_bsvit.onnx", conversion.model, {"x": sample["x"][:2]})
    assert all(entry.mismatches == 0 for entry in report.agreements) and len(report.agreements) == 6
    assert audit(conversion.model).clean


def test_the_shipped_ge2ms_t_runs_alike_everywhere(sample: dict[str, Any]) -> None:
    images = np.pad(sample["x"][:2], ((0, 0), (0, 0), (2, 2), (2, 2)))
    conversion = convert(MODELS / "fashion_ge2mst_t4g2.onnx")
    report = verify(MODELS / "fashion_ge2mst_t4g2.onnx", conversion.model, {"x": images})
    assert all(entry.mismatches == 0 for entry in report.agreements) and len(report.agreements) == 6
    assert audit(conversion.model).clean
