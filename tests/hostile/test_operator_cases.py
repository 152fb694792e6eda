"""ONNX's own cases of its operators, each as a network: converted rightly, or refused by name."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from snnc.compile import ConvertOptions, convert
from snnc.errors import SnncError
from snnc.runtimes import NumpyPacked, NumpyTimestep, OnnxRuntime

#: One of so many is in the slice. Only to collect the cases takes ten seconds.
STEP = 10


@pytest.fixture(scope="module")
def cases() -> list[Any]:
    # Only to import this makes every case.
    from onnx.backend.test import loader

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = loader.load_model_tests(kind="node")
    return sorted((case for case in found if case.model is not None), key=lambda case: case.name)


def judge(case: Any, folder: Path) -> str | None:
    """Return what is wrong with the outcome of a case, None if nothing is."""
    source, data = folder / "case.onnx", folder / "case.npz"
    onnx.save(case.model, source)
    given = dict(zip((value.name for value in case.model.graph.input), case.data_sets[0][0], strict=False))
    feeds = {name: array for name, array in given.items() if isinstance(array, np.ndarray) and array.ndim}
    whole = bool(feeds) and len(feeds) == len(case.model.graph.input)
    if whole:
        np.savez(data, **feeds)
    try:
        calibrate = str(data) if whole else "random:2"
        model = convert(source, ConvertOptions(groups=4, calibrate=calibrate)).model
        if not whole:
            return None
        found = NumpyPacked(model).run(feeds)
        others = [NumpyTimestep(model).run(feeds), OnnxRuntime(model, "all").run(feeds)]
    except SnncError as error:
        return f"{case.name}: {error}" if error.code.startswith("SNN1") else None
    except Exception as error:  # noqa: BLE001 - a crash of any kind is what this test looks for
        return f"{case.name}: {type(error).__name__}: {error}"
    for name, array in found.items():
        if not all(np.array_equal(array, other[name], equal_nan=True) for other in others):
            return f"{case.name}: runtimes differ in {name}"
    return None


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("(bool[N, 4] x, bool[N, 4] z) => (bool[N, 4] y) { y = And(x, z) }", "SNN401"),
        ("(float[N, 4] x) => (bool[N, 4] y) { a = Neg(x) y = Less(x, a) }", "SNN401"),
        ("(float[N, 4] x) => (float[N, 4] y) { y = Softmax(x) }", None),
        ("(float[N, 4] x) => (int64[N] y) { y = ArgMax<axis = 1, keepdims = 0>(x) }", None),
        (
            (
                "(float[N, 4] x) => (float[N, 4] y) <float p = {0.5}, bool t = {1}> "
                "{ d = Dropout(x, p, t) y = Relu(d) }"
            ),
            "SNN461",
        ),
        (
            (
                "(float[N, 4] x, float[4] s) => (float[N, 4] y) <float[4] b = {0, 0, 0, 0}> "
                "{ d = BatchNormalization(x, s, b, b, b) y = Relu(d) }"
            ),
            "SNN462",
        ),
    ],
)
def test_one_node(text: str, code: str | None, tmp_path: Path) -> None:
    model = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : 17]> g {text}')
    onnx.save(model, tmp_path / "one.onnx")
    try:
        convert(tmp_path / "one.onnx", ConvertOptions(groups=4, calibrate="random:4"))
    except SnncError as error:
        assert error.code == code
    else:
        assert code is None


@pytest.mark.slow
def test_slice(cases: list[Any], tmp_path: Path) -> None:
    assert [wrong for case in cases[::STEP] if (wrong := judge(case, tmp_path)) is not None] == []


@pytest.mark.slow
def test_all(cases: list[Any], tmp_path: Path) -> None:
    assert [wrong for case in cases if (wrong := judge(case, tmp_path)) is not None] == []
