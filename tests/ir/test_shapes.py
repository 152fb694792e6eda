"""Inference of shapes: what onnx_ir's own pass finds, in time linear in the number of weights."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx_ir.passes import common

from snnc.ir.shapes import infer_shapes


def network(sizes: list[object]) -> onnx.ModelProto:
    """Weights large and small, a size that is only known from a small one, types to be found out."""
    arrays = {
        "w": np.ones((4, 300), np.float32),
        "b": np.ones(300, np.float32),
        "to": np.array([0, 3, 100], np.int64),
        "zero": np.zeros((), np.int64),
    }
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["m"]),
        helper.make_node("Add", ["m", "b"], ["a"]),
        helper.make_node("Reshape", ["a", "to"], ["r"]),
        helper.make_node("Shape", ["r"], ["s"]),
        helper.make_node("Gather", ["s", "zero"], ["n"]),
        helper.make_node("Greater", ["r", "zero_f"], ["y"]),
    ]
    arrays["zero_f"] = np.zeros((), np.float32)
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, sizes)],
        [onnx.ValueInfoProto(name="y"), onnx.ValueInfoProto(name="n")],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def state(model: ir.Model) -> list[str]:
    graph = model.graph
    values = (*graph.inputs, *graph.initializers.values(), *(v for node in graph for v in node.outputs))
    return [f"{v.name} {v.dtype} {v.shape} {v.const_value is not None}" for v in values]


@pytest.mark.parametrize("sizes", [["N", 4], [None, 4], [2, 4], ["N", "K"]])
def test_finds_what_onnx_ir_finds(sizes: list[object]) -> None:
    proto = network(sizes)
    ours, theirs = ir.from_proto(proto), ir.from_proto(proto)
    infer_shapes(ours)
    common.ShapeInferencePass(check_type=False, strict_mode=False, data_prop=True)(theirs)
    assert state(ours) == state(theirs)
    assert "y DataType.BOOL" in " ".join(state(ours)) or "y BOOL" in " ".join(state(ours))


def test_a_declared_shape_that_is_less_precise_is_replaced() -> None:
    model = ir.from_proto(network([2, 4]))
    (matmul, *_) = model.graph
    matmul.outputs[0].shape = ir.Shape([None, 300])
    infer_shapes(model)
    assert list(matmul.outputs[0].shape or ()) == [2, 300]
