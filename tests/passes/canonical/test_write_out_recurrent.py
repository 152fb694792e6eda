"""Recurrent layers: the same numbers from onnxruntime's kernels and from the cells written out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from snnc.compile import ConvertOptions, convert
from snnc.cost.audit import audit
from snnc.debug.verify import verify
from snnc.errors import UnsupportedError
from snnc.passes.canonical.drop_dead_code import DropDeadCode
from snnc.passes.canonical.infer_shapes import InferShapes
from snnc.passes.canonical.name_nodes import NameNodes
from snnc.passes.canonical.write_out_recurrent import WriteOutRecurrent
from snnc.passes.recognise.refuse_unsupported import RefuseUnsupported

STEPS, BATCH, INPUTS, HIDDEN = 4, 3, 5, 6
GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
FLOAT = TensorProto.FLOAT


def layer(op: str, *, states: str = "", bias: bool = True, readers: str = "", **attrs: Any) -> Any:
    """A model of one layer, ``x`` its input; states: ``fed``, ``zeros`` (repeated by Expand) or none."""
    rng = np.random.default_rng(3)
    ways = 2 if attrs.get("direction") == "bidirectional" else 1
    width = GATES[op] * HIDDEN
    held = {"w": rng.normal(0, 0.7, (ways, width, INPUTS)), "r": rng.normal(0, 0.7, (ways, width, HIDDEN))}
    if bias:
        held["b"] = rng.normal(0, 0.3, (ways, 2 * width))
    arrays = [numpy_helper.from_array(array.astype(np.float32), name) for name, array in held.items()]
    inputs = ["x", "w", "r", "b" if bias else "", ""]
    fed, nodes = [], []
    batch_first = attrs.get("layout", 0)
    for place in range(2 if op == "LSTM" else 1) if states else ():
        shape = [BATCH, ways] if batch_first else [ways, BATCH]
        if states == "fed":
            fed.append(helper.make_tensor_value_info(f"s{place}", FLOAT, [*shape, HIDDEN]))
        else:
            fill = np.zeros((1, 1, HIDDEN)) if states == "zeros" else rng.normal(0, 0.5, (1, 1, HIDDEN))
            arrays.append(numpy_helper.from_array(fill.astype(np.float32), f"f{place}"))
            arrays.append(numpy_helper.from_array(np.array([*shape, HIDDEN]), f"n{place}"))
            nodes.append(helper.make_node("Expand", [f"f{place}", f"n{place}"], [f"s{place}"]))
        inputs.append(f"s{place}")
    results = ["y", "h", "c"] if op == "LSTM" else ["y", "h"]
    nodes.append(helper.make_node(op, inputs, results, name="layer", hidden_size=HIDDEN, **attrs))
    outs = list(results)
    if readers:
        perm = [0, 2, 1, 3]
        lists = {"flat": [0, 0, -1], "ways": [1], "first": [0], "third": [2]}
        arrays += [numpy_helper.from_array(np.array(held), name) for name, held in lists.items()]
        arrays.append(numpy_helper.from_array(np.array(-1), "end"))
        flat = [
            helper.make_node("Transpose", ["y"], ["t"], perm=perm),
            helper.make_node("Reshape", ["t", "flat"], ["z"]),
        ]
        nodes += [helper.make_node("Squeeze", ["y", "ways"], ["z"])] if readers == "steps" else flat
        nodes += [
            helper.make_node("Transpose", ["z"], ["samples"], perm=[1, 0, 2]),
            helper.make_node("Relu", ["z"], ["time"]),
            helper.make_node("Gather", ["z", "end"], ["last"]),
            helper.make_node("Slice", ["z", "first", "third", "first"], ["begin"]),
            helper.make_node("Gather", ["z", "first"], ["units"], axis=2),
        ]
        outs = {
            "both": ["samples", "time"],
            "samples": ["samples"],
            "steps": ["last", "begin", "samples"],
            "more": ["last", "units", "y"],
        }[readers]
    dims = [BATCH, STEPS, INPUTS] if batch_first else [STEPS, BATCH, INPUTS]
    values = [helper.make_tensor_value_info("x", FLOAT, dims), *fed]
    wanted = [helper.make_tensor_value_info(name, FLOAT, None) for name in outs]
    graph = helper.make_graph(nodes, "net", values, wanted, arrays)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)


def run(proto: onnx.ModelProto) -> list[Any]:
    rng = np.random.default_rng(5)
    feeds = {
        value.name: rng.normal(0, 1, [dim.dim_value for dim in value.type.tensor_type.shape.dim]).astype("f")
        for value in proto.graph.input
    }
    session = ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, feeds)


def rewritten(proto: onnx.ModelProto, **options: Any) -> ir.Model:
    model = ir.from_proto(proto)
    for step in (NameNodes(), InferShapes(), WriteOutRecurrent(**options), DropDeadCode()):
        step.run(model)
    return model


BOTH: dict[str, Any] = {"direction": "bidirectional"}
FUNCTIONS = ["HardSigmoid", "LeakyRelu", "Softsign"]


@pytest.mark.parametrize(
    ("op", "options"),
    [
        ("LSTM", {}),
        ("LSTM", {"bias": False, "direction": "reverse"}),
        ("LSTM", {**BOTH, "states": "fed"}),
        ("LSTM", {"states": "zeros", "readers": "both"}),
        ("LSTM", {**BOTH, "states": "learned", "readers": "samples"}),
        ("LSTM", {"activations": FUNCTIONS, "activation_alpha": [0.3, 0.2], "activation_beta": [0.4]}),
        ("LSTM", {"states": "fed", "readers": "steps"}),
        ("RNN", {**BOTH, "readers": "more"}),
        ("GRU", {}),
        ("GRU", {**BOTH, "linear_before_reset": 1, "states": "fed"}),
        ("GRU", {"linear_before_reset": 1, "states": "zeros", "readers": "both"}),
        ("GRU", {"states": "fed", "bias": False, "direction": "reverse"}),
        ("GRU", {"activations": FUNCTIONS[:2], "activation_alpha": [0.2, 0.3]}),
        ("RNN", {}),
        ("RNN", {**BOTH, "states": "fed", "activations": ["Relu", "Tanh"], "readers": "both"}),
    ],
)
def test_the_same_numbers(op: str, options: dict[str, Any]) -> None:
    proto = layer(op, **options)
    model = rewritten(proto)
    assert not {node.op_type for node in model.graph} & set(GATES)
    made = ir.to_proto(model)
    for got, wanted in zip(run(made), run(proto), strict=True):
        assert got.shape == wanted.shape
        assert np.abs(got - wanted).max() < 3e-6


def test_batch_in_front() -> None:
    """onnxruntime has no layout 1: the same weights with the axes moved by hand are the reference."""
    plain, first = run(layer("GRU", states="fed")), layer("GRU", states="fed", layout=1)
    rng = np.random.default_rng(5)
    x, state = rng.normal(0, 1, (STEPS, BATCH, INPUTS)), rng.normal(0, 1, (1, BATCH, HIDDEN))
    session = ort.InferenceSession(ir.to_proto(rewritten(first)).SerializeToString())
    feeds = {"x": x.transpose(1, 0, 2).astype("f"), "s0": state.transpose(1, 0, 2).astype("f")}
    y, h = session.run(None, feeds)
    assert np.abs(y.transpose(1, 2, 0, 3) - plain[0]).max() < 3e-6
    assert np.abs(h.transpose(1, 0, 2) - plain[1]).max() < 3e-6


def with_inputs(proto: onnx.ModelProto, more: dict[int, Any]) -> None:
    """Give the layer further constant inputs, by their place."""
    (node,) = (node for node in proto.graph.node if node.name == "layer")
    node.input.extend([""] * (max(more, default=0) + 1 - len(node.input)))
    for place, array in more.items():
        node.input[place] = f"more{place}"
        proto.graph.initializer.append(numpy_helper.from_array(array, f"more{place}"))


@pytest.mark.parametrize("direction", ["forward", "bidirectional"])
def test_lengths_of_all_steps_and_peepholes_of_zeros_say_nothing(direction: str) -> None:
    proto = layer("LSTM", direction=direction)
    ways = 1 + (direction == "bidirectional")
    lengths, peepholes = np.full(BATCH, STEPS, np.int32), np.zeros((ways, 3 * HIDDEN), np.float32)
    with_inputs(proto, {4: lengths, 7: peepholes})
    model = rewritten(proto)
    assert "LSTM" not in {node.op_type for node in model.graph}
    for got, wanted in zip(run(ir.to_proto(model)), run(proto), strict=True):
        assert np.abs(got - wanted).max() < 3e-6


def test_two_layers_share_their_input_and_may_stay_on_the_host() -> None:
    proto = layer("GRU")
    second = onnx.NodeProto()
    second.CopyFrom(proto.graph.node[0])
    second.name, second.output[0], second.output[1] = "second", "y2", "h2"
    proto.graph.node.append(second)
    proto.graph.output.append(helper.make_tensor_value_info("y2", FLOAT, None))
    model = rewritten(proto)
    turned = [node for node in model.graph if node.op_type == "Transpose" and node.inputs[0].name == "x"]
    assert len(turned) == 1
    for got, wanted in zip(run(ir.to_proto(model)), run(proto), strict=True):
        assert np.abs(got - wanted).max() < 3e-6
    kept = rewritten(proto, allow_host=("GRU",))
    assert [node.op_type for node in kept.graph] == ["GRU", "GRU"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"clip": 1.0}, "it clips the inputs"),
        ({"activations": ["Sigmoid", "ScaledTanh", "Tanh"]}, "ScaledTanh has no form"),
        ({"input_forget": 1}, "input_forget"),
        ({"open": ["w"]}, "its weights are not constant"),
        ({"open": ["r"]}, "its weights are not constant"),
        ({"open": ["b"]}, "its bias is not constant"),
        ({"more": {4: np.array([4, 3, 2], np.int32)}}, "its samples have lengths of their own"),
        ({"more": {7: np.ones((1, 3 * HIDDEN), np.float32)}}, "it has peepholes"),
    ],
)
def test_what_is_left(change: dict[str, Any], message: str) -> None:
    opened, more = change.pop("open", []), change.pop("more", {})
    proto = layer("LSTM", **change)
    for name in opened:
        (held,) = (entry for entry in proto.graph.initializer if entry.name == name)
        proto.graph.input.append(helper.make_tensor_value_info(name, FLOAT, held.dims))
        proto.graph.initializer.remove(held)
    with_inputs(proto, more)
    model = rewritten(proto)
    with pytest.raises(UnsupportedError, match="SNN461") as caught:
        RefuseUnsupported().run(model)
    (problem,) = caught.value.problems
    assert problem.where.node == "layer" and message in problem.message


def test_too_many_steps_and_open_lengths() -> None:
    with pytest.raises(UnsupportedError) as caught:
        RefuseUnsupported().run(rewritten(layer("GRU", **BOTH), most=7))
    assert "it runs over 4 steps in both directions" in caught.value.problems[0].message
    proto = layer("LSTM")
    proto.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "time"
    with pytest.raises(UnsupportedError) as caught:
        RefuseUnsupported().run(rewritten(proto))
    assert "--size NAME=NUMBER" in caught.value.problems[0].message


def test_converts(tmp_path: Path) -> None:
    """Both directions, with the batch in front as torch exports it: spikes from end to end."""
    proto = layer("LSTM", **BOTH, readers="samples")
    value = proto.graph.input[0].type.tensor_type.shape
    proto.graph.input[0].name = "samples_in"
    value.CopyFrom(helper.make_tensor_type_proto(FLOAT, ["N", STEPS, INPUTS]).tensor_type.shape)
    proto.graph.node.insert(0, helper.make_node("Transpose", ["samples_in"], ["x"], perm=[1, 0, 2]))
    samples = np.random.default_rng(1).normal(0, 1, (32, STEPS, INPUTS)).astype("f")
    np.save(tmp_path / "x.npy", samples)
    onnx.save(proto, tmp_path / "net.onnx")
    options = ConvertOptions(groups=4, calibrate=str(tmp_path / "x.npy"))
    conversion = convert(tmp_path / "net.onnx", options)
    assert audit(conversion.model).clean
    # What a state gains and loses counts in steps that are powers of two apart: no copies that round it.
    assert not [node.name for node in conversion.model.graph if "_shifted_" in (node.name or "")]
    found = verify(tmp_path / "net.onnx", conversion.model, {"samples_in": samples[:4]})
    assert found.identical
    assert all(distance.decibel is not None and distance.decibel > 28 for distance in found.distances)
