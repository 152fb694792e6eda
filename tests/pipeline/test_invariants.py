"""Every invariant: holds on a good graph, and lists what breaks it on a bad one."""

from __future__ import annotations

import numpy as np
import pytest

from snnc import ir
from snnc.verify import INVARIANTS, dialect_of, verify_dialect


def break_sorted(model):
    first = model.graph.node(0)
    model.graph.remove(first)
    model.graph.append(first)


def break_dangling(model):
    model.graph.node(3).replace_input_with(1, ir.Value(name="ghost"))


def break_unique_nodes(model):
    model.graph.node(0).name = model.graph.node(1).name


def break_unique_values(model):
    model.graph.node(0).outputs[0].name = "x"


def break_unnamed(model):
    model.graph.node(2).name = ""


def break_opsets(model):
    model.graph.node(1).domain = "com.example"


def break_constants(model):
    node = ir.make_node(model.graph, "Constant", [], {"value_float": 1.0}, name="c")
    ir.insert_node(model.graph, model.graph.node(0), node)


def break_content(model):
    model.graph.initializers["w"].const_value = None


def break_types(model):
    model.graph.node(1).outputs[0].type = None


def break_shapes(model):
    model.graph.node(1).outputs[0].shape = None


def break_dead_node(model):
    node = ir.make_node(model.graph, "Neg", [model.graph.inputs[0]], name="unused")
    model.graph.append(node)


def break_dead_weight(model):
    ir.initializer(model.graph, "unused", np.zeros(2, np.float32))


def swap_operator(name):
    def change(model):
        model.graph.node(1).op_type = name

    return change


@pytest.mark.parametrize(
    ("name", "change", "messages"),
    [
        ("sorted", break_sorted, ["runs before 'twice', whose output it reads"]),
        ("sorted", break_dangling, ["reads a value that nothing in the graph gives"]),
        ("unique-names", break_unique_nodes, ["two nodes have this name"]),
        ("unique-names", break_unique_values, ["two values have this name"]),
        ("unique-names", break_unnamed, ["a MatMul node has no name"]),
        ("opsets-declared", break_opsets, ["uses domain 'com.example', which the model does not import"]),
        ("constants-folded", break_constants, ["is a Constant node"]),
        ("constants-folded", break_content, ["a weight has no content"]),
        ("types-known", break_types, ["has no element type"]),
        ("shapes-known", break_shapes, ["has no shape"]),
        ("no-dead-code", break_dead_node, ["reaches no output"]),
        ("no-dead-code", break_dead_weight, ["is a weight that nothing reads"]),
        ("no-identity", swap_operator("Identity"), ["is a Identity"]),
        ("no-batch-norm", swap_operator("BatchNormalization"), ["is a BatchNormalization"]),
        ("no-gemm", swap_operator("Gemm"), ["is a Gemm"]),
    ],
)
def test_broken_graph_is_listed(toys, name, change, messages):
    model = toys.make(toys.TEXT.replace("Identity", "Relu"))
    assert INVARIANTS[name].check(model) == []
    change(model)
    assert [problem.message for problem in INVARIANTS[name].check(model)] == messages


def test_functions_count_unless_they_are_bodies_of_our_operators(toys):
    text = """
    <ir_version: 10, opset_import: ["" : 17, "mine" : 1]>
    g (float[2] x) => (float[2] y) { [call] y = mine.Twice(x) }
    <domain: "mine", opset_import: ["" : 17]> Twice (a) => (b) { b = Add(a, a) }
    """
    assert len(INVARIANTS["no-functions"].check(toys.make(text))) == 1
    own = toys.make(text.replace("mine", "ai.snnc"))
    assert INVARIANTS["no-functions"].check(own) == []


def test_values_that_only_an_inner_graph_reads_are_alive(toys):
    text = """
    <ir_version: 10, opset_import: ["" : 17]>
    g (float[2] x, bool c) => (float[2] y) {
        [used] t = Neg(x)
        [choose] y = If(c) <then_branch = a () => (float[2] p) { [inner] p = Identity(t) },
                            else_branch = b () => (float[2] q) { [other] q = Relu(t) }>
    }
    """
    assert INVARIANTS["no-dead-code"].check(toys.make(text)) == []
    assert [str(problem) for problem in verify_dialect(toys.make(text), "ann")] == [
        "node 'choose': operator If is not in dialect 'ann'"
    ]


def test_dialect_is_told_by_operators(toys, model):
    assert dialect_of(model) == "ann"
    assert verify_dialect(model, "ann") == []
    model.graph.node(0).domain = "com.example"
    assert dialect_of(model) is None


def quantise_nodes(toys, step, book=None):
    """A graph x -> Quantise -> MatMul -> y, with or without an integer weight."""
    from snnc.coding import CodeBook

    book = book or CodeBook(timesteps=2, groups=2)
    points = book.break_points("up")
    model = toys.make(
        """<ir_version: 10, opset_import: ["" : 17, "ai.snnc" : 1]>
        g (float[N, 3] x) => (float[N, 2] y) <float[3, 2] w = {1.0, 2.0, 3.0, 4.0, 5.0, 6.0}> {
            [product] y = MatMul(x, w)
        }"""
    )
    graph = model.graph
    attrs = {
        **book.to_attributes(),
        "ties": "up",
        "codes": book.codes.tolist(),
        "twice_midpoints": [point.twice_midpoint for point in points],
        "closed": [int(point.closed) for point in points],
    }
    inputs = [graph.inputs[0], ir.initializer(graph, "step", np.array(step, np.float32))]
    node = ir.make_node(graph, "Quantise", inputs, attrs, domain="ai.snnc", name="quantiser")
    node.outputs[0].type, node.outputs[0].shape = graph.inputs[0].type, graph.inputs[0].shape
    code = ir.insert_node(graph, graph.node(0), node)
    graph.node(1).replace_input_with(0, code)
    return model


def add_weight(model):
    graph = model.graph
    parts = [
        ir.initializer(graph, "integers", np.ones((3, 2), np.int8)),
        ir.initializer(graph, "numerator", np.ones((1, 2))),
        ir.initializer(graph, "denominator", np.ones((1, 1))),
    ]
    node = ir.make_node(graph, "Weight", parts, domain="ai.snnc", name="weight")
    old = graph.initializers["w"]
    node.outputs[0].type, node.outputs[0].shape = old.type, old.shape
    weight = ir.insert_node(graph, graph.node(0), node)
    product = list(graph)[-1]
    product.replace_input_with(1, weight)
    del graph.initializers["w"]


def test_quant_dialect_needs_codes_and_integer_weights(toys):
    model = quantise_nodes(toys, 0.5)
    # Quantisers alone are what a trained network comes with; the integer weight makes it quant.
    assert dialect_of(model) == "ann"
    (problem,) = verify_dialect(model, "quant")
    assert "its second operand has no integer form and no code; it is a plain tensor" in problem.message
    assert problem.where.node == "product"
    add_weight(model)
    assert dialect_of(model) == "quant"
    assert verify_dialect(model, "quant") == []
    product = list(model.graph)[-1]
    product.replace_input_with(0, model.graph.inputs[0])
    assert "its data input carries no code" in str(verify_dialect(model, "quant")[-1])


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("codes", lambda old: [*old[:-1], old[-1] + 1], "it emits codes that its code book does not have"),
        ("codes", lambda old: old[::-1], "its codes are not those of its code book"),
        ("closed", lambda old: [1 - old[0], *old[1:]], "its break points are not those of its code book"),
        ("groups", lambda old: 5, "its code book is not legal"),
    ],
)
def test_derived_attributes_are_checked(toys, name, change, message):
    model = quantise_nodes(toys, 0.5)
    node = model.graph.node(0)
    old = ir.attributes(node)[name]
    node.attributes[name] = ir.Attr(name, node.attributes[name].type, change(old))
    assert message in str(INVARIANTS["code-attributes"].check(model)[0])


def test_step_must_be_positive(toys):
    model = quantise_nodes(toys, [0.5, 0.0, 1.0])
    assert "not a positive constant" in str(INVARIANTS["code-attributes"].check(model)[0])


SPIKE = """
<ir_version: 10, opset_import: ["" : 17, "ai.snnc" : 1]>
g (int8[N, 3] x) => (float[N, 2] y)
<int8[3, 2] w = {1, 2, 3, 4, 5, 6}, float[1] scale = {0.5}, float[1] bias = {0.0}> {
    [synapse] v = ai.snnc.SpikeMatMul(x, w)
    [leave] y = ai.snnc.Readout(v, scale, bias)
}
"""


def typed(toys, text):
    model = toys.make(text)
    for node in model.graph:
        integer = node.op_type not in ("Readout", "Cast", "Mul")
        node.outputs[0].dtype = ir.DataType.INT32 if integer else ir.DataType.FLOAT
        node.outputs[0].shape = model.graph.outputs[0].shape
    return model


def test_spike_dialect_is_integers_between_encoder_and_readout(toys):
    assert verify_dialect(typed(toys, SPIKE), "spike") == []
    after = SPIKE.replace("y = ai.snnc.Readout", "r = ai.snnc.Readout").replace(
        "bias)\n}", "bias)\n [late] y = Mul(r, scale)\n}"
    )
    assert verify_dialect(typed(toys, after), "spike") == []


def test_floats_inside_are_refused(toys):
    inside = SPIKE.replace("Readout(v,", "Readout(i,").replace(
        "[leave]", "[slip] f = Cast<to = 1>(v)\n [back] i = Cast<to = 6>(f)\n [leave]"
    )
    model = typed(toys, inside)
    model.graph.node(2).outputs[0].dtype = ir.DataType.INT32
    assert [str(problem) for problem in INVARIANTS["integers-only"].check(model)] == [
        "node 'slip', tensor 'f': a float tensor in the integer part, made by Cast"
    ]


def test_readout_feeds_no_neuron(toys):
    back = SPIKE.replace("y = ai.snnc.Readout", "r = ai.snnc.Readout").replace(
        "bias)\n}", "bias)\n [again] y = ai.snnc.SpikeMatMul(r, w)\n}"
    )
    assert [problem.message for problem in INVARIANTS["integers-only"].check(typed(toys, back))] == [
        "reads a value that has left the integers"
    ]


def test_unknown_operator_of_our_domain_is_in_no_dialect(toys):
    model = typed(toys, SPIKE.replace("SpikeMatMul", "SpikeMagic"))
    assert dialect_of(model) is None
    assert "operator ai.snnc::SpikeMagic is not in dialect 'spike'" in str(verify_dialect(model, "spike")[0])


def test_attributes_are_judged_again_when_they_change(toys):
    model = quantise_nodes(toys, 0.5)
    check = INVARIANTS["code-attributes"].check
    node = model.graph.node(0)
    assert check(model) == [] == check(model)
    sound = node.attributes["codes"]
    changed = [*ir.attributes(node)["codes"]][::-1]
    node.attributes["codes"] = ir.Attr("codes", sound.type, changed)
    first = check(model)
    assert "its codes are not those of its code book" in str(first[0])
    assert [str(problem) for problem in check(model)] == [str(problem) for problem in first]
    node.attributes["codes"] = sound
    assert check(model) == []
    node.op_type = "Weight"
    assert check(model), "another operator has other attributes"
    node.op_type = "Quantise"
    assert check(model) == []
    node.resize_inputs(1)
    assert len(check(model)) == 2, "too few inputs, and no step"


def test_attributes_that_stay_are_judged_once(toys, monkeypatch):
    from snnc.verify import dialects

    model = quantise_nodes(toys, 0.5)
    judged = []
    faults = dialects._faults
    monkeypatch.setattr(dialects, "_faults", lambda node: judged.append(node) or faults(node))
    for _ in range(3):
        assert INVARIANTS["code-attributes"].check(model) == []
    assert len(judged) == 1


@pytest.mark.parametrize("moved", ["Reshape", "Transpose", "Gate"])
def test_a_code_may_be_moved_before_a_product_reads_it(toys, moved):
    model = quantise_nodes(toys, 0.5)
    add_weight(model)
    graph = model.graph
    quantiser = next(node for node in graph if node.op_type == "Quantise")
    product = list(graph)[-1]
    other = {
        "Reshape": [ir.initializer(graph, "sizes", np.array([0, 3], np.int64))],
        "Gate": [ir.initializer(graph, "mask", np.ones(3, np.int8))],
        "Transpose": [],
    }[moved]
    domain = "ai.snnc" if moved == "Gate" else ""
    node = ir.make_node(graph, moved, [quantiser.outputs[0], *other], domain=domain, name="move")
    product.replace_input_with(0, ir.insert_node(graph, product, node))
    assert not [p for p in verify_dialect(model, "quant") if p.where.node == "product"]
    node.replace_input_with(0, graph.inputs[0])
    found = [p for p in verify_dialect(model, "quant") if p.where.node == "product"]
    assert "its data input carries no code" in str(found[0])


def test_floats_that_are_moved_inside_are_refused_too(toys):
    moved = SPIKE.replace("Readout(v,", "Readout(i,").replace(
        "[leave]",
        "[slip] f = Cast<to = 1>(v)\n [turn] t = Concat<axis = 0>(f, f)\n"
        " [back] i = Cast<to = 6>(t)\n [leave]",
    )
    model = typed(toys, moved)
    for node in model.graph:
        if node.name == "turn":
            node.outputs[0].dtype = ir.DataType.FLOAT
        if node.name == "back":
            node.outputs[0].dtype = ir.DataType.INT32
    wrong = [str(problem.where.node) for problem in INVARIANTS["integers-only"].check(model)]
    assert wrong == ["slip", "turn"]
