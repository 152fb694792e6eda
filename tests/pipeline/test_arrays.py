"""Array files that nobody vouches for, and outputs that appear complete or not at all."""

from __future__ import annotations

import io
import os
import pickle
import resource
import struct
import zipfile

import numpy as np
import pytest

from snnc.arrays import InputSpec, match_inputs, read_arrays, sample_count, write_arrays
from snnc.data import load_samples
from snnc.errors import EnvironmentFailure, InputError, UsageError
from snnc.files import atomic_write, check_output, open_regular

IMAGE = InputSpec("x", np.dtype(np.float32), (None, 2, 3))


class Bomb:
    """An object whose unpickling would leave a trace."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (self.path, "w"))


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
@pytest.mark.parametrize(
    "array",
    [
        np.arange(6, dtype=np.float32).reshape(2, 3),
        np.asfortranarray(np.arange(6).reshape(2, 3)),
        np.array(3.5),
        np.zeros((0, 4), np.int8),
        np.arange(3, dtype=">f8"),
        np.array([True, False]),
    ],
)
def test_round_trip(tmp_path, suffix, array):
    path = tmp_path / f"a{suffix}"
    write_arrays(path, {"file": array})
    (read,) = read_arrays(path).values()
    assert read.dtype == array.dtype.newbyteorder("=")
    np.testing.assert_array_equal(read, array)


def test_numpy_reads_what_we_write_and_we_read_what_numpy_writes(tmp_path):
    arrays = {"a": np.arange(3), "b/c": np.ones((2, 2), np.float32)}
    write_arrays(tmp_path / "ours.npz", arrays)
    with np.load(tmp_path / "ours.npz") as loaded:
        assert sorted(loaded) == ["a", "b/c"]
    np.savez_compressed(tmp_path / "theirs.npz", **arrays)
    assert list(read_arrays(tmp_path / "theirs.npz")) == ["a", "b/c"]


def test_writing_is_deterministic(tmp_path):
    for name in ("one", "two"):
        write_arrays(tmp_path / f"{name}.npz", {"a": np.arange(3), "b": np.ones(2)})
    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "two.npz").read_bytes()


def test_folder_of_npy(tmp_path):
    np.save(tmp_path / "b.npy", np.ones(2))
    np.save(tmp_path / "a.npy", np.zeros(2))
    (tmp_path / "notes.txt").write_text("not data")
    assert list(read_arrays(tmp_path)) == ["a", "b"]


def code_of(path):
    with pytest.raises((InputError, EnvironmentFailure)) as caught:
        read_arrays(path)
    return caught.value.code


def test_pickles_never_run(tmp_path):
    trace = tmp_path / "PWNED"
    np.save(tmp_path / "a.npy", np.array([Bomb(str(trace))], dtype=object), allow_pickle=True)
    np.savez(tmp_path / "a.npz", x=np.array([Bomb(str(trace))], dtype=object))
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(Bomb(str(trace))))
    for name in ("a.npy", "a.npz", "a.pkl"):
        assert code_of(tmp_path / name) == "SNN331"
    assert not trace.exists()


def header(shape):
    text = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode()


@pytest.mark.parametrize("shape", ["(4398046511104,)", "(2,)", "(3, 5)", "(1099511627776, 1099511627776)"])
def test_header_must_agree_with_the_file(tmp_path, shape):
    (tmp_path / "a.npy").write_bytes(header(shape) + b"\0" * 12)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert code_of(tmp_path / "a.npy") == "SNN332"
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("x.npy", header(shape) + b"\0" * 12)
    assert code_of(tmp_path / "a.npz") == "SNN332"
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # kB


def test_zip_bomb(tmp_path):
    size = 256 << 20
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", header(f"({size // 4},)") + b"\0" * size)
    assert (tmp_path / "a.npz").stat().st_size < 1 << 20
    assert code_of(tmp_path / "a.npz") == "SNN332"


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "SNN331"),
        (b"hello world", "SNN331"),
        (b"\x93NUMPY\x09\x00", "SNN331"),
        (b"\x93NUMPY\x01\x00\x05\x00{bad", "SNN331"),
        (header("(-1,)") + b"\0" * 4, "SNN331"),
        (b"PK\x03\x04 truncated", "SNN331"),
    ],
)
def test_damaged_files(tmp_path, content, code):
    (tmp_path / "a.npy").write_bytes(content)
    assert code_of(tmp_path / "a.npy") == code


def test_strings_and_records_are_refused(tmp_path):
    np.save(tmp_path / "a.npy", np.array(["text"]))
    assert code_of(tmp_path / "a.npy") == "SNN331"


def test_repeated_or_foreign_members(tmp_path):
    buffer = io.BytesIO()
    np.save(buffer, np.ones(2))
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("readme.txt", "hello")
    assert code_of(tmp_path / "a.npz") == "SNN331"
    with (
        pytest.warns(UserWarning, match="Duplicate name"),
        zipfile.ZipFile(tmp_path / "b.npz", "w") as archive,
    ):
        archive.writestr("x.npy", buffer.getvalue())
        archive.writestr("x.npy", buffer.getvalue())
    assert code_of(tmp_path / "b.npz") == "SNN331"


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_named(tmp_path, value):
    array = np.zeros((2, 3), np.float32)
    array[1, 2] = value
    np.savez(tmp_path / "a.npz", x=array)
    with pytest.raises(InputError, match=r"1 values are not finite, the first at \[1, 2\]") as caught:
        read_arrays(tmp_path / "a.npz")
    assert caught.value.where.tensor == "x"
    assert read_arrays(tmp_path / "a.npz", finite=False)["x"].shape == (2, 3)


def test_missing_file_lists_near_names(tmp_path):
    np.save(tmp_path / "images.npy", np.ones(1))
    with pytest.raises(InputError, match="no such file") as caught:
        read_arrays(tmp_path / "image.npy")
    assert "images.npy" in caught.value.hint


def test_pipe_does_not_hang(tmp_path):
    os.mkfifo(tmp_path / "pipe.npy")
    with pytest.raises(InputError, match="expected a regular file"):
        read_arrays(tmp_path / "pipe.npy")
    with pytest.raises(InputError, match="regular file"):
        open_regular(tmp_path)
    assert code_of("/dev/zero") == "SNN301"


def test_empty_folder(tmp_path):
    assert code_of(tmp_path) == "SNN334"


def test_single_input_takes_any_key_and_integers_are_cast():
    matched = match_inputs({"whatever": np.ones((5, 2, 3), np.uint8)}, [IMAGE])
    assert matched["x"].dtype == np.float32
    assert sample_count(matched) == 5


@pytest.mark.parametrize(
    ("arrays", "code", "text"),
    [
        ({"x": np.ones((5, 3, 2))}, "SNN336", "found shape [5, 3, 2]"),
        ({"x": np.ones((2, 3))}, "SNN336", "add the sample axis"),
        ({"x": np.ones((0, 2, 3))}, "SNN338", "no samples"),
        ({"x": np.ones((1, 2, 3), complex)}, "SNN337", "expected float32, found complex128"),
        ({"x": np.full((1, 2, 3), 1e300)}, "SNN333", "not finite"),
        ({"a": np.ones(1), "b": np.ones(1)}, "SNN335", "lacks 'x'; it holds 'a', 'b'"),
    ],
)
def test_misfits_are_explained(arrays, code, text):
    with pytest.raises(InputError) as caught:
        match_inputs(arrays, [IMAGE], file="data.npz")
    assert caught.value.code == code
    assert text in str(caught.value)


def test_two_inputs_need_equal_counts():
    second = InputSpec("z", np.dtype(np.int64), (None,))
    with pytest.raises(InputError, match="sample counts differ"):
        match_inputs({"x": np.ones((2, 2, 3)), "z": np.ones(3, np.int64)}, [IMAGE, second])


def test_random_samples_are_seeded():
    one = load_samples("random:4", [IMAGE], seed=1)["x"]
    assert one.shape == (4, 2, 3)
    np.testing.assert_array_equal(one, load_samples("random:4", [IMAGE], seed=1)["x"])
    assert (one != load_samples("random:4", [IMAGE], seed=2)["x"]).any()


@pytest.mark.parametrize("source", ["random:", "random:0", "random:-1", "random:x", "random:99999999"])
def test_malformed_random(source):
    with pytest.raises(UsageError, match="random:N"):
        load_samples(source, [IMAGE])


def test_random_needs_known_sizes():
    with pytest.raises(UsageError, match="known sizes"):
        load_samples("random:2", [InputSpec("x", np.dtype(np.float32), (None, None))])


def test_existing_output_needs_force_and_inputs_are_safe(tmp_path):
    path = tmp_path / "a.npz"
    write_arrays(path, {"a": np.ones(1)})
    before = path.read_bytes()
    with pytest.raises(UsageError, match="exists already") as caught:
        write_arrays(path, {"a": np.zeros(1)})
    assert (caught.value.code, path.read_bytes()) == ("SNN230", before)
    (tmp_path / "link.npz").hardlink_to(path)
    (tmp_path / "soft.npz").symlink_to(path)
    for source in (path, tmp_path / "link.npz", tmp_path / "soft.npz"):
        with pytest.raises(UsageError, match="same file as the input") as caught:
            write_arrays(path, {"a": np.zeros(1)}, force=True, inputs=[source])
        assert (caught.value.code, path.read_bytes()) == ("SNN231", before)
    write_arrays(path, {"a": np.zeros(1)}, force=True)
    assert path.read_bytes() != before


def test_failed_write_keeps_the_old_file_and_leaves_nothing(tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(b"good")

    def fail(stream):
        stream.write(b"half")
        raise OSError(28, "No space left on device")

    with pytest.raises(EnvironmentFailure, match="No space left"):
        atomic_write(path, fail, force=True)

    def interrupt(stream):
        stream.write(b"half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        atomic_write(path, interrupt, force=True)
    assert path.read_bytes() == b"good"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.bin"]


def test_output_permissions_follow_the_umask(tmp_path):
    old = os.umask(0o027)
    try:
        atomic_write(tmp_path / "a", lambda stream: stream.write(b"x"))
    finally:
        os.umask(old)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o640


def test_bad_places(tmp_path):
    with pytest.raises(EnvironmentFailure, match="folder of the output does not exist"):
        check_output(tmp_path / "none" / "a.npz")
    with pytest.raises(EnvironmentFailure, match="not a regular file"):
        check_output(tmp_path, force=True)
    with pytest.raises(UsageError, match=r"end in \.npy or \.npz"):
        write_arrays(tmp_path / "a.txt", {"a": np.ones(1)})
    with pytest.raises(UsageError, match="holds one array"):
        write_arrays(tmp_path / "a.npy", {"a": np.ones(1), "b": np.ones(1)})
