"""The walk of docs/debugging.md: a transformer, a deliberate mistake in one pass, and its name."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from snnc.compile import ConvertOptions, convert
from snnc.debug.bisect import bisect
from snnc.debug.steps import Recorder
from snnc.passes.canonical.einsum_to_matmul import EinsumToMatmul

ROOT = Path(__file__).resolve().parents[2]


def script() -> ModuleType:
    path = ROOT / "docs" / "break_a_pass.py"
    spec = importlib.util.spec_from_file_location("break_a_pass", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_the_walk_ends_at_the_broken_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = np.load(ROOT / "examples" / "models" / "fashion_sample.npz")["x"]
    images = ((pixels - 0.1307) / 0.3081).astype(np.float32)
    broken = script()
    monkeypatch.setattr(EinsumToMatmul, "run", EinsumToMatmul.run)
    broken.break_it()
    recorder = Recorder()
    source = ROOT / "examples" / "models" / "vit_mnist_d64x6.onnx"
    convert(source, ConvertOptions(groups=4), calibration={"x": images[:8]}, instruments=[recorder])
    found = bisect(recorder.steps, recorder.failure, {"x": images[8:16]})
    assert found.guilty is not None and found.guilty.name == "einsum-to-matmul"
    assert found.place is not None
    assert found.place.node == "/transformer/layers.3.0/fn/Einsum.matmul"
    assert found.place.rewrite is not None
    assert found.place.node in found.place.rewrite.added
