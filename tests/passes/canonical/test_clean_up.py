"""inline-functions, name-nodes, freeze-defaults, lift-constants, sort-nodes, drop-dead-code, infer-shapes."""

from __future__ import annotations

import onnx
import onnx_ir as ir
import pytest

from snnc.errors import InputError, UnsupportedError
from snnc.ir import constant
from snnc.passes.canonical import (
    DropDeadCode,
    FreezeDefaults,
    InferShapes,
    InlineFunctions,
    LiftConstants,
    NameNodes,
    SortNodes,
)

FUNCTIONS = """<ir_version: 10, opset_import: ["" : 17, "my" : 1, "ai.snnc" : 1]>
g (float[N, 3] x) => (float[N, 3] y) { a = my.Twice(x) b = ai.snnc.Quantise(a) y = my.Twice(b) }
<domain: "my", opset_import: ["" : 17]> Twice (p) => (q) { q = Add(p, p) }
<domain: "ai.snnc", opset_import: ["" : 17]> Quantise (p) => (q) { q = Round(p) }"""


def test_inline_keeps_own_functions(parse, check, ops):
    model = parse(FUNCTIONS)
    result = check(InlineFunctions(), model)
    assert ops(model) == ["Add", "Quantise", "Add"]
    assert [key[1] for key in model.functions] == ["Quantise"]
    assert result.rewrites[0].removed == ("n_a", "n_y")
    assert [value.name for value in model.graph.outputs] == ["y"]


def test_inline_refuses_circles():
    text = """<ir_version: 10, opset_import: ["" : 17, "my" : 1]>
    g (float[3] x) => (float[3] y) { y = my.A(x) }
    <domain: "my", opset_import: ["" : 17, "my" : 1]> A (p) => (q) { q = my.B(p) }
    <domain: "my", opset_import: ["" : 17, "my" : 1]> B (p) => (q) { q = my.A(p) }"""
    with pytest.raises(InputError, match=r"SNN320.*Cyclic"):
        InlineFunctions().run(ir.from_proto(onnx.parser.parse_model(text)))


def test_names(parse):
    model = parse("g (float[3] x) => (float[3] y) { a = Abs(x) b = Abs(a) c = Abs(b) y = Abs(c) }")
    for node, name in zip(model.graph, ("same", None, "same", "c"), strict=True):
        node.name = name
    result = NameNodes().run(model)
    assert [node.name for node in model.graph] == ["same", "b", "same_1", "c"]
    assert result.rewrites[0].added == ("b", "same_1")
    assert not NameNodes().run(model).rewrites


def test_optional_inputs_hold_their_default(parse, check):
    model = parse("g (float[N, 3] x) => (float[N, 3] y) <float[3] w = {1, 2, 3}> { y = Mul(x, w) }")
    weight = model.graph.initializers["w"]
    model.graph.inputs.append(weight)
    assert constant(weight) is None
    result = FreezeDefaults().run(model)
    assert [value.name for value in model.graph.inputs] == ["x"]
    assert constant(weight).tolist() == [1, 2, 3]
    assert result.notes == ["optional inputs now hold their default values: w"]
    assert not FreezeDefaults().run(model).rewrites


def test_lift_constants(parse, check, ops):
    model = parse(
        """g (float[N, 2] x) => (float[N, 2] y, float z) {
        two = Constant<value_float = 2.0>() list = Constant<value_floats = [1.0, 3.0]>()
        z = Constant<value = float {7.0}>() a = Mul(x, two) y = Add(a, list) }"""
    )
    result = check(LiftConstants(), model)
    assert ops(model) == ["Constant", "Mul", "Add"]
    assert constant(model.graph.initializers["list"]).tolist() == [1, 3]
    assert [entry.reason for entry in result.not_matched] == ["the constant is an output of the graph"]


def test_lift_leaves_strings(parse):
    model = parse("g (float[N] x) => (float[N] y) { y = Identity(x) }")
    node = ir.node("Constant", [], {"value_string": "text"}, name="words")
    model.graph.insert_before(model.graph[0], node)
    result = LiftConstants().run(model)
    assert result.not_matched[0].reason == "the constant is not a tensor of numbers"


def test_sort(parse, check, ops):
    model = parse("g (float[N] x) => (float[N] y) { a = Abs(x) b = Neg(a) y = Exp(b) }")
    first = model.graph[0]
    model.graph.remove(first)
    model.graph.append(first)
    assert ops(model) == ["Neg", "Exp", "Abs"]
    assert SortNodes().run(model).rewrites
    assert ops(model) == ["Abs", "Neg", "Exp"]
    assert not SortNodes().run(model).rewrites


def test_sort_refuses_cycles(parse):
    model = parse("g (float[N] x) => (float[N] y) { a = Add(x, x) y = Abs(a) }")
    model.graph[0].replace_input_with(1, model.graph[1].outputs[0])
    with pytest.raises(InputError, match="SNN321"):
        SortNodes().run(model)


def test_drop_dead_code(parse, check, ops):
    model = parse(
        """g (float[N] x, float[N] unread) => (float[N] y) <float[1] w = {1}, float[1] v = {2}>
        { d = Mul(x, w) e = Abs(d) y = Mul(x, v) }"""
    )
    result = check(DropDeadCode(), model)
    assert ops(model) == ["Mul"]
    assert list(model.graph.initializers) == ["v"]
    assert [value.name for value in model.graph.inputs] == ["x", "unread"]
    assert result.rewrites[0].removed == ("n_d", "n_e")


def test_whatever_is_dropped_is_reported(parse, check):
    model = parse(
        "g (float[N, 3] x) => (float[N, 3] y) <float[3] w = {1, 2, 3}>"
        " { y = BatchNormalization<training_mode = 0>(x, w, w, w, w) }"
    )
    result = check(DropDeadCode(), model)
    assert bool(result.rewrites) == ("training_mode" not in model.graph[0].attributes)


def test_infer_shapes_through_foreign_quantisers():
    text = """<ir_version: 10, opset_import: ["" : 17, "qonnx.custom_op.general" : 2, "com.microsoft" : 1]>
    g (float[N, 3, 8, 8] x) => (float[N, 2, 6, 6] y)
    <float s = {1}, float z = {0}, float b = {4}, float[2, 3, 3, 3] w, int16 zp = {0}>
    { q = qonnx.custom_op.general.Quant(x, s, z, b) i = com.microsoft.QuantizeLinear(q, s, zp)
      d = com.microsoft.DequantizeLinear(i, s, zp) m = MaxPool<kernel_shape = [1, 1]>(d) y = Conv(m, w) }"""
    model = ir.from_proto(onnx.parser.parse_model(text))
    before = [(node.op_type, len(node.inputs), dict(node.attributes)) for node in model.graph]
    result = InferShapes().run(model)
    assert result.rewrites and not result.not_matched
    shapes = {value.name: str(value.shape) for node in model.graph for value in node.outputs}
    assert shapes["q"] == shapes["i"] == shapes["d"] == shapes["m"] == "[N,3,8,8]"
    assert model.graph[1].outputs[0].dtype == ir.DataType.INT16
    assert [(node.op_type, len(node.inputs), dict(node.attributes)) for node in model.graph] == before
    assert not InferShapes().run(model).rewrites


def test_infer_shapes_names_what_it_cannot():
    text = """<ir_version: 10, opset_import: ["" : 17, "other" : 1]>
    g (float[N] x) => (float[N] y) { a = other.Thing(x) y = Abs(a) }"""
    model = ir.from_proto(onnx.parser.parse_model(text))
    model.graph[0].name = "thing"
    with pytest.raises(UnsupportedError, match="SNN435") as caught:
        InferShapes().run(model)
    assert [problem.where.node for problem in caught.value.problems] == ["thing"]


@pytest.mark.parametrize(("output", "kept"), [("y", 1), ("b", 5)])
def test_statistics_that_nothing_reads_need_no_shape(output, kept):
    """torch writes weights of unit variance as a BatchNormalization of five results in opset 11."""
    text = f"""<ir_version: 6, opset_import: ["" : 11]>
    g (float[N, 3, 8] x) => (float[N, 3, 8] y, float[3] {output if kept > 1 else "z"})
    <float[3] one = {{1, 1, 1}}, float[3] nil = {{0, 0, 0}}>
    {{ y, a, b, c, d = BatchNormalization(x, one, nil, nil, one) z = Identity(one) }}"""
    model = ir.from_proto(onnx.parser.parse_model(text))
    if kept > 1:
        # Read by somebody, they stay, and have no type.
        with pytest.raises(UnsupportedError, match="SNN435"):
            InferShapes().run(model)
    else:
        assert "drop statistics that nothing reads" in [
            entry.rule for entry in InferShapes().run(model).rewrites
        ]
    assert len(model.graph[0].outputs) == kept
