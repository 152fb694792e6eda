"""Labelled data: .npz files, folders of images, what is refused."""

from __future__ import annotations

import struct
from zipfile import ZipFile

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is an optional extra of snnc")

from snnc.errors import InputError, UsageError  # noqa: E402
from snnc.train import Arrays, ImageFolders, open_data  # noqa: E402


def test_arrays_become_normalised_inputs(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (5, 3, 4, 4), dtype=np.uint8)
    np.savez(tmp_path / "a.npz", images=images, labels=np.array([0, 1, 2, 1, 0], np.uint8))
    data = open_data(tmp_path / "a.npz", mean=[0.5, 0.4, 0.3], deviation=[0.25])
    inputs, labels = data.batch(torch.tensor([3, 1]), None)
    assert labels.tolist() == [1, 1] and labels.dtype == torch.int64
    assert (data.classes, data.shape, len(data)) == (3, (3, 4, 4), 5)
    wanted = (images[[3, 1]] / 255 - np.array([0.5, 0.4, 0.3]).reshape(3, 1, 1)) / 0.25
    assert np.allclose(inputs.numpy(), wanted, atol=1e-6)


def test_usual_layouts_are_understood(tmp_path):
    y = np.zeros(4, np.int64)
    for x, shape in (
        (np.zeros((4, 5, 5), np.uint8), (1, 5, 5)),
        (np.zeros((4, 5, 6, 3), np.uint8), (3, 5, 6)),
        (np.zeros((4, 1, 5, 6), np.float32), (1, 5, 6)),
        (np.zeros((4, 7, 2, 5, 6), np.float32), (7, 2, 5, 6)),
    ):
        np.savez(tmp_path / "a.npz", x=x, y=y)
        assert open_data(tmp_path / "a.npz").shape == shape
    assert len(open_data(tmp_path / "a.npz", limit=3)) == 3


def test_event_frames_are_shifted_together():
    frames = torch.zeros(8, 3, 2, 5, 5)
    frames[..., 2, 2] = 1
    data = Arrays(frames, torch.zeros(8, dtype=torch.long), shift=2)
    moved, _ = data.batch(torch.arange(8), torch.Generator().manual_seed(0))
    assert moved.shape == frames.shape
    first = moved[:, :1, :1].expand_as(moved)
    assert torch.equal(moved, first) and not torch.equal(moved, frames)


def test_damaged_data_are_refused(tmp_path):
    path = tmp_path / "a.npz"
    good = np.zeros((3, 1, 4, 4), np.uint8)
    for content, match in (
        ({"z": good, "y": np.zeros(3, int)}, "holds no images.*z"),
        ({"x": good}, "holds no labels"),
        ({"x": good, "y": np.zeros(2, int)}, "labels must be 3"),
        ({"x": good, "y": np.zeros(3)}, "integers"),
        ({"x": good, "y": np.array([0, -1, 0])}, "a label is -1"),
        ({"x": good, "y": np.array([0, 2**40, 0])}, f"a label is {2**40}"),
        ({"x": np.full((3, 1, 4, 4), np.nan, np.float32), "y": np.zeros(3, int)}, "not finite"),
        ({"x": np.zeros((3, 4), np.uint8), "y": np.zeros(3, int)}, r"must be \(N, C, H, W\)"),
        ({"x": np.zeros((3, 1, 4, 4), np.int64), "y": np.zeros(3, int)}, "uint8 or float"),
    ):
        np.savez(path, **content)
        with pytest.raises(InputError, match="SNN351.*" + match):
            open_data(path)
    content = path.read_bytes()
    path.write_bytes(content[:200] + b"!" + content[201:])
    with pytest.raises(InputError, match="SNN351"):
        open_data(path)
    path.write_text("text")
    with pytest.raises(InputError, match="SNN351"):
        open_data(path)
    for header, match in (
        (
            "{'descr': '<f4', 'fortran_order': False, 'shape': (4398046511104, 1, 1, 1)}",
            "its x: the header promises 17592186044416 bytes",
        ),
        (
            "{'descr': '<f4', 'fortran_order': False, 'shape': (9223372036854775807, 9)}",
            "its x: the header promises 332041393326771929052 bytes",
        ),
        ("(" * 3000, "damaged npy header"),
        ("{'descr': '|O', 'fortran_order': False, 'shape': (3,)}", "pickled"),
    ):
        with ZipFile(path, "w") as archive:
            text = header.encode() + b" " * (-(len(header) + 11) % 64) + b"\n"
            archive.writestr("x.npy", b"\x93NUMPY\1\0" + struct.pack("<H", len(text)) + text)
            archive.writestr("y.npy", text)
        with pytest.raises(InputError, match="SNN351.*" + match):
            open_data(path)
    np.savez_compressed(path, x=np.zeros((3, 1, 1 << 13, 1 << 12), np.uint8), y=np.zeros(3, int))
    with pytest.raises(InputError, match=r"SNN351.*would unpack"):
        open_data(path)
    np.save(tmp_path / "p.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(InputError, match="SNN351"):
        open_data(tmp_path / "p.npy")
    with pytest.raises(InputError, match="SNN301"):
        open_data(tmp_path / "none.npz")
    with pytest.raises(UsageError, match="SNN218"):
        Arrays(good, np.zeros(3, int), mean=[0.1, 0.2])


def test_odd_arrays_are_read_or_refused(tmp_path):
    path = tmp_path / "a.npz"
    good, y = np.arange(48, dtype=np.uint8).reshape(3, 1, 4, 4), np.array([0, 1, 1])
    for x, labels in (
        (good.astype(">f4"), y),
        (good, y.astype(">i4")),
        (good[:, :, ::-1], y.astype(np.uint16)),
    ):
        np.savez(path, x=x, y=labels)
        data = open_data(path)
        inputs, truth = data.batch(torch.arange(3), None)
        scale = 255 if x.dtype == np.uint8 else 1
        assert np.allclose(inputs * scale, x) and truth.tolist() == [0, 1, 1]
    for x, labels, match in (
        (good, np.array(["a", "b", "b"]), "its y: holds <U1, expected numbers"),
        (good, y == 1, "integers"),
        (np.uint8(3), np.int64(0), "must be"),
        (good.astype(complex), y, "images must be numbers"),
    ):
        np.savez(path, x=x, y=labels)
        with pytest.raises(InputError, match="SNN351.*" + match):
            open_data(path)
    path.write_bytes(b"")
    with pytest.raises(InputError, match="SNN351"):
        open_data(path)
    for option in ({"deviation": [0.0]}, {"shift": -1}):
        with pytest.raises(UsageError, match="SNN218"):
            Arrays(good, y, **option)
    np.savez(path, x=good, y=y)
    with pytest.raises(UsageError, match="SNN218"):
        open_data(path, limit=0)


def test_a_folder_takes_the_order_of_classes_that_it_is_given(tmp_path):
    import PIL.Image as pillow

    for name in "bc":
        (tmp_path / name).mkdir()
        pillow.new("RGB", (9, 9)).save(tmp_path / name / "0.png")
    assert open_data(tmp_path, size=8).batch(torch.arange(2), None)[1].tolist() == [0, 1]
    data = open_data(tmp_path, size=8, names=("a", "b", "c"))
    assert data.batch(torch.arange(2), None)[1].tolist() == [1, 2] and data.classes == 3
    with pytest.raises(InputError, match=r"SNN352.*have not: b"):
        open_data(tmp_path, size=8, names=("a", "c"))
    with pytest.raises(UsageError, match="SNN218"):
        open_data(tmp_path, size=0)


def test_folders_of_images(tmp_path):
    import PIL.Image as pillow

    for name, colour in (("red", (250, 0, 0)), ("blue", (0, 0, 250))):
        (tmp_path / name).mkdir()
        for number in range(2):
            pillow.new("RGB", (20 + number, 12), colour).save(tmp_path / name / f"{number}.png")
    with pytest.raises(UsageError, match=r"SNN218.*size"):
        open_data(tmp_path)
    data = open_data(tmp_path, size=8)
    assert isinstance(data, ImageFolders) and data.names == ("blue", "red") and data.shape == (3, 8, 8)
    for generator in (None, torch.Generator().manual_seed(0)):
        inputs, labels = data.batch(torch.arange(4), generator)
        assert inputs.shape == (4, 3, 8, 8) and labels.tolist() == [0, 0, 1, 1]
        assert (inputs[:2, 2] > 0.9).all() and (inputs[2:, 0] > 0.9).all()
    (tmp_path / "red" / "0.png").write_text("no")
    with pytest.raises(InputError, match=r"SNN352.*0\.png"):
        data.batch(torch.arange(4), None)
    for file in (tmp_path / "red").iterdir():
        file.unlink()
    with pytest.raises(InputError, match=r"SNN352.*two classes"):
        open_data(tmp_path, size=8)
