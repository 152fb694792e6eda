"""Names with line feeds and escape sequences: no line of any output begins as such a name wants it to."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner
from onnx import numpy_helper

from snnc.cli.group import cli
from snnc.errors import InputError, Problem, Where
from tests.hostile.rows import V, W, model, node, tensor

FORGED = "error: SNN999 forged"
EVIL = f"a\n{FORGED}\x1b[31m\u202e"
COMMANDS = [
    "inspect good.onnx",
    "inspect good.onnx --why nothing",
    "inspect good.snn.onnx --data random:2",
    "verify good.onnx good.snn.onnx --data random:2",
    "compare good.onnx good.snn.onnx --data random:2 --sqnr 99",
    "audit good.snn.onnx",
    "audit bundle",
    "inspect bundle",
    "sim bundle",
    "disasm bundle",
    "emit good.snn.onnx -o again",
    "diff good.onnx good.snn.onnx",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("names")
    nodes = [
        node("MatMul", "x", "w", output=f"p{EVIL}", name=f"first{EVIL}"),
        node("Relu", f"p{EVIL}", output=f"r{EVIL}", name=f"relu{EVIL}"),
        node("MatMul", f"r{EVIL}", f"v{EVIL}", name=f"second{EVIL}"),
    ]
    weights = [W, tensor(numpy_helper.to_array(V), f"v{EVIL}")]
    (folder / "good.onnx").write_bytes(model(nodes, weights).SerializeToString())
    for line in (
        "convert {0}/good.onnx -o {0}/good.snn.onnx --calibrate random:4",
        "emit {0}/good.snn.onnx -o {0}/bundle",
    ):
        _spoken(line.format(folder), 0)
    return folder


def _spoken(line: str | list[str], *statuses: int) -> None:
    result = CliRunner().invoke(cli, line.split() if isinstance(line, str) else line)
    assert result.exit_code in statuses, result.output
    for stream in (result.stdout, result.stderr):
        assert not any(text.strip().startswith(FORGED) for text in stream.split("\n")), stream
        assert not set(stream) & set("\r\x1b\u202e"), stream


@pytest.mark.parametrize("command", COMMANDS)
def test_a_name_begins_no_line(command: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    _spoken(command, 0, 2, 5)


@pytest.mark.parametrize("words", [["convert", "{}"], ["explain", "{}"], ["{}"], ["convert", "--{}"]])
def test_an_argument_begins_no_line(words: list[str]) -> None:
    _spoken([word.replace("{}", f"{EVIL}/x") for word in words], 2, 3, 6)


def test_a_message_is_one_line() -> None:
    error = InputError("SNN301", EVIL, where=Where(node=EVIL), hint=EVIL, problems=[Problem(EVIL)])
    assert len(str(error).split("\n")) == 3
