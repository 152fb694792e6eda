"""A network of three times as many nodes takes three times as much work."""

from __future__ import annotations

import cProfile
from collections.abc import Callable

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from snnc.compile import ConvertOptions, convert
from snnc.ir import infer_shapes
from snnc.passes.canonical.keep_tail_on_host import KeepTailOnHost

#: Blocks of the chains.
SHORT, LONG = 5, 15


def chain(kind: str, blocks: int) -> onnx.ModelProto:
    random = np.random.default_rng(0)
    nodes: list[onnx.NodeProto] = []
    arrays: dict[str, np.ndarray] = {"s": np.float32(0.05), "z": np.int8(0)}

    def op(op_type: str, *inputs: str) -> str:
        nodes.append(helper.make_node(op_type, inputs, [f"v{len(nodes)}"], f"n{len(nodes)}"))
        return f"v{len(nodes) - 1}"

    def weight() -> str:
        arrays[f"w{len(arrays)}"] = (random.standard_normal((4, 4)) / 4).astype(np.float32)
        return f"w{len(arrays) - 1}"

    def quantised(value: str) -> str:
        return op("DequantizeLinear", op("QuantizeLinear", value, "s", "z"), "s", "z")

    value = quantised("x") if kind == "quantised" else "x"
    for _ in range(blocks):
        if kind == "activations":
            for _ in range(3):
                value = op("Relu", value)
        elif kind == "residual":
            branch = op("MatMul", op("Relu", op("MatMul", value, weight())), weight())
            value = op("Add", value, branch)
        else:
            value = quantised(op("Relu", op("MatMul", value, quantised(weight()))))
    value = op("MatMul", value, weight())
    graph = helper.make_graph(
        nodes,
        "chain",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 4])],
        [helper.make_tensor_value_info(value, TensorProto.FLOAT, ["N", 4])],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in arrays.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def calls(run: Callable[[], object]) -> int:
    """Count calls of functions: the same on any machine, however busy it is."""
    profile = cProfile.Profile()
    profile.runcall(run)
    return sum(entry.callcount for entry in profile.getstats())


@pytest.mark.parametrize("kind", ["activations", "residual", "quantised"])
def test_work_grows_linearly(kind: str) -> None:
    options = ConvertOptions(calibrate=None if kind == "quantised" else "random:2")
    work = []
    for blocks in (1, SHORT, LONG):
        model = ir.from_proto(chain(kind, blocks))
        work.append(calls(lambda model=model: convert(model, options)))  # type: ignore[misc]
    _, short, long = work
    assert long < short * LONG / SHORT, work


def test_the_end_of_a_network_is_found_in_linear_time() -> None:
    """Each activation asks what comes behind it: the answer of the next one is not worked out again."""
    work = []
    for blocks in (100, 300):
        model = ir.from_proto(chain("residual", blocks))
        infer_shapes(model)
        work.append(calls(lambda model=model: KeepTailOnHost().run(model)))  # type: ignore[misc]
    assert work[1] < 3.5 * work[0], work
