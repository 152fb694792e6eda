"""Commands on models whose weights lie in data files."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest

Snnc = Callable[..., Any]
MODELS = Path(__file__).parents[2] / "examples/models"


@pytest.fixture
def external(tmp_path: Path) -> Path:
    """A trained network with its weights beside it."""
    path = tmp_path / "m.onnx"
    proto = onnx.load(MODELS / "fashion_cnn_t4g2.onnx")
    onnx.save(proto, path, save_as_external_data=True, location="m.onnx.data", size_threshold=0)
    return path


def test_conversion_from_a_data_file_gives_the_same_bytes(snnc: Snnc, external: Path, tmp_path: Path) -> None:
    for source, target in ((external, "a.onnx"), (MODELS / "fashion_cnn_t4g2.onnx", "b.onnx")):
        result = snnc("convert", source, "-o", tmp_path / target, "--quiet")
        assert result.exit_code == 0, result.stderr
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()


@pytest.mark.parametrize("through", ["name", "hard link"])
def test_data_of_the_input_is_never_overwritten(snnc, external: Path, tmp_path: Path, through: str) -> None:
    data = tmp_path / "m.onnx.data"
    target, before = data, data.read_bytes()
    flags = ["--force", "--quiet"]
    if through == "hard link":
        target = tmp_path / "other.onnx"
        os.link(data, target)
        flags.append("--allow-hardlinks")
    result = snnc("convert", external, "-o", target, *flags)
    assert result.exit_code == 2 and "SNN231" in result.stderr
    assert data.read_bytes() == before


def test_hard_links_need_a_flag(snnc: Snnc, external: Path, tmp_path: Path) -> None:
    os.link(tmp_path / "m.onnx.data", tmp_path / "second name")
    refused = snnc("inspect", external)
    assert refused.exit_code == 3 and "--allow-hardlinks" in refused.stderr
    assert snnc("inspect", external, "--allow-hardlinks").exit_code == 0
    assert snnc("--allow-hardlinks", "inspect", external).exit_code == 0
