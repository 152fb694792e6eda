"""What a user does with the shipped network on the command line, and what goes wrong on the way."""

from __future__ import annotations

import json
import resource
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from snnc.arrays import read_arrays
from snnc.cli.group import cli

MODELS = Path(__file__).resolve().parents[2] / "examples" / "models"


def snnc(*arguments: object) -> Result:
    """Run a command in this process; stdout and stderr are kept apart."""
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two trained networks, one of them converted, and eight images with labels."""
    folder = tmp_path_factory.mktemp("user")
    for groups in (2, 4):
        shutil.copy(MODELS / f"fashion_cnn_t4g{groups}.onnx", folder / f"g{groups}.onnx")
    sample = read_arrays(MODELS / "fashion_sample.npz")
    np.savez(folder / "x.npz", x=sample["x"][:8], labels=sample["labels"][:8])
    done = snnc("convert", folder / "g2.onnx", "--timesteps", 4, "--groups", 2, "-o", folder / "g2.snn.onnx")
    assert done.exit_code == 0, done.output
    return folder


@pytest.fixture
def home(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fresh copy of the folder, made the working folder."""
    shutil.copytree(made, tmp_path / "home")
    monkeypatch.chdir(tmp_path / "home")
    monkeypatch.setenv("COLUMNS", "100")
    return tmp_path / "home"


def logits(source: str) -> Any:
    done = snnc("run", "g2.snn.onnx", "--input", source, "--output", "y.npz", "--force")
    assert done.exit_code == 0, done.output
    return read_arrays("y.npz")["logits"].view(np.int32)


def test_inspect_knows_a_trained_network(home: Path) -> None:
    result = snnc("inspect", "g2.onnx")
    assert result.exit_code == 0
    assert "ann, with quantisers of snnc" in result.stdout
    assert "not a valid" not in result.stdout


def test_labels_beside_the_samples(home: Path) -> None:
    """One file may hold both: verify takes what it needs."""
    result = snnc("verify", "g2.onnx", "g2.snn.onnx", "--data", "x.npz", "--labels", "x.npz", "--json")
    assert result.exit_code == 0, result.output
    content = json.loads(result.stdout)
    accuracy = content["accuracy"]
    assert {"source", "oracle", "numpy", "numpy-timestep", "onnxruntime (all)"} <= set(accuracy)
    assert {accuracy[name] for name in accuracy if name != "source"} == {accuracy["oracle"]}
    assert accuracy["oracle"] >= 0.5


def test_every_way_to_give_the_same_samples(home: Path) -> None:
    x = read_arrays("x.npz")["x"]
    expected = logits("x.npz")
    np.save("x.npy", x)
    np.savez("double.npz", x=x.astype(np.float64))
    np.savez("key.npz", anything=x)
    np.save("fortran.npy", np.asfortranarray(x))
    np.save("swapped.npy", x.astype(">f4"))
    Path("folder").mkdir()
    np.save("folder/x.npy", x)
    for source in ("x.npy", "double.npz", "key.npz", "fortran.npy", "swapped.npy", "folder"):
        np.testing.assert_array_equal(logits(source), expected, err_msg=source)


def test_pixels_as_bytes_are_numbers(home: Path) -> None:
    """Integers are cast, not scaled: the network gets what the file holds."""
    pixels = (read_arrays("x.npz")["x"] * 255).round().astype(np.uint8)
    np.save("bytes.npy", pixels)
    np.save("floats.npy", pixels.astype(np.float32))
    np.testing.assert_array_equal(logits("bytes.npy"), logits("floats.npy"))


def test_swapped_model_fails_and_is_named(home: Path) -> None:
    result = snnc("verify", "g4.onnx", "g2.snn.onnx", "--data", "x.npz")
    assert result.exit_code == 5
    assert "bit-identical" not in result.stdout
    assert "made from another model than g4.onnx" in " ".join(result.stdout.split())
    assert "error: SNN510: tensor 'stem.1.out'" in result.stderr


def test_network_of_another_kind_is_refused(home: Path) -> None:
    source = MODELS / "fashion_transformer_t4g2.onnx"
    result = snnc("verify", source, "g2.snn.onnx", "--data", "x.npz")
    assert result.exit_code == 5
    assert "SNN511" in result.stderr


@pytest.mark.parametrize(
    ("shape", "text"),
    [
        ((8, 784), "found shape [8, 784]"),
        ((8, 28, 28), "add the sample axis"),
        ((8, 28, 28, 1), "found shape [8, 28, 28, 1]"),
        ((0, 1, 28, 28), "holds no samples"),
    ],
)
def test_wrong_shapes(home: Path, shape: tuple[int, ...], text: str) -> None:
    np.save("wrong.npy", np.zeros(shape, np.float32))
    before = sorted(home.iterdir())
    for arguments in (
        ("run", "g2.snn.onnx", "--input", "wrong.npy", "--output", "out.npz"),
        ("verify", "g2.onnx", "g2.snn.onnx", "--data", "wrong.npy"),
        ("inspect", "g2.snn.onnx", "--data", "wrong.npy"),
    ):
        result = snnc(*arguments)
        assert result.exit_code == 3, arguments
        assert text in result.stderr
        assert result.stderr.count("error:") == 1
    assert sorted(home.iterdir()) == before


def test_full_disk_leaves_no_partial_file(home: Path) -> None:
    """A limit of 50 kB on the size of files stands for a full disk; the model needs more."""
    before = sorted(home.iterdir())
    done = subprocess.run(
        [sys.executable, "-m", "snnc", "convert", "g4.onnx"],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 6, done.stderr
    errors = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert len(errors) == 1 and errors[0].startswith("error: SNN603: file 'g4.snn.onnx'")
    assert sorted(home.iterdir()) == before
