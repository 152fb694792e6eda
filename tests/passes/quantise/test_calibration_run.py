"""What calibration runs in place of snnc's ops gives their values, and its batches come in order."""

from __future__ import annotations

import threading
import time
from typing import Any

import numpy as np
import pytest

from snnc.calibration.observe import Calibration, _in_order, _showing
from snnc.calibration.stand_in import quantised_stand_in
from snnc.coding import CodeBook
from snnc.data.named import open_samples
from snnc.errors import UnsupportedError
from snnc.ops import attach_functions
from snnc.runtimes import OnnxRuntime


@pytest.mark.parametrize("before", ["Identity", "Exp"])
@pytest.mark.parametrize("step", [0.06, np.array([0.02, 0.11, 0.3], np.float32).reshape(1, 3)])
@pytest.mark.parametrize("book", [CodeBook(8, 4), CodeBook(4, 2, signed=True), CodeBook(5, 5)])
def test_a_table_read_is_the_nearest_code(net: Any, book: CodeBook, step: Any, before: str) -> None:
    made = net()
    code = made.quantise(made.op(before, [made.input(("n", 3))]), step, book)
    stood = quantised_stand_in(made.output(code).model())
    assert {node.domain for node in stood.graph} == {""}
    x = np.random.default_rng(0).normal(0, 2, (500, 3)).astype(np.float32)
    found = OnnxRuntime(stood, "none").run({"x": x})[code]
    u = np.exp(x) if before == "Exp" else x
    np.testing.assert_allclose(found, book.nearest(u.astype(np.float64) / step) * step, rtol=1e-6)


@pytest.mark.parametrize("form", [0, 1])
def test_gelu_is_that_of_the_definition(net: Any, form: int) -> None:
    made = net()
    y = made.op("Gelu", [made.input(("n", 3))], domain="ai.snnc", tanh=form)
    model = made.output(y).model()
    stood = quantised_stand_in(model)
    attach_functions(model)
    x = {"x": np.random.default_rng(0).normal(0, 3, (500, 3)).astype(np.float32)}
    runs = [OnnxRuntime(each, "none").run(x)[y] for each in (stood, model)]
    np.testing.assert_allclose(runs[0], runs[1], atol=2e-6)


def test_calibration_sees_what_the_network_computes(net: Any) -> None:
    """onnxruntime folds a Pad with zeros into a MaxPool behind it, and would show -1 here."""
    made = net()
    padded = made.op("Pad", [made.input(("n", 1, 4, 4)), made.const([0, 0, 1, 1, 0, 0, 1, 1], np.int64)])
    y = made.op("MaxPool", [padded], kernel_shape=[2, 2], strides=[2, 2])
    model = made.output(made.op("Relu", [y])).model()
    samples = Calibration(open_samples({"x": -np.ones((3, 1, 4, 4), np.float32)}))
    kept = samples.sample(model, [y])[y]
    assert sorted(set(np.asarray(kept.values).ravel())) == [-1.0, 0.0]


@pytest.mark.parametrize("cores", [1, 3])
def test_batches_run_at_once_come_in_order_and_few_are_held(
    monkeypatch: pytest.MonkeyPatch, cores: int
) -> None:
    monkeypatch.setattr("snnc.calibration.observe.cores", lambda: cores)
    random, lock = np.random.default_rng(0), threading.Lock()
    waits, held, most = random.uniform(0, 0.01, 30), 0, 0

    def batches() -> Any:
        nonlocal held, most
        for number in range(30):
            with lock:
                held += 1
                most = max(most, held)
            yield {"x": np.array([number])}

    def run(batch: Any) -> Any:
        time.sleep(waits[batch["x"][0]])
        return {"y": batch["x"] + 100}

    seen = []
    for batch, results in _in_order(batches(), run, 2):
        seen.append((int(batch["x"][0]), int(results["y"][0])))
        held -= 1
    assert seen == [(number, number + 100) for number in range(30)]
    assert most <= 2


def test_a_failure_in_a_run_is_raised_and_ends_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("snnc.calibration.observe.cores", lambda: 2)
    started = []

    def run(batch: Any) -> Any:
        started.append(batch)
        raise ValueError(batch["x"])

    with pytest.raises(ValueError, match="0"):
        list(_in_order(({"x": number} for number in range(50)), run, 4))  # type: ignore[misc]
    assert len(started) < 10


class _Samples:
    """Batches of samples as they are given."""

    name = kind = "some"
    count = None

    def __init__(self, parts: list[np.ndarray]) -> None:
        self._parts = parts

    def chunks(self, inputs: Any) -> Any:
        return ({"x": part} for part in self._parts)


def _copies(model: Any, names: list[str], parts: list[np.ndarray]) -> dict[str, list[np.ndarray]]:
    found: dict[str, list[np.ndarray]] = {name: [] for name in names}
    Calibration(_Samples(parts)).each_batch(
        model, names, lambda name, array: found[name].append(array.copy())
    )
    return found


@pytest.mark.parametrize("cores", [1, 2])
@pytest.mark.parametrize("sizes", [[16], [8, 8, 3], [1, 8, 1, 8, 8, 8]])
def test_arrays_that_are_written_again_hold_what_a_run_of_its_own_gives(
    net: Any, monkeypatch: pytest.MonkeyPatch, cores: int, sizes: list[int]
) -> None:
    monkeypatch.setattr("snnc.calibration.observe.cores", lambda: cores)
    made = net()
    h = made.op("Exp", [made.input(("n", 40))])
    y = made.op("Neg", [h])
    model = made.output(y).model()
    random = np.random.default_rng(0)
    parts = [random.normal(size=(size, 40)).astype(np.float32) for size in sizes * 5]
    found = _copies(model, [h, y], parts)
    alone = OnnxRuntime(_showing(model, [h, y]), "basic", threads=1).run({"x": np.concatenate(parts)})
    for name, arrays in found.items():
        assert np.array_equal(np.concatenate(arrays), alone[name])


def test_outputs_whose_shape_depends_on_values_are_not_written_again(net: Any) -> None:
    made = net()
    kept = made.op("Transpose", [made.op("NonZero", [made.op("Floor", [made.input(("n", 40))])])])
    as_float = made.op("Cast", [kept], to=1)
    model = made.output(as_float).model()
    random = np.random.default_rng(0)
    parts = [random.uniform(0, 2, (8, 40)).astype(np.float32) for _ in range(9)]
    found = _copies(model, [as_float], parts)[as_float]
    for part, array in zip(parts, found, strict=True):
        assert np.array_equal(array, np.transpose(np.nonzero(np.floor(part))).astype(np.float32))


def test_run_into_refuses_arrays_that_cannot_be_written(net: Any) -> None:
    made = net()
    y = made.op("Neg", [made.input(("n", 4))])
    runtime = OnnxRuntime(made.output(y).model())
    x = {"x": np.ones((2, 4), np.float32)}
    results = runtime.run(x)
    runtime.run_into({"x": np.full((2, 4), 3, np.float32)}, results)
    assert np.array_equal(results[y], np.full((2, 4), -3))
    for wrong in (np.zeros((3, 4), np.float32), np.zeros((4, 2), np.float32).T, np.zeros((2, 4), np.int32)):
        with pytest.raises(UnsupportedError, match="SNN424"):
            runtime.run_into(x, {y: wrong})
