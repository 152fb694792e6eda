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
from snnc.runtimes.native import build

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
    monkeypatch.setenv(ort.OFF, str(broken))
    mark = f"snnc-native-sources:{build.digest()}".encode()
    for content, said in ((b"not a library", "not built from"), (b"not a library" + mark, "cannot load")):
        broken.write_bytes(content)
        with pytest.raises(EnvironmentFailure, match=f"SNN616.*{said}") as caught:
            ort.register(onnxruntime.SessionOptions())
        assert "SNNC_NATIVE=off" in str(caught.value.hint)


def test_the_library_carries_the_digest_of_its_sources() -> None:
    library = ort.native_library()
    if library is None:
        pytest.skip(str(ort.native_problem()))
    assert build.digest_in(library) == build.digest()
    assert build.is_current(library)


def stale(tmp_path: Path) -> Path:
    """A library that was built from other sources; it is never opened."""
    path = tmp_path / build.library_name()
    path.write_bytes(b"...snnc-native-sources:" + b"0" * 64 + b"\0...")
    return path


def test_a_library_older_than_its_sources_is_left_out_with_one_warning(
    builder: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Operators that it does not know yet would be refused by onnxruntime, names and all."""
    stale(tmp_path)
    monkeypatch.delenv(ort.OFF, raising=False)
    monkeypatch.setattr(ort, "_FOLDER", tmp_path)
    assert ort.native_library() is None
    assert "build.py" in str(ort.native_problem())
    assert "build.py" in str(native_library().reason)
    import onnx_ir as ir

    model = ir.from_proto(some_model(builder))
    with pytest.warns(ort.NativeLibraryWarning, match=r"other sources.*build\.py") as caught:
        runtime = OnnxRuntime(model, stock=False)
        OnnxRuntime(model, stock=False)
        assert not ort.register(onnxruntime.SessionOptions())
    assert len(caught) == 1
    (found,) = runtime.run({"v": np.arange(6, dtype=np.int32)[None]}).values()
    (wanted,) = OnnxRuntime(model, stock=True).run({"v": np.arange(6, dtype=np.int32)[None]}).values()
    assert np.array_equal(found, wanted)


def test_a_note_of_why_there_is_none_outlives_no_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The remedy of a stale library is to build, whatever an earlier installation noted."""
    (tmp_path / "problem.txt").write_text("there is no C++ compiler\n")
    monkeypatch.delenv(ort.OFF, raising=False)
    monkeypatch.setattr(ort, "_FOLDER", tmp_path)
    assert "compiler" in str(ort.native_problem())
    stale(tmp_path)
    assert "build.py" in str(ort.native_problem())


def test_a_named_library_of_other_sources_is_one_clear_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(ort.OFF, str(stale(tmp_path)))
    with pytest.raises(EnvironmentFailure, match=r"SNN616.*not built from the sources of") as caught:
        ort.register(onnxruntime.SessionOptions())
    assert "build.py" in str(caught.value.hint)


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
