"""The dump folder: what is in it, that two runs agree, what it deletes, and the reproducer."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import metadata
from typing import Any, ClassVar

import numpy as np
import onnx
import pytest

from snnc import ir
from snnc.errors import EnvironmentFailure, UsageError
from snnc.pipeline import Dump, PassResult, parse_pipeline, run_pipeline
from snnc.pipeline.dump import versions


def run(toys, folder, *more, **options):
    steps = [toys.RemoveIdentity(), toys.ScaleWeights(), toys.ScaleWeights(factor=2.0), *more]
    return run_pipeline(toys.make(), steps, given={"sorted"}, instruments=[Dump(folder, **options)])


def test_files_appear_only_on_change(toys, tmp_path):
    run(toys, tmp_path / "dump")
    assert sorted(entry.name for entry in (tmp_path / "dump").iterdir()) == [
        "000-input.onnx",
        "000-input.txt",
        "001-remove-identity.onnx",
        "001-remove-identity.txt",
        "003-scale-weights.onnx",
        "003-scale-weights.txt",
        "pipeline.txt",
        "run.json",
    ]
    assert len(ir.load(tmp_path / "dump" / "000-input.onnx").graph) == 4
    after = tmp_path / "dump" / "001-remove-identity"
    assert len(ir.load(after.with_suffix(".onnx")).graph) == 3
    assert "Identity" not in after.with_suffix(".txt").read_text()
    onnx.checker.check_model(str(tmp_path / "dump" / "003-scale-weights.onnx"), full_check=True)


def test_run_log_tells_each_pass(toys, tmp_path):
    run(toys, tmp_path)
    log = json.loads((tmp_path / "run.json").read_text())
    assert log["pipeline"] == ["remove-identity", "scale-weights", "scale-weights{factor=2.0}"]
    assert [entry["changed"] for entry in log["passes"]] == [True, False, True]
    assert [(entry["nodes_before"], entry["nodes_after"]) for entry in log["passes"]] == [
        (4, 3),
        (3, 3),
        (3, 3),
    ]
    assert log["passes"][2]["notes"] == ["w times 2.0"]
    assert log["failed"] is None
    assert [entry["name"] for entry in log["timing"]["passes"]] == [entry["name"] for entry in log["passes"]]
    assert {"snnc", "python", "numpy", "onnx"} <= set(log["versions"])
    text = (tmp_path / "pipeline.txt").read_text()
    assert parse_pipeline(text, [toys.RemoveIdentity, toys.ScaleWeights])[2].factor == 2.0


def test_two_runs_give_the_same_bytes_but_for_the_timing(toys, tmp_path):
    run(toys, tmp_path / "one")
    run(toys, tmp_path / "two")
    names = sorted(entry.name for entry in (tmp_path / "one").iterdir())
    assert names == sorted(entry.name for entry in (tmp_path / "two").iterdir())
    for name in set(names) - {"run.json"}:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes(), name
    logs = [json.loads((tmp_path / side / "run.json").read_text()) for side in ("one", "two")]
    for log in logs:
        assert log.pop("timing")
    assert logs[0] == logs[1]


def test_failure_leaves_a_reproducer_that_replays(toys, tmp_path):
    def fail(model: ir.Model):
        # Damage done before the failure must not reach the reproducer.
        model.graph.node(0).name = "damaged"
        raise ZeroDivisionError("boom")

    bad = toys.function_pass("bad-pass", fail)
    with pytest.raises(ZeroDivisionError):
        run(toys, tmp_path, bad, replay=["snnc", "convert", "my model.onnx"])
    reproducer = ir.load(tmp_path / "reproducer.onnx")
    assert [node.name for node in reproducer.graph] == ["twice", "product", "bias"]
    text = (tmp_path / "reproducer.txt").read_text()
    assert "pass 'bad-pass' failed: ZeroDivisionError: boom" in text
    command = shlex.split(text.splitlines()[3])
    assert command[:2] == ["snnc", "opt"]
    assert command[2:] == [str(tmp_path / "reproducer.onnx"), "--passes", "bad-pass"]
    assert "snnc convert 'my model.onnx'" in text
    log = json.loads((tmp_path / "run.json").read_text())
    assert log["failed"] == {"pass": "bad-pass", "index": 4, "error": "ZeroDivisionError: boom"}
    assert len(log["passes"]) == 3
    # The next successful run leaves no trace of the failure.
    run(toys, tmp_path)
    assert not list(tmp_path.glob("reproducer*"))


@dataclass(frozen=True)
class Table:
    """A pass whose option has no text form, and that fails after it did something to the folder."""

    values: Any
    before: Callable[[], object] = field(repr=False)

    name: ClassVar[str] = "use-table"
    requires: ClassVar[frozenset[str]] = frozenset()
    establishes: ClassVar[frozenset[str]] = frozenset()
    invalidates: ClassVar[frozenset[str]] = frozenset()
    semantics: ClassVar[Any] = "exact"

    def run(self, model: ir.Model) -> PassResult:
        self.before()
        raise ZeroDivisionError("boom")


@pytest.mark.parametrize("replay", [["snnc", "convert", "m.onnx"], []])
def test_a_pass_that_cannot_be_typed_is_described(toys, tmp_path, replay):
    step = Table(np.zeros((2, 3), np.int8), before=lambda: None)
    with pytest.raises(ZeroDivisionError):
        run(toys, tmp_path, step, replay=replay)
    described = '{"values": "int8[2, 3]"}'
    assert f"use-table{described}" in (tmp_path / "pipeline.txt").read_text()
    text = (tmp_path / "reproducer.txt").read_text()
    assert "replay the failing pass" not in text
    assert ("replay the whole run:\n  snnc convert m.onnx" in text) == bool(replay)
    assert (f"options: {described}" in text) == (not replay)


def test_a_dump_that_vanished_is_an_environment_error(toys, tmp_path):
    step = Table(1, before=(tmp_path / "003-scale-weights.onnx").unlink)
    with pytest.raises(EnvironmentFailure, match="No such file") as caught:
        run(toys, tmp_path, step)
    assert caught.value.code == "SNN603"
    assert caught.value.where.file == str(tmp_path / "reproducer.onnx")
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_a_failure_before_the_first_dump_leaves_no_reproducer(toys, tmp_path):
    (tmp_path / "dump").write_text("a file")
    dump = Dump(tmp_path / "dump")
    dump.fail(0, toys.RemoveIdentity(), toys.make(), ZeroDivisionError())
    assert (tmp_path / "dump").read_text() == "a file"


def test_a_library_that_is_not_installed_is_named_so(monkeypatch):
    def version(name: str) -> str:
        if name == "onnxruntime":
            raise metadata.PackageNotFoundError(name)
        return "1.0"

    monkeypatch.setattr(metadata, "version", version)
    found = versions()
    assert (found["onnxruntime"], found["onnx"]) == ("not installed", "1.0")


def test_an_interruption_is_no_failure(toys, tmp_path):
    def interrupt(model: ir.Model):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(toys, tmp_path, toys.function_pass("slow", interrupt))
    assert not list(tmp_path.glob("reproducer*"))


def test_only_own_files_are_deleted(toys, tmp_path):
    (tmp_path / "004-old-pass.onnx").write_bytes(b"old dump")
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(UsageError, match=r"1 other files, such as 'thesis\.tex'") as caught:
        run(toys, tmp_path)
    assert caught.value.code == "SNN234"
    assert (tmp_path / "004-old-pass.onnx").exists()
    run(toys, tmp_path, force=True)
    assert (tmp_path / "thesis.tex").read_text() == "years of work"
    assert not (tmp_path / "004-old-pass.onnx").exists()


@pytest.mark.parametrize(
    "name", ["input.onnx", "00-input.onnx", "001-Pass.onnx", "001-pass.onnx.bak", "run.json~"]
)
def test_near_misses_of_own_names_are_foreign(toys, tmp_path, name):
    (tmp_path / name).write_text("mine")
    with pytest.raises(UsageError):
        run(toys, tmp_path)
    assert (tmp_path / name).read_text() == "mine"


def test_links_with_own_names_are_foreign(toys, tmp_path):
    (tmp_path / "precious.onnx").write_text("mine")
    (tmp_path / "dump").mkdir()
    (tmp_path / "dump" / "000-input.onnx").symlink_to(tmp_path / "precious.onnx")
    with pytest.raises(UsageError):
        run(toys, tmp_path / "dump")
    assert (tmp_path / "precious.onnx").read_text() == "mine"


def test_a_file_in_place_of_the_folder_is_an_environment_error(toys, tmp_path):
    (tmp_path / "dump").write_text("a file")
    with pytest.raises(EnvironmentFailure):
        run(toys, tmp_path / "dump")
