"""``python -m snnc.train``: from a file of images to a network that ``snnc convert`` takes."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

torch = pytest.importorskip("torch", reason="torch is an optional extra of snnc")

from snnc.cli.group import cli  # noqa: E402
from snnc.train.__main__ import main  # noqa: E402
from tests.train.runs import NETWORK, words  # noqa: E402


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


@pytest.mark.parametrize(
    ("more", "text"),
    [
        (["--set", "width=4"], "settings was"),
        (["--mean", "0.5"], "mean was"),
        (["--no-mirror"], "mirror was"),
        (["--float"], "SNN353|codes was"),
    ],
)
def test_a_run_is_not_gone_on_with_as_another_one(folder, capsys, more, text):
    """Nothing of this is in the tensors of a checkpoint: another network would come out without a word."""
    assert main(words(folder, "a", "--stop-after", 5)) == 0
    assert main(words(folder, "a", *more)) in (2, 3)
    assert re.search(text, capsys.readouterr().err)
    assert main(words(folder, "a", "--no-export")) == 0


def test_a_run_is_not_gone_on_with_at_other_codes_data_or_teacher(folder, capsys):
    text = NETWORK.replace("expg_activation(4, 2)", "expg_activation(4, 4)")
    assert main(words(folder, "float", "--float", "--no-export")) == 0
    assert main(words(folder, "a", "--stop-after", 5)) == 0
    assert main(words(folder, "a", "--teacher", folder / "float" / "network.pt")) == 2
    assert "teacher was None" in capsys.readouterr().err
    assert main(words(folder, "a", "--init", folder / "float" / "network.pt")) == 2
    assert "init was None" in capsys.readouterr().err
    (folder / "net.py").write_text(text)
    assert main(words(folder, "a")) == 2
    assert "codes was ['T=4, G=2" in capsys.readouterr().err
    (folder / "net.py").write_text(NETWORK)
    held = dict(np.load(folder / "train.npz"))
    np.savez(folder / "train.npz", x=held["x"][::-1], y=held["y"][::-1])
    assert main(words(folder, "a")) == 2
    assert "data was" in capsys.readouterr().err


def test_test_folders_take_the_classes_of_the_training_folders(folder, capsys):
    """A test folder that lacks a class would shift the labels of all behind it."""
    pillow = pytest.importorskip("PIL.Image", reason="needs Pillow")
    for split, names in (("one", "abc"), ("two", "bc"), ("three", "bd")):
        for name in names:
            (folder / split / name).mkdir(parents=True)
            for number in range(4):
                image = pillow.new("RGB", (8, 8), (80 * "abcd".index(name), 0, 0))
                image.save(folder / split / name / f"{number}.png")
    fixed = ["--train", folder / "one", "--model", f"{folder / 'net.py'}:build", "--out", folder / "o"]
    usual = ["--size", 8, "--epochs", 1, "--batch", 4, "--no-export", "--quiet", "--set", "inputs=3"]
    assert main([str(word) for word in (*fixed, "--test", folder / "two", *usual)]) == 0
    result = json.loads((folder / "o" / "result.json").read_text())
    assert result["classes"] == ["a", "b", "c"] and result["test_samples"] == 8
    assert main([str(word) for word in (*fixed, "--test", folder / "three", *usual)]) == 3
    assert re.search(r"SNN352.*have not: d", capsys.readouterr().err)


def test_a_full_disk_is_one_error_and_leaves_the_last_checkpoint(folder):
    """A limit on the size of files stands for it; the same run then goes on without the limit."""
    assert main(words(folder, "a", "--stop-after", 4, "--no-export")) == 0
    before = (folder / "a" / "checkpoint.pt").read_bytes()
    limit = "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
    limit += "resource.setrlimit(resource.RLIMIT_FSIZE, (3000, resource.RLIM_INFINITY)); "
    run = "import sys; from snnc.train.__main__ import main; sys.exit(main(sys.argv[1:]))"
    # The limit would end what measures coverage, too.
    plain = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}
    done = subprocess.run(
        [sys.executable, "-c", limit + run, *words(folder, "a", "--no-export")],
        capture_output=True, text=True, check=False, env=plain,
    )  # fmt: skip
    assert done.returncode == 6 and "error: SNN603" in done.stderr and "Traceback" not in done.stderr
    assert (folder / "a" / "checkpoint.pt").read_bytes() == before
    assert not list((folder / "a").glob("*.tmp"))
    assert main(words(folder, "a", "--no-export")) == 0


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)]
)
def test_a_run_that_is_stopped_by_a_signal_ends_as_the_whole_one(folder, number, status):
    more = ["--epochs", 400, "--no-export", "--log-steps", 1]
    process = subprocess.Popen(
        [sys.executable, "-m", "snnc.train", *words(folder, "parts", *more)],
        stderr=subprocess.PIPE,
        text=True,
    )
    lines = folder / "parts" / "metrics.jsonl"
    while not lines.is_file() or lines.read_text().count("\n") < 20:
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.02)
    process.send_signal(number)
    err = process.communicate()[1]
    assert process.returncode == status and "Traceback" not in err
    reached = torch.load(folder / "parts" / "checkpoint.pt")["steps"]
    if number != signal.SIGKILL:
        assert f"goes on from step {reached + 1}\n" in err
        assert json.loads(lines.read_text().splitlines()[-1])["step"] == reached
    more += ["--stop-after", reached + 50]
    ends = []
    for name in ("parts", "whole"):
        assert main(words(folder, name, *more)) == 0
        figures = [json.loads(line) for line in (folder / name / "metrics.jsonl").read_text().splitlines()]
        ends.append((torch.load(folder / name / "checkpoint.pt"), [f.get("train/loss") for f in figures]))
    (one, losses), (two, others) = ends
    assert one["steps"] == two["steps"] == reached + 50 and losses == others
    assert all(torch.equal(one["network"][name], two["network"][name]) for name in one["network"])


def test_without_torch_the_command_says_what_to_install(folder):
    (folder / "torch.py").write_text("raise ModuleNotFoundError(\"No module named 'torch'\", name='torch')\n")
    environment = {**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    done = subprocess.run(
        [sys.executable, "-m", "snnc.train", "--help"],
        capture_output=True, text=True, env=environment, check=False,
    )  # fmt: skip
    assert done.returncode == 6 and done.stderr.startswith("error: SNN610") and "Traceback" not in done.stderr


def test_fine_tuning_float_control_and_teacher(folder, capsys):
    assert main(words(folder, "float", "--float", "--no-export")) == 0
    y = dict(np.load(folder / "train.npz"))
    np.savez(folder / "train.npz", x=y["x"], y=y["y"] + 1)  # four classes now
    assert main(words(folder, "new", "--init", folder / "float" / "network.pt", "--no-export")) == 0
    assert "5.weight, 5.bias" in capsys.readouterr().err
    np.savez(folder / "train.npz", x=y["x"], y=y["y"])
    assert main(words(folder, "b", "--teacher", folder / "float" / "network.pt", "--no-export")) == 0
    assert main(words(folder, "c", "--teacher", folder / "new" / "network.pt", "--no-export")) == 3


def test_arrays_of_long_doubles_are_arrays_of_numbers(folder):
    arrays = dict(np.load(folder / "train.npz"))
    np.savez(folder / "train.npz", x=(arrays["x"] / 255).astype(np.longdouble), y=arrays["y"])
    assert main(words(folder, "a", "--no-export")) == 0


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


def torchrun(folder: Path, count: int, out: str, *more: object) -> subprocess.CompletedProcess[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(count)]
    return subprocess.run(
        [*command, "--master-port", str(port), "-m", "snnc.train", *words(folder, out, *more)],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=False,
    )


@pytest.mark.slow
def test_two_processes_train_one_network_slice(folder):
    """Each takes half of every batch; both end with the same parameters (the loop checks it)."""
    for out, more in (("two", ["--stop-after", "6"]), ("two", []), ("again", [])):
        done = torchrun(folder, 2, out, "--test", folder / "test.npz", *more)
        assert done.returncode == 0, done.stderr
    result = json.loads((folder / "two" / "result.json").read_text())
    assert result["processes"] == 2 and result["accuracy"] > 60
    one, two = ((folder / name / "network.onnx").read_bytes() for name in ("two", "again"))
    assert one == two
    # One process cannot go on where two stopped: its steps would differ.
    assert main(words(folder, "two")) == 2


@pytest.mark.slow
def test_three_processes_resume_bit_for_bit(folder):
    """From three on, the order in which gradients are added could depend on the steps since the start."""
    more = ["--batch", 18, "--no-export", "--set", "width=37"]
    for out, stop in (("parts", 4), ("parts", 12), ("whole", 12)):
        done = torchrun(folder, 3, out, *more, "--stop-after", stop)
        assert done.returncode == 0, done.stderr
    one, two = (torch.load(folder / name / "checkpoint.pt") for name in ("whole", "parts"))
    assert all(torch.equal(one["network"][name], two["network"][name]) for name in one["network"])


@pytest.mark.slow
def test_processes_fail_with_one_error(folder):
    done = torchrun(folder, 2, "a", "--rate", "1e30")
    assert done.returncode != 0 and done.stderr.count("error: SNN354") == 1
    assert "/snnc/train/" not in done.stderr  # no traceback of ours


def test_more_processes_than_devices_are_refused_in_each_of_them(folder, capsys, monkeypatch):
    """Only those without a device failed, and none of them is the one that speaks."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    waited = []
    monkeypatch.setattr(time, "sleep", waited.append)
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    for local, said in (("0", 1), ("1", 0)):
        monkeypatch.setenv("LOCAL_RANK", local)
        assert main(words(folder, "a", "--device", "cuda")) == 2
        text = capsys.readouterr().err
        assert text.count("SNN218: --device cuda: 2 processes are to share 1 GPU") == said
    assert len(waited) == 1  # torchrun would end the one that speaks, too
