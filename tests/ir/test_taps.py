"""Inner tensors as outputs, whatever attributes the nodes of a model have."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from onnx import helper

from snnc.ir import load
from snnc.ir.taps import with_outputs


def test_lists_of_nothing_stay_attributes(tmp_path: Path) -> None:
    """A mean over no axes, which is the value itself, before the one that is tapped."""
    same = helper.make_node("ReduceMean", ["x"], ["m"], name="same", keepdims=1)
    same.attribute.append(helper.make_attribute("axes", [], attr_type=onnx.AttributeProto.INTS))
    nodes = [helper.make_node("Neg", ["x"], ["n"]), same, helper.make_node("Relu", ["m"], ["y"])]
    info = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["N", 3]) for name in "xy"]
    graph = helper.make_graph(nodes, "g", info[:1], info[1:])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(made, tmp_path / "m.onnx")
    tapped, large = with_outputs(load(tmp_path / "m.onnx"), ["m"])
    assert not large and [output.name for output in tapped.graph.output] == ["y", "m"]
    kept = {node.name: [entry.name for entry in node.attribute] for node in tapped.graph.node}
    assert sorted(kept["same"]) == ["axes", "keepdims"]
    options = ort.SessionOptions()
    options.log_severity_level = 4
    session = ort.InferenceSession(tapped.SerializeToString(), options, providers=["CPUExecutionProvider"])
    x = np.array([[-1, 2, 3]], np.float32)
    wanted = ort.InferenceSession(made.SerializeToString(), options, providers=["CPUExecutionProvider"])
    assert np.array_equal(session.run(["y"], {"x": x})[0], wanted.run(None, {"x": x})[0])
