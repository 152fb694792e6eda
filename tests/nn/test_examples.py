import gzip
import importlib.util
import io
import json
import sys
import types
import warnings
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


def test_a_download_that_fails_is_one_error(data, tmp_path, monkeypatch):
    """torchvision ends in a RuntimeError without a network, even where the files lie in Debian's folder."""

    def download(*arguments, **options):
        raise RuntimeError("Error downloading train-images-idx3-ubyte.gz")

    fake = types.SimpleNamespace(FashionMNIST=download)
    monkeypatch.setitem(sys.modules, "torchvision", types.SimpleNamespace(datasets=fake))
    monkeypatch.setitem(sys.modules, "torchvision.datasets", fake)
    monkeypatch.setattr(data, "DEBIAN_FOLDER", tmp_path / "debian")
    with pytest.raises(data.DataError, match=r"cannot download.*dataset-fashion-mnist"):
        data.fashion_mnist(None, "test")
    (tmp_path / "debian").mkdir()
    images = np.zeros((10_000, 28, 28), dtype=np.uint8)
    (tmp_path / "debian" / "t10k-images-idx3-ubyte.gz").write_bytes(idx(images))
    (tmp_path / "debian" / "t10k-labels-idx1-ubyte.gz").write_bytes(idx(images[:, 0, 0]))
    assert data.fashion_mnist(None, "test")[0].shape == (10_000, 1, 28, 28)


def test_augmentation_shifts_and_mirrors_whole_images(data):
    images = torch.arange(1, 26, dtype=torch.uint8).reshape(1, 1, 5, 5).expand(64, 1, 5, 5)
    moved = data.augment(images, torch.Generator().manual_seed(0), shift=1)
    padded = torch.nn.functional.pad(images[0, 0], (1, 1, 1, 1))
    windows = [padded[i : i + 5, j : j + 5] for i in range(3) for j in range(3)]
    windows += [window.flip(1) for window in windows]
    seen = {next(k for k, window in enumerate(windows) if torch.equal(image[0], window)) for image in moved}
    assert len(seen) > 9


def test_augmentation_moves_all_colours_together(data):
    images = torch.arange(3 * 36, dtype=torch.uint8).reshape(1, 3, 6, 6).expand(16, 3, 6, 6)
    moved = data.augment(images, torch.Generator().manual_seed(1), shift=2)
    assert moved.shape == images.shape
    for image in moved.int():
        inside = image[1] > 0  # colour 1 has no zeros of its own
        assert inside.any()
        assert torch.equal((image[1] - image[0])[inside], torch.full((int(inside.sum()),), 36))
        assert torch.equal((image[2] - image[0])[inside], torch.full((int(inside.sum()),), 72))


def jpeg_archive(path: Path, colours: list[tuple[int, int, int]], is_test: list[bool]) -> None:
    image = pytest.importorskip("PIL.Image", reason="needs Pillow")
    files = []
    for colour in colours:
        with io.BytesIO() as file:
            image.new("RGB", (32, 32), colour).save(file, "JPEG", quality=95)
            files.append(file.getvalue())
    offset = np.cumsum([0, *map(len, files)])
    content = np.frombuffer(b"".join(files), np.uint8)
    np.savez(path, data=content, offset=offset, label=np.arange(len(files), dtype=np.uint8), is_test=is_test)


def test_cifar_images_are_read_from_jpeg(data, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "data", data)
    cifar = script(EXAMPLES / "cifar10.py")
    path = tmp_path / "cifar.npz"
    jpeg_archive(path, [(250, 10, 10), (10, 250, 10), (10, 10, 250)], [False, True, False])
    with pytest.raises(data.DataError, match="train holds 2 images, not 50000"):
        cifar.cifar10(path, "train")
    images, labels = cifar.cifar10(path, "train", limit=5)
    assert images.shape == (2, 3, 32, 32) and labels.tolist() == [0, 2]
    assert (images[0, 0] > 240).all() and (images[0, 1:] < 20).all() and (images[1, 2] > 240).all()
    normalised = cifar.normalised(images)
    expected = (images[1, 2, 0, 0].item() / 255 - 0.4465) / 0.2616
    assert normalised[1, 2, 0, 0].item() == pytest.approx(expected, rel=1e-6)
    np.savez(path, data=np.zeros(3, np.uint8))
    with pytest.raises(data.DataError, match="has no is_test, label, offset"):
        cifar.cifar10(path, "test")
    with pytest.raises(data.DataError, match="is missing"):
        cifar.cifar10(tmp_path / "none.npz", "test")


@pytest.mark.slow
def test_float_transformer_exports_to_what_it_computes(data, tmp_path, monkeypatch):
    for name in ("data", "training", "cifar10"):
        monkeypatch.setitem(sys.modules, name, data if name == "data" else script(EXAMPLES / f"{name}.py"))
    folder = EXAMPLES / "03_vit_cifar10"
    monkeypatch.setitem(sys.modules, "model", script(folder / "model.py"))
    train = script(folder / "train.py")
    torch.manual_seed(0)
    network = sys.modules["model"].VisionTransformer(depth=1, width=16, heads=2, hidden=16)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch's exporter
        train.export(network, tmp_path / "vit.onnx")
    x = np.random.default_rng(0).standard_normal((3, 3, 32, 32)).astype(np.float32)
    session = onnxruntime.InferenceSession(str(tmp_path / "vit.onnx"), providers=["CPUExecutionProvider"])
    (logits,) = session.run(["logits"], {"x": x})
    assert np.allclose(logits, network(torch.from_numpy(x)).detach().numpy(), atol=1e-5)


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
