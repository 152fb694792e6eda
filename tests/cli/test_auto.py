"""``snnc convert --auto``: targets that are met, targets that cannot be, and how it says so."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from snnc.auto import parse_target
from snnc.errors import UsageError


@pytest.fixture(scope="module")
def folder(net: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A float network of three layers with spikes, and samples."""
    home = tmp_path_factory.mktemp("auto")
    made = net(5)
    value = made.op("Relu", [made.matmul(made.input(["N", 12]), (12, 24))], name="one")
    value = made.op("Relu", [made.op("MatMul", [value, made.const(made.normal(24, 24))])], name="two")
    value = made.op("Relu", [made.op("MatMul", [value, made.const(made.normal(24, 24))])], name="three")
    made.output(made.op("MatMul", [value, made.const(made.normal(24, 4))], name="head"))
    made.save(home)
    images = np.random.default_rng(0).standard_normal((96, 12)).astype(np.float32)
    np.savez(home / "x.npz", x=images)
    np.save(home / "y.npy", np.arange(96) % 4)
    return home


@pytest.fixture
def inside(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("COLUMNS", "80")
    yield folder
    for path in [*folder.glob("*.snn.onnx"), *folder.glob("*.toml")]:
        path.unlink()


@pytest.mark.parametrize(
    ("text", "kind", "value", "relative"),
    [
        ("loss=0.5", "loss", 0.5, False),
        ("loss = 1 %", "loss", 1.0, False),
        ("spikes=.8", "spikes", 0.8, False),
        ("energy=2.0uJ", "energy", 2e6, False),
        ("energy=3nJ", "energy", 3e3, False),
        ("energy=0.5x", "energy", 0.5, True),
    ],
)
def test_targets(text: str, kind: str, value: float, relative: bool) -> None:
    found = parse_target(text)
    assert (found.kind, found.value, found.relative) == (kind, value, relative)


@pytest.mark.parametrize(
    "text", ["", "loss", "loss=-1", "loss=nan", "energy=2", "energy=0x", "spikes=1uJ", "x=1"]
)
def test_what_is_no_target(text: str) -> None:
    with pytest.raises(UsageError, match=r"target|budget"):
        parse_target(text)


@pytest.mark.parametrize("target", ["energy=0.6x", "spikes=0.5", "loss=12"])
def test_a_target_is_met_on_samples_that_were_held_out(
    inside: Path, snnc: Any, validate: Any, target: str
) -> None:
    arguments = ("convert", "net.onnx", "--calibrate", "x.npz", "--auto", target)
    result = snnc(*arguments, "--save-recipe", "r.toml", "--json")
    assert result.exit_code == 0, result.output
    auto = validate(result.stdout, "convert")["auto"]
    chosen, default = auto["chosen"], auto["default"]
    assert auto["met"]
    assert (auto["fitted"], auto["judged"]) == (48, 48)
    if target.startswith("energy"):
        assert chosen["energy_pj"] <= 0.6 * default["energy_pj"]
    elif target.startswith("spikes"):
        assert chosen["spikes"] <= 0.5 < default["spikes"]
    else:
        assert chosen["loss"] <= 12
        assert chosen["energy_pj"] <= default["energy_pj"]
    # The choice is in the recipe, the target is not: converting with it gives the same bytes.
    recipe = tomllib.loads((inside / "r.toml").read_text())
    assert "auto" not in recipe
    assert snnc("convert", "net.onnx", "--recipe", "r.toml", "-o", "again.snn.onnx").exit_code == 0
    assert (inside / "net.snn.onnx").read_bytes() == (inside / "again.snn.onnx").read_bytes()


def test_codes_differ_from_layer_to_layer_and_two_searches_agree(inside: Path, snnc: Any) -> None:
    arguments = ("convert", "net.onnx", "--calibrate", "x.npz", "--auto", "energy=0.7x", "--force", "--json")
    first, second = (json.loads(snnc(*arguments).stdout) for _ in range(2))
    assert first == second
    chosen = {row["name"]: tuple(row["chosen"].values()) for row in first["auto"]["sensitivity"]}
    assert set(chosen) == {"one", "two", "three"}
    assert len(set(chosen.values())) > 1
    neurons = [row for row in first["cost"]["layers"] if row["kind"] == "neuron"]
    assert {(row["timesteps"], row["groups"]) for row in neurons} == set(chosen.values())


def test_rules_of_the_user_stay_and_options_bound_the_search(inside: Path, snnc: Any) -> None:
    arguments = ("--auto", "energy=0.9x", "--layer", "two:timesteps=3,groups=3", "--timesteps", "4")
    result = snnc("convert", "net.onnx", "--calibrate", "x.npz", *arguments, "--json")
    assert result.exit_code == 0, result.output
    content = json.loads(result.stdout)
    assert {row["name"] for row in content["auto"]["sensitivity"]} == {"one", "three"}
    assert content["options"]["layers"][-1] == "two:timesteps=3,groups=3"
    neurons = [row for row in content["cost"]["layers"] if row["kind"] == "neuron"]
    assert max(row["timesteps"] for row in neurons) <= 4


@pytest.mark.parametrize("target", ["energy=0.0001x", "spikes=0.0001"])
def test_a_target_that_cannot_be_met_is_an_error_that_says_what_can(
    inside: Path, snnc: Any, target: str
) -> None:
    result = snnc("convert", "net.onnx", "--calibrate", "x.npz", "--auto", target)
    assert result.exit_code == 5
    assert "SNN530" in result.stderr
    assert "NOT met" in result.stdout
    assert not list(inside.glob("*.snn.onnx"))
    nearest = re.search(r"--auto (\S+),", result.stderr)
    assert nearest is not None
    assert parse_target(nearest[1]).value > 0


def test_labels_say_what_is_right(inside: Path, snnc: Any) -> None:
    result = snnc("convert", "net.onnx", "--calibrate", "x.npz", "--auto", "loss=3", "--labels", "y.npy")
    assert result.exit_code == 0, result.output
    assert "accuracy lost" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["--auto", "loss=1"], 2, "add --calibrate"),
        (["--auto", "los=1", "--calibrate", "x.npz"], 2, "no target"),
        (["--auto", "loss=1", "--calibrate", "random:3"], 2, "4 samples"),
        (["--labels", "y.npy", "--calibrate", "x.npz"], 2, "--auto"),
        (["--auto", "loss=1", "--calibrate", "x.npz", "--labels", "x.npz"], 3, "label"),
        (["--auto", "loss=1", "--calibrate", "random:8", "--labels", "y.npy"], 3, "96 labels for 8"),
        (["--auto", "spikes=1", "--calibrate", "x.npz", "--layer", "*:groups=2"], 4, "nothing is left"),
    ],
)
def test_refusals(inside: Path, snnc: Any, arguments: list[str], code: int, text: str) -> None:
    result = snnc("convert", "net.onnx", *arguments)
    assert result.exit_code == code, result.output
    assert text in result.stderr
    assert not list(inside.glob("*.snn.onnx"))
