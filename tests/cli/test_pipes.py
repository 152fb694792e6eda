"""``-`` for stdin and stdout; a converted file as the recipe of its own conversion."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from snnc.cli.group import cli

SOURCES = Path(__file__).resolve().parents[1] / "sources"


@pytest.fixture
def folder(home):
    shutil.copy(SOURCES / "qcfs_dynamo.onnx", home / "cnn.onnx")
    shutil.copy(SOURCES / "gelu_dynamo.onnx", home / "float.onnx")
    return home


def run(words, data=b""):
    """Run the command line with bytes on stdin; one test does it in a process of its own."""
    return CliRunner().invoke(cli, words, input=data)


def test_a_process_gives_the_bytes_of_a_file(folder, snnc):
    assert snnc("convert", "cnn.onnx", "-o", "file.onnx").exit_code == 0
    data = (folder / "cnn.onnx").read_bytes()
    child = [sys.executable, "-m", "snnc", "convert", "-", "-o", "-"]
    done = subprocess.run(child, input=data, capture_output=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout == (folder / "file.onnx").read_bytes()


def test_a_pipe_gives_the_bytes_of_a_file(folder, snnc):
    assert snnc("convert", "cnn.onnx", "-o", "file.onnx").exit_code == 0
    wanted = (folder / "file.onnx").read_bytes()
    before = sorted(path.name for path in folder.iterdir())
    for words in (["-"], ["cnn.onnx", "-o", "-", "--quiet"]):
        done = run(["convert", *words], (folder / "cnn.onnx").read_bytes())
        assert done.exit_code == 0, done.stderr
        assert done.stdout_bytes == wanted, words
        assert (done.stderr == "") == ("--quiet" in words)
    assert sorted(path.name for path in folder.iterdir()) == before
    done = run(["convert", "-", "-o", "piped.onnx"], (folder / "cnn.onnx").read_bytes())
    assert done.exit_code == 0
    assert (folder / "piped.onnx").read_bytes() == wanted


@pytest.mark.parametrize(
    ("words", "data", "code", "text"),
    [
        (["-", "-o", "-"], b"", 3, "SNN302: file '-'"),
        (["-", "-o", "-"], b"<html>", 3, "HTML page"),
        (["-", "-o", "-", "--json"], b"", 2, "SNN257"),
        (["missing.onnx", "-o", "-"], b"", 3, "SNN301"),
    ],
)
def test_a_refused_stream_gives_no_byte(folder, words, data, code, text):
    done = run(["convert", *words], data)
    assert done.exit_code == code, done.stderr
    assert text in done.stderr
    assert "snnc-" not in done.stderr
    assert "--json" in words or done.stdout_bytes == b""


def test_a_converted_file_repeats_its_own_conversion(folder, snnc):
    first = ["float.onnx", "--timesteps", "5", "--groups", "3", "--calibrate", "random:6", "--seed", "4"]
    assert snnc("convert", *first, "-o", "a.snn.onnx").exit_code == 0
    words = ["convert", "float.onnx", "--recipe", "a.snn.onnx", "--calibrate"]
    again = snnc(*words, "random:6", "-o", "b.snn.onnx")
    assert again.exit_code == 0, again.output
    assert (folder / "a.snn.onnx").read_bytes() == (folder / "b.snn.onnx").read_bytes()
    assert "again" not in again.stderr
    other = snnc(*words, "random:7", "--groups", "2", "-o", "c.snn.onnx")
    assert other.exit_code == 0
    said = " ".join(other.stderr.split())
    assert "not the conversion of a.snn.onnx again: other settings, other calibration data" in said
    refused = snnc("convert", "cnn.onnx", "--recipe", "cnn.onnx")
    assert (refused.exit_code, "SNN305" in refused.stderr) == (3, True)
