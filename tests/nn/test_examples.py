import gzip
import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from snnc.ir import constant, load

EXAMPLES = Path(__file__).parents[2] / "examples"
MODELS = EXAMPLES / "models"
NAMES = [
    f"fashion_{net}_{form}" for net in ("cnn", "transformer") for form in ("float", "t4g4", "t4g2", "t4g1")
]


def script(path: Path):
    name = f"examples_{path.parent.name}_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def data():
    return script(EXAMPLES / "data.py")


def idx(values: np.ndarray) -> bytes:
    header = bytes([0, 0, 8, values.ndim]) + b"".join(size.to_bytes(4, "big") for size in values.shape)
    return gzip.compress(header + values.tobytes())


def test_idx_files_are_read_and_damaged_ones_refused(data, tmp_path):
    values = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    path = tmp_path / "x.gz"
    path.write_bytes(idx(values))
    assert np.array_equal(data.read_idx(path), values)
    path.write_bytes(gzip.compress(gzip.decompress(idx(values))[:-1]))
    with pytest.raises(data.DataError, match="23 bytes"):
        data.read_idx(path)
    path.write_bytes(gzip.compress(b"P5 28 28"))
    with pytest.raises(data.DataError, match="not an idx file"):
        data.read_idx(path)


def test_loader_reads_a_folder_and_says_what_is_missing(data, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torchvision", None)
    monkeypatch.setitem(sys.modules, "torchvision.datasets", None)
    with pytest.raises(data.DataError, match="dataset-fashion-mnist"):
        data.fashion_mnist(tmp_path, "test")
    images = np.random.default_rng(0).integers(0, 256, (10_000, 28, 28), dtype=np.uint8)
    labels = (np.arange(10_000) % 10).astype(np.uint8)
    (tmp_path / "t10k-images-idx3-ubyte.gz").write_bytes(idx(images))
    (tmp_path / "t10k-labels-idx1-ubyte.gz").write_bytes(idx(labels))
    got, truth = data.fashion_mnist(tmp_path, "test")
    assert got.shape == (10_000, 1, 28, 28) and np.array_equal(got[:, 0].numpy(), images)
    assert truth.dtype == torch.int64 and np.array_equal(truth.numpy(), labels)


def test_augmentation_shifts_and_mirrors_whole_images(data):
    images = torch.arange(1, 26, dtype=torch.uint8).reshape(1, 1, 5, 5).expand(64, 1, 5, 5)
    moved = data.augment(images, torch.Generator().manual_seed(0), shift=1)
    padded = torch.nn.functional.pad(images[0, 0], (1, 1, 1, 1))
    windows = [padded[i : i + 5, j : j + 5] for i in range(3) for j in range(3)]
    windows += [window.flip(1) for window in windows]
    seen = {next(k for k, window in enumerate(windows) if torch.equal(image[0], window)) for image in moved}
    assert len(seen) > 9


@pytest.mark.parametrize("folder", ["01_residual_cnn", "02_spiking_transformer"])
def test_networks_are_small_and_differ_only_in_their_activations(folder):
    model = script(EXAMPLES / folder / "model.py")
    plain, spiking = model.float_network(), model.spiking_network(4, 2)
    held = {name for name in spiking.state_dict() if not name.endswith(("log_theta", "initialised"))}
    assert set(plain.state_dict()) == held
    assert sum(part.numel() for part in plain.parameters()) < 150_000
    assert spiking.eval()(model.example_input()).shape == (1, 10)


@pytest.mark.parametrize("name", NAMES)
def test_shipped_model_is_as_accurate_on_the_sample_as_its_record_says(name):
    sample = np.load(MODELS / "fashion_sample.npz")
    session = onnxruntime.InferenceSession(str(MODELS / f"{name}.onnx"), providers=["CPUExecutionProvider"])
    (logits,) = session.run(["logits"], {"x": sample["x"]})
    accuracy = 100 * np.mean(logits.argmax(1) == sample["labels"])
    recorded = json.loads((MODELS / "RESULTS.json").read_text())[name]["accuracy"]
    # 256 images: three standard deviations are 5.6 points at 90 %.
    assert abs(accuracy - recorded) < 5.6


@pytest.mark.parametrize("name", NAMES)
def test_shipped_model_carries_the_codes_that_its_name_says(name):
    graph = load(MODELS / f"{name}.onnx").graph
    quantisers = [node for node in graph if node.op_type == "Quantise"]
    codes = {(n.attributes["timesteps"].value, n.attributes["groups"].value) for n in quantisers}
    form = name.rsplit("_", 1)[1]
    assert codes == (set() if form == "float" else {(4, int(form[-1]))})
    for node in quantisers:
        step = constant(node.inputs[1])
        assert step is not None and (step > 0).all()
