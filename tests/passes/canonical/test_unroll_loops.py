"""Loops over time-steps: what stateful neurons are when they are exported in a Loop or a Scan."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from snnc.compile import convert
from snnc.cost.audit import audit
from snnc.errors import UnsupportedError

STEPS = 3
FLOAT = TensorProto.FLOAT


def constants(rng: Any, **more: Any) -> list[Any]:
    held = {
        "w": rng.integers(-7, 8, (4, 6)) / 8,
        "r": rng.integers(-7, 8, (6, 3)) / 8,
        "leak": 0.5,
        "one": 1.0,
    }
    arrays = {name: np.asarray(array, np.float32) for name, array in held.items()} | more
    return [numpy_helper.from_array(np.asarray(array), name) for name, array in arrays.items()]


def neuron(current: str) -> list[Any]:
    """A LIF step on ``current`` and the state ``v``: potential, spikes, reset by subtraction."""
    return [
        helper.make_node("Mul", ["v", "leak"], ["kept"]),
        helper.make_node("Add", ["kept", current], ["u"]),
        helper.make_node("GreaterOrEqual", ["u", "one"], ["fires"]),
        helper.make_node("Cast", ["fires"], ["spikes"], to=FLOAT),
        helper.make_node("Mul", ["spikes", "one"], ["taken"]),
        helper.make_node("Sub", ["u", "taken"], ["v_next"]),
        helper.make_node("MatMul", ["spikes", "r"], ["out"]),
    ]


def value(name: str, *shape: Any, kind: int = FLOAT) -> Any:
    return helper.make_tensor_value_info(name, kind, shape)


def looped(rng: Any, *, trips: Any = STEPS, condition: str = "goes_on") -> onnx.ModelProto:
    """The input is a constant current; the outputs of all steps are stacked and averaged."""
    body = helper.make_graph(
        [helper.make_node("Identity", ["goes_in"], ["goes_on"]), *neuron("current")],
        "body",
        [value("i", kind=TensorProto.INT64), value("goes_in", kind=TensorProto.BOOL), value("v", None, 6)],
        [value(condition, kind=TensorProto.BOOL), value("v_next", None, 6), value("out", None, 3)],
    )
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["current"]),
        helper.make_node("Mul", ["current", "zero"], ["start"]),
        helper.make_node("Loop", ["trips", "true", "start"], ["v_last", "steps"], name="time", body=body),
        helper.make_node("ReduceMean", ["steps"], ["y"], axes=[0], keepdims=0),
    ]
    held = constants(rng, zero=np.float32(0), trips=np.int64(trips), true=np.asarray(True))
    graph = helper.make_graph(nodes, "net", [value("x", "N", 4)], [value("y", "N", 3)], held)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)


def scanned(rng: Any, *, backwards: bool = False) -> onnx.ModelProto:
    """The input is a sequence of currents, ``(N, T, 4)``; the outputs of all steps are added."""
    body = helper.make_graph(
        [helper.make_node("MatMul", ["x_t", "w"], ["current"]), *neuron("current")],
        "body",
        [value("v", None, 6), value("x_t", None, 4)],
        [value("v_next", None, 6), value("out", None, 3)],
    )
    nodes = [
        helper.make_node("Gather", ["x", "begin"], ["first"], axis=1),
        helper.make_node("MatMul", ["first", "w"], ["start"]),
        helper.make_node(
            "Scan", ["start", "x"], ["v_last", "steps"], name="time", body=body, num_scan_inputs=1,
            scan_input_axes=[1], scan_input_directions=[int(backwards)], scan_output_axes=[0],
        ),
        helper.make_node("ReduceSum", ["steps", "first_axis"], ["y"], keepdims=0),
    ]  # fmt: skip
    held = constants(rng, first_axis=np.asarray([0], np.int64), begin=np.int64(0))
    graph = helper.make_graph(nodes, "net", [value("x", "N", STEPS, 4)], [value("y", "N", 3)], held)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)


def source(model: onnx.ModelProto, x: Any) -> Any:
    import onnxruntime

    return onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"x": x})[0]


@pytest.mark.parametrize("form", ["loop", "scan", "backwards"])
def test_neurons_in_a_loop_become_spikes(agree: Any, form: str) -> None:
    rng = np.random.default_rng(3)
    model = looped(rng) if form == "loop" else scanned(rng, backwards=form == "backwards")
    shape = (8, 4) if form == "loop" else (8, STEPS, 4)
    x = rng.integers(-16, 17, shape).astype(np.float32) / 8
    found = agree(ir.from_proto(model), {"x": x}, float64=False, weights="wide")
    assert audit(found.conversion.model).clean
    assert len(found.codes) == STEPS and 0 < np.mean([codes.mean() for codes in found.codes.values()]) < 1
    assert np.allclose(found.outputs["y"], source(model, x), atol=1e-5)


@pytest.mark.parametrize("cause", ["trips", "condition"])
def test_a_loop_of_unknown_length_is_refused(cause: str) -> None:
    rng = np.random.default_rng(3)
    model = looped(rng, trips=2**40) if cause == "trips" else looped(rng, condition="fires_on")
    if cause == "condition":
        body = next(node for node in model.graph.node if node.op_type == "Loop").attribute[0].g
        body.node.append(helper.make_node("Not", ["goes_in"], ["fires_on"]))
    with pytest.raises(UnsupportedError, match="SNN461") as caught:
        convert(ir.from_proto(model))
    assert "fixed number of iterations" in str(caught.value.problems[0])


def test_scans_of_opset_8_are_refused() -> None:
    # Their sequences lie behind a batch of their own, and another input comes first.
    model = scanned(np.random.default_rng(3), backwards=False)
    model.opset_import[0].version = 8
    with pytest.raises(UnsupportedError, match="SNN461"):
        convert(ir.from_proto(model))
