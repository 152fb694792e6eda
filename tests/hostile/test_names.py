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


@pytest.mark.parametrize("place", [".", "..", "/", ""])
@pytest.mark.parametrize(
    "command",
    ["convert", "reduce --fails convert", "report --data random:2"],
)
def test_a_place_without_a_name(
    command: str, place: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    result = CliRunner().invoke(cli, [*command.split(), place])
    assert result.exit_code in (3, 6) and result.stderr.count("error: SNN") == 1, result.output


@pytest.mark.parametrize("words", [["convert", "{}"], ["explain", "{}"], ["{}"], ["convert", "--{}"]])
def test_an_argument_begins_no_line(words: list[str]) -> None:
    _spoken([word.replace("{}", f"{EVIL}/x") for word in words], 2, 3, 6)


def test_a_message_is_one_line() -> None:
    error = InputError("SNN301", EVIL, where=Where(node=EVIL), hint=EVIL, problems=[Problem(EVIL)])
    assert len(str(error).split("\n")) == 3


def test_a_report_of_files_whose_names_are_no_text(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    name = b"\xff<blink>".decode("utf-8", "surrogateescape")
    (tmp_path / f"{name}.onnx").write_bytes((folder / "good.snn.onnx").read_bytes())
    line = ["report", f"{name}.onnx", "--data", "random:2", "--trade-off", "none", "--no-plots"]
    _spoken([*line, "-o", f"{name}.html"], 0)
    page = (tmp_path / f"{name}.html").read_text(encoding="utf-8")
    assert "udcff" in page and "<blink>" not in page


@pytest.mark.parametrize(
    "command",
    [
        "report good.snn.onnx --data random:2 --trade-off none --no-plots -o loop",
        "run good.snn.onnx --input random:2 --output y.npz --trace loop.npz",
    ],
)
def test_an_output_that_is_a_link_to_itself(
    command: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "good.snn.onnx").write_bytes((folder / "good.snn.onnx").read_bytes())
    for name in ("loop", "loop.npz"):
        (tmp_path / name).symlink_to(name)
    _spoken(command, 2)
    assert (tmp_path / command.rsplit(maxsplit=1)[-1]).is_symlink()
    _spoken(f"{command} --force", 0)
    assert (tmp_path / command.rsplit(maxsplit=1)[-1]).stat().st_size > 100
