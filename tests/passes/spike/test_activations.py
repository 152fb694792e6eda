"""Small networks conv → activation → quantiser → conv: every runtime equals the oracle, bit for bit."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from snnc.coding import CodeBook
from snnc.compile import ConvertOptions, convert
from snnc.cost import measure
from snnc.debug.verify import coded_tensors, default_runtimes
from snnc.errors import UnsupportedError, UsageError
from snnc.ir import attributes
from snnc.passes.recognise.uniform import quantise_attributes
from snnc.runtimes import NumpyPacked
from snnc.runtimes.oracle import QuantisedOracle

SIGNED, UNSIGNED = CodeBook(4, 4, signed=True), CodeBook(4, 2)
NUMBERS = {
    "s0": 0.125, "half": 0.5, "one": 1, "root": 2**0.5, "c": 0.044715, "k": (2 / np.pi) ** 0.5, "three": 3,
    "six": 6, "zero": 0, "q": 1.702, "low": -0.4, "high": 0.9,
}  # fmt: skip


def quantise(u, y, book, step, ties="away"):
    """ONNX text of a Quantise node."""
    listed = ", ".join(
        f"{key} = {list(value) if not isinstance(value, str | int) else repr(value)}"
        for key, value in quantise_attributes(book, ties).items()
    ).replace("'", '"')
    return f"{y} = ai.snnc.Quantise<{listed}>({u}, {step})"


def network(body, book=SIGNED, *, step=0.05, ties="away", opset=17, tail=None):
    """Codes → Conv → u, then ``body`` from u to f, then a quantiser and another layer."""
    head = quantise("x", "c0", SIGNED, "s0")
    tail = tail or (
        f"{quantise('f', 'c1', book, 's', ties)} v = Conv(c1, w2, b2) p = GlobalAveragePool(v) y = Flatten(p)"
    )
    numbers = ", ".join(f"float {name} = {{{value}}}" for name, value in {**NUMBERS, "s": step}.items())
    text = f"""<ir_version: 10, opset_import: ["" : {opset}, "ai.snnc" : 1, "com.microsoft" : 1]>
    g (float[N, 3, 6, 6] x) => (float[N, 4] y) <{numbers}>
    {{ {head} u = Conv<pads = [1, 1, 1, 1]>(c0, w1, b1) {body} {tail} }}"""
    proto = onnx.parser.parse_model(text)
    for node in proto.graph.node:
        node.name = f"n_{node.output[0]}"
    random = np.random.default_rng(7)

    def normal(*shape):
        return random.standard_normal(shape).astype(np.float32)

    weights = {
        "w1": normal(6, 3, 3, 3) * np.float32(0.3),
        "b1": normal(6) * np.float32(0.5),
        "w2": normal(4, 6, 3, 3) * np.float32(0.2),
        "b2": normal(4),
        "slopes": np.array([0.25, -0.5, 0, 1, 0.3, 2], dtype=np.float32).reshape(6, 1, 1),
        "gains": np.array([1, -1, 0.5, -0.7, 0, 3], dtype=np.float32).reshape(6, 1, 1),
        "offsets": normal(1, 6, 1, 1) * np.float32(0.3),
    }
    proto.graph.initializer.extend(onnx.numpy_helper.from_array(array, key) for key, array in weights.items())
    return ir.from_proto(proto)


def agree(model, samples=4):
    """Convert, run everywhere, compare; returns the quantised ops and the neuron that reads the function."""
    conversion = convert(model, ConvertOptions())
    taps = coded_tensors(conversion.model)
    x = np.random.default_rng(1).standard_normal((samples, 3, 6, 6)).astype(np.float32)
    outputs, codes = QuantisedOracle(conversion.quantised).run_batch({"x": x}, list(taps.values()))
    for name, make in default_runtimes().items():
        found = make(conversion.model).run({"x": x}, list(taps))
        for tap, meant in taps.items():
            assert np.array_equal(found[tap].astype(np.int32), codes[meant]), (name, tap)
        assert outputs["y"].tobytes() == found["y"].tobytes(), name
    neuron = next(n for n in conversion.model.graph if n.metadata_props.get("snnc.tensor") == "c1")
    return [node.op_type for node in conversion.quantised.graph], attributes(neuron), codes["c1"]


@pytest.mark.parametrize(
    "body",
    [
        "f = LeakyRelu<alpha = 0.2>(u)",
        "f = PRelu(u, slopes)",
        "f = Elu(u)",
        "f = Selu(u)",
        "f = Celu<alpha = 0.5>(u)",
        "f = Sigmoid(u)",
        "f = HardSigmoid(u)",
        "f = HardSwish(u)",
        "f = Tanh(u)",
        "f = Softplus(u)",
        "f = Softsign(u)",
        "f = Erf(u)",
        "f = Exp(u)",
        "f = Abs(u)",
        "f = ThresholdedRelu<alpha = 0.3>(u)",
        "f = Clip(u, low, high)",
        "a = Div(u, root) e = Erf(a) b = Add(e, one) m = Mul(u, b) f = Mul(m, half)",
        (
            "e = Pow(u, three) q1 = Mul(e, c) a = Add(u, q1) b = Mul(a, k) t = Tanh(b) d = Add(t, one) "
            "m = Mul(u, d) f = Mul(m, half)"
        ),
        "a = Sigmoid(u) f = Mul(u, a)",
        "f = com.microsoft.QuickGelu(u)",
        "a = Add(u, three) r = Clip(a, zero, six) m = Mul(u, r) f = Div(m, six)",
        "a = Softplus(u) t = Tanh(a) f = Mul(u, t)",
        # What may stand between a function and its quantiser.
        "a = Tanh(u) b = Mul(a, gains) f = Add(b, offsets)",
        "a = Sigmoid(u) b = Mul(u, a) d = Div(b, six) e = Neg(d) f = Sub(offsets, e)",
        "a = PRelu(u, slopes) b = Mul(gains, a) f = Sub(b, offsets)",
        "a = Elu(u) t = Transpose<perm = [0, 2, 3, 1]>(a) f = Transpose<perm = [0, 3, 1, 2]>(t)",
        "a = Softplus(u) f = MaxPool<kernel_shape = [2, 2], strides = [1, 1]>(a)",
        "a = Tanh(u) b = Relu(u) j = Concat<axis = 1>(a, b, u) f = Gather<axis = 1>(j, every)",
    ],
)
def test_all_runtimes_agree(body):
    model = network(body)
    if "every" in body:
        every = ir.tensor(np.array([0, 8, 3, 13, 5, 11]), name="every")
        model.graph.register_initializer(ir.Value(name="every", const_value=every))
        value = model.graph.initializers["every"]
        gather = next(node for node in model.graph if node.op_type == "Gather")
        gather.replace_input_with(1, value)
    _, _, codes = agree(model)
    assert len(np.unique(codes)) > 1


@pytest.mark.parametrize(
    ("book", "ties"),
    [
        (UNSIGNED, "up"),
        (CodeBook(3, 3, signed=True), "even"),
        (CodeBook(5, 2, "contiguous", signed=True), "away"),
    ],
)
@pytest.mark.parametrize("step", [0.0625, 0.03])
def test_books_steps_and_ties(book, ties, step):
    agree(
        network(
            "a = Div(u, root) e = Erf(a) b = Add(e, one) m = Mul(u, b) f = Mul(m, half)",
            book,
            step=step,
            ties=ties,
        ),
        2,
    )
    agree(network("f = HardSwish(u)", book, step=step, ties=ties), 2)


def test_gelu_walks_down_and_up_again():
    ops, attrs, codes = agree(network("a = Sigmoid(u) f = Mul(u, a)"))
    assert ops.count("Silu") == 1 and "Sigmoid" not in ops
    table = attrs["codes"]
    assert table[:12] == [0, -1, -2, -3, -4, -5, -6, -5, -4, -3, -2, -1]
    assert table[12:] == list(range(16)) and attrs["depth"] == 5
    assert set(np.unique(codes)) <= set(range(-6, 16))


def test_the_integers_are_those_of_the_membrane():
    """No operator of a function, nor of the arithmetic behind it, is left in the spiking graph."""
    conversion = convert(network("a = Tanh(u) b = Mul(a, gains) f = Add(b, offsets)"), ConvertOptions())
    ops = [node.op_type for node in conversion.model.graph]
    assert ops == ["Encode", "SpikeConv", "ExpGIF", "SpikeConv", "MembraneSum", "Reshape", "Readout"]


def test_a_function_of_spikes():
    """A quantiser, then the function, then another quantiser: the spikes are accumulated first."""
    body = f"{quantise('u', 'cu', SIGNED, 'half')} a = Mul(cu, q) f = HardSwish(a)"
    _, attrs, _ = agree(network(body))
    assert min(attrs["codes"]) < 0


@pytest.mark.parametrize(
    ("body", "tail", "reason"),
    [
        ("f = Celu<alpha = -1.0>(u)", None, "its alpha is not positive"),
        (
            "a = HardSwish(u) f = MaxPool<kernel_shape = [2, 2]>(a)",
            None,
            "a maximum of a function that falls somewhere",
        ),
    ],
)
def test_refusals(body, tail, reason):
    with pytest.raises(UnsupportedError, match=reason):
        convert(network(body, tail=tail), ConvertOptions())


@pytest.mark.parametrize(
    ("body", "tail", "named"),
    [
        ("a = Tanh(u) b = Relu(a) f = Neg(b)", None, "'a'"),
        ("a = Tanh(u) f = Add(a, u)", None, "'a'"),
        ("f = Tanh(u)", "p = GlobalAveragePool(f) v = Conv(p, wp) y = Flatten(v)", "'f'"),
        ("f = Identity(u)", "v = Conv<strides = [6, 6]>(c0, w2b) t = Softsign(v) y = Flatten(t)", "'[ty]'"),
    ],
)
def test_what_a_function_alone_cannot_do_takes_a_code_and_so_data(body, tail, named, tmp_path):
    """A function that is added, pooled, joined or returned needs a quantiser that the network has not."""
    model = network(body, tail=tail)
    for node in model.graph:
        for place, value in enumerate(node.inputs):
            if value is not None and value.name in ("wp", "w2b"):
                shape = (4, 6, 1, 1) if value.name == "wp" else (4, 3, 6, 6)
                array = np.ones(shape, dtype=np.float32)
                held = ir.Value(name=value.name, const_value=ir.tensor(array, name=value.name))
                model.graph.register_initializer(held)
                node.replace_input_with(place, held)
    with pytest.raises(UsageError, match=f"SNN261.*{named}"):
        convert(model, ConvertOptions())
    x = np.random.default_rng(2).standard_normal((16, 3, 6, 6)).astype(np.float32)
    np.savez(tmp_path / "x.npz", x=x)
    conversion = convert(model, ConvertOptions(calibrate=str(tmp_path / "x.npz")))
    outputs, _ = QuantisedOracle(conversion.quantised).run_batch({"x": x[:3]})
    for make in default_runtimes().values():
        np.testing.assert_array_equal(make(conversion.model).run({"x": x[:3]})["y"], outputs["y"])


@pytest.mark.parametrize(("body", "entries", "rounds"), [("f = Sigmoid(u)", 16, 4), ("f = Abs(u)", 31, 5)])
def test_comparisons_are_billed_by_the_table(body, entries, rounds):
    """Of 31 codes a sigmoid reaches 16; the table of an absolute value has 31 entries for 16 codes."""
    model = convert(network(body), ConvertOptions()).model
    x = np.zeros((2, 3, 6, 6), dtype=np.float32)
    report = measure(model, {"x": x}, lambda part, taps: NumpyPacked(model).run(part, taps), data="zeros")
    layer = next(layer for layer in report.layers if layer.op == "ExpGIF")
    neuron = next(node for node in model.graph if node.op_type == "ExpGIF")
    assert len(attributes(neuron)["codes"]) == entries
    assert layer.comparisons == rounds * layer.neurons > 0
