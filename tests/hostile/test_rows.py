"""Hostile input through the command line: one clear error with its status, or a sound conversion."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from snnc.cli.group import cli
from tests.hostile.data_rows import DATA, FORMATS, RECIPES, SPIKING
from tests.hostile.file_rows import EXTERNAL, FILES
from tests.hostile.model_rows import GRAPHS, TENSORS
from tests.hostile.parameter_rows import PARAMETERS
from tests.hostile.rows import Row, W, model, node, tensor
from tests.hostile.tampered_rows import SOURCES, TAMPERED

ROWS = [
    *(*FILES, *EXTERNAL, *TENSORS, *GRAPHS, *PARAMETERS, *DATA),
    *(*RECIPES, *SPIKING, *FORMATS, *TAMPERED, *SOURCES),
]
FAMILY = {2: "SNN2", 3: "SNN3", 4: "SNN4", 5: "SNN5", 6: "SNN6"}


def test_names_are_unique() -> None:
    assert len({str(row) for row in ROWS}) == len(ROWS) > 200


@pytest.mark.timeout(60)
@pytest.mark.parametrize("row", ROWS, ids=str)
def test_what_becomes_of_it(row: Row, outcome: Callable[[Row], Result]) -> None:
    result = outcome(row)
    text = result.stderr
    assert result.exit_code == row.status, result.output
    assert "Traceback" not in result.output and "Warning" not in result.output
    assert not any(ord(letter) < 32 and letter != "\n" for letter in result.output), "raw control characters"
    if not row.status:
        assert not text
        return
    lines = text.splitlines()
    assert lines[0].startswith(f"error: {FAMILY[row.status]}") and text.count("error:") == 1, text
    assert lines[0].startswith(f"error: {row.code}"), text
    assert row.file in text
    assert all(word in text for word in row.words), text
    assert "hint: " in text, text
    assert len(lines[0]) < 1500 and len(text) < 20_000
    assert row.status == 5 or not result.stdout


def test_a_tensor_with_a_note_converts(tmp_path: Path) -> None:
    """What a file says about a small constant that survives the conversion is dropped, not set."""
    shape = tensor(np.array([-1, 2, 2]), "shape", np.int64)
    shape.doc_string = "a note"
    nodes = [
        node("MatMul", "x", "w", output="p", name="first"),
        node("Relu", "p", output="r", name="relu"),
        node("MatMul", "r", "v", output="q", name="second"),
        node("Reshape", "q", "shape", name="shaped"),
    ]
    proto = model(nodes, [W, tensor(np.ones((3, 4)), "v"), shape])
    (tmp_path / "m.onnx").write_bytes(proto.SerializeToString())
    convert = ["convert", f"{tmp_path}/m.onnx", "-o", f"{tmp_path}/out.onnx", "--calibrate", "random:4"]
    result = CliRunner().invoke(cli, convert)
    assert result.exit_code == 0, result.output
    assert b"a note" not in (tmp_path / "out.onnx").read_bytes()
