"""``python -m snnc.train``: what is wrong is one error, before anything is trained where that can be."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

torch = pytest.importorskip("torch", reason="torch is an optional extra of snnc")

from snnc.train.__main__ import main  # noqa: E402
from tests.train.runs import words  # noqa: E402


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
        # What measures the tests writes files, too, and would be short of room.
        env={name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")},
    )  # fmt: skip
    assert done.returncode == 6 and done.stderr.startswith("error: SNN603: file '"), done.stderr
    assert done.stderr.count("error:") == 1 and "Traceback" not in done.stderr
    assert str(folder / "a") in done.stderr


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
