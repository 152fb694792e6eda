"""``snnc init`` and ``snnc completion``: the first things a new user runs."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

from snnc import ir
from snnc.demo import FILES


def test_the_example_converts_without_a_flag(tmp_path, snnc, validate, monkeypatch):
    monkeypatch.chdir(tmp_path)
    told = validate(snnc("init", "demo", "--json").stdout, "init")
    assert {entry["name"] for entry in told["files"]} == set(FILES)
    assert {path.name for path in (tmp_path / "demo").iterdir()} == set(FILES)
    assert sum(entry["bytes"] for entry in told["files"]) < 1_000_000
    data = np.load("demo/calib.npz")
    np.savez("eight.npz", x=data["x"][:8])
    np.save("eight.npy", np.load("demo/labels.npy")[:8])
    assert data["x"].shape == (256, 1, 28, 28)
    for name in ("vit", "cnn"):
        model = ir.load(f"demo/{name}.onnx")
        assert [value.name for value in model.graph.inputs] == data.files
    # The commands that it prints are true.
    for line in told["next"]:
        # All 256 samples in six runtimes take a while; tests/first_ten_minutes.sh takes them.
        done = snnc(*line.replace("demo/labels.npy", "eight.npy").replace("demo/calib", "eight").split()[1:])
        assert done.exit_code == 0, done.output
    assert "bit-identical" in done.stdout


def test_nothing_is_replaced_unless_forced(tmp_path, snnc, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo" / "recipe.toml").write_text("mine")
    refused = snnc("init", "demo")
    assert refused.exit_code == 2
    assert "SNN230" in refused.stderr
    assert [path.name for path in (tmp_path / "demo").iterdir()] == ["recipe.toml"]
    assert snnc("init", "demo", "--force").exit_code == 0
    first = {path.name: path.read_bytes() for path in (tmp_path / "demo").iterdir()}
    assert snnc("init", "again/deeper").exit_code == 0
    assert {path.name: path.read_bytes() for path in (tmp_path / "again/deeper").iterdir()} == first


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_ask_snnc(snnc, validate, shell):
    script = snnc("completion", shell).stdout
    assert "_SNNC_COMPLETE" in script
    assert (
        validate(snnc("completion", shell, "--json").stdout, "completion")["script"].strip() == script.strip()
    )


@pytest.mark.parametrize(
    "variables",
    [
        {"_SNNC_COMPLETE": "x"},
        {"_SNNC_COMPLETE": "tcsh_source"},
        {"_SNNC_COMPLETE": "bash_\x1b"},
        {"_SNNC_COMPLETE": "bash_complete"},
        {"_SNNC_COMPLETE": "fish_complete"},
        {"_SNNC_COMPLETE": "bash_complete", "COMP_WORDS": "snnc co", "COMP_CWORD": "one"},
    ],
)
def test_odd_words_in_the_variable_of_shells_are_one_error(snnc, monkeypatch, variables):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    for words in ((), ("inspect", "model.onnx"), ("--json", "doctor")):
        done = snnc(*words)
        assert done.exit_code == 2 and done.stderr.count("SNN200") == 1, done.stderr
        assert "_SNNC_COMPLETE asks for" in done.stderr and "unset _SNNC_COMPLETE" in done.stderr
        assert "\x1b" not in done.stderr + done.stdout and bool(done.stdout) == ("--json" in words)


def completed(words: str) -> list[str]:
    """What bash is told of the last of some words."""
    environment = {**os.environ, "_SNNC_COMPLETE": "bash_complete", "COMP_WORDS": words}
    environment["COMP_CWORD"] = str(len(words.split(" ")) - 1)
    child = [sys.executable, "-m", "snnc"]
    done = subprocess.run(child, env=environment, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    return done.stdout.split()


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        ("snnc co", ["plain,completion", "plain,convert"]),
        ("snnc convert --part", ["plain,--partition"]),
        ("snnc convert --partition cont", ["plain,contiguous"]),
        ("snnc convert mod", ["file,mod"]),
        ("snnc convert m.onnx --allow-host LayerN", ["plain,LayerNormalization"]),
        ("snnc run --input x", ["file,x"]),
        ("snnc init d", ["dir,d"]),
        ("snnc nothing-like-it x", []),
    ],
)
def test_words_are_completed(words, wanted):
    assert [word for word in completed(words) if word in wanted or not wanted] == wanted
