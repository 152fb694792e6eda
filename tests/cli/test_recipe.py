"""``snnc convert --recipe``: precedence, saving, refusals."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

SOURCES = Path(__file__).resolve().parents[1] / "sources"


@pytest.fixture
def folder(home):
    shutil.copy(SOURCES / "qcfs_dynamo.onnx", home / "cnn.onnx")
    return home


def options_of(result):
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)["options"]


def test_flags_win_over_variables_over_recipe_over_defaults(folder, snnc, monkeypatch):
    (folder / "r.toml").write_text('timesteps = 5\ngroups = 3\nweights = "int5"')
    monkeypatch.setenv("SNNC_GROUPS", "2")
    monkeypatch.setenv("SNNC_WEIGHTS", "int6")
    found = options_of(snnc("convert", "cnn.onnx", "--recipe", "r.toml", "--weights", "int7", "--json"))
    assert found["timesteps"] == 5
    assert found["groups"] == 2
    assert found["weights"] == "int7"
    assert found["partition"] == "interleaved"
    monkeypatch.setenv("SNNC_RECIPE", "r.toml")
    found = options_of(snnc("convert", "cnn.onnx", "--json", "--force"))
    assert (found["timesteps"], found["groups"], found["weights"]) == (5, 2, "int6")


def test_a_saved_recipe_gives_the_same_bytes(folder, snnc):
    arguments = ("--timesteps", "3", "--groups", "2", "--weights", "int6", "--calibrate", "random:4")
    assert snnc("convert", "cnn.onnx", *arguments, "-o", "a.onnx", "--save-recipe", "r.toml").exit_code == 0
    text = (folder / "r.toml").read_text()
    assert text.startswith("# snnc ")
    assert 'weights = "int6"' in text
    assert str(folder) not in text
    saved = ("--recipe", "r.toml", "-o", "b.onnx", "--save-recipe", "again.toml")
    assert snnc("convert", "cnn.onnx", *saved).exit_code == 0
    assert (folder / "a.onnx").read_bytes() == (folder / "b.onnx").read_bytes()
    assert (folder / "again.toml").read_text() == text


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["--recipe", "wrong.toml"], 2, "did you mean groups?"),
        (["--recipe", "none.toml"], 3, "no such file"),
        (["--recipe", "good.toml", "-o", "good.toml", "--force"], 2, "same file as the input"),
        (["--recipe", "good.toml", "--save-recipe", "good.toml", "--force"], 2, "same file as the input"),
        (["--save-recipe", "good.toml"], 2, "exists already"),
        (["--save-recipe", "none/r.toml"], 6, "does not exist"),
        (["-o", "out.onnx", "--save-recipe", "out.onnx"], 2, "same file"),
    ],
)
def test_refusals(folder, snnc, arguments, code, text):
    (folder / "wrong.toml").write_text("gropus = 8")
    (folder / "good.toml").write_text("groups = 2")
    result = snnc("convert", "cnn.onnx", *arguments)
    assert result.exit_code == code, result.output
    assert text in result.stderr
    assert result.stderr.count("error:") == 1
    assert not list(folder.glob("*.snn.onnx")) or list(folder.glob("*.snn.onnx")) == [folder / "net.snn.onnx"]


def test_rules_of_flags_come_behind_those_of_the_recipe(folder, snnc, monkeypatch):
    (folder / "r.toml").write_text('[[layers]]\nmatch = "mul_*"\ntimesteps = 5\n')
    arguments = ("convert", "cnn.onnx", "--recipe", "r.toml", "--json", "--force")
    assert options_of(snnc(*arguments))["layers"] == ["mul_*:timesteps=5"]
    found = options_of(snnc(*arguments, "--layer", "mul_20:groups=1", "--layer", "*:role=last,weights=int4"))
    assert found["layers"] == ["mul_*:timesteps=5", "mul_20:groups=1", "*:role=last,weights=int4"]
    monkeypatch.setenv("SNNC_LAYER", "mul_43:groups=2 mul_63:groups=2")
    found = options_of(snnc(*arguments))
    assert found["layers"] == ["mul_*:timesteps=5", "mul_43:groups=2", "mul_63:groups=2"]
    result = snnc("inspect", "cnn.snn.onnx", "--json")
    assert result.exit_code == 0
    result = snnc("convert", "cnn.onnx", "--layer", "mul_21:groups=1", "--force")
    assert result.exit_code == 2
    assert "did you mean mul_20" in result.stderr
