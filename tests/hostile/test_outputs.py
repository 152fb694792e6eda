"""Places that outputs go to: full disks, folders and files in the way, inputs, what is not there."""

from __future__ import annotations

import codecs
import os
import resource
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from snnc.cli.group import cli
from tests.hostile.conftest import snapshot
from tests.hostile.data_rows import kit
from tests.hostile.rows import good

WRITERS: dict[str, tuple[str, ...]] = {
    "convert": ("convert", "good.onnx", "-o", "out.onnx", "--calibrate", "random:4"),
    "recipe": (
        *("convert", "good.onnx", "-o", "big/out.onnx", "--calibrate", "random:4"),
        *("--save-recipe", "out.toml"),
    ),
    "run npz": ("run", "good.snn.onnx", "--input", "x.npz", "--output", "out.npz"),
    "run npy": ("run", "good.snn.onnx", "--input", "x.npz", "--output", "out.npy"),
    "opt": ("opt", "good.onnx", "--passes", "sort-nodes", "-o", "out.onnx"),
    "asm": ("asm", "bundle/model.s", "-o", "out.bin"),
    "disasm": ("disasm", "bundle", "-o", "out.s"),
    "sim": ("sim", "bundle", "--output", "out.npz"),
    "trace": ("sim", "bundle", "--trace", "out.csv"),
    "emit": ("emit", "good.snn.onnx", "-o", "out"),
}


def _furnish(folder: Path) -> None:
    for name, content in kit().items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    np.savez(folder / "x.npz", x=np.random.default_rng(0).standard_normal((600, 4)).astype(np.float32))
    (folder / "big").mkdir()


def _call(arguments: tuple[str, ...] | list[str]) -> Result:
    return CliRunner().invoke(cli, list(arguments))


@contextmanager
def _small_files(size: int) -> Iterator[None]:
    """As on a full disk: no file grows beyond so many bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def _refused(result: Result, code: str) -> None:
    assert result.exit_code == 6, result.output
    assert result.stderr.count("error:") == 1 and f"error: {code}" in result.stderr
    assert "hint: " in result.stderr and "Traceback" not in result.output


@pytest.mark.parametrize("name", [name for name in WRITERS if name != "recipe"])
@pytest.mark.parametrize("old", [False, True])
def test_a_full_disk(name: str, old: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _furnish(tmp_path)
    monkeypatch.chdir(tmp_path)
    arguments = list(WRITERS[name])
    target = Path(next(word for word in arguments if word.startswith("out")))
    if old and name != "emit":
        target.write_bytes(b"an older output")
        arguments.append("--force")
    elif old:
        shutil.copytree("bundle", "out")
        arguments.append("--force")
    before = snapshot(tmp_path)
    with _small_files(64):
        result = _call(arguments)
    _refused(result, "SNN603")
    assert str(target) in result.stderr
    assert snapshot(tmp_path) == before


@contextmanager
def _nobody() -> Iterator[None]:
    """Permissions mean nothing to root."""
    if os.geteuid():
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def shared() -> Iterator[Path]:
    """A folder that every user reaches."""
    folder = Path(tempfile.mkdtemp(dir="/tmp", prefix="snnc-test-"))
    folder.chmod(0o755)
    yield folder
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755)
    shutil.rmtree(folder)


@pytest.mark.parametrize("name", WRITERS)
def test_a_folder_that_cannot_be_written(name: str, shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _furnish(shared)
    (shared / "big").chmod(0o777)
    monkeypatch.chdir(shared)
    if name == "convert":
        # Modules that are loaded late might not be readable for everyone.
        assert _call(["convert", "good.onnx", "-o", "warm.onnx", "--calibrate", "random:4"]).exit_code == 0
    shared.chmod(0o555)
    before = snapshot(shared)
    codecs.lookup("cp437")  # zipfile loads it late
    with _nobody():
        result = _call(WRITERS[name])
    _refused(result, "SNN603")
    assert snapshot(shared) == before


@pytest.mark.parametrize(
    "command",
    [
        ["convert", "good.onnx", "-o", "out.onnx", "--calibrate", "random:4"],
        ["run", "good.onnx", "--input", "random:4"],
        ["inspect", "good.onnx"],
    ],
    ids=lambda command: command[0],
)
def test_a_model_that_may_not_be_read(
    command: list[str], shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (shared / "good.onnx").write_bytes(good().SerializeToString())
    (shared / "good.onnx").chmod(0)
    monkeypatch.chdir(shared)
    with _nobody():
        result = _call(command)
    _refused(result, "SNN601")


@pytest.mark.parametrize("name", WRITERS)
def test_an_output_that_is_there(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _furnish(tmp_path)
    monkeypatch.chdir(tmp_path)
    target = Path(next(word for word in WRITERS[name] if word.startswith("out")))
    if name == "emit":
        shutil.copytree("bundle", "out")
    else:
        target.write_bytes(b"an older output")
    before = snapshot(tmp_path)
    result = _call(WRITERS[name])
    assert result.exit_code == 2 and "error: SNN230" in result.stderr and "--force" in result.stderr
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize("name", [name for name in WRITERS if name not in ("recipe", "emit")])
def test_an_output_that_is_a_folder(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _furnish(tmp_path)
    monkeypatch.chdir(tmp_path)
    target = Path(next(word for word in WRITERS[name] if word.startswith("out")))
    target.mkdir()
    before = snapshot(tmp_path)
    result = _call([*WRITERS[name], "--force"])
    assert result.exit_code in (2, 6) and result.stderr.count("error:") == 1 and target.name in result.stderr
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("convert", "good.onnx"),
        ("convert", "./good.onnx"),
        ("convert", "link.onnx"),
        ("convert", "hard.onnx"),
        ("opt", "good.onnx"),
        ("run npz", "x.npz"),
        ("asm", "bundle/model.s"),
        ("disasm", "bundle/model.bin"),
    ],
)
def test_an_output_that_is_the_input(
    name: str, target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _furnish(tmp_path)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link.onnx").symlink_to("good.onnx")
    os.link("good.onnx", "hard.onnx")
    before = snapshot(tmp_path)
    arguments = [target if word.startswith("out") else word for word in WRITERS[name]]
    result = _call([*arguments, "--force"])
    assert result.exit_code == 2 and "error: SNN231" in result.stderr
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize(
    "line",
    [
        "run good.snn.onnx --input samples/a.npy --output samples/a.npy",
        "run good.snn.onnx --input samples --output samples/a.npy",
        "run good.snn.onnx --input x.npz --trace x.npz",
        "run bundle --runtime expg1 --input x.npz --output x.npz",
        "sim bundle --input x.npz --output x.npz",
        "sim bundle --input samples --output samples/a.npy",
        "sim bundle --trace bundle/golden/trace.csv",
        "emit bundle/host.snn.onnx -o bundle",
        "emit good.snn.onnx --arch bundle/arch.json -o bundle",
        "emit good.snn.onnx --format nir -o good.snn.onnx",
        "compare good.onnx good.snn.onnx --data x.npz --save-differing x.npz",
        "report good.snn.onnx --data x.npz -o page.html --trace x.npz --trade-off none",
        "report good.snn.onnx --data x.npz -o dump/run.html --dump dump --trade-off none",
        "convert good.onnx --calibrate make.py:samples -o make.py",
        "convert good.onnx --calibrate samples -o samples/a.npy",
        "reduce good.onnx --fails compare --data x.npz -o x.onnx",
        "reduce good.onnx --fails compare --calibrate x.npz -o x.onnx",
    ],
)
def test_no_input_is_overwritten(line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _furnish(tmp_path)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "samples").mkdir()
    np.save(tmp_path / "samples" / "a.npy", np.zeros((3, 4), np.float32))
    (tmp_path / "make.py").write_text(
        "import numpy\ndef samples(): return numpy.ones((3, 4), numpy.float32)\n"
    )
    (tmp_path / "dump").mkdir()
    (tmp_path / "dump" / "run.json").write_text("{}")
    before = snapshot(tmp_path)
    result = _call([*line.split(), "--force"])
    assert result.exit_code == 2 and "error: SNN231" in result.stderr, result.output
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize(
    ("line", "small", "large"),
    [
        ("run good.snn.onnx --input one.npy --output out.npy --trace out.npz", "out.npy", "out.npz"),
        ("sim bundle --input one.npy --output out.npy --trace out.csv", "out.npy", "out.csv"),
        ("sim bundle --input one.npy --output out.npy --trace out.vcd", "out.npy", "out.vcd"),
        ("convert good.onnx -o out.onnx --calibrate x.npz --save-recipe out.toml", "out.toml", "out.onnx"),
    ],
)
def test_outputs_appear_together(
    line: str, small: str, large: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk has room for one of two outputs and not for the other."""
    _furnish(tmp_path)
    np.save(tmp_path / "one.npy", np.ones((1, 4), np.float32))
    monkeypatch.chdir(tmp_path)
    before = snapshot(tmp_path)
    assert _call(line.split()).exit_code == 0
    sizes = [Path(name).stat().st_size for name in (small, large)]
    assert sizes[0] < sizes[1]
    for name in (small, large):
        Path(name).unlink()
    with _small_files(sum(sizes) // 2):
        result = _call(line.split())
    _refused(result, "SNN603")
    assert snapshot(tmp_path) == before


def test_code_that_runs_out_of_memory_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _furnish(tmp_path)
    (tmp_path / "make.py").write_text("def samples():\n    raise MemoryError\n    yield\n")
    (tmp_path / "temporary").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    before = snapshot(tmp_path)
    result = _call(["convert", "good.onnx", "-o", "out.onnx", "--calibrate", "make.py:samples"])
    _refused(result, "SNN606")
    assert "make.py:samples" in result.stderr
    assert snapshot(tmp_path) == before


def test_a_folder_that_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _furnish(tmp_path)
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    result = _call(["convert", f"{tmp_path}/good.onnx", "-o", "out.onnx", "--calibrate", "random:4"])
    _refused(result, "SNN60")
    result = _call(["inspect", f"{tmp_path}/good.onnx"])
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize("variable", ["TMPDIR", "HOME", "XDG_CACHE_HOME"])
def test_places_that_cannot_be_written_do_not_matter(
    variable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _furnish(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(variable, "/nowhere")
    monkeypatch.setattr(tempfile, "tempdir", None)
    result = _call(WRITERS["convert"])
    assert result.exit_code == 0, result.output
