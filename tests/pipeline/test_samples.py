"""Sources of samples: what is read, in how little memory, and what is refused."""

from __future__ import annotations

import itertools
import json
import os
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from snnc.arrays import InputSpec, sample_count
from snnc.data import Batches, first_samples, load_samples, named_samples, open_samples
from snnc.errors import EnvironmentFailure, InputError, SnncError, UsageError

X = InputSpec("x", np.dtype(np.float32), (None, 2, 3))
Y = InputSpec("y", np.dtype(np.int64), (None, 4))
IMAGE = InputSpec("image", np.dtype(np.float32), (None, 3, 4, 4))


def digest(source, inputs=(X,), size=3):
    batches = Batches(open_samples(source), inputs, size)
    sizes = [sample_count(batch) for batch in batches]
    assert all(count == size for count in sizes[:-1]) and sizes[-1] <= size
    return batches.digest


@pytest.fixture
def x():
    return np.random.default_rng(0).random((7, 2, 3), np.float32)


def write_test_data(folder: Path, arrays, names):
    for number, sample in enumerate(zip(*arrays, strict=True)):
        (folder / f"test_data_set_{number}").mkdir()
        for index, (name, array) in enumerate(zip(names, sample, strict=True)):
            file = folder / f"test_data_set_{number}" / f"input_{index}.pb"
            file.write_bytes(numpy_helper.from_array(array[None], name).SerializeToString())


def test_the_same_samples_have_one_digest_whatever_they_come_from(tmp_path, x, monkeypatch):
    wanted = digest(x)
    np.savez_compressed(tmp_path / "x.npz", x=x, labels=np.arange(7))
    np.savez(tmp_path / "any.npz", other=x)
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "fortran.npy", np.asfortranarray(x))
    (tmp_path / "one").mkdir()
    np.save(tmp_path / "one" / "x.npy", x)
    (tmp_path / "parts").mkdir()
    np.save(tmp_path / "parts" / "a.npy", x[:5])
    np.save(tmp_path / "parts" / "b.npy", x[5:])
    (tmp_path / "sets").mkdir()
    write_test_data(tmp_path / "sets", [x], [""])
    (tmp_path / "reader.py").write_text(
        "import numpy as np\n"
        "X = np.load('x.npy')\n"
        "class Reader:\n"
        "    def __init__(self): self.batches = iter([X[:2], X[2:]])\n"
        "    def get_next(self):\n"
        "        batch = next(self.batches, None)\n"
        "        return None if batch is None else {'x': batch}\n"
        "def batches():\n"
        "    for start in range(0, 7, 4): yield X[start:start + 4], 'labels are dropped'\n"
        "reader = Reader()\n"
    )
    monkeypatch.chdir(tmp_path)
    for name in (
        "x.npz", "any.npz", "x.npy", "fortran.npy", "one", "parts", "sets", "sets/test_data_set_0",
        "reader.py:Reader", "reader.py:batches", "reader.py:reader", "reader.py:X", "reader:X",
    ):  # fmt: skip
        expected = digest(x[:1]) if name.endswith("set_0") else wanted
        assert digest(name) == expected, name
        assert digest(name, size=100) == expected, name
    assert digest({"x": x}) == digest([x[:3], x[3:]]) == digest(lambda: iter([(x, None)])) == wanted
    assert digest(x + 1) != wanted


def test_what_can_be_read_once_is_kept_for_further_passes(x):
    samples = open_samples(batch for batch in (x[:4], x[4:]))
    for _ in range(3):
        batches = Batches(samples, [X], 2)
        np.testing.assert_array_equal(np.concatenate([batch["x"] for batch in batches]), x)
        assert batches.count == 7


def test_samples_of_another_length_make_another_batch():
    free = InputSpec("x", np.dtype(np.float32), (None, None))
    parts = [np.ones((2, 5), np.float32), np.ones((3, 5), np.float32), np.ones((1, 7), np.float32)]
    batches = Batches(open_samples(parts), [free], 4)
    assert [batch["x"].shape for batch in batches] == [(4, 5), (1, 5), (1, 7)]
    assert batches.done == 6
    assert first_samples(open_samples(parts), [free], 100)["x"].shape == (5, 5)
    with pytest.raises(InputError, match="differ in shape"):
        first_samples(open_samples(parts), [free])


def test_several_inputs(tmp_path, x):
    y = np.arange(28).reshape(7, 4)
    np.savez(tmp_path / "xy.npz", y=y, x=x)
    write_test_data(tmp_path, [y, x], ["y", "x"])
    for source in (tmp_path / "xy.npz", tmp_path, [(x, y)], [{"x": x, "y": y, "labels": y}]):
        found = Batches(open_samples(source), [X, Y], 3)
        assert np.concatenate([batch["y"] for batch in found]).tolist() == y.tolist()
    with pytest.raises(InputError, match="lacks 'y'"):
        digest({"x": x}, (X, Y))
    np.savez(tmp_path / "uneven.npz", y=y[:5], x=x)
    with pytest.raises(InputError, match="counts differ"):
        digest(tmp_path / "uneven.npz", (X, Y))


def test_memory_does_not_grow_with_the_number_of_samples(tmp_path):
    """40 MB of samples, compressed a hundredfold, are read in slices."""
    path = tmp_path / "x.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("x.npy", "w") as stream:
        row = np.tile(np.arange(600, dtype=np.float32) % 251, (100, 1))
        header = {"descr": "<f4", "fortran_order": False, "shape": (17_000, 600)}
        np.lib.format.write_array_header_1_0(stream, header)
        for _ in range(170):
            stream.write(row.tobytes())
    spec = InputSpec("x", np.dtype(np.float32), (None, 600))
    tracemalloc.start()
    batches = Batches(named_samples(str(path)), [spec], 16)
    assert sum(sample_count(batch) for batch in batches) == 17_000
    assert tracemalloc.get_traced_memory()[1] < 30 << 20
    tracemalloc.stop()
    # Only what is wanted is read.
    tracemalloc.start()
    assert load_samples(str(path), [spec], limit=5)["x"].shape == (5, 600)
    assert tracemalloc.get_traced_memory()[1] < 30 << 20
    tracemalloc.stop()


def refusals(folder: Path):
    (folder / "empty").mkdir()
    np.save(folder / "none.npy", np.zeros((0, 2, 3), np.float32))
    np.save(folder / "shape.npy", np.zeros((5, 2, 4), np.float32))
    np.save(folder / "one.npy", np.zeros((2, 3), np.float32))
    np.save(folder / "scalar.npy", np.float32(1))
    late = np.zeros((5, 2, 3), np.float32)
    late[4, 1, 0] = np.nan
    np.save(folder / "nan.npy", late)
    np.save(folder / "objects.npy", np.array([{}]), allow_pickle=True)
    (folder / "text.npz").write_text("hello")
    np.savez(folder / "other.npz", a=late, b=late)
    np.savez_compressed(folder / "cut.npz", x=np.random.default_rng(0).random((9, 2, 3), np.float32))
    raw = bytearray((folder / "cut.npz").read_bytes())
    raw[120:160] = bytes(40)
    (folder / "cut.npz").write_bytes(raw)
    (folder / "data").mkdir()
    (folder / "data" / "input_0.pb").write_bytes(b"\xff" * 20)
    (folder / "outside").mkdir()
    outside = onnx.TensorProto(name="x", data_type=1, dims=[1], data_location=1)
    outside.external_data.add(key="location", value="../../secret")
    (folder / "outside" / "input_0.pb").write_bytes(outside.SerializeToString())
    (folder / "bad.py").write_text(
        "def f(): raise RuntimeError('no disk')\ndef text(): return ['a']\nn = 3\n"
        "def leave(): raise SystemExit(0)\n"
        "def later():\n    raise SystemExit(0)\n    yield\n"
        "class Own(BaseException): pass\ndef own(): raise Own\ndef closes(): raise GeneratorExit\n"
        "import os\ndef exits(): os._exit(0)\ndef other(): os.execvp('true', ['true'])\n"
        "def memory(): raise MemoryError\ndef aborts(): os.abort()\n"
        "import ctypes\ndef in_c(): ctypes.CDLL(None)._exit(0)\ndef ends(): ctypes.pythonapi.Py_Exit(0)\n"
    )
    (folder / "script.py").write_text("import sys\nsys.exit(0)\n")
    (folder / "broken.py").write_text("import nonexistent_package_of_theirs\n")
    yield from (
        ("empty", "SNN334", 3), ("none.npy", "SNN338", 3), ("shape.npy", "SNN336", 3),
        ("one.npy", "SNN336", 3), ("scalar.npy", "SNN336", 3), ("nan.npy", "SNN333", 3),
        ("objects.npy", "SNN331", 3), ("text.npz", "SNN331", 3), ("other.npz", "SNN335", 3),
        ("cut.npz", "SNN331", 3), ("data", "SNN342", 3), ("outside", "SNN342", 3),
        ("missing.npz", "SNN301", 3), ("bad.py:f", "SNN344", 3), ("bad.py:text", "SNN343", 3),
        ("bad.py:leave", "SNN344", 3), ("bad.py:later", "SNN344", 3), ("script.py:f", "SNN344", 3),
        ("bad.py:own", "SNN344", 3), ("bad.py:closes", "SNN344", 3),
        ("bad.py:aborts", "SNN344", 3), ("bad.py:in_c", "SNN344", 3), ("bad.py:ends", "SNN344", 3),
        ("bad.py:exits", "SNN344", 3), ("bad.py:other", "SNN344", 3), ("bad.py:memory", "SNN606", 6),
        ("bad.py:n", "SNN343", 3), ("bad.py:g", "SNN238", 2), ("broken.py:f", "SNN344", 3),
        ("no.such.module:f", "SNN238", 2), ("random:0", "SNN232", 2), ("random:" + "9" * 5000, "SNN232", 2),
    )  # fmt: skip


def test_refusals_name_file_and_reason(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for source, code, status in refusals(tmp_path):
        with pytest.raises(SnncError) as caught:
            digest(source)
        assert caught.value.code == code, (source, caught.value)
        assert caught.value.exit_code == status
        assert source.split(":")[0].split(".")[0] in str(caught.value), source


def test_workers_of_a_loader_may_end_as_they_like():
    def forking():
        process = os.fork()
        if not process:
            os._exit(7)
        assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 7
        yield np.zeros((2, 2, 3), np.float32)

    kept = os._exit
    assert digest(forking) == digest(np.zeros((2, 2, 3), np.float32))
    assert os._exit is kept


def test_what_never_ends_is_ended(monkeypatch):
    monkeypatch.setattr("snnc.data.python._MOST_SAMPLES", 50)
    given = []

    def endless():
        while True:
            given.append(1)
            yield np.zeros((2, 2, 3), np.float32)

    with pytest.raises(InputError, match=r"SNN332.*more than 50 samples") as caught:
        digest(endless)
    assert "islice" in caught.value.hint and len(given) == 26


def test_what_never_ends_does_not_fill_the_disk(monkeypatch):
    class Usage:
        free = 2000

    monkeypatch.setattr("shutil.disk_usage", lambda _: Usage)
    with pytest.raises(InputError, match=r"SNN332.*more than 1,000 bytes") as caught:
        digest(lambda: itertools.repeat(np.zeros((2, 2, 3), np.float32)))
    assert "TMPDIR" in caught.value.hint


def test_code_that_gives_samples_keeps_its_hands_off(tmp_path, monkeypatch, capsys):
    """What it prints is no result of ours, and outputs stay in the folder where the user is."""
    (tmp_path / "own.py").write_text(
        "import os, numpy\nprint('loading')\nos.chdir('/')\n"
        "def f():\n    os.chdir('/')\n    print('one')\n    yield numpy.ones((2, 2, 3), 'f4')\n"
    )
    monkeypatch.chdir(tmp_path)
    digest("own.py:f")
    assert Path.cwd() == tmp_path
    shown = capsys.readouterr()
    assert shown.out == "" and shown.err.split() == ["loading", "one"]


def test_a_wrong_late_sample_is_counted_from_the_first(x):
    late = x.copy()
    late[6, 1, 0] = np.inf
    with pytest.raises(InputError, match=r"from sample 4.*\[2, 1, 0\]"):
        digest([late[:4], late[4:]], size=2)


# --- images ---


@pytest.fixture
def pictures(tmp_path):
    image = pytest.importorskip("PIL.Image", reason="needs Pillow")
    random = np.random.default_rng(0)
    folder = tmp_path / "pictures"
    (folder / "class").mkdir(parents=True)
    pixels = random.integers(0, 256, (3, 4, 4, 3), dtype=np.uint8)
    for index, array in enumerate(pixels):
        image.fromarray(array).save(folder / ("class" if index else "") / f"{index}.png")
    return folder, np.stack([pixels[0], pixels[1], pixels[2]])


def test_images_become_inputs_as_the_description_says(pictures):
    folder, pixels = pictures

    def read(spec=IMAGE, **keys):
        (folder / "preprocess.json").write_text(json.dumps(keys))
        return load_samples(str(folder), [spec])[spec.name]

    plain = pixels.astype(np.float32).transpose(0, 3, 1, 2)
    np.testing.assert_allclose(read(), plain / 255, rtol=1e-6)
    np.testing.assert_allclose(read(do_rescale=False, image_processor_type="ViT"), plain)
    mean, std = np.array([0.1, 0.2, 0.3]), np.array([0.5, 1.0, 2.0])
    normal = (plain / 255 - mean.reshape(3, 1, 1)) / std.reshape(3, 1, 1)
    keys = {"image_mean": mean.tolist(), "image_std": std.tolist()}
    np.testing.assert_allclose(read(**keys), normal, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(read(**keys, do_normalize=False), plain / 255, rtol=1e-6)
    np.testing.assert_allclose(read(channel_order="BGR"), plain[:, ::-1] / 255, rtol=1e-6)
    last = InputSpec("x", np.dtype(np.float32), (None, 4, 4, 3))
    np.testing.assert_allclose(read(last), pixels / np.float32(255), rtol=1e-6)
    small = InputSpec("x", np.dtype(np.float32), (None, 3, 2, 2))
    np.testing.assert_allclose(read(small, crop_size=2), plain[:, :, 1:3, 1:3] / 255, rtol=1e-6)
    assert read(small, size={"height": 2, "width": 2}, resample=3).shape == (3, 3, 2, 2)
    assert read(small, size={"shortest_edge": 3}, crop_size=2).shape == (3, 3, 2, 2)
    gray = InputSpec("x", np.dtype(np.float32), (None, 1, 4, 4))
    assert read(gray, grayscale=True).shape == (3, 1, 4, 4)
    with pytest.raises(InputError, match="SNN336"):
        read(size=5)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"size": 4, "size": 5}', "there twice"),
        ('{"rescale_factor": NaN}', "NaN is no number"),
        ('{"rescale_factor": 1e999}', "expected a number"),
        ("[]", "no JSON object"),
        ("{", "not JSON"),
        ('{"sise": 4}', "unknown key 'sise'"),
        ('{"do_pad": true}', "asks for do_pad"),
        ('{"size": 0}', "expected 1 to"),
        ('{"size": {"longest_edge": 4}}', "longest_edge"),
        ('{"image_std": [0, 1, 1]}', "positive"),
        ('{"image_mean": [1, 1]}', "for each channel"),
        ('{"resample": 9}', "0 to 5"),
    ],
)
def test_descriptions_that_are_refused(pictures, text, message):
    folder, _ = pictures
    (folder / "preprocess.json").write_text(text)
    with pytest.raises(InputError, match="SNN340") as caught:
        named_samples(str(folder))
    assert message in str(caught.value) and "preprocess.json" in str(caught.value)


def test_images_that_are_refused(pictures, monkeypatch):
    folder, _ = pictures
    with pytest.raises(InputError, match=r"SNN340.*preprocess\.json"):
        named_samples(str(folder))
    (folder / "preprocessor_config.json").write_text("{}")
    assert digest(folder, (IMAGE,))
    with pytest.raises(InputError, match="images are one input"):
        digest(folder, (IMAGE, Y))
    (folder / "bad.png").write_bytes(b"\x89PNG no more")
    with pytest.raises(InputError, match=r"SNN341.*bad\.png"):
        digest(folder, (IMAGE,))
    import builtins

    real = builtins.__import__

    def without_pillow(name, *rest, **options):
        if name == "PIL":
            raise ImportError(name)
        return real(name, *rest, **options)

    monkeypatch.setattr(builtins, "__import__", without_pillow)
    with pytest.raises(EnvironmentFailure, match=r"pip install 'snnc\[images\]'") as caught:
        named_samples(str(folder))
    assert caught.value.exit_code == 6


def test_python_names_do_not_hide_files(tmp_path, x, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError):
        named_samples("json:nothing")
    np.save(tmp_path / "a:b.npy", x)
    (tmp_path / "a:b.npy").rename(tmp_path / "json:load")
    assert digest("json:load") == digest(x)
