"""Fixtures for pass tests: graphs from text, and numbers before and after."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest

from snnc.ir import Model, infer_shapes, to_bytes

Feeds = Mapping[str, npt.NDArray[Any]]


def parse(text: str) -> Model:
    """Parse ONNX text, with or without a header, name the nodes and infer shapes."""
    header = '<ir_version: 10, opset_import: ["" : 17, "ai.snnc" : 1]>\n'
    proto = onnx.parser.parse_model(text if text.lstrip().startswith("<") else header + text)
    for node in proto.graph.node:
        node.name = node.name or f"n_{node.output[0]}"
    model = ir.from_proto(proto)
    infer_shapes(model)
    return model


def evaluate(model: Model, feeds: Feeds) -> dict[str, npt.NDArray[Any]]:
    """Run a model in onnxruntime without any optimisation."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(to_bytes(model), options, providers=["CPUExecutionProvider"])
    names = [entry.name for entry in session.get_outputs()]
    return dict(zip(names, session.run(None, dict(feeds)), strict=True))


def random_feeds(
    model: Model, seed: int = 0, batch: int = 3, spread: float = 1.0
) -> dict[str, npt.NDArray[Any]]:
    """Normal random numbers for every graph input, symbolic dimensions replaced by ``batch``."""
    random = np.random.default_rng(seed)
    feeds = {}
    for value in model.graph.inputs:
        assert value.shape is not None and value.name is not None
        shape = [dim if isinstance(dim, int) else batch for dim in value.shape]
        feeds[value.name] = np.asarray(random.standard_normal(shape) * spread, np.float32)
    return feeds


def signature(model: Model) -> list[tuple[str, str, str]]:
    """Name, type and shape of every graph input and output, in order."""
    return [
        (value.name or "", str(value.dtype), str(value.shape))
        for value in [*model.graph.inputs, *model.graph.outputs]
    ]


@pytest.fixture(name="parse")
def parse_fixture() -> Callable[[str], Model]:
    return parse


@pytest.fixture(name="check")
def check_fixture() -> Callable[..., Any]:
    """Run a pass and compare numbers and signature before and after; returns the pass's result.

    ``tolerance`` is relative to the largest output; 0 means equal bits. The pass must not change anything on
    a second run.
    """

    def check(
        step: Any, model: Model, *, tolerance: float = 0.0, feeds: Feeds | None = None, spread: float = 1.0
    ) -> Any:
        inputs = feeds if feeds is not None else random_feeds(model, spread=spread)
        before, names = evaluate(model, inputs), signature(model)
        result = step.run(model)
        onnx.checker.check_model(ir.to_proto(model))
        assert [entry[:2] for entry in signature(model)] == [entry[:2] for entry in names]
        after = evaluate(model, inputs)
        for name, expected in before.items():
            if tolerance:
                limit = tolerance * max(1.0, float(np.abs(expected).max()))
                assert np.abs(after[name] - expected).max() <= limit, name
            else:
                np.testing.assert_array_equal(after[name], expected, err_msg=name)
        state = to_bytes(model)
        again = step.run(model)
        assert not again.rewrites and to_bytes(model) == state
        return result

    return check


@pytest.fixture(name="ops")
def ops_fixture() -> Callable[[Model], list[str]]:
    """The op types of a graph, in order."""
    return lambda model: [node.op_type for node in model.graph]


@pytest.fixture(name="evaluate")
def evaluate_fixture() -> Callable[[Model, Feeds], dict[str, npt.NDArray[Any]]]:
    return evaluate


@pytest.fixture(name="random_feeds")
def random_feeds_fixture() -> Callable[..., dict[str, npt.NDArray[Any]]]:
    return random_feeds
