"""Pass recognise-steps: comparisons that are cast are spikes; which side of the threshold a tie falls to."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from onnx import helper, numpy_helper

from snnc.ops import attach_functions
from snnc.passes.canonical.unstack_time import UnstackTime
from snnc.passes.recognise.recognise_steps import RecogniseSteps


def model_of(nodes: list[onnx.NodeProto], held: dict[str, np.ndarray], shape: list[object]) -> ir.Model:
    weights = [numpy_helper.from_array(array, name) for name, array in held.items()]
    inputs = [helper.make_tensor_value_info("x", 1, shape)]
    outputs = [helper.make_empty_tensor_value_info("y")]
    graph = helper.make_graph(nodes, "g", inputs, outputs, weights)
    proto = helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 17)])
    return ir.from_proto(onnx.shape_inference.infer_shapes(proto))


def run(model: ir.Model, x: np.ndarray) -> np.ndarray:
    attach_functions(model)
    session = onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString())
    return session.run(None, {"x": x})[0]


@pytest.mark.parametrize("op_type", ["Greater", "GreaterOrEqual", "Less", "LessOrEqual"])
@pytest.mark.parametrize("exchanged", [False, True])
def test_every_comparison_and_every_tie(op_type: str, exchanged: bool) -> None:
    names = ["t", "u"] if exchanged else ["u", "t"]
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["u"]),
        helper.make_node(op_type, names, ["c"], name="compare"),
        helper.make_node("Cast", ["c"], ["y"], to=1, name="cast"),
    ]
    limits = np.array([0.75, -1.5, 0.0], np.float32)
    model = model_of(nodes, {"w": np.eye(3, dtype=np.float32), "t": limits}, ["N", 3])
    x = limits + np.array([[-1, 0, 1], [0, 0, 0], [0.25, -0.25, 0], [0, 1, -1]], np.float32)
    expected = run(model_of(nodes, {"w": np.eye(3, dtype=np.float32), "t": limits}, ["N", 3]), x)
    result = RecogniseSteps().run(model)
    assert len(result.rewrites) == 1
    assert [node.op_type for node in model.graph if node.op_type in (op_type, "Cast")] == []
    np.testing.assert_array_equal(run(model, x), expected)


def test_a_reset_reads_the_same_spike() -> None:
    nodes = [helper.make_node("MatMul", ["x", "w"], ["u"])]
    for name in ("a", "b"):
        nodes.append(helper.make_node("Greater", ["u", f"{name}0"], [f"{name}1"], name=name))
        nodes.append(helper.make_node("Cast", [f"{name}1"], [f"{name}2"], to=1, name=f"{name}c"))
    nodes.append(helper.make_node("Sub", ["a2", "b2"], ["y"]))
    one = np.ones((), np.float32)
    model = model_of(nodes, {"w": np.eye(3, dtype=np.float32), "a0": one, "b0": one}, ["N", 3])
    assert len(RecogniseSteps().run(model).rewrites) == 2
    assert [node.op_type for node in model.graph].count("Quantise") == 1


def test_what_the_host_compares_and_truth_values_stay() -> None:
    one = np.ones((), np.float32)
    nodes = [
        helper.make_node("Greater", ["x", "t"], ["c"]),
        helper.make_node("Cast", ["c"], ["y"], to=1),
    ]
    result = RecogniseSteps().run(model_of(nodes, {"t": one}, ["N", 3]))
    assert not result.rewrites and not result.not_matched
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["u"]),
        helper.make_node("Greater", ["u", "t"], ["c"]),
        helper.make_node("Where", ["c", "u", "t"], ["y"]),
    ]
    result = RecogniseSteps().run(model_of(nodes, {"t": one, "w": np.eye(3, dtype=np.float32)}, ["N", 3]))
    assert not result.rewrites and "truth values" in result.not_matched[0].reason


def test_steps_of_a_fold_are_told_apart() -> None:
    """(T, N, C) folded to (T N, C) around a product, one step taken, the rest averaged."""
    held = {
        "zero": np.array([0]), "reps": np.array([3, 1, 1]), "fold": np.array([-1, 2]),
        "back": np.array([3, -1, 4]), "w": np.arange(8, dtype=np.float32).reshape(2, 4),
        "one": np.array(1),
    }  # fmt: skip
    nodes = [
        helper.make_node("Unsqueeze", ["x", "zero"], ["s"]),
        helper.make_node("Tile", ["s", "reps"], ["t"]),
        helper.make_node("Reshape", ["t", "fold"], ["f"]),
        helper.make_node("MatMul", ["f", "w"], ["m"]),
        helper.make_node("Reshape", ["m", "back"], ["b"]),
        helper.make_node("Gather", ["b", "one"], ["taken"], axis=0),
        helper.make_node("ReduceMean", ["b"], ["mean"], axes=[0], keepdims=0),
        helper.make_node("Sub", ["taken", "mean"], ["d"]),
        helper.make_node("Add", ["d", "mean"], ["y"]),
    ]
    model = model_of(nodes, held, [5, 2])
    x = np.random.default_rng(0).random((5, 2), dtype=np.float32)
    result = UnstackTime().run(model)
    assert len(result.rewrites) == 2
    kinds = {node.op_type for node in model.graph}
    assert not kinds & {"Tile", "Gather", "ReduceMean", "Reshape"}
    np.testing.assert_allclose(run(model, x), x @ held["w"], rtol=1e-5)


def test_a_fold_may_be_flattened_where_it_ends() -> None:
    """(T N, C, H, W) behind a pool becomes (T, N, C H W) in one Reshape."""
    held = {
        "zero": np.array([0]), "reps": np.array([3, 1, 1, 1, 1]), "fold": np.array([-1, 2, 4, 4]),
        "back": np.array([3, -1, 8]),
    }  # fmt: skip
    nodes = [
        helper.make_node("Unsqueeze", ["x", "zero"], ["s"]),
        helper.make_node("Tile", ["s", "reps"], ["t"]),
        helper.make_node("Reshape", ["t", "fold"], ["f"]),
        helper.make_node("MaxPool", ["f"], ["m"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Reshape", ["m", "back"], ["b"]),
        helper.make_node("ReduceMean", ["b"], ["y"], axes=[0], keepdims=0),
    ]
    model = model_of(nodes, held, [5, 2, 4, 4])
    x = np.random.default_rng(0).random((5, 2, 4, 4), dtype=np.float32)
    assert len(UnstackTime().run(model).rewrites) == 1
    assert "Tile" not in {node.op_type for node in model.graph}
    pooled = x.reshape(5, 2, 2, 2, 2, 2).max((3, 5)).reshape(5, 8)
    np.testing.assert_allclose(run(model, x), pooled, rtol=1e-5)


def test_a_mean_over_a_batch_is_no_stack() -> None:
    nodes = [helper.make_node("ReduceMean", ["x"], ["y"], axes=[0], keepdims=0)]
    assert not UnstackTime().run(model_of(nodes, {}, [4, 2])).rewrites


@pytest.mark.parametrize("op_type", ["Greater", "GreaterOrEqual", "Less", "LessOrEqual"])
def test_two_computed_values_are_compared_by_their_difference(op_type: str) -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["u"]),
        helper.make_node("Relu", ["u"], ["v"]),
        helper.make_node(op_type, ["u", "v"], ["c"], name="compare"),
        helper.make_node("Cast", ["c"], ["y"], to=1, name="cast"),
    ]
    held = {"w": -np.eye(3, dtype=np.float32)}
    x = np.array([[-1, 0, 1], [0.5, -0.25, 2]], np.float32)
    expected = run(model_of(nodes, held, ["N", 3]), x)
    model = model_of(nodes, held, ["N", 3])
    result = RecogniseSteps().run(model)
    assert len(result.rewrites) == 1
    assert "Sub" in [node.op_type for node in model.graph]
    np.testing.assert_array_equal(run(model, x), expected)


def test_a_comparison_of_integers_stays() -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["u"]),
        helper.make_node("ArgMax", ["u"], ["i"], axis=1),
        helper.make_node("Greater", ["i", "t"], ["c"], name="compare"),
        helper.make_node("Cast", ["c"], ["y"], to=1, name="cast"),
    ]
    model = model_of(nodes, {"w": np.eye(3, dtype=np.float32), "t": np.array(1, np.int64)}, ["N", 3])
    result = RecogniseSteps().run(model)
    assert not result.rewrites and not result.not_matched
    assert [node.op_type for node in model.graph] == ["MatMul", "ArgMax", "Greater", "Cast"]
