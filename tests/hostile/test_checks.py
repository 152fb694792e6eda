"""Acceptance checks that are no row of a table: long streams, swapped files, large weights, false shapes."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from click.testing import CliRunner, Result
from onnx import helper, numpy_helper

from snnc.cli import pipes
from snnc.cli.group import cli
from snnc.ir import load, save
from snnc.ir.external import DataFiles
from tests.hostile.conftest import snapshot
from tests.hostile.rows import good


def _convert(source: Path | str, *flags: str, data: bytes = b"", out: Path) -> Result:
    words = ["convert", str(source), "-o", str(out), "--calibrate", "random:4", "--quiet", *flags]
    return CliRunner().invoke(cli, words, input=data)


def test_a_stream_that_is_too_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Check 7: the limit counts while the stream is read, and nothing stays behind."""
    monkeypatch.setattr(pipes, "_LARGEST", 3 << 20)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    result = _convert("-", data=bytes(4 << 20), out=tmp_path / "out.onnx")
    assert result.exit_code == 3 and "error: SNN302: file '-'" in result.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_three_gigabytes_on_a_stream(tmp_path: Path) -> None:
    """Check 7, as it is: memory stays flat."""
    words = [sys.executable, "-m", "snnc", "convert", "-", "-o", str(tmp_path / "out.onnx")]
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen(["head", "-c", "3G", "/dev/zero"], stdout=subprocess.PIPE) as source:
        done = subprocess.run(
            words, stdin=source.stdout, capture_output=True, text=True, check=False, env=environment
        )
        source.kill()
    assert done.returncode == 3 and "SNN302" in done.stderr
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss < 500_000
    assert not list(tmp_path.iterdir())


def _with_data(folder: Path) -> Path:
    folder.mkdir()
    onnx.save(good(), folder / "m.onnx", save_as_external_data=True, location="m.data", size_threshold=0)
    return folder / "m.onnx"


@pytest.mark.parametrize("moment", ["_open", "_check_opened"])
def test_a_data_file_that_is_swapped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str) -> None:
    """Check 16: between check and use the file becomes a link to what must not be read."""
    source = _with_data(tmp_path / "model")
    secret = tmp_path / "secret"
    secret.write_bytes((source.parent / "m.data").read_bytes())
    opened: list[Any] = []
    real, real_open = getattr(DataFiles, moment), os.open

    def swapped(self: DataFiles, *arguments: Any) -> Any:
        data = source.parent / "m.data"
        data.unlink()
        data.symlink_to(secret)
        return real(self, *arguments)

    def watched(path: Any, *arguments: Any, **named: Any) -> int:
        opened.append(os.path.realpath(path))
        return real_open(path, *arguments, **named)

    monkeypatch.setattr(DataFiles, moment, swapped)
    monkeypatch.setattr(os, "open", watched)
    result = _convert(source, out=tmp_path / "out.onnx")
    assert result.exit_code == 3 and "error: SNN307" in result.stderr, result.output
    assert not (tmp_path / "out.onnx").exists()
    if moment == "_check_opened":  # what was opened before it was swapped is the old file
        assert str(secret) not in opened


@pytest.mark.parametrize("name", ["m.onnx", "m.data", "hard.onnx", "hard.data", "link.data"])
def test_an_output_over_the_input_or_its_data(tmp_path: Path, name: str) -> None:
    """Check 17: whatever name it goes by."""
    source = _with_data(tmp_path / "model")
    flags = ["--force", "--allow-hardlinks"]
    if name.startswith("hard"):
        os.link(source.with_suffix(Path(name).suffix), source.with_name(name))
    if name.startswith("link"):
        source.with_name(name).symlink_to("m.data")
    before = snapshot(tmp_path)
    result = _convert(source, *flags, out=source.with_name(name))
    assert result.exit_code == 2 and "error: SNN231" in result.stderr, result.output
    assert snapshot(tmp_path) == before


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_weights_of_more_than_two_gigabytes(tmp_path: Path) -> None:
    """Check 25: they go into a data file by themselves, and come back the same."""
    weight = np.zeros((580_000, 1024), dtype=np.float32)
    weight[::1000, 5] = 1.5
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"], "product")]
    ends = [
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["N", size])
        for name, size in (("x", 580_000), ("y", 1024))
    ]
    small = numpy_helper.from_array(np.zeros((1, 1), np.float32), "w")
    graph = helper.make_graph(nodes, "large", ends[:1], ends[1:], [small])
    model = ir.from_proto(
        helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 17)])
    )
    model.graph.initializers["w"].const_value = ir.tensor(weight, name="w")
    save(model, tmp_path / "large.onnx")
    assert (tmp_path / "large.onnx.data").stat().st_size >= weight.nbytes > 2**31
    assert (tmp_path / "large.onnx").stat().st_size < 10_000
    again = load(tmp_path / "large.onnx").graph.initializers["w"].const_value
    assert again is not None and np.array_equal(again.numpy(), weight)


@pytest.mark.parametrize("value", ["y", "r"])
@pytest.mark.parametrize(
    ("dims", "dtype", "said"),
    [
        (["N", 7], onnx.TensorProto.FLOAT, "[?, 7]"),
        (["N", 7, 1], onnx.TensorProto.FLOAT, "[?, 7, 1]"),
        (["N", None], onnx.TensorProto.INT64, "INT64"),
    ],
)
def test_a_declaration_that_is_untrue(
    tmp_path: Path, value: str, dims: list[Any], dtype: int, said: str
) -> None:
    """Check 42: recomputed with a warning, and not handed on."""
    proto = good()
    wanted = list(proto.graph.initializer[1].dims)[1:]
    false = helper.make_tensor_value_info(value, dtype, dims)
    if value == "y":
        proto.graph.output[0].CopyFrom(false)
    else:
        proto.graph.value_info.append(false)
    onnx.save(proto, tmp_path / "m.onnx")
    words = ["convert", f"{tmp_path}/m.onnx", "-o", f"{tmp_path}/o.onnx", "--calibrate", "random:4"]
    result = CliRunner().invoke(cli, words)
    assert result.exit_code == 0, result.output
    assert f"warning: {value} is declared as {said}, and is " in result.stderr
    output = onnx.load(tmp_path / "o.onnx").graph.output[0].type.tensor_type
    assert output.elem_type == onnx.TensorProto.FLOAT
    assert [dim.dim_value for dim in output.shape.dim][1:] == wanted
