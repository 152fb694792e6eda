"""What the runtimes share: batches, checked inputs, taps, memory, refusals."""

from __future__ import annotations

import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from snnc.coding import CodeBook
from snnc.errors import InputError, UnsupportedError, UsageError
from snnc.runtimes import RUNTIMES, OnnxRuntime, Runtime, create


def small(builder: Any, batch: int | str = "N") -> Any:
    """y = codes of v times weights, plus one per feature; and the names of the inner tensors."""
    rng = np.random.default_rng(0)
    model = builder()
    model.input("v", np.int32, [batch, 4])
    spikes = model.spikes("v", CodeBook(4, 2))
    current = model.node("SpikeMatMul", [spikes, model.constant(rng.integers(-9, 10, (4, 3)), np.int8)])
    bias = model.constant(np.ones(3), np.float32)
    y = model.node("Readout", [current, model.constant(0.5, np.float32), bias])
    return model.proto({y: (np.float32, 2)}), spikes, current, y


@pytest.mark.parametrize("name", RUNTIMES)
@pytest.mark.parametrize("samples", [1, 3, 7])
def test_any_number_of_samples_on_any_batch(builder: Any, name: str, samples: int) -> None:
    v = np.random.default_rng(1).integers(-2, 12, (samples, 4), dtype=np.int32)
    proto, spikes, _, y = small(builder)
    whole = create(name, ir.from_proto(proto), threads=1).run({"v": v}, [spikes])
    assert list(whole) == [y, spikes]
    assert whole[y].shape == (samples, 3)
    for batch, batch_size in [("N", 2), (3, 64), (1, 64)]:
        model = ir.from_proto(small(builder, batch)[0])
        parts = create(name, model, batch_size=batch_size, threads=1).run({"v": v}, [spikes])
        assert {key: array.tobytes() for key, array in parts.items()} == {
            key: array.tobytes() for key, array in whole.items()
        }


@pytest.mark.parametrize("name", RUNTIMES)
def test_what_a_runtime_says_of_its_model(builder: Any, name: str) -> None:
    proto, *_, y = small(builder)
    runtime = create(name, ir.from_proto(proto), threads=1)
    assert isinstance(runtime, Runtime)
    assert [str(spec) for spec in runtime.inputs] == ["v: int32[?, 4]"]
    assert runtime.outputs == (y,)


@pytest.mark.parametrize("name", RUNTIMES)
def test_bad_inputs_are_refused(builder: Any, name: str) -> None:
    proto, *_ = small(builder)
    runtime = create(name, ir.from_proto(proto), threads=1)
    good = np.zeros((2, 4), dtype=np.int32)
    cases = [
        ({}, "SNN335"),
        ({"v": good[:, :3]}, "SNN336"),
        ({"v": good[0]}, "SNN336"),
        ({"v": good.astype(np.float32)}, "SNN337"),
        ({"v": good[:0]}, "SNN338"),
    ]
    for feeds, code in cases:
        with pytest.raises(InputError) as caught:
            runtime.run(feeds)
        assert caught.value.code == code


@pytest.mark.parametrize("name", RUNTIMES)
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_are_refused(builder: Any, name: str, value: float) -> None:
    model = builder()
    model.input("x", np.float32, ["N", 2])
    proto = model.proto({model.node("FixedPointEncode", ["x"]): (np.int32, 2)})
    runtime = create(name, ir.from_proto(proto), threads=1)
    x = np.zeros((3, 2), dtype=np.float32)
    x[1, 1] = value
    with pytest.raises(InputError, match=r"not finite, the first at \[1, 1\]") as caught:
        runtime.run({"x": x})
    assert caught.value.code == "SNN333"


@pytest.mark.parametrize("name", RUNTIMES)
def test_unknown_taps_are_refused_with_a_suggestion(builder: Any, name: str) -> None:
    proto, _, current, _ = small(builder)
    runtime = create(name, ir.from_proto(proto), threads=1)
    with pytest.raises(UsageError) as caught:
        runtime.run({"v": np.zeros((1, 4), dtype=np.int32)}, [current[:-1] + "9"])
    assert caught.value.code == "SNN250"
    assert current in str(caught.value)


def test_unknown_runtimes_are_refused(builder: Any) -> None:
    proto, *_ = small(builder)
    with pytest.raises(UsageError, match="numpy-timestep") as caught:
        create("numpy-timesteps", ir.from_proto(proto))
    assert caught.value.code == "SNN251"


@pytest.mark.parametrize("name", ["numpy", "numpy-timestep"])
def test_numpy_names_all_foreign_nodes(name: str) -> None:
    text = """<ir_version: 10, opset_import: ["" : 17, "ai.snnc" : 1]>
    g (float[N, 4] x) => (float[N, 4] y) {
      [first] a = Tanh(x)
      [second] b = Sigmoid(a)
      [third] c = ai.snnc.Charge<gain = 2>(b)
      [fourth] y = Identity(c)
    }"""
    with pytest.raises(UnsupportedError) as caught:
        create(name, ir.from_proto(onnx.parser.parse_model(text)))
    assert caught.value.code == "SNN422"
    assert [problem.where.node for problem in caught.value.problems] == ["first", "second", "third"]
    assert "attribute 'gain' is unknown" in str(caught.value)


def test_results_that_cannot_be_joined_are_refused(builder: Any) -> None:
    model = builder()
    model.input("v", np.int32, [2, 3])
    y = model.node("MembraneSum", ["v"], axes=[0], keepdims=0)
    proto = model.proto({y: (np.int32, 1)})
    runtime = create("numpy", ir.from_proto(proto))
    v = np.arange(12, dtype=np.int32).reshape(4, 3)
    assert runtime.run({"v": v[:2]})[y].tolist() == [3, 5, 7]
    with pytest.raises(InputError, match="cannot be joined"):
        runtime.run({"v": v})


def test_inputs_that_disagree_on_the_batch_are_refused(builder: Any) -> None:
    model = builder()
    model.input("a", np.int32, [2, 3])
    model.input("b", np.int32, ["N", 3])
    y = model.node("MembraneAdd", ["a", "b"])
    v = np.zeros((2, 3), dtype=np.int32)
    runtime = create("numpy", ir.from_proto(model.proto({y: (np.int32, 2)})))
    with pytest.raises(UnsupportedError, match="do not agree") as caught:
        runtime.run({"a": v, "b": v})
    assert caught.value.code == "SNN420"


def test_onnxruntime_reads_files_and_names_what_it_refuses(builder: Any, tmp_path: Path) -> None:
    proto, spikes, _, y = small(builder)
    path = tmp_path / "small.onnx"
    onnx.save(proto, path)
    v = np.arange(8, dtype=np.int32).reshape(2, 4)
    result = OnnxRuntime(path, "none", threads=1).run({"v": v}, [spikes])
    expected = create("numpy", ir.from_proto(proto)).run({"v": v}, [spikes])
    assert all(np.array_equal(result[key], expected[key]) for key in (y, spikes))
    proto.graph.node[0].op_type = "NoSuchOperator"
    onnx.save(proto, path)
    with pytest.raises(UnsupportedError, match=r"small\.onnx") as caught:
        OnnxRuntime(path)
    assert caught.value.code == "SNN423"
    path.write_bytes(b"not a model")
    with pytest.raises(InputError, match=r"small\.onnx") as refused:
        OnnxRuntime(path)
    assert refused.value.code == "SNN302"


def test_taps_read_external_weights(builder: Any, tmp_path: Path) -> None:
    proto, spikes, _, y = small(builder)
    path = tmp_path / "external.onnx"
    onnx.save(proto, path, save_as_external_data=True, location="external.bin", size_threshold=0)
    v = np.arange(8, dtype=np.int32).reshape(2, 4)
    result = OnnxRuntime(path, threads=1).run({"v": v}, [spikes])
    expected = create("numpy", ir.from_proto(small(builder)[0])).run({"v": v}, [spikes])
    assert all(np.array_equal(result[key], expected[key]) for key in (y, spikes))


def test_dead_tensors_are_freed(builder: Any) -> None:
    """Forty tensors of 4 MB in a row: only a few may be alive at a time."""
    model = builder()
    model.input("v", np.int32, ["N", 1 << 20])
    current = "v"
    for _ in range(40):
        current = model.node("MembraneAdd", [current, current])
    runtime = create("numpy", ir.from_proto(model.proto({current: (np.int32, 2)})))
    v = np.zeros((1, 1 << 20), dtype=np.int32)
    tracemalloc.start()
    try:
        runtime.run({"v": v})
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 5 * v.nbytes


def test_importing_the_runtimes_does_not_import_onnxruntime() -> None:
    code = "import sys, snnc.runtimes; sys.exit('onnxruntime' in sys.modules or 'torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("permutation", [(1, 0, 2), (1, 2, 0), (0, 2, 1)])
def test_a_moved_batch_in_front_of_a_product_does_not_crash_onnxruntime(
    builder: Any, permutation: tuple[int, ...], tmp_path: Path
) -> None:
    model = builder()
    model.input("v", np.int32, ["N", 4, 4])
    spikes = model.spikes("v", CodeBook(4, 2))
    moved = model.node("Transpose", [spikes], perm=list(permutation))
    current = model.node("SpikeMatMul", [moved, model.constant(np.eye(4)[:, :3], np.int8)])
    bias = model.constant(np.ones(3), np.float32)
    y = model.node("Readout", [current, model.constant(0.5, np.float32), bias])
    path = tmp_path / "moved.onnx"
    path.write_bytes(model.proto({y: (np.float32, 3)}).SerializeToString())
    # A crash would take the tests with it.
    script = (
        "import sys, onnxruntime\n"
        "onnxruntime.InferenceSession(open(sys.argv[1], 'rb').read(), providers=['CPUExecutionProvider'])"
    )
    command = [sys.executable, "-c", script, str(path)]
    opened = subprocess.run(command, check=False, capture_output=True, text=True)
    assert opened.returncode == 0, opened.stderr
