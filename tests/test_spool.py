"""Large arrays in files: the same content, and no trace of them."""

from __future__ import annotations

import errno
import gc
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx_ir as ir
import pytest

from snnc import spool
from snnc.ir import initializer
from snnc.spool import LARGE, let_go, spooled


@pytest.fixture(autouse=True)
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Files of each test lie in a folder of its own."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(spool, "_CURRENT", [])
    return tmp_path


def numbers(seed: int = 0, shape: tuple[int, ...] = (600, 500)) -> np.ndarray:
    return np.random.default_rng(seed).integers(-128, 128, shape).astype(np.int8)


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def empty() -> ir.Graph:
    return ir.Graph([], [], nodes=[], name="empty")


@pytest.mark.parametrize("kind", [np.int8, np.int32, np.float32, np.int64])
def test_content_type_and_shape_stay(fresh: Path, kind: type) -> None:
    x = numbers().astype(kind)
    for array in (x, x.T, np.broadcast_to(x[0], x.shape)):
        found = spooled(array)
        assert found is not array and found.dtype == array.dtype and found.flags.c_contiguous
        assert not found.flags.writeable
        np.testing.assert_array_equal(found, array)
        let_go()
        np.testing.assert_array_equal(found, array)
    assert not list(fresh.iterdir())


def test_small_arrays_and_objects_stay_as_they_are() -> None:
    small, objects = np.zeros(LARGE - 1, np.int8), np.full(LARGE, None)
    assert spooled(small) is small and spooled(objects) is objects


def test_many_arrays_in_several_files_keep_apart() -> None:
    made = [spooled(numbers(seed, (1 << 12, 1 << 12))) for seed in range(6)]
    assert len(spool._MAPS) > 1
    for seed, array in enumerate(made):
        np.testing.assert_array_equal(array, numbers(seed, (1 << 12, 1 << 12)))


@pytest.mark.skipif(sys.platform != "linux", reason="/proc")
def test_files_are_closed_with_their_last_array() -> None:
    # A file that earlier tests began is closed first, and what they left to the collector.
    spool._CURRENT.clear()
    gc.collect()
    before = open_files()
    held = [spooled(numbers(seed, (1 << 12, 1 << 12))) for seed in range(12)]
    assert open_files() > before
    kept = held[0]
    del held
    spool._CURRENT.clear()
    gc.collect()
    assert open_files() == before + 1  # what is mapped keeps one
    np.testing.assert_array_equal(kept, numbers(0, (1 << 12, 1 << 12)))


def test_pieces_are_written_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda file, data, place: write(file, data[:1000], place))
    np.testing.assert_array_equal(spooled(numbers()), numbers())


@pytest.mark.parametrize("what", ["full", "nearly full", "no folder"])
def test_without_room_arrays_stay_in_memory(monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    def refuse(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    if what == "full":
        monkeypatch.setattr(os, "pwrite", refuse)
    elif what == "nearly full":
        monkeypatch.setattr(spool.shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    else:
        monkeypatch.setattr(tempfile, "tempdir", "/nowhere/at/all")
    x = numbers()
    assert spooled(x) is x
    np.testing.assert_array_equal(initializer(empty(), "x", x).const_value.numpy(), x)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes that are forked")
def test_a_forked_process_writes_to_files_of_its_own() -> None:
    first = spooled(numbers(1))
    child = os.fork()
    if child == 0:
        other = spooled(numbers(2))
        os._exit(0 if (other == numbers(2)).all() and (first == numbers(1)).all() else 1)
    assert os.waitpid(child, 0)[1] == 0
    second = spooled(numbers(3))
    np.testing.assert_array_equal(first, numbers(1))
    np.testing.assert_array_equal(second, numbers(3))


_PROGRAM = """
import os
import numpy as np
from pathlib import Path
from snnc.spool import let_go, spooled

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")

before = resident()
held = [spooled(np.full(1 << 22, n, np.int8)) for n in range(25)]
total = sum(int(array.sum(dtype=np.int64)) for array in held)
read = resident()
let_go()
print(read - before, resident() - before)
assert total == sum(range(25)) << 22
"""


@pytest.mark.skipif(sys.platform != "linux", reason="/proc")
def test_what_is_let_go_takes_no_memory() -> None:
    done = subprocess.run([sys.executable, "-c", _PROGRAM], capture_output=True, text=True, check=True)
    read, after = map(int, done.stdout.split())
    assert read > 80_000_000 and after < 20_000_000


def test_an_initializer_shares_what_nobody_may_change_and_copies_the_rest() -> None:
    graph = empty()
    x = numbers()
    made = initializer(graph, "x", x).const_value.numpy()
    x[0, 0] += 1
    assert made[0, 0] != x[0, 0]
    again = initializer(graph, "y", made.view()).const_value.numpy()
    assert np.shares_memory(again, made)
    # A piece of something larger would keep all of it alive.
    piece = initializer(graph, "z", made[:550]).const_value.numpy()
    assert not np.shares_memory(piece, made)
    np.testing.assert_array_equal(piece, made[:550])
