"""What calibration runs in place of snnc's ops gives their values, and its batches come in order."""

from __future__ import annotations

import threading
import time
from typing import Any

import numpy as np
import pytest

from snnc.calibration.observe import Calibration, _in_order
from snnc.calibration.stand_in import quantised_stand_in
from snnc.coding import CodeBook
from snnc.data.named import open_samples
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
