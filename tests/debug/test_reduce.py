"""Failing models are shrunk to a few nodes that fail in the same way."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir
import pytest
from click.testing import CliRunner

from snnc.cli.group import cli
from snnc.ir import Model, load
from snnc.passes.canonical.fold_batch_norm import FoldBatchNorm
from snnc.passes.canonical.infer_shapes import InferShapes
from snnc.passes.spike.encode import Encode
from snnc.pipeline import PassResult, Rewrite
from snnc.runtimes import OnnxRuntime

BLOCKS = 3


@pytest.fixture
def large(net: Any, tmp_path: Path) -> Path:
    """A float network of some twenty nodes, of which a few are of their own kind."""
    made = net(5)
    x = made.input(["N", 3, 6, 6])
    for block in range(BLOCKS):
        channels = 3 if block == 0 else 4
        weights = made.const(made.normal(4, channels, 3, 3))
        h = made.op("Conv", [x, weights], name=f"conv{block}", pads=[1, 1, 1, 1])
        parts = [made.const(each) for each in (np.ones(4), np.full(4, 0.1), np.zeros(4), np.ones(4))]
        h = made.op("Relu", [made.op("BatchNormalization", [h, *parts], name=f"norm{block}")])
        if block == 1:
            h = made.op("Transpose", [h], name="turned", perm=[0, 1, 3, 2])
        x = h if block == 0 else made.op("Add", [h, x], name=f"join{block}")
    flat = made.op("Flatten", [made.op("MaxPool", [x], name="pool", kernel_shape=[2, 2], strides=[2, 2])])
    made.output(made.matmul(flat, (36, 5)))
    path: Path = made.save(tmp_path)
    np.savez(tmp_path / "x.npz", x=made.feeds(batch=16)["x"])
    return path


def reduce(model: Path, *arguments: Any) -> Any:
    return CliRunner().invoke(
        cli, ["reduce", str(model), *map(str, arguments), "-o", str(model.with_name("small.onnx")), "--quiet"]
    )


def small(model: Path) -> onnx.ModelProto:
    """The reduced model: valid, and it runs on the samples that come with it."""
    path = model.with_name("small.onnx")
    proto = onnx.load(path)
    onnx.checker.check_model(proto, full_check=True)
    data = path.with_suffix(".npz")
    feeds = dict(np.load(data)) if data.exists() else {}
    if feeds:
        OnnxRuntime(load(path), "none").run(feeds)
    return proto


def kinds(proto: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in proto.graph.node]


def script(folder: Path, condition: str) -> str:
    """A check that starts fast: it looks for names of operators in the bytes of the file."""
    path = folder / "check.py"
    path.write_text(
        f"import sys\nwith open(sys.argv[1], 'rb') as f: b = f.read()\nsys.exit(9 if {condition} else 0)\n"
    )
    return f"{sys.executable} -S -E {path} {{}}"


@pytest.mark.parametrize(
    ("condition", "left", "cuts"),
    [
        ("b'Transpose' in b", ["Transpose"], "inputs"),
        ("b'Transpose' in b", ["Transpose"], "constants"),
        ("b'MaxPool' in b and b'Relu' in b", ["MaxPool", "Relu"], "inputs"),
        ("b.count(b'BatchNormalization') > 1", ["BatchNormalization"] * 2, "inputs"),
    ],
)
def test_a_script_decides(large: Path, condition: str, left: list[str], cuts: str) -> None:
    result = reduce(large, "--check", script(large.parent, condition), "--cuts", cuts)
    assert result.exit_code == 0, result.stderr
    proto = small(large)
    assert sorted(each for each in kinds(proto) if each in left) == left
    assert len(proto.graph.node) <= 5
    assert bool(proto.graph.input) is (cuts == "inputs")


def test_an_operator_that_cannot_be_converted(large: Path) -> None:
    model = onnx.load(large)
    place = next(number for number, node in enumerate(model.graph.node) if node.name == "join1")
    odd = onnx.helper.make_node("Trilu", [model.graph.node[place].input[0]], ["odd"], name="odd")
    model.graph.node[place].input[0] = "odd"
    model.graph.node.insert(place, odd)
    onnx.save(model, large)
    result = reduce(large, "--fails", "convert", "--json")
    assert result.exit_code == 0, result.stderr
    assert kinds(small(large)) == ["Trilu"]
    assert '"failure": "SNN46' in result.stdout


def test_a_pass_that_crashes(large: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = FoldBatchNorm.run

    def crash(self: Any, model: Model) -> PassResult:
        if any(node.op_type == "Transpose" for node in model.graph):
            raise ZeroDivisionError("oh")
        return run(self, model)

    monkeypatch.setattr(FoldBatchNorm, "run", crash)
    result = reduce(large, "--fails", "convert", "--calibrate", large.with_name("x.npz"))
    assert result.exit_code == 0, result.stderr
    assert "ZeroDivisionError" in result.stdout
    assert "Transpose" in kinds(small(large)) and len(kinds(small(large))) <= 5


def wrong_axes(model: Model) -> bool:
    for node in model.graph:
        if node.op_type == "Transpose" and list(node.attributes["perm"].as_ints()) == [0, 1, 3, 2]:
            node.attributes["perm"] = onnx_ir.AttrInt64s("perm", [0, 1, 2, 3])
            return True
    return False


def wrong_thresholds(model: Model) -> bool:
    for name, value in model.graph.initializers.items():
        if name.endswith("_thresholds"):
            array = np.array(value.const_value.numpy())  # type: ignore[union-attr]
            value.const_value = onnx_ir.tensor(np.where(array < 2**30, array + 5000, array), name=name)
            return True
    return False


@pytest.mark.parametrize(("kind", "fault"), [(InferShapes, wrong_axes), (Encode, wrong_thresholds)])
def test_a_wrong_pass(large: Path, monkeypatch: pytest.MonkeyPatch, kind: Any, fault: Any) -> None:
    run = kind.run

    def wrong(self: Any, model: Model) -> PassResult:
        result: PassResult = run(self, model)
        if fault(model):
            result.rewrites.append(Rewrite("a planted fault"))
        return result

    monkeypatch.setattr(kind, "run", wrong)
    result = reduce(large, "--fails", "compare", "--sqnr", 20, "--calibrate", large.with_name("x.npz"))
    assert result.exit_code == 0, result.stderr
    left = kinds(small(large))
    assert len(left) <= 5
    assert "Transpose" in left or kind is Encode


def test_a_healthy_model_is_not_reduced(large: Path) -> None:
    for arguments in (["--fails", "convert"], ["--fails", "compare"]):
        result = reduce(large, *arguments, "--calibrate", large.with_name("x.npz"))
        assert result.exit_code == 3
        assert "SNN355" in result.stderr
        assert not large.with_name("small.onnx").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        ([], 2, "SNN297"),
        (["--fails", "convert", "--check", "x {}"], 2, "SNN297"),
        (["--check", "true"], 2, "SNN295"),
        (["--check", "./no-such-program {}"], 6, "SNN621"),
        (["--check", "true {}"], 3, "SNN355"),
        (["--fails", "convert", "--data", "missing.npz"], 3, "SNN301"),
    ],
)
def test_what_is_wrong_is_said(large: Path, arguments: list[str], code: int, text: str) -> None:
    result = reduce(large, *arguments)
    assert result.exit_code == code
    assert text in result.stderr


def test_nothing_is_replaced_without_force(large: Path) -> None:
    large.with_name("small.npz").write_bytes(b"mine")
    result = reduce(large, "--check", script(large.parent, "b'Transpose' in b"))
    assert result.exit_code == 2
    assert large.with_name("small.npz").read_bytes() == b"mine"
