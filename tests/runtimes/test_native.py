"""The native library: found, registered, refused clearly, and left out on request."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from snnc.coding import CodeBook
from snnc.errors import EnvironmentFailure
from snnc.runtimes import OnnxRuntime, ort
from snnc.runtimes.environment import native_library

needs_library = pytest.mark.skipif(ort.native_library() is None, reason=str(ort.native_problem()))


def some_model(builder: Any) -> Any:
    model = builder()
    model.input("v", np.int32, ["N", 6])
    y = model.node("Charge", [model.spikes("v", CodeBook(4, 2))])
    return model.proto({y: (np.int32, 2)})


def test_off_leaves_it_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ort.OFF, "off")
    assert ort.native_library() is None
    assert "off" in str(ort.native_problem())
    assert not ort.register(onnxruntime.SessionOptions())
    assert native_library().path is None


def test_a_named_library_that_does_not_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ort.OFF, "/nonexistent/lib.so")
    assert ort.native_library() is None
    assert "/nonexistent/lib.so" in str(ort.native_problem())


def test_a_broken_library_is_one_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "broken.so"
    broken.write_bytes(b"not a library")
    monkeypatch.setenv(ort.OFF, str(broken))
    with pytest.raises(EnvironmentFailure, match="SNN616") as caught:
        ort.register(onnxruntime.SessionOptions())
    assert "SNNC_NATIVE=off" in str(caught.value.hint)


@needs_library
def test_kernels_run_in_place_of_bodies(builder: Any, tmp_path: Path) -> None:
    """Without its functions a file runs only where the kernels are registered."""
    proto = some_model(builder)
    del proto.functions[:]
    info = proto.graph.value_info.add()
    info.name = proto.graph.node[0].output[0]
    info.type.tensor_type.elem_type = 2
    path = tmp_path / "m.onnx"
    path.write_bytes(proto.SerializeToString())
    options = onnxruntime.SessionOptions()
    with pytest.raises(Exception, match="ExpGIF"):
        onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    assert ort.register(options)
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"v": np.arange(6, dtype=np.int32)[None]})
    assert found.tolist() == [[0, 1, 2, 3, 4, 6]]


@needs_library
def test_two_sessions_share_the_library(builder: Any) -> None:
    import onnx_ir as ir

    proto = some_model(builder)
    one, two = (OnnxRuntime(ir.from_proto(proto), stock=False) for _ in range(2))
    feeds = {"v": np.arange(12, dtype=np.int32).reshape(2, 6)}
    (name,) = one.outputs
    assert np.array_equal(one.run(feeds)[name], two.run(feeds)[name])
