"""What verifiers say of graphs that are broken in one place, and that what is sound beside it passes."""

from __future__ import annotations

import numpy as np
import pytest

from snnc import ir
from snnc.ir.hosting import seal
from snnc.verify import DIALECTS, INVARIANTS, dialect_of, verify_dialect
from snnc.verify.dialects import LAYOUT, SHAPE_ARITHMETIC
from snnc.verify.invariants import nodes_of

HEAD = '<ir_version: 10, opset_import: ["" : 17, "ai.snnc" : 1, "other" : 1]>\n'


def found(model, invariant):
    return [str(problem) for problem in INVARIANTS[invariant].check(model)]


def node_named(model, name):
    return next(node for node in model.graph if node.name == name)


# --- structure ----------------------------------------------------------------------------------------------


def test_a_value_made_in_another_graph_is_given_by_nothing(toys):
    model, other = toys.make(), toys.make()
    model.graph.node(2).replace_input_with(0, other.graph.node(0).outputs[0])
    assert found(model, "sorted") == [
        "node 'product', tensor 't': reads a value that nothing in the graph gives"
    ]


def test_every_wrong_input_is_listed_behind_optional_and_sound_ones(toys):
    model = toys.make(
        HEAD + "g (float[3] x, float[3] z) => (float[3] y) { [low] c = Clip(x, , z)\n [sum] y = Add(c, z) }"
    )
    assert found(model, "sorted") == found(model, "no-dead-code") == []
    ghost, second = ir.Value(name="ghost"), ir.Value(name="second")
    model.graph.node(0).replace_input_with(2, ghost)
    model.graph.node(1).replace_input_with(1, second)
    assert [line.split(":")[0] for line in found(model, "sorted")] == [
        "node 'low', tensor 'ghost'",
        "node 'sum', tensor 'second'",
    ]


def test_an_output_that_nothing_gives_is_listed(toys):
    model = toys.make()
    model.graph.outputs.append(ir.Value(name="lost"))
    assert found(model, "sorted") == ["tensor 'lost': is an output of the graph, but nothing gives it"]


def test_only_values_that_are_left_out_have_no_name(toys):
    text = HEAD + "g (float[4] x) => (float[4] y) { [drop] d, mask = Dropout(x)\n [end] y = Neg(d) }"
    model = toys.make(text)
    drop = model.graph.node(0)
    drop.outputs[1].name = ""
    for name in ("unique-names", "types-known", "shapes-known"):
        drop.outputs[1].type = drop.outputs[1].shape = None
        assert found(model, name) == []
    drop.outputs[0].name = ""
    assert found(model, "unique-names") == ["node 'drop': a value has no name"]
    model = toys.make(text)
    model.graph.outputs[0].name = ""
    assert found(model, "unique-names") == ["node 'end': a value has no name"]


def test_constants_and_products_of_other_domains_are_none(toys):
    model = toys.make(
        HEAD + "g (float[2, 2] x) => (float[2, 2] y) { [own] c = other.Gemm(x)\n [sum] y = Add(x, c) }"
    )
    assert found(model, "no-gemm") == []
    model.graph.node(0).op_type = "Constant"
    assert found(model, "constants-folded") == []
    model.graph.node(0).domain = "ai.onnx"
    assert found(model, "constants-folded") == ["node 'own': is a Constant node"]


def test_what_reaches_an_output_by_two_ways_is_alive_and_all_else_is_listed(toys):
    model = toys.make(
        HEAD
        + """g (float[2] x) => (float[2] y, float[2] z) <float[2] w = {1.0, 2.0}, float[2] u = {1.0, 2.0}> {
            [a] p = Add(x, w)\n [b] q = Mul(p, p)\n [c] r = Sub(q, p)
            [idle] n = Neg(r)\n [deaf] m = Mul(n, u)\n [d] y = Relu(r)\n [e] z = Add(y, q)
        }"""
    )
    assert found(model, "no-dead-code") == [
        "node 'idle': reaches no output",
        "node 'deaf': reaches no output",
        "tensor 'u': is a weight that nothing reads",
    ]


def test_nodes_behind_inner_graphs_are_visited_too(toys):
    model = toys.make(
        HEAD
        + """g (float[2] x, bool c) => (float[2] y) {
            [first] z = other.First(x)
            [choose] w = If(c) <then_branch = a () => (float[2] p) { [left] p = Neg(z) },
                                else_branch = b () => (float[2] q) {
                                    [right] r = Neg(z)\n [more] q = Relu(r)
                                }>
            [last] y = other.Last(w)
        }"""
    )
    names = [node.name for node in nodes_of(model.graph)]
    assert names == ["first", "choose", "left", "right", "more", "last"]


def test_domains_of_inner_graphs_need_versions_and_functions_are_found_there(toys):
    model = toys.make(
        """<ir_version: 10, opset_import: ["" : 17, "mine" : 1]>
        g (float[2] x, bool c) => (float[2] y) {
            [choose] y = If(c) <then_branch = a () => (float[2] p) { [inner] p = mine.Twice(x) },
                                else_branch = b () => (float[2] q) { [other] q = Relu(x) }>
        }
        <domain: "mine", opset_import: ["" : 17]> Twice (a) => (b) { b = Add(a, a) }"""
    )
    assert found(model, "opsets-declared") == []
    assert found(model, "no-functions") == ["node 'inner': calls the function mine::Twice"]
    del model.graph.opset_imports["mine"]
    assert found(model, "opsets-declared") == [
        "node 'inner': uses domain 'mine', which the model does not import"
    ]


# --- operators ----------------------------------------------------------------------------------------------


def test_operators_of_each_dialect(toys):
    """The sets of the three dialects, by what they must hold and must not."""
    ann, quant, spike = (DIALECTS[name] for name in ("ann", "quant", "spike"))
    assert "Quantise" in quant.own and "Weight" in quant.own
    assert "Readout" in spike.own and "SpikeMatMul" in spike.own
    assert not quant.own & spike.own and not ann.own
    for dialect in (quant, spike):
        assert {"Reshape", "Shape", "Where", "Mul"} <= dialect.standard
        assert not {"LSTM", "Softmax", "If"} & dialect.standard
        assert dialect.standard > LAYOUT | SHAPE_ARITHMETIC | {
            "And",
            "CumSum",
            "Equal",
            "Mod",
            "Range",
            "Tile",
        }
    assert {"Conv", "MatMul", "Tanh", "Erf"} <= quant.standard
    # What may prepare the network input in float.
    assert {"Add", "Cast", "Clip", "Div", "Mul", "Neg", "Relu", "Sub"} <= spike.standard
    assert not {"Conv", "MatMul", "Tanh"} & spike.standard


@pytest.mark.parametrize("name", sorted(DIALECTS))
def test_each_dialect_is_an_invariant_of_its_name(toys, name):
    model = toys.make(HEAD + "g (float[2] x) => (float[2] y) { [strange] y = other.Magic(x) }")
    invariant = INVARIANTS[name]
    assert (invariant.name, invariant.text) == (name, DIALECTS[name].text)
    assert invariant.check(model) == verify_dialect(model, name) != []


def test_foreign_operators_are_listed_with_their_domain(toys):
    model = toys.make(
        HEAD + "g (float[2] x) => (float[2] y) { [strange] c = other.Magic(x)\n [end] y = If(c) }"
    )
    assert [str(problem) for problem in DIALECTS["ann"].check(model)] == [
        "node 'strange': operator other::Magic is not in dialect 'ann'",
        "node 'end': operator If is not in dialect 'ann'",
    ]


def test_a_node_that_stays_on_the_host_is_of_every_dialect(toys):
    model = toys.make(HEAD + "g (float[2] x) => (float[2] y) { [kept] y = Softmax(x) }")
    assert [str(problem) for problem in DIALECTS["quant"].check(model)] == [
        "node 'kept': operator Softmax is not in dialect 'quant'"
    ]
    node = model.graph.node(0)
    seal(node, "Softmax")
    assert DIALECTS["quant"].check(model) == DIALECTS["spike"].check(model) == []
    node.domain, node.op_type = "", "Softmax"  # as in a converted file
    assert DIALECTS["spike"].check(model) == []
    node.domain = "other"
    assert len(DIALECTS["spike"].check(model)) == 1


def test_all_of_a_dialects_invariants_are_checked(toys):
    model = toys.make()
    model.graph.node(0).name = model.graph.node(1).name = "same"
    model.graph.node(2).outputs[0].shape = None
    model.graph.node(3).op_type = "Loop"
    assert [problem.message for problem in verify_dialect(model, "ann")] == [
        "operator Loop is not in dialect 'ann'",
        "two nodes have this name",
        "has no shape",
    ]


def test_a_graph_of_every_operator_of_a_dialect_is_of_it(toys):
    for name in ("quant", "spike"):
        model = toys.make(HEAD + "g (float[2] x) => (float[2] y) { [end] y = Neg(x) }")
        for operator in sorted(DIALECTS[name].own):
            each = ir.make_node(model.graph, operator, [], domain="ai.snnc", name=operator)
            model.graph.append(each)
        assert dialect_of(model) == name


@pytest.mark.parametrize(
    ("operators", "dialect"),
    [
        (["Neg"], "ann"),
        (["ai.snnc.Quantise", "Neg"], "ann"),
        (["ai.snnc.Quantise", "other.Magic"], None),
        (["ai.snnc.Quantise", "ai.snnc.Weight"], "quant"),
        (["ai.snnc.Readout", "Neg"], "spike"),
        (["ai.snnc.Readout", "ai.snnc.Weight"], None),
    ],
)
def test_the_dialect_of_a_mixture(toys, operators, dialect):
    lines = [f"[n{i}] v{i + 1} = {each}(v{i})" for i, each in enumerate(operators)]
    model = toys.make(f"{HEAD} g (float[2] v0) => (float[2] v{len(lines)}) {{ " + "\n".join(lines) + " }")
    assert dialect_of(model) == dialect


# --- codes --------------------------------------------------------------------------------------------------

OPERANDS = """
    [code] q = ai.snnc.Quantise(x, s)\n [second] k = ai.snnc.Quantise(x, s)
    [fixed] f = ai.snnc.FixedPoint(x)
    [weight] w = ai.snnc.Weight(i, n, d)\n [plain] a = Relu(x)
    [moved] t = Transpose(q)\n [pooled] m = ReduceMean(k)
"""


@pytest.mark.parametrize(
    ("left", "right", "message"),
    [
        ("q", "w", None),
        ("w", "q", None),
        ("f", "w", None),
        ("w", "f", None),
        ("q", "k", None),
        ("t", "w", None),
        ("m", "t", None),
        ("a", "w", "its data input carries no code; it comes from Relu 'plain'"),
        ("w", "a", "its data input carries no code; it comes from Relu 'plain'"),
        ("x", "w", "its data input carries no code; it is a plain tensor"),
        ("w", "w", "its data input carries no code; it comes from Weight 'weight'"),
        ("q", "x", "its second operand has no integer form and no code; it is a plain tensor"),
        ("q", "f", "its second operand has no integer form and no code; it comes from FixedPoint 'fixed'"),
    ],
)
@pytest.mark.parametrize("operator", ["MatMul", "Conv"])
def test_what_a_product_may_read(toys, operator, left, right, message):

    model = toys.make(
        f"""{HEAD} g (float[2, 2] x, float[1] s, int8[2, 2] i, float[1] n, float[1] d) => (y, last) {{
            {OPERANDS} [before] z = {operator}({left}, {right})\n [product] y = {operator}({left}, {right})
            [foreign] last = other.MatMul(x, x)
        }}"""
    )
    wanted = (
        [] if message is None else [f"node '{name}': {operator}: {message}" for name in ("before", "product")]
    )
    assert found(model, "quantised-inputs") == wanted


def quantiser(toys, **changes):
    """A graph of one sound node and one that is changed."""
    from snnc.coding import CodeBook

    book = CodeBook(2, 2)
    model = toys.make(
        HEAD
        + """g (float[2] x) => (y, z) <float[1] s = {0.5}> {
            [free] a = other.Magic(x)\n [unknown] b = ai.snnc.Magic(a)
            [first] y = ai.snnc.Quantise(b, s)\n [second] z = ai.snnc.Quantise(x, s)
        }"""
    )
    sound = {
        **book.to_attributes(),
        "ties": "up",
        "codes": book.codes.tolist(),
        "twice_midpoints": book.twice_midpoints.tolist(),
        "closed": [1] * 3,
    }
    for name, more in (("first", {}), ("second", changes)):
        node = node_named(model, name)
        made = ir.make_node(
            model.graph, "Quantise", list(node.inputs), {**sound, **more}, domain="ai.snnc", name="x"
        )
        node.attributes.update(made.attributes)
    return model


def test_nodes_of_other_domains_and_unknown_ones_have_no_code_attributes(toys):
    assert found(quantiser(toys), "code-attributes") == []
    assert found(quantiser(toys, closed=[1, 0, 1]), "code-attributes") == [
        "node 'second': its break points are not those of its code book"
    ]


def test_break_points_follow_the_rule_at_ties(toys):
    assert found(quantiser(toys, ties="even", closed=[0, 1, 0]), "code-attributes") == []
    assert found(quantiser(toys, twice_midpoints=[1, 3, 6]), "code-attributes") == [
        "node 'second': its break points are not those of its code book"
    ]
    (fault,) = found(quantiser(toys, groups=3), "code-attributes")
    assert "its code book is not legal: " in fault


@pytest.mark.parametrize("step", [[0.5, -0.5], [0.0], None])
def test_every_element_of_a_step_is_positive(toys, step):
    model = quantiser(toys)
    node = node_named(model, "second")
    if step is None:
        node.replace_input_with(1, model.graph.inputs[0])
    else:
        node.replace_input_with(1, ir.initializer(model.graph, "other", np.array(step, np.float32)))
    assert found(model, "code-attributes") == ["node 'second': its step is not a positive constant"]


# --- integers only ------------------------------------------------------------------------------------------


def spiking(toys, body, *, floats, inputs="float[4] x"):
    """A graph of nodes whose outputs are integers but for those that are named."""
    model = toys.make(f"{HEAD} g ({inputs}) => (y) <float[1] c = {{0.5}}, int8[1] w = {{1}}> {{ {body} }}")
    for node in model.graph:
        for value in node.outputs:
            value.dtype = ir.DataType.FLOAT if node.name in floats.split() else ir.DataType.INT32
    return model


ENCODE = "[e] e = ai.snnc.Encode(x)\n"
LEAVE = f"{ENCODE} [r] r = ai.snnc.Readout(e)\n"


@pytest.mark.parametrize(
    ("body", "floats", "wrong"),
    [
        # The host may prepare what an encoder reads, by several operators.
        ("[a] a = Mul(x, c)\n [b] b = Add(a, x)\n [e] y = ai.snnc.Encode(b)", "a b", []),
        # What an encoder gives is no host tensor any more.
        (f"{ENCODE} [a] y = Mul(e, c)", "a", ["a: y"]),
        (f"{ENCODE} [a] a = Mul(e, x)\n [b] y = Neg(a)", "a b", ["a: a", "b: y"]),
        # Sizes are the host's, whatever they are taken from.
        (f"{ENCODE} [s] s = Shape(e)\n [f] f = Cast(s)\n [r] y = ai.snnc.Readout(e, f)", "f r", []),
        (f"{ENCODE} [s] s = Size(e)\n [f] f = Cast(s)\n [r] y = ai.snnc.Readout(e, f)", "f r", []),
        # Behind the readout everything is float, and no neuron reads it.
        (f"{LEAVE} [a] a = Mul(r, c)\n [b] y = Add(a, r)", "r a b", []),
        (f"{LEAVE} [a] a = Mul(r, c)\n [n] y = ai.snnc.SpikeMatMul(a, w)", "r a", ["n: a"]),
        # An encoder reads no readout, unless the host stands between.
        (f"{LEAVE} [n] y = ai.snnc.Encode(r)", "r", ["n: r"]),
    ],
)
def test_where_floats_may_be(toys, body, floats, wrong):
    problems = INVARIANTS["integers-only"].check(spiking(toys, body, floats=floats))
    assert [f"{problem.where.node}: {problem.where.tensor}" for problem in problems] == wrong


def test_a_host_node_between_readout_and_encoder(toys):
    body = (
        "[e] e = ai.snnc.Encode(x)\n [r] r = ai.snnc.Readout(e)\n [h] h = Softmax(r)\n"
        " [t] t = Reshape(h, c)\n"
        " [n] n = ai.snnc.Encode(t)\n [k] k = ai.snnc.SpikeMatMul(n, w)\n [z] y = ai.snnc.Readout(k)"
    )
    model = spiking(toys, body, floats="r h t z")
    assert found(model, "integers-only") == ["node 'n', tensor 't': reads a value that has left the integers"]
    hosted = node_named(model, "h")
    seal(hosted, "Softmax")
    hosted.domain, hosted.op_type = "", "Softmax"  # as in a converted file
    assert found(model, "integers-only") == []
    moved = node_named(model, "t")
    moved.op_type = "Mul"
    assert len(found(model, "integers-only")) == 1
    # Nor may what the host made carry in what has left the integers.
    moved.op_type = "Concat"
    moved.replace_input_with(1, node_named(model, "r").outputs[0])
    assert found(model, "integers-only") == ["node 'n', tensor 't': reads a value that has left the integers"]
