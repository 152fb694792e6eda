"""Wrong passes are planted, and ``snnc bisect`` names each: the pass, and where it can node and rewrite."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from snnc.cli.group import cli
from snnc.compile import ConvertOptions, convert
from snnc.debug.bisect import bisect
from snnc.debug.steps import Recorder, read_dump
from snnc.errors import InputError, SnncError
from snnc.ir import Model
from snnc.passes.quantise.integer_weights import IntegerWeights
from snnc.passes.quantise.round_constants import RoundConstants
from snnc.pipeline import PassResult
from tests.faults import FAULTS, part_of_weight, plant

SAMPLES = 12


@pytest.fixture(scope="module")
def source(net: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A float network with BatchNorm, a residual sum, a transposition, a pool and a Gemm; and its data."""
    made = net(3)
    x = made.input(["N", 2, 6, 6])
    conv = made.op(
        "Conv",
        [x, made.const(made.normal(4, 2, 3, 3)), made.const([0.3, -0.4, 0.5, 0.2])],
        name="conv",
        pads=[1, 1, 1, 1],
    )
    parts = [
        made.const(v)
        for v in ([1.0, 2.0, 0.5, 1.5], [0.1, 0.3, -0.2, 0.2], [0.1, 0.0, 0.2, 0.3], [1.0, 0.5, 2.0, 1.0])
    ]
    first = made.op("Relu", [made.op("BatchNormalization", [conv, *parts], name="norm")], name="first")
    second = made.op(
        "Conv",
        [first, made.const(made.normal(4, 4, 3, 3)), made.const([0.2, -0.3, 0.4, 0.5])],
        name="middle",
        pads=[1, 1, 1, 1],
    )
    total = made.op("Relu", [made.op("Sub", [second, first], name="join")], name="total")
    turned = made.op("Transpose", [total], name="turned", perm=[0, 1, 3, 2])
    pooled = made.op("MaxPool", [turned], name="pool", kernel_shape=[2, 2], strides=[2, 2])
    flat = made.op("Flatten", [pooled], name="flat")
    hidden = made.op(
        "Gemm", [flat, made.const(made.normal(36, 8)), made.const(made.normal(8, 1)[:, 0] + 1)], name="gemm"
    )
    made.output(made.matmul(made.op("Relu", [hidden], name="hidden"), (8, 5)))
    path = made.save(tmp_path_factory.mktemp("bisect"))
    np.savez(path.with_name("x.npz"), x=made.feeds(batch=48)["x"])
    return path, dict(np.load(path.with_name("x.npz")))


def recorded(source: tuple[Path, dict[str, Any]]) -> Recorder:
    recorder = Recorder()
    try:
        convert(
            source[0], ConvertOptions(timesteps=4, groups=4), calibration=source[1], instruments=[recorder]
        )
    except SnncError:
        assert recorder.failure is not None
    return recorder


def found(source: tuple[Path, dict[str, Any]], recorder: Recorder, **options: Any) -> Any:
    feeds = {name: array[:SAMPLES] for name, array in source[1].items()}
    return bisect(recorder.steps, recorder.failure, feeds, **options)


def test_a_healthy_conversion_has_no_guilty_pass(source: tuple[Path, dict[str, Any]]) -> None:
    recorder = recorded(source)
    result = found(source, recorder)
    assert result.error() is None and result.place is None
    assert [each.name for each in result.judgements] == [step.name for step in recorder.steps]
    assert all(each.good for each in result.judgements)
    for metric in ("sqnr", "agreement"):
        assert found(source, recorder, metric=metric, binary=True).error() is None


@pytest.mark.parametrize("name", list(FAULTS))
def test_a_planted_fault_is_named(
    source: tuple[Path, dict[str, Any]], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind, fault, options, named = FAULTS[name]
    with monkeypatch.context() as patch:
        guilty = plant(patch, kind, fault)
        recorder = recorded(source)
    assert guilty, "the fault was not planted"
    result = found(source, recorder, **options)
    error = result.error()
    assert error is not None and error.code == "SNN551"
    assert error.where.pass_name == kind.name
    if named:
        assert result.place is not None
        assert result.place.rewrite is not None
        assert result.place.rewrite.rule == "a planted fault" or result.place.node == guilty[0]


# --- the command ---


@pytest.fixture
def validate() -> Callable[[str, str], dict[str, Any]]:
    """The documents' schemas are checked in full by tests/cli; here only that all keys are known."""
    folder = Path(__file__).resolve().parents[2] / "snnc" / "cli" / "schemas"

    def check(text: str, name: str) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(text)
        schema = json.loads((folder / f"{name}.json").read_text())
        assert set(document) == set(schema["properties"]) == set(schema["required"])
        if document.get("guilty"):
            assert set(document["guilty"]) == set(schema["properties"]["guilty"]["properties"])
        return document

    return check


def run(*arguments: Any) -> Any:
    return CliRunner().invoke(cli, [*map(str, arguments), "--quiet"])


def convert_arguments(source: tuple[Path, dict[str, Any]]) -> list[str]:
    data = str(source[0].with_name("x.npz"))
    return ["--calibrate", data, "--timesteps", "4", "--groups", "4"]


@pytest.fixture
def broken_dump(source: tuple[Path, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    with monkeypatch.context() as patch:
        plant(patch, *FAULTS["stale scale of a BatchNorm"][:2])
        arguments = [source[0], *convert_arguments(source), "-o", tmp_path / "m.snn.onnx"]
        assert run("convert", *arguments, "--dump-passes", tmp_path / "dumps").exit_code == 0
    return tmp_path / "dumps"


def test_a_folder_of_dumps(source: tuple[Path, dict[str, Any]], broken_dump: Path, validate: Any) -> None:
    data = source[0].with_name("x.npz")
    result = run("bisect", broken_dump, "--data", data, "--samples", SAMPLES)
    assert result.exit_code == 5
    assert "guilty pass    fold-batch-norm" in result.stdout
    assert "error: SNN551: pass 'fold-batch-norm', node 'conv'" in result.stderr
    content = validate(run("bisect", broken_dump, "--data", data, "--json").stdout, "bisect")
    guilty = content["guilty"]
    assert guilty["pass"] == "fold-batch-norm" and not content["holds"]
    assert Path(guilty["before"]).is_file() and Path(guilty["after"]).is_file()
    words = guilty["replay"].split()
    assert words[:2] == ["snnc", "opt"] and run(*words[1:]).exit_code == 0
    options = ["--metric", "sqnr", "--threshold", 60, "--binary", "--json"]
    binary = run("bisect", broken_dump, "--data", data, *options)
    content = validate(binary.stdout, "bisect")
    assert content["guilty"]["pass"] == "fold-batch-norm"
    assert len(content["states"]) < len(read_dump(broken_dump)[0])


def test_a_fresh_conversion(
    source: tuple[Path, dict[str, Any]], validate: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    data = source[0].with_name("x.npz")
    arguments = ["bisect", source[0], *convert_arguments(source), "--data", data, "--samples", SAMPLES]
    assert run(*arguments).exit_code == 0
    plant(monkeypatch, *FAULTS["operands swapped"][:2])
    result = run(*arguments, "--dump-passes", tmp_path / "dumps", "--json")
    assert result.exit_code == 5
    guilty = validate(result.stdout, "bisect")["guilty"]
    assert (guilty["pass"], guilty["node"]) == ("sort-nodes", "join")
    assert guilty["rewrite"]["rule"] == "a planted fault"
    assert Path(guilty["before"]).is_file()


def test_a_pass_that_crashes(source: tuple[Path, dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(self: Any, model: Model) -> PassResult:
        raise ZeroDivisionError("oh")

    monkeypatch.setattr(RoundConstants, "run", crash)
    result = run("bisect", source[0], *convert_arguments(source), "--data", source[0].with_name("x.npz"))
    assert result.exit_code == 5
    assert "pass 'round-constants': the pass failed: oh" in result.stderr


def test_accuracy_and_a_script(
    source: tuple[Path, dict[str, Any]], broken_dump: Path, tmp_path: Path
) -> None:
    from snnc.runtimes import OnnxRuntime

    outputs = OnnxRuntime(source[0], "none").run(source[1])
    labels = next(iter(outputs.values())).argmax(axis=1)
    np.save(tmp_path / "y.npy", labels)
    data = source[0].with_name("x.npz")
    common = ["--data", data, "--labels", tmp_path / "y.npy", "--metric", "accuracy"]
    result = run("bisect", broken_dump, *common, "--threshold", 0.999)
    assert result.exit_code == 5
    assert "accuracy" in result.stdout
    assert run("bisect", broken_dump, *common, "--threshold", 0.01).exit_code == 0
    script = tmp_path / "check.py"
    script.write_text(
        "import sys, onnx\nm = onnx.load(sys.argv[1])\n"
        "sys.exit(all(n.op_type != 'BatchNormalization' for n in m.graph.node))\n"
    )
    result = run("bisect", broken_dump, "--metric", "script", "--script", f"{sys.executable} {script} {{}}")
    assert result.exit_code == 5
    assert "pass 'fold-batch-norm': is the first pass" in result.stderr


def test_a_property_that_never_held(source: tuple[Path, dict[str, Any]]) -> None:
    labels = np.zeros(SAMPLES, dtype=np.int64)
    with pytest.raises(InputError, match="before the first pass"):
        found(source, recorded(source), metric="accuracy", threshold=1.0, labels=labels)


def damaged(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    log = json.loads((folder / "run.json").read_text())
    change(log)
    (folder / "run.json").write_text(json.dumps(log))


BROKEN = {
    "no log": lambda folder: (folder / "run.json").unlink(),
    "no JSON": lambda folder: (folder / "run.json").write_text("{"),
    "deep JSON": lambda folder: (folder / "run.json").write_text("[" * 100_000),
    "no passes": lambda folder: damaged(folder, lambda log: log.pop("passes")),
    "a name that leads away": lambda folder: damaged(
        folder, lambda log: [each.update(name="../../etc/x", changed=True) for each in log["passes"]]
    ),
    "a missing model": lambda folder: next(folder.glob("*encode.onnx")).unlink(),
    "a damaged model": lambda folder: next(folder.glob("*encode.onnx")).write_bytes(b"\x08"),
}


@pytest.mark.parametrize("name", list(BROKEN))
def test_broken_folders_are_refused(
    source: tuple[Path, dict[str, Any]], broken_dump: Path, name: str
) -> None:
    BROKEN[name](broken_dump)
    data = source[0].with_name("x.npz")
    result = run("bisect", broken_dump, "--data", data, "--metric", "sqnr", "--threshold", 0)
    assert result.exit_code in (3, 5)
    assert "Traceback" not in result.output and result.stderr.startswith("error: SNN")


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        ([], 2, "SNN296"),
        (["--data", "X", "--metric", "accuracy"], 2, "SNN296"),
        (["--metric", "script"], 2, "SNN296"),
        (["--metric", "script", "--script", "true"], 2, "SNN295"),
        (["--metric", "script", "--script", "'{}"], 2, "SNN295"),
        (["--metric", "script", "--script", "./no-such-program {}"], 6, "SNN621"),
        (["--data", "missing.npz"], 3, "SNN301"),
    ],
)
def test_what_is_missing_is_said(
    source: tuple[Path, dict[str, Any]], arguments: list[str], code: int, text: str
) -> None:
    words = [str(source[0].with_name("x.npz")) if word == "X" else word for word in arguments]
    result = run("bisect", source[0], *convert_arguments(source), *words)
    assert result.exit_code == code
    assert text in result.stderr


def test_a_network_that_is_refused_is_no_fault_of_a_pass(source: tuple[Path, dict[str, Any]]) -> None:
    result = run("bisect", source[0], "--data", source[0].with_name("x.npz"))
    assert result.exit_code == 2 and "SNN261" in result.stderr


def test_a_refusal_that_an_earlier_pass_caused_names_that_pass(
    source: tuple[Path, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The numbers of a weight become so large that a later pass refuses the network."""
    fault = part_of_weight(1, lambda a: a * 2**20)
    data = source[0].with_name("x.npz")
    arguments = [source[0], *convert_arguments(source), "--data", data, "--samples", SAMPLES]
    with monkeypatch.context() as patch:
        plant(patch, IntegerWeights, fault)
        result = run("bisect", *arguments)
    assert result.exit_code == 5, result.output
    assert "SNN551: pass 'integer-weights'" in result.stderr and result.stderr.count("error:") == 1


def test_a_refusal_that_no_pass_caused_is_reported_as_it_is(tmp_path: Path) -> None:
    from tests.hostile.rows import model, tensor
    from tests.hostile.rows import node as onnx_node

    made = model(
        [onnx_node("RandomNormalLike", "x", output="s", name="noise"), onnx_node("MatMul", "s", "w")],
        [tensor(np.ones((4, 3)))],
    )
    (tmp_path / "m.onnx").write_bytes(made.SerializeToString())
    result = run("bisect", tmp_path / "m.onnx", "--calibrate", "random:4", "--data", "random:4")
    assert result.exit_code == 4 and "SNN4" in result.stderr
    assert result.stderr.count("error:") == 1
