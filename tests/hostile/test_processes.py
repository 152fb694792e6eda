"""Processes: full disks, read-only folders, interrupts at any moment, two runs at once, the same bytes."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hostile.rows import good

ROOT = Path(__file__).resolve().parents[2]
SERVER = Path(__file__).with_name("server.py")


class Server:
    """A process that forks one process a command."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            [sys.executable, str(SERVER)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=folder,
            env=environment,
            text=True,
        )
        assert self._answer() == "ready"
        assert self.wait(self.start(convert(folder / "warm.onnx"))) == 0

    def _answer(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def _ask(self, request: object) -> int:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return int(self._answer())

    def start(self, arguments: list[str], name: str = "errors") -> int:
        errors = str(self.folder.parent / name)
        return self._ask({"run": arguments, "folder": str(self.folder), "errors": errors})

    def wait(self, process: int) -> int:
        return self._ask({"wait": process})

    def close(self) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()


def convert(target: Path, *flags: str) -> list[str]:
    folder = target.parent
    return [
        "convert",
        f"{folder}/good.onnx",
        "-o",
        str(target),
        "--calibrate",
        "random:64",
        "--quiet",
        *flags,
    ]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("processes") / "place"
    folder.mkdir()
    (folder / "good.onnx").write_bytes(good().SerializeToString())
    made = Server(folder)
    yield made
    made.close()


@pytest.fixture
def content(server: Server) -> bytes:
    """What an undisturbed run writes; the folder is as it was before it."""
    content = (server.folder / "warm.onnx").read_bytes()
    for path in server.folder.iterdir():
        if path.name not in ("good.onnx", "warm.onnx"):
            path.unlink()
    return content


def _moments(server: Server, count: int, seed: int) -> Iterator[float]:
    """Times at which a run may be anywhere."""
    begin = time.monotonic()
    assert server.wait(server.start(convert(server.folder / "timed.onnx", "--force"))) == 0
    longest = time.monotonic() - begin
    (server.folder / "timed.onnx").unlink()
    generator = random.Random(seed)
    for _ in range(count):
        yield generator.uniform(0, longest)


def _interrupt(server: Server, content: bytes, number: int, count: int) -> None:
    target = server.folder / "out.onnx"
    for turn, moment in enumerate(_moments(server, count, number)):
        old = b"an older output" if turn % 2 else None
        target.unlink(missing_ok=True)
        if old is not None:
            target.write_bytes(old)
        process = server.start(convert(target, "--force"))
        time.sleep(moment)
        os.kill(process, number)
        begin = time.monotonic()
        status = server.wait(process)
        assert time.monotonic() - begin < 10
        found = target.read_bytes() if target.exists() else None
        expected = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGKILL: -9}[signal.Signals(number)]
        # A signal may come before Python has its handlers, or after the last of the work.
        said = (server.folder.parent / "errors").read_text()
        assert status in (0, expected, -number), (status, moment, said)
        assert found in (old, content), (status, moment)
        if not status:
            assert found == content
        left = {path.name for path in server.folder.iterdir()} - {"good.onnx", "warm.onnx", "out.onnx"}
        if number == signal.SIGKILL:
            assert all(name.startswith(".out.onnx.") for name in left)
            for name in left:
                (server.folder / name).unlink()
        else:
            assert not left, (left, status, moment)
            assert "Traceback" not in said, said


SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGKILL]


@pytest.mark.parametrize("number", SIGNALS)
def test_interrupted_at_any_moment(server: Server, content: bytes, number: int) -> None:
    _interrupt(server, content, number, 4)


@pytest.mark.slow
@pytest.mark.parametrize("number", SIGNALS)
def test_interrupted_at_fifty_moments(server: Server, content: bytes, number: int) -> None:
    _interrupt(server, content, number, 50)


def _two_at_once(server: Server, content: bytes, times: int) -> None:
    target = server.folder / "out.onnx"
    for turn in range(times):
        target.unlink(missing_ok=True)
        flags = ["--force"] if turn % 2 else []
        processes = [server.start(convert(target, *flags), f"errors{index}") for index in range(2)]
        statuses = [server.wait(process) for process in processes]
        # The second to finish finds an output, unless it may replace it.
        assert statuses == [0, 0] if flags else sorted(statuses) in ([0, 0], [0, 2]), statuses
        assert target.read_bytes() == content
        assert {path.name for path in server.folder.iterdir()} == {"good.onnx", "warm.onnx", "out.onnx"}


def test_two_runs_at_once(server: Server, content: bytes) -> None:
    _two_at_once(server, content, 4)


@pytest.mark.slow
def test_two_runs_at_once_fifty_times(server: Server, content: bytes) -> None:
    _two_at_once(server, content, 50)


# --- surroundings ------------------------------------------------------------------------------------------


def test_nothing_is_said_of_a_home_that_cannot_be_written(server: Server, tmp_path: Path) -> None:
    """In a process of its own: libraries say so when they are loaded."""
    source, target = server.folder / "good.onnx", tmp_path / "out.onnx"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HOME": "/dev/null", "XDG_CACHE_HOME": "/dev/null"}
    words = ["convert", str(source), "-o", str(target), "--calibrate", "random:64"]
    done = subprocess.run(
        [sys.executable, "-m", "snnc", *words, "--quiet"],
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    )
    assert not done.stderr


SURROUNDINGS: dict[str, dict[str, str]] = {
    "another zone": {"PYTHONHASHSEED": "1", "TZ": "Asia/Kathmandu", "LC_ALL": "C"},
    "two threads": {"PYTHONHASHSEED": "random", "OMP_NUM_THREADS": "2", "LC_ALL": "tr_TR.UTF-8"},
}


@pytest.mark.parametrize("name", SURROUNDINGS)
def test_the_same_bytes_whatever_the_surroundings(
    server: Server, content: bytes, name: str, tmp_path: Path
) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **SURROUNDINGS[name]}
    source, target = server.folder / "good.onnx", tmp_path / "out.onnx"
    arguments = ["convert", str(source), "-o", str(target), "--calibrate", "random:64", "--quiet"]
    subprocess.run([sys.executable, "-m", "snnc", *arguments], cwd=tmp_path, env=environment, check=True)
    assert target.read_bytes() == content


def test_the_same_bytes_from_the_same_process(server: Server, content: bytes) -> None:
    target = server.folder / "again.onnx"
    assert server.wait(server.start(convert(target))) == 0
    assert target.read_bytes() == content
