"""``python -m snnc.train``: from a file of images to a network that ``snnc convert`` takes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

torch = pytest.importorskip("torch", reason="torch is an optional extra of snnc")

from snnc.cli.group import cli  # noqa: E402
from snnc.train.__main__ import main  # noqa: E402

NETWORK = """
from torch import nn
from snnc.nn import expg_activation

def build(classes, width=4, activation=expg_activation(4, 2)):
    return nn.Sequential(
        nn.Conv2d(1, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), activation(False),
        nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4 * width, classes),
    )
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    random = np.random.default_rng(0)
    labels = np.arange(64) % 3
    images = random.integers(0, 90, (64, 1, 8, 8), dtype=np.uint8)
    for k in range(3):
        images[labels == k, :, 2 * k : 2 * k + 3] += 150
    np.savez(tmp_path / "train.npz", x=images, y=labels)
    np.savez(tmp_path / "test.npz", x=images[:32], y=labels[:32])
    (tmp_path / "net.py").write_text(NETWORK)
    return tmp_path


def words(folder: Path, out: str, *more: object) -> list[str]:
    fixed = ["--train", folder / "train.npz", "--model", f"{folder / 'net.py'}:build", "--out", folder / out]
    usual = ["--epochs", 4, "--batch", 16, "--rate", 0.05, "--exporter", "torchscript", "--quiet"]
    return [str(word) for word in (*fixed, *usual, *more)]


def test_train_then_convert(folder):
    assert main(words(folder, "a", "--test", folder / "test.npz")) == 0
    result = json.loads((folder / "a" / "result.json").read_text())
    assert result["finished"] and result["test_samples"] == 32 and result["accuracy"] > 60
    done = CliRunner().invoke(cli, ["convert", str(folder / "a" / "network.onnx"), "--quiet"])
    assert done.exit_code == 0, done.output


def test_interrupted_run_ends_as_the_whole_one(folder):
    assert main(words(folder, "whole")) == 0
    assert main(words(folder, "parts", "--stop-after", 5)) == 0
    assert not (folder / "parts" / "network.onnx").exists()
    assert main(words(folder, "parts")) == 0
    one, two = ((folder / name / "network.onnx").read_bytes() for name in ("whole", "parts"))
    assert one == two


def test_fine_tuning_float_control_and_teacher(folder, capsys):
    assert main(words(folder, "float", "--float", "--no-export")) == 0
    y = dict(np.load(folder / "train.npz"))
    np.savez(folder / "train.npz", x=y["x"], y=y["y"] + 1)  # four classes now
    assert main(words(folder, "new", "--init", folder / "float" / "network.pt", "--no-export")) == 0
    assert "5.weight, 5.bias" in capsys.readouterr().err
    np.savez(folder / "train.npz", x=y["x"], y=y["y"])
    assert main(words(folder, "b", "--teacher", folder / "float" / "network.pt", "--no-export")) == 0
    assert main(words(folder, "c", "--teacher", folder / "new" / "network.pt", "--no-export")) == 3


@pytest.mark.parametrize(
    ("more", "status", "text"),
    [
        (["--model", "resnet"], 2, "SNN218.*FILE.py:FUNCTION"),
        (["--model", "ge2mst-huge"], 2, "SNN217"),
        (["--model", "none.py:f"], 3, "SNN301"),
        (["--model", "json:nothing"], 2, "SNN218"),
        (["--set", "wide=3"], 2, "SNN218.*'wide'"),
        (["--set", "nothing"], 2, "SNN218.*NAME=VALUE"),
        (["--epochs", "-1"], 2, "SNN218"),
        (["--test", "none.npz"], 3, "SNN301"),
        (["--mean", "1", "2"], 2, "SNN218"),
        (["--init", "none.pt"], 3, "SNN301"),
    ],
)
def test_mistakes_are_one_error(folder, capsys, more, status, text):
    import re

    assert main(words(folder, "a", *more)) == status
    err = capsys.readouterr().err
    assert err.startswith("error: ") and re.search(text, err, re.DOTALL)
    assert "Traceback" not in err


def test_ge2mst_takes_channels_and_classes_from_the_data(folder):
    small = ["--set", "widths=(4,4,8,8,8)", "--set", "depths=(0,1,0,0)", "--set", "heads=(2,2,2)"]
    small += ["--set", "chunks=(1,1,1)", "--set", "stem_stride=1", "--epochs", "1", "--no-export"]
    assert main(words(folder, "g", "--model", "ge2mst-small", *small)) == 0
    state = torch.load(folder / "g" / "network.pt", weights_only=True)["network"]
    assert state["stem.0.weight"].shape == (4, 1, 7, 7) and len(state["head.3.bias"]) == 3


def test_figures_are_in_tensorboards_form(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    assert main(words(folder, "a", "--log-steps", 4, "--no-export")) == 0
    events = EventAccumulator(str(folder / "a")).Reload()
    assert {"train/loss", "train/rate", "train/alpha"} <= set(events.Tags()["scalars"])
    assert [each.step for each in events.Scalars("train/loss")] == [4, 8, 12, 16]


@pytest.mark.slow
def test_two_processes_train_one_network_slice(folder):
    """Each takes half of every batch; both end with the same parameters (the loop checks it)."""
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nproc-per-node",
        "2",
        "--master-port",
        "29517",
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    for out, more in (("two", ["--stop-after", "6"]), ("two", []), ("again", [])):
        done = subprocess.run(
            [*command, "-m", "snnc.train", *words(folder, out, "--test", folder / "test.npz", *more)],
            capture_output=True,
            text=True,
            env=environment,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    result = json.loads((folder / "two" / "result.json").read_text())
    assert result["processes"] == 2 and result["accuracy"] > 60
    one, two = ((folder / name / "network.onnx").read_bytes() for name in ("two", "again"))
    assert one == two
    # One process cannot go on where two stopped: its steps would differ.
    assert main(words(folder, "two")) == 2
