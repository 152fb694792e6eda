"""refuse-unsupported and require-quantised: every problem at once, by name, with what to do."""

from __future__ import annotations

import onnx
import onnx_ir as ir
import pytest

from snnc.coding import CodeBook
from snnc.errors import UnsupportedError
from snnc.ir.hosting import seal
from snnc.passes.recognise import RefuseUnsupported, RequireQuantised
from snnc.passes.recognise.uniform import quantise_attributes


def listed(book):
    """Return the attributes of a quantiser of a code book as text."""
    entries = quantise_attributes(book, "up").items()
    texts = (
        f"{key} = {list(value) if not isinstance(value, str | int) else repr(value)}"
        for key, value in entries
    )
    return ", ".join(texts).replace("'", '"')


LISTED = listed(CodeBook.uniform(0, 15))
WEIGHTS = (
    "float s = {0.25}, float[2, 2, 1, 1] w = {1, 2, 3, 4}, float[2, 1, 1] c = {1, 2}, "
    "int64[4] dims = {0, 2, 4, 4}"
)


def q(u, y):
    return f"{y} = ai.snnc.Quantise<{LISTED}>({u}, s)"


def problems(parse, body, outputs="float[N, 2, 4, 4] y"):
    """Run require-quantised on a graph of these nodes; returns (node, message) of every problem."""
    model = parse(f"g (float[N, 2, 4, 4] x) => ({outputs}) <{WEIGHTS}> {{ {body} }}")
    try:
        result = RequireQuantised().run(model)
    except UnsupportedError as error:
        assert error.code == "SNN462"
        return [(entry.where.node, entry.message) for entry in error.problems]
    assert not result.rewrites
    return []


@pytest.mark.parametrize(
    "body",
    [
        f"a = Conv(x, w) {q('a', 'b')} y = Conv(b, w)",
        f"n = Sub(x, c) m = Div(n, c) r = Relu(m) a = Conv(r, w) {q('a', 'b')} y = Conv(b, w)",
        f"{q('x', 'a')} m = MaxPool<kernel_shape = [1, 1]>(a) u = Reshape(m, dims) y = Conv(u, w)",
        f"{q('x', 'a')} b = Conv(a, w) d = Mul(b, c) e = Add(d, a) n = Neg(e) {q('n', 'y')}",
        f"{q('x', 'a')} p = AveragePool<kernel_shape = [1, 1]>(a) h = Mul(p, s) y = Conv(h, w)",
        f"{q('x', 'a')} {q('x', 'b')} y = MatMul(a, b)",
        f"{q('x', 'a')} b = Concat<axis = 1>(a, a) d, e = Split<axis = 1>(b) y = Conv(d, w)",
    ],
)
def test_accepts(parse, body):
    assert problems(parse, body) == []


@pytest.mark.parametrize(
    ("body", "node", "message"),
    [
        ("a = Conv(x, w) b = Relu(a) y = Conv(b, w)", "n_b", "Relu is left over: put a quantiser"),
        (
            "a = Conv(x, w) y = Conv(a, w)",
            "n_y",
            "the data input of this Conv carries no code; it comes from Conv 'n_a'",
        ),
        ("a = Conv(x, w) y = Sigmoid(a)", "n_y", "; its result is an output of the graph"),
        ("a = Conv(x, w) y = Softmax(a)", "n_y", "Softmax is left over: if it only turns logits"),
        (f"{q('x', 'a')} y = Mul(a, x)", "n_y", "multiplies two computed values"),
        (f"{q('x', 'a')} {q('x', 'b')} y = Div(a, b)", "n_y", "divides by a computed value"),
        (f"{q('x', 'a')} y = Add(a, x)", "n_y", "mixes the network input with coded values"),
        ("y = MaxPool<kernel_shape = [1, 1]>(x)", "n_y", "MaxPool reads the network input"),
        ("y = MatMul(x, x)", "n_y", "both operands of this MatMul are the network input"),
        (
            f"{q('x', 'a')} b = AveragePool<kernel_shape = [1, 1]>(a) y = MatMul(a, b)",
            "n_y",
            "the second operand",
        ),
        (f"{q('x', 'a')} y = Cos(a)", "n_y", "Cos is left over"),
        (
            f"{q('x', 'a')} b = Greater(a, s) y = Cast<to = 1>(b)",
            "n_y",
            "Cast is left over: it makes numbers of a choice between values of the network",
        ),
        (f"{q('x', 'a')} y = IsInf(a)", "n_y", "IsInf is left over: it has no form with spikes"),
    ],
)
def test_refuses(parse, body, node, message):
    found = problems(parse, body)
    assert [entry[0] for entry in found] == [node]
    assert message in found[0][1]


def test_all_problems_in_graph_order(parse):
    found = problems(
        parse, "a = Conv(x, w) b = Gelu0(a) d = Conv(a, w) e = Tanh(d) y = Relu(e)".replace("Gelu0", "Erf")
    )
    assert [entry[0] for entry in found] == ["n_b", "n_d", "n_e", "n_y"]


def test_a_model_without_quantisers_says_so(parse):
    model = parse(
        f"g (float[N, 2, 4, 4] x) => (float[N, 2, 4, 4] y) <{WEIGHTS}> {{ a = Conv(x, w) y = Relu(a) }}"
    )
    with pytest.raises(UnsupportedError, match="no quantiser at all"):
        RequireQuantised().run(model)


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        ("a, s, z = DynamicQuantizeLinear(x) y = Cast<to = 1>(a)", "scales must not depend on the data"),
        ("y = com.microsoft.QLinearAdd(x, x, x, x, x, x, x, x)", "quant_format=QuantFormat.QDQ"),
        ("y = com.microsoft.Attention(x)", "com.microsoft::Attention is not known"),
        ("y = qonnx.custom_op.general.FloatQuant(x)", "FloatQuant of QONNX is not supported"),
        ("y = my.own.Thing(x)", "my.own::Thing is not known"),
        ("y = RandomNormalLike(x)", "export it in eval mode"),
        ("y = Inverse(x)", "no neuron inverts a matrix"),
    ],
)
def test_refused_by_name(nodes, message):
    domains = ["", "com.microsoft", "qonnx.custom_op.general", "my.own"]
    imports = ", ".join(f'"{domain}" : {1 if domain else 17}' for domain in domains)
    header = f"<ir_version: 10, opset_import: [{imports}]>"
    proto = onnx.parser.parse_model(f"{header} g (float[N, 4] x) => (float[N, 4] y) {{ {nodes} }}")
    proto.graph.node[0].name = "culprit"
    with pytest.raises(UnsupportedError, match="SNN461") as caught:
        RefuseUnsupported().run(ir.from_proto(proto))
    assert [entry.where.node for entry in caught.value.problems] == ["culprit"]
    assert message in caught.value.problems[0].message


def test_refuses_other_input_types(parse):
    model = parse("g (string[N, 4] x, float[N] ok) => (float[N, 4] y) { y = Cast<to = 1>(x) }")
    with pytest.raises(UnsupportedError) as caught:
        RefuseUnsupported().run(model)
    (problem,) = caught.value.problems
    assert problem.where.tensor == "x" and "STRING" in problem.message


def test_accepts_what_later_passes_read(parse):
    text = """<ir_version: 10, opset_import: ["" : 17, "com.microsoft" : 1, "qonnx.custom_op.general" : 1]>
    g (float[N, 4] x) => (float[N, 4] y) <float s = {1}, float z = {0}, float b = {4}, int16 p = {0}>
    { a = qonnx.custom_op.general.Quant(x, s, z, b) i = com.microsoft.QuantizeLinear(a, s, p)
      y = com.microsoft.DequantizeLinear(i, s, p) }"""
    assert not RefuseUnsupported().run(ir.from_proto(onnx.parser.parse_model(text))).rewrites


def test_a_potential_times_spikes_of_another_is_told_how_to_train(parse):
    """A reset to a value whose potential and spikes have not one origin: no table holds the product."""
    spikes = listed(CodeBook.uniform(0, 1))
    body = f"{q('x', 'a')} u = Conv(a, w) v = Conv(a, w) h = ai.snnc.Quantise<{spikes}>(v, s) y = Mul(h, u)"
    ((node, message),) = problems(parse, body)
    assert node == "n_y" and "train with reset by subtraction (v_reset=None" in message
    ((_, other),) = problems(parse, body.replace(spikes, LISTED))
    assert "reset" not in other and "multiplies two computed values" in other


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        ("a, m = Dropout(x) c = Cast<to = 1>(m) y = Add(a, c)", "Dropout whose mask is read"),
        ("a = com.microsoft.nchwc.ReorderInput(x) y = Relu(a)", "ReorderInput is laid out for one processor"),
    ],
)
def test_refused_for_what_is_read_or_laid_out(nodes, message):
    header = '<ir_version: 10, opset_import: ["" : 17, "com.microsoft.nchwc" : 1]>'
    proto = onnx.parser.parse_model(f"{header} g (float[N, 4] x) => (float[N, 4] y) {{ {nodes} }}")
    with pytest.raises(UnsupportedError, match="SNN461") as caught:
        RefuseUnsupported().run(ir.from_proto(proto))
    (problem,) = caught.value.problems
    assert message in problem.message


def sealed(model, op_type):
    """Mark the nodes of one kind as computed by the host."""
    for node in model.graph:
        if node.op_type == op_type:
            seal(node, op_type)
    return model


@pytest.mark.parametrize(
    ("body", "messages"),
    [
        # What the host makes of coded values stays the host's through what it can compute.
        (f"{q('x', 'a')} h = Sigmoid(a) n = Neg(h) r = Relu(n) m = Mul(r, c) y = Add(m, x)", []),
        (f"{q('x', 'a')} h = Sigmoid(a) y = Tanh(h)", ["Tanh is left over"]),
        (f"{q('x', 'a')} h = Sigmoid(a) y = Mul(a, h)", ["mixes floats of the host with coded values"]),
        (f"{q('x', 'a')} y = my.own.Thing(a)", ["Thing is left over: it has no form with spikes"]),
        # A constant of every sample beside the network input.
        ("d = Shape(x) e = Expand(c, d) f = Mul(x, e) g = Div(f, c) y = Conv(g, w)", []),
    ],
)
def test_what_the_host_computes(parse, body, messages):
    header = '<ir_version: 10, opset_import: ["" : 17, "my.own" : 1, "ai.snnc" : 1]>\n'
    text = f"{header}g (float[N, 2, 4, 4] x) => (float[N, 2, 4, 4] y) <{WEIGHTS}> {{ {body} }}"
    model = sealed(parse(text), "Sigmoid")
    if not messages:
        assert not RequireQuantised().run(model).rewrites
        return
    with pytest.raises(UnsupportedError) as caught:
        RequireQuantised().run(model)
    assert len(caught.value.problems) == len(messages)
    assert all(
        message in entry.message for message, entry in zip(messages, caught.value.problems, strict=True)
    )


def test_a_potential_times_what_did_not_fire_is_a_reset(parse):
    """1 - spikes, as the reset to zero is written: the same hint as for the spikes themselves."""
    spikes = listed(CodeBook.uniform(0, 1))
    body = (
        f"{q('x', 'a')} u = Conv(a, w) v = Conv(a, w) h = ai.snnc.Quantise<{spikes}>(v, s) k = Sub(s, h) "
        "y = Mul(u, k)"
    )
    ((node, message),) = problems(parse, body)
    assert node == "n_y" and "train with reset by subtraction (v_reset=None" in message
