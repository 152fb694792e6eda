"""Runs rows of hostile input through the command line and looks at everything that came of it."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from snnc.cli.group import cli
from tests.hostile.rows import Row

#: Most memory that a row may take beyond what the process has already, in bytes.
MOST_MEMORY = 300 << 20
_OPENED: list[str] = []
_WATCH = [False]


def _hear(event: str, arguments: tuple[Any, ...]) -> None:
    if _WATCH[0] and event == "open":
        _OPENED.append(str(arguments[0]))


sys.addaudithook(_hear)


def snapshot(folder: Path) -> dict[str, bytes]:
    """Every file below a folder by its place; what cannot be read as a file has no content."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        if path.is_file() and path.stat().st_size < 1 << 24
        else b""
        for path in sorted(folder.rglob("*"))
        if not path.is_symlink()
    }


def _memory(key: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key):
            return int(line.split()[1]) << 10
    return 0


def prepare(row: Row, folder: Path) -> list[str]:
    """Write the files of a row and return its command line."""
    made = row.make(folder)
    if made is not None:
        content = made if isinstance(made, bytes) else made.SerializeToString()
        (folder / "bad.onnx").write_bytes(content)
    return [word.replace("{}", str(folder)) for word in row.command]


@pytest.fixture
def outcome(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Row], Result]:
    """Run a row: checks time, memory, what was opened and what is left; returns the result."""

    def run(row: Row) -> Result:
        folder = tmp_path / "place"
        folder.mkdir()
        monkeypatch.chdir(folder)
        monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
        monkeypatch.setattr("tempfile.tempdir", None)
        (tmp_path / "temporary").mkdir()
        arguments = prepare(row, folder)
        before = snapshot(folder)
        soft, hard = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (_memory("VmSize") + (2 << 30), hard))
        Path("/proc/self/clear_refs").write_text("5")
        held = _memory("VmRSS")
        _OPENED.clear()
        _WATCH[0] = True
        # Processor time: other work does not count. Waiting for ever meets the time limit of the test.
        begin = time.process_time()
        try:
            result = CliRunner().invoke(cli, arguments)
        finally:
            seconds = time.process_time() - begin
            _WATCH[0] = False
            resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
        assert seconds < row.seconds, f"took {seconds:.1f} s"
        peak = _memory("VmHWM") - held
        assert peak < MOST_MEMORY, f"took {peak >> 20} MiB"
        assert not [place for place in _OPENED if "secret" in place], "opened what it must not read"
        after = snapshot(folder)
        made = sorted(set(after) - set(before))
        expected = ["out.onnx", *row.left] if not row.status and "convert" in row.command else list(row.left)
        assert made == expected, (made, result.output)
        assert {name: after[name] for name in before} == before, "changed a file"
        # onnxruntime keeps a file of this name for itself.
        left = [path.name for path in (tmp_path / "temporary").iterdir() if path.name != ".ses"]
        assert not left, f"left temporary files: {left}"
        assert not list(tmp_path.rglob("PWNED")), "ran what a file says"
        return result

    return run
