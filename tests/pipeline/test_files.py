"""Files that are written together appear together or not at all."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import BinaryIO

import pytest

from snnc.demo import write_demo
from snnc.errors import EnvironmentFailure, UsageError
from snnc.files import atomic_writes


def put(stream: BinaryIO) -> None:
    stream.write(b"new")


@pytest.fixture(params=[1, 2, 3])
def full(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """A disk that is full at the first, second or third file."""
    written = []

    def fsync(_: int) -> None:
        written.append(1)
        if len(written) == request.param:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("snnc.files.os.fsync", fsync)
    return int(request.param)


def test_all_or_none(full: int, tmp_path: Path) -> None:
    (tmp_path / "1").write_bytes(b"old")
    places = [tmp_path / name for name in "123"]
    with pytest.raises(EnvironmentFailure, match=rf"SNN603.*{full}.*No space"):
        atomic_writes([(place, put) for place in places], force=True)
    assert [path.name for path in tmp_path.iterdir()] == ["1"]
    assert (tmp_path / "1").read_bytes() == b"old"


def test_none_if_one_is_there(tmp_path: Path) -> None:
    (tmp_path / "2").write_bytes(b"old")
    places = [tmp_path / name for name in "12"]
    with pytest.raises(UsageError, match="SNN230"):
        atomic_writes([(place, put) for place in places])
    assert [path.name for path in tmp_path.iterdir()] == ["2"]
    atomic_writes([(place, put) for place in places], force=True)
    assert {path.read_bytes() for path in places} == {b"new"}


@pytest.mark.usefixtures("full")
def test_a_first_example_leaves_no_part_of_itself(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    with pytest.raises(EnvironmentFailure, match="SNN603"):
        write_demo(tmp_path / "new" / "demo")
    assert [path.name for path in tmp_path.rglob("*")] == ["mine"]


def test_a_link_that_leads_nowhere_is_there_too(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(UsageError, match=r"SNN230.*a link is there already"):
        atomic_writes([(tmp_path / "link", put)])
    assert (tmp_path / "link").is_symlink()
    atomic_writes([(tmp_path / "link", put)], force=True)
    assert not (tmp_path / "link").is_symlink() and not (tmp_path / "nowhere").exists()
