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

NETWORK = """
import os
from torch import nn
from snnc.nn import expg_activation

def build(classes, width=4, activation=expg_activation(4, 2), inputs=1):
    return nn.Sequential(
        nn.Conv2d(inputs, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), activation(False),
        nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4 * width, classes),
    )

def broken(classes):
    return 1 / 0

def few(classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 2))

def maps(classes):
    return nn.Conv2d(1, classes, 3)

def narrow(classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(63, classes))

class Later(nn.Module):
    def __init__(self, classes, act):
        super().__init__()
        self.linear, self.act, self.batches = nn.Linear(64, classes), act, 0

    def forward(self, x):
        self.batches += 1
        if self.batches > 2:
            self.act()
        return self.linear(x.flatten(1))

def exits(classes):
    raise SystemExit(0)

def leaves(classes):
    os._exit(0)

def exits_later(classes):
    return Later(classes, exit)

def leaves_later(classes):
    return Later(classes, lambda: os._exit(0))

def fails_later(classes):
    return Later(classes, lambda: {}["key"])

class Bare(nn.Module):
    def forward(self, x):
        return x.flatten(1)[:, :3] * 1

class Whole(Later):
    def forward(self, x):
        return self.linear(x.flatten(1)).long()

class CutOff(Later):
    def forward(self, x):
        return self.linear(x.flatten(1)).detach()

class Shrinks(Later):
    def forward(self, x):
        return self.linear(x.flatten(1))[: 1 if self.training else None]

def bare():
    return Bare()

def whole(classes):
    return Whole(classes, None)

def cut_off(classes):
    return CutOff(classes, None)

def shrinks(classes):
    return Shrinks(classes, None)
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
        (["--model", "{}/net.py:few"], 2, "SNN218.*has 2 logits, the labels go up to 2"),
        (["--model", "{}/net.py:maps"], 2, "SNN218.*not logits"),
        (["--model", "{}/net.py:narrow"], 2, r"SNN218.*samples are \(1, 8, 8\)"),
        (["--model", "{}/net.py:broken"], 2, "SNN218.*net.py:broken, line 13: ZeroDivisionError"),
        (["--model", "{}/net.py:exits"], 2, "SNN218.*net.py:exits ended the process"),
        (["--model", "{}/net.py:leaves"], 2, "SNN218.*net.py:leaves ended the process: os._exit"),
        (["--model", "{}/net.py:exits_later"], 2, "SNN218.*net.py:exits_later ended the process"),
        (["--model", "{}/net.py:leaves_later"], 2, "SNN218.*net.py:leaves_later ended the process"),
        (["--model", "{}/net.py:fails_later"], 2, "SNN218.*net.py:fails_later, line [0-9]+: KeyError"),
        (["--set", "width=" + "(" * 2000], 2, "SNN218"),
        (["--set", "width=" + "-" * 20000 + "1"], 2, "SNN218"),
        (["--model", "a\x1bb"], 2, r"SNN218.*a\\x1bb"),
        (["--set", "activation=3"], 2, "SNN218.*not callable"),
        (["--device", "abacus"], 2, "SNN218.*--device abacus"),
        (["--device", "meta"], 2, "SNN218.*--device"),
        (["--seed", str(2**64)], 2, "SNN218.*seed"),
        (["--stop-after", "0"], 2, "SNN218.*stop_after"),
        (["--threads", "0"], 2, "SNN218.*threads"),
        (["--limit", "-3"], 2, "SNN218.*limit"),
        (["--shift", "-1"], 2, "SNN218.*shift"),
        (["--deviation", "0"], 2, "SNN218.*deviation"),
        (["--batch", "100"], 2, "SNN218.*64 samples.*--batch"),
        (["--rate", "1e30"], 3, "SNN354"),
        (["--out", "{}/net.py"], 6, "SNN603.*net.py.*not a folder"),
        (["--out", "a\0b"], 2, "SNN218.*--out.*NUL"),
        (["--out", "a\udcffb"], 2, "SNN218.*--out.*UTF-8"),
        (["--out", "a" * 5000], 6, "SNN603.*too long"),
        (["--threads", "99999999999"], 2, "SNN218.*threads"),
        (["--shift", "9"], 2, r"SNN218.*shift of 9.*\(8, 8\)"),
        (["--shift", str(10**20)], 2, "SNN218.*shift"),
        (["--size", str(10**20)], 2, "SNN218.*size"),
        (["--epochs", str(10**20)], 2, "SNN218.*epochs must be at most"),
        (["--model", "os:abort"], 2, "SNN218.*os:abort ended the process"),
        (["--model", "{}/net.py:bare"], 2, "SNN218.*no parameters"),
        (["--model", "{}/net.py:whole"], 2, "SNN218.*int64"),
        (["--model", "{}/net.py:cut_off"], 2, "SNN218.*do not depend on its parameters"),
        (["--model", "{}/net.py:shrinks"], 2, r"SNN218.*\(1, 3\) for 16 samples"),
    ],
)
def test_mistakes_are_one_error(folder, capsys, more, status, text):
    assert main(words(folder, "a", *(word.format(folder) for word in more))) == status
    err = capsys.readouterr().err
    assert err.startswith("error: ") and re.search(text, err, re.DOTALL)
    assert "Traceback" not in err and "\x1b" not in err


def test_what_nobody_foresaw_is_one_error_with_a_report(folder, capsys, monkeypatch):
    def step(self, done):
        raise ArithmeticError("unheard of")

    monkeypatch.setattr("snnc.train.loop._Run.step", step)
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    assert main(words(folder, "a")) == 1
    err = capsys.readouterr().err
    assert err.startswith("error: SNN100: ArithmeticError: unheard of\n") and err.count("error:") == 1
    assert "unheard of" in next(folder.glob("snnc-crash-*.txt")).read_text()


@pytest.mark.parametrize(
    "damage",
    [
        lambda state: state.update(steps=-5),
        lambda state: state.update(steps=10**12),
        lambda state: state.update(steps="1"),
        lambda state: state.pop("steps"),
        lambda state: state.pop("optimiser"),
        lambda state: state.update(optimiser=[]),
        lambda state: state["optimiser"].update(param_groups=[]),
        lambda state: state["optimiser"]["state"][0].update(exp_avg=torch.zeros(1)),
        lambda state: state["optimiser"]["state"][0].pop("exp_avg_sq"),
        lambda state: state["optimiser"]["state"][0]["exp_avg"].fill_(float("nan")),
        lambda state: state.update(scaler=[1]),
        lambda state: state.update(options=[1]),
        lambda state: state.update(network=[1]),
        lambda state: state["network"].update({"0.weight": 3}),
        lambda state: state.update(network={1: torch.zeros(1)}),
    ],
)
def test_a_damaged_checkpoint_is_refused(folder, capsys, damage):
    assert main(words(folder, "a", "--stop-after", "3", "--no-export")) == 0
    path = folder / "a" / "checkpoint.pt"
    state = torch.load(path, weights_only=True)
    damage(state)
    torch.save(state, path)
    before = path.read_bytes()
    assert main(words(folder, "a", "--no-export")) == 3
    err = capsys.readouterr().err
    assert err.startswith("error: SNN353") and err.count("error:") == 1 and "checkpoint.pt" in err
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "content",
    [
        [1],
        {"format": 1, "network": [1]},
        {"format": 1, "network": None},
        {"network": {"0.weight": 3}},
        {1: torch.zeros(1)},
        {"0.weight": "text"},
        {"0.weight": torch.zeros(4, 1, 3, 3, dtype=torch.complex64)},
        {"0.weight": torch.zeros(4, 1, 3, 3).to_sparse()},
        {"0.weight": torch.zeros(4, 1, 3, 3, device="meta")},
        {"0.weight": torch.full((4, 1, 3, 3), float("inf"))},
    ],
)
@pytest.mark.parametrize("flag", ["--init", "--teacher"])
def test_files_that_hold_no_network_are_refused(folder, capsys, content, flag):
    torch.save(content, folder / "other.pt")
    assert main(words(folder, "a", flag, folder / "other.pt", "--no-export")) == 3
    err = capsys.readouterr().err
    assert err.startswith("error: SNN353") and err.count("error:") == 1 and "other.pt" in err


@pytest.mark.parametrize("name", ["checkpoint.pt", "network.pt", "network.onnx", "result.json"])
def test_a_place_that_cannot_be_written_is_refused_before_training(folder, capsys, name):
    (folder / "a" / name).mkdir(parents=True)
    assert main(words(folder, "a")) == 6
    err = capsys.readouterr().err
    assert err.startswith("error: SNN603") and f"a/{name}" in err and "not a regular file" in err
    assert [path.name for path in (folder / "a").iterdir()] == [name]


@pytest.mark.parametrize("size", [20, 100, 600])
def test_a_disk_that_is_full_of_figures_is_one_error(folder, size):
    pytest.importorskip("tensorboard", reason="tensorboard is an optional extra of snnc")
    script = (
        "import resource, signal, sys, torch.utils.tensorboard, snnc.train.__main__ as train\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({size}, {size}))\n"
        "raise SystemExit(train.main(sys.argv[1:]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *words(folder, "a", "--log-steps", 1)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 6 and done.stderr.startswith("error: SNN603: file '"), done.stderr
    assert done.stderr.count("error:") == 1 and "Traceback" not in done.stderr
    assert str(folder / "a") in done.stderr


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


@pytest.mark.parametrize(
    "fault",
    [torch.OutOfMemoryError("CUDA out of memory"), MemoryError(), RuntimeError("DefaultCPUAllocator: x")],
)
def test_memory_that_is_spent_is_one_error(folder, capsys, monkeypatch, fault):
    def step(self, done):
        raise fault

    monkeypatch.setattr("snnc.train.loop._Run.step", step)
    assert main(words(folder, "a")) == 6
    assert re.search(r"SNN606: the memory .*is spent", capsys.readouterr().err)
