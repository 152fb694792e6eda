"""Every row of tests/sources/sources.toml, which docs/sources.md is written from."""

from __future__ import annotations

import importlib
import sys
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from snnc.compile import Conversion, ConvertOptions, convert
from snnc.debug.verify import verify
from snnc.errors import UnsupportedError, UsageError
from snnc.runtimes import NumpyTimestep, OnnxRuntime, create

SOURCES = Path(__file__).resolve().parents[1] / "sources"
ROWS: list[dict[str, Any]] = tomllib.loads((SOURCES / "sources.toml").read_text())["source"]
RUNTIMES = {"numpy-timestep": NumpyTimestep, "onnxruntime": OnnxRuntime}
SAMPLES = 32
CLOSE = 1e-5
#: A quantiser's input this near to the edge between two levels, in steps, may fall to either side in float32.
EDGE = 1e-4


def rows(result: str) -> list[Any]:
    return [
        pytest.param(row, id=row["file"], marks=[pytest.mark.slow] if row.get("slow") else [])
        for row in ROWS
        if row["result"] == result
    ]


def path_of(row: dict[str, Any]) -> Path:
    return SOURCES / f"{row['file']}.onnx"


def images(count: int = SAMPLES, seed: int = 11) -> Any:
    return np.random.default_rng(seed).random((count, 3, 8, 8), dtype=np.float32)


def session(model: bytes | str) -> Any:
    """The source as it stands: onnxruntime's optimiser would change a quantised graph."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def source_logits(path: Path, data: Any) -> Any:
    made = session(str(path))
    return made.run(None, {made.get_inputs()[0].name: data})[0]


def spiking_logits(conversion: Conversion, data: Any) -> Any:
    runtime = create("numpy", conversion.model)
    name, shape = runtime.inputs[0].name, runtime.inputs[0].shape
    size = shape[0] if isinstance(shape[0], int) else len(data)
    parts = [runtime.run({name: data[start : start + size]}) for start in range(0, len(data), size)]
    return np.concatenate([next(iter(part.values())) for part in parts])


def on_the_edge(path: Path, data: Any) -> Any:
    """Samples for which some QuantizeLinear reads a value within `EDGE` steps of an edge."""
    model = onnx.load(path)
    held = {entry.name: onnx.numpy_helper.to_array(entry) for entry in model.graph.initializer}
    held |= {
        node.output[0]: onnx.numpy_helper.to_array(node.attribute[0].t)
        for node in model.graph.node
        if node.op_type == "Constant" and node.attribute[0].name == "value"
    }
    scales = {
        node.input[0]: float(held[node.input[1]].reshape(()))
        for node in model.graph.node
        if node.op_type == "QuantizeLinear" and held[node.input[1]].size == 1 and node.input[0] not in held
    }
    given = model.graph.input[0].name
    known = {entry.name for entry in model.graph.output}
    for name in scales:
        if name not in known and name != given:
            model.graph.output.append(onnx.helper.make_empty_tensor_value_info(name))
    made = session(model.SerializeToString())
    names = [entry.name for entry in made.get_outputs()]
    values = dict(zip(names, made.run(None, {given: data}), strict=True)) | {given: data}
    near = np.zeros(len(data), dtype=bool)
    for name, scale in scales.items():
        steps = values[name].astype(np.float64) / scale
        close = np.abs(steps - np.floor(steps) - 0.5) < EDGE
        if len(close) == len(data):
            near |= close.reshape(len(data), -1).any(axis=1)
    return near


def reference_path(row: dict[str, Any]) -> Path:
    """The model that onnxruntime runs: the source, or for QONNX a twin of it."""
    kind = row.get("reference", "onnxruntime")
    return path_of(row) if kind == "onnxruntime" else SOURCES / f"{kind}.onnx"


def reference(row: dict[str, Any]) -> tuple[Any, Any]:
    """Inputs, and what the source computes from them."""
    kind = row.get("reference", "onnxruntime")
    if kind == "torch":
        sys.path.insert(0, str(SOURCES))
        pytest.importorskip("torch", reason="its inputs are drawn with torch, an optional extra of snnc")
        data = importlib.import_module("networks").images(64, 99).numpy()
        return data, np.load(SOURCES / "brevitas_expected.npz")[row["file"]]
    return images(), source_logits(reference_path(row), images())


def decibel(expected: Any, found: Any) -> float:
    noise = float(((found.astype(np.float64) - expected) ** 2).sum())
    return float(10 * np.log10(float((expected.astype(np.float64) ** 2).sum()) / noise)) if noise else np.inf


def check_bits(row: dict[str, Any], conversion: Conversion) -> None:
    """Spike by spike and in onnxruntime: every code and every output bit is the quantised network's."""
    name = create("numpy", conversion.model).inputs[0].name
    report = verify(path_of(row), conversion.model, {name: images(2)}, runtimes=RUNTIMES)
    assert {agreement.runtime: agreement.mismatches for agreement in report.agreements} == dict.fromkeys(
        RUNTIMES, 0
    )


def check_reports(row: dict[str, Any], conversion: Conversion) -> None:
    notes = [note for record in conversion.records for note in record.notes]
    for text in row.get("reports", []):
        assert any(text in note for note in notes), text


@pytest.mark.parametrize("row", rows("exact"))
def test_exact(row: dict[str, Any]) -> None:
    conversion = convert(path_of(row), ConvertOptions())
    data, expected = reference(row)
    found = spiking_logits(conversion, data)
    unequal = np.abs(found - expected).reshape(len(data), -1).max(axis=1) > CLOSE * np.abs(expected).max()
    if unequal.any():
        assert not (unequal & ~on_the_edge(reference_path(row), data)).any()
    assert unequal.mean() <= 0.15
    check_reports(row, conversion)
    check_bits(row, conversion)


@pytest.mark.parametrize("row", rows("close"))
def test_close(row: dict[str, Any]) -> None:
    conversion = convert(path_of(row), ConvertOptions())
    data, expected = reference(row)
    assert decibel(expected, spiking_logits(conversion, data)) >= row["decibel"]
    check_reports(row, conversion)
    check_bits(row, conversion)


@pytest.mark.parametrize("row", rows("calibrate"))
def test_calibrate(row: dict[str, Any], tmp_path: Path) -> None:
    """Without data the line to type is told; it works with data."""
    path = path_of(row)
    with pytest.raises(UsageError, match="SNN261") as caught:
        convert(path, ConvertOptions())
    assert caught.value.exit_code == 2
    assert caught.value.hint == f"snnc convert {path} --calibrate x.npz"
    name = session(str(path)).get_inputs()[0].name
    np.savez(tmp_path / "x.npz", **{name: images(16, 5)})
    conversion = convert(path, ConvertOptions(calibrate=str(tmp_path / "x.npz")))
    data, expected = reference(row)
    assert decibel(expected, spiking_logits(conversion, data)) >= row["decibel"]
    check_reports(row, conversion)
    check_bits(row, conversion)


@pytest.mark.parametrize("row", rows("refused"))
def test_refused(row: dict[str, Any]) -> None:
    with pytest.raises(UnsupportedError) as caught:
        convert(path_of(row), ConvertOptions())
    assert caught.value.code == row["code"]
    assert caught.value.exit_code == 4
    assert caught.value.problems
    assert all(problem.where.node for problem in caught.value.problems)
    # What would meet the refused nodes' floats, if they stayed on the host, is listed behind them.
    own = [p.message for p in caught.value.problems if "mixes floats of the host" not in p.message]
    assert own and all(row["reason"] in message for message in own)


def test_what_must_be_quantised_again_is_not_offered_to_the_host(
    tmp_path: Path, integers_as_outputs: Any
) -> None:
    integers_as_outputs(tmp_path / "dynamic.onnx")
    with pytest.raises(UnsupportedError) as caught:
        convert(tmp_path / "dynamic.onnx", ConvertOptions(calibrate="random:4"))
    assert "--allow-host" not in (caught.value.hint or "")
    assert not [p for p in caught.value.problems if "mixes floats of the host" in p.message]


def test_every_source_has_a_row_and_is_small() -> None:
    files = {path.stem: path.stat().st_size for path in SOURCES.glob("*.onnx")}
    files.pop("llama_dynamo")  # reads token numbers: test_language_models.py
    assert sorted(files) == sorted(row["file"] for row in ROWS)
    # The transformers in float are a little larger.
    assert {name for name, size in files.items() if size >= 50_000} <= {"vit_dynamo", "vit_torchscript"}


def test_canary_a_wrong_scale_is_noticed(tmp_path: Path) -> None:
    """The comparison with the source fails if one scale of the source is wrong by one part in a thousand."""
    model = onnx.load(SOURCES / "ort_qdq_branches.onnx")
    (scale,) = [entry for entry in model.graph.initializer if entry.name == "/mix/Conv_output_0_scale"] or [
        next(entry for entry in model.graph.initializer if entry.name.endswith("_scale"))
    ]
    wrong = onnx.numpy_helper.to_array(scale) * np.float32(1.001)
    scale.CopyFrom(onnx.numpy_helper.from_array(wrong.astype(np.float32), scale.name))
    onnx.save(model, tmp_path / "wrong.onnx")
    found = spiking_logits(convert(tmp_path / "wrong.onnx", ConvertOptions()), images())
    expected = source_logits(SOURCES / "ort_qdq_branches.onnx", images())
    unequal = np.abs(found - expected).max(axis=1) > CLOSE * np.abs(expected).max()
    assert unequal.mean() > 0.15
