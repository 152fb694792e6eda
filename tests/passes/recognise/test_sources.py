"""Models of real exporters: each is recognised with the code it was trained with, or refused with the reason.

The files lie in tests/sources beside the scripts that made them.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from onnx import helper

from snnc.coding import CodeBook
from snnc.errors import UnsupportedError
from snnc.ir import attributes, constant, load
from snnc.ops import attach_functions
from snnc.passes import canonical as clean
from snnc.passes import recognise as find
from snnc.pipeline import run_pipeline

SOURCES = Path(__file__).parents[2] / "sources"
STEPS = (
    clean.InlineFunctions(),
    clean.FreezeDefaults(),
    clean.NameNodes(),
    clean.SortNodes(),
    find.LiftQoperators(),
    find.RefuseUnsupported(),
    clean.LiftConstants(),
    clean.InferShapes(),
    clean.FoldShapes(),
    clean.FoldConstants(),
    clean.EvaluateConstants(),
    clean.RemoveIdentity(),
    clean.InferShapes(),
    clean.FoldBatchNorm(),
    clean.GemmToMatmul(),
    find.CheckQuantisers(),
    find.RemoveStraightThrough(),
    find.RecogniseWeights(),
    clean.FoldConstants(),
    find.RecogniseQuantisers(),
    find.AbsorbActivations(),
    find.DropRepeatedQuantisers(),
    clean.DropDeadCode(),
    clean.InferShapes(),
    find.RequireQuantised(),
)
U8, S8 = (0, 255), (-128, 127)
#: For each source: smallest and largest code of every quantiser in graph order, ties, number of
#: integer weights.
RECOGNISED: dict[str, tuple[list[tuple[int, int]], str, int]] = {
    "qcfs_dynamo": ([(0, 8), (0, 8), (0, 8), (0, 4)], "up", 0),
    "qcfs_torchscript": ([(0, 8), (0, 8), (0, 8), (0, 4)], "up", 0),
    "round_clamp_dynamo": ([(0, 255), (0, 15), (-3, 12), (-8, 7), (0, 31)], "even", 0),
    "fake_quantize_torchscript": ([U8] * 5, "even", 4),
    "qonnx_quant": ([U8, (0, 15), (-8, 7), (0, 15), (0, 63)], "even", 4),
    "brevitas_qcdq": ([U8, (0, 15), (-8, 7), (0, 15), (0, 63)], "even", 4),
    "ort_qdq_u8s8": ([U8, U8, U8, (-79, 176), U8, U8, (-80, 175)], "even", 4),
    "ort_qdq_u8u8": ([U8, U8, U8, (-79, 176), U8, U8, (-80, 175)], "even", 4),
    "ort_qdq_s8s8": ([S8, (0, 127), (0, 127), S8, (0, 127), S8, S8], "even", 4),
    "ort_qdq_s8s4": ([U8, U8, U8, (-79, 176), U8, U8, (-80, 175)], "even", 4),
    "ort_qoperator": ([U8, U8, U8, (-79, 176), U8, U8, (-80, 175)], "even", 4),
    "ort_qdq_u16s8": ([(0, 65535)] * 3 + [(-20402, 45133)] + [(0, 65535)] * 2 + [(-20686, 44849)], "even", 4),
}
REFUSED = {
    "ort_nbits_qoperator": ("SNN461", "its weights have a scale in each block"),
    "float_dynamo": ("SNN462", "the model holds no quantiser at all"),
}


def run(proto, images):
    """Run a model file in onnxruntime without optimisation."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    session = ort.InferenceSession(proto.SerializeToString(), options)
    return session.run(None, {session.get_inputs()[0].name: images})[0]


def in_standard_ops(proto):
    """Write every Quant of QONNX with standard ops, after its definition."""
    graph = proto.graph
    held = {entry.name: onnx.numpy_helper.to_array(entry) for entry in graph.initializer}
    nodes = []
    for node in graph.node:
        if node.op_type != "Quant":
            nodes.append(node)
            continue
        source, scale, zero, bits = node.input
        attrs = {entry.name: helper.get_attribute_value(entry) for entry in node.attribute}
        half = 2 ** (int(held[bits]) - 1)
        low, high = (-half + attrs["narrow"], half - 1) if attrs["signed"] else (0, 2 * half - 1)
        names = [f"{node.output[0]}.{part}" for part in ("low", "high", "div", "add", "round", "clip", "sub")]
        graph.initializer.append(onnx.numpy_helper.from_array(np.float32(low), names[0]))
        graph.initializer.append(onnx.numpy_helper.from_array(np.float32(high), names[1]))
        nodes += [
            helper.make_node("Div", [source, scale], [names[2]]),
            helper.make_node("Add", [names[2], zero], [names[3]]),
            helper.make_node("Round", [names[3]], [names[4]]),
            helper.make_node("Clip", [names[4], names[0], names[1]], [names[5]]),
            helper.make_node("Sub", [names[5], zero], [names[6]]),
            helper.make_node("Mul", [names[6], scale], [node.output[0]]),
        ]
    del graph.node[:]
    graph.node.extend(nodes)
    return proto


@pytest.mark.parametrize("name", RECOGNISED)
def test_recognised(name):
    model = load(SOURCES / f"{name}.onnx")
    before = [(value.name, str(value.dtype), str(value.shape)) for value in model.graph.inputs]
    outputs = [value.name for value in model.graph.outputs]
    run_pipeline(model, STEPS)
    books, ties, weights = RECOGNISED[name]
    found = [node for node in model.graph if node.op_type == "Quantise"]
    codes = [CodeBook.from_attributes(attributes(node)) for node in found]
    assert [(book.smallest, book.largest) for book in codes] == books
    assert {attributes(node)["ties"] for node in found} == {ties}
    assert all(book.groups == book.timesteps for book in codes)
    assert sum(node.op_type == "Weight" for node in model.graph) == weights
    assert [(value.name, str(value.dtype), str(value.shape)) for value in model.graph.inputs] == before
    assert [value.name for value in model.graph.outputs] == outputs


@pytest.mark.parametrize("name", RECOGNISED)
def test_numbers(name):
    """The recognised graph computes what the source computes.

    Both are float32 networks with rounding between layers: a sum that lies within an ulp of a mid-point may
    round the other way, which moves a logit by about one step. On these images none does.
    """
    images = np.random.default_rng(0).random((32, 3, 8, 8), dtype=np.float32)
    expected = run(in_standard_ops(onnx.load(SOURCES / f"{name}.onnx")), images)
    model = load(SOURCES / f"{name}.onnx")
    run_pipeline(model, STEPS)
    attach_functions(model)
    found = run(ir.to_proto(model), images)
    assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name):
    code, reason = REFUSED[name]
    with pytest.raises(UnsupportedError, match=code) as caught:
        run_pipeline(load(SOURCES / f"{name}.onnx"), STEPS)
    assert reason in str(caught.value)
    assert all(problem.where.node for problem in caught.value.problems)


def test_canary_a_wrong_step_is_noticed():
    """The comparison of numbers above fails when a single step is wrong by one part in a thousand."""
    images = np.random.default_rng(0).random((32, 3, 8, 8), dtype=np.float32)
    path = SOURCES / "qcfs_dynamo.onnx"
    expected = run(onnx.load(path), images)
    model = load(path)
    run_pipeline(model, STEPS)
    node = next(entry for entry in model.graph if entry.op_type == "Quantise")
    step = constant(node.inputs[1])
    node.inputs[1].const_value = ir.tensor(step * np.float32(1.001), name=node.inputs[1].name)
    attach_functions(model)
    assert np.abs(run(ir.to_proto(model), images) - expected).max() > 1e-5 * np.abs(expected).max()
