"""What ends a network and is no part of its neurons: functions of logits, outputs without layers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from snnc.compile import ConvertOptions, convert
from snnc.cost.audit import audit
from snnc.runtimes import OnnxRuntime
from tests.agreement import everywhere

LAYERS = (
    "<float[6, 8] v = {%s}, float[8, 5] w = {%s}, float low = {0.25}, float high = {0.75}> "
    "{ h = MatMul(x, v) r = Relu(h) u = MatMul(r, w) %s }"
)


def converted(
    network: Any, folder: Path, outputs: str, tail: str, opset: int = 17
) -> tuple[Any, dict[str, Any], dict[str, Any]]:
    """Convert two layers and what follows; give what they compute here and in the source."""
    random = np.random.default_rng(4)
    weights = [", ".join(f"{number:.4f}" for number in random.standard_normal(size)) for size in (48, 40)]
    text = f"g (float[N, 6] x, float[N, 5] m) => ({outputs}) " + LAYERS % (*weights, tail)
    path = network(text, opset)
    feeds = {
        "x": random.standard_normal((8, 6)).astype(np.float32),
        "m": random.standard_normal((8, 5)).astype(np.float32),
    }
    np.savez(folder / "x.npz", **feeds)
    conversion = convert(path, ConvertOptions(calibrate=str(folder / "x.npz")))
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_outputs()]
    return conversion, feeds, dict(zip(names, session.run(None, feeds), strict=True))


def test_probabilities_have_the_precision_of_logits(tmp_path: Path, network: Any) -> None:
    tail = "p = Sigmoid(u) c = Clip(p, low, high) y = Concat<axis = 1>(c, u)"
    conversion, feeds, _ = converted(network, tmp_path, "float[N, 5] u, float[N, 10] y", tail)
    outputs, _ = everywhere(conversion, feeds)
    wanted = np.clip(1 / (1 + np.exp(-outputs["u"].astype(np.float64))), 0.25, 0.75)
    # A few roundings of float32; a neuron in its place would be off by half a step of its code, 2^-8.
    np.testing.assert_allclose(outputs["y"][:, :5], wanted, rtol=2.0**-20)
    np.testing.assert_array_equal(outputs["y"][:, 5:], outputs["u"])
    assert audit(conversion.model).clean


def test_what_nothing_reads_keeps_no_tail_from_the_host(tmp_path: Path, network: Any) -> None:
    """Readers that lead to no output leave the end of a network its end."""
    tail = "y = Sigmoid(u)"
    conversion, feeds, _ = converted(network, tmp_path, "float[N, 5] y", tail)
    dead = " a = Relu(u) b = Erf(y) c = Add(a, b)"
    unread, _, _ = converted(network, tmp_path, "float[N, 5] y", tail + dead)
    outputs, _ = everywhere(conversion, feeds)
    others, _ = everywhere(unread, feeds)
    np.testing.assert_array_equal(others["y"], outputs["y"])


SCALED = "two = Constant<value_float = 2.0>() big = Constant<value_float = 20.0>() t = Mul(u, two) "
FUNCTIONS = {
    "y = Softplus(u)": lambda u: np.logaddexp(u, 0),
    "y = Exp(u)": np.exp,
    "y = Elu<alpha = 1.5>(u)": lambda u: np.where(u > 0, u, 1.5 * np.expm1(u)),
    "y = Celu<alpha = 2.0>(u)": lambda u: np.where(u > 0, u, 2 * np.expm1(u / 2)),
    "y = Selu<alpha = 2.0, gamma = 1.5>(u)": lambda u: 1.5 * np.where(u > 0, u, 2 * np.expm1(u)),
    "y = HardSigmoid(u)": lambda u: np.clip(0.2 * u + 0.5, 0, 1),
    "a = Relu(u) b = Add(a, low) y = Log(b)": lambda u: np.log(np.maximum(u, 0) + 0.25),
    "a = Clip(u, low) y = Sqrt(a)": lambda u: np.sqrt(np.maximum(u, 0.25)),
    "p = Sigmoid(u) a = Add(p, low) y = Log(a)": lambda u: np.log(1 / (1 + np.exp(-u)) + 0.25),
    # As policies scale their actions, and detectors their boxes.
    "p = Tanh(u) y = Mul(high, p)": lambda u: 0.75 * np.tanh(u),
    "p = Sigmoid(u) a = Sub(p, low) b = Mul(a, a) y = Div(b, high)": lambda u: (
        (1 / (1 + np.exp(-u)) - 0.25) ** 2 / 0.75
    ),
    # As exporters guard it.
    "big = Constant<value_float = 20.0>() s = Softplus(u) g = Greater(u, big) y = Where(g, u, s)": (
        lambda u: np.logaddexp(u, 0)
    ),
    SCALED + "s = Softplus(t) d = Div(s, two) g = Greater(t, big) y = Where(g, u, d)": (
        lambda u: np.logaddexp(2 * u, 0) / 2
    ),
}


#: Their sums along an axis are written in another form from opset 18 on.
LATER = [tail for tail in FUNCTIONS if "Log" in tail or "Softplus" in tail]


@pytest.mark.parametrize(
    ("tail", "opset"), [(tail, 17) for tail in FUNCTIONS] + [(tail, 20) for tail in LATER]
)
def test_functions_have_the_precision_of_logits(tmp_path: Path, network: Any, tail: str, opset: int) -> None:
    conversion, feeds, _ = converted(network, tmp_path, "float[N, 5] u, float[N, 5] y", tail, opset)
    outputs, _ = everywhere(conversion, feeds)
    wanted = FUNCTIONS[tail](outputs["u"].astype(np.float64))
    np.testing.assert_allclose(outputs["y"], wanted, rtol=2.0**-20, atol=2.0**-20)
    assert audit(conversion.model).clean
    # The same bits at every place of a tensor, and in every batch.
    runtime = OnnxRuntime(conversion.model)
    for sample in range(8):
        alone = runtime.run({name: data[sample : sample + 1] for name, data in feeds.items()})
        np.testing.assert_array_equal(alone["y"], outputs["y"][sample : sample + 1])


ONE = (
    "one = Constant<value_float = 1.0>() zero = Constant<value_float = 0.0>() "
    "big = Constant<value_float = 255.0>() "
)
WHOLE = {
    # Masks and images, as networks give them to whoever shows them.
    ("bool", "p = Sigmoid(u) y = Greater(p, high)"): lambda u: 1 / (1 + np.exp(-u)) > 0.75,
    ("uint8", ONE + "c = Clip(u, zero, one) b = Mul(c, big) q = Round(b) y = Cast<to = 2>(q)"): (
        lambda u: np.rint(np.float32(255) * np.clip(u, 0, 1)).astype(np.uint8)
    ),
    ("int64", "g = Less(u, low) n = Not(g) y = Cast<to = 7>(n)"): lambda u: (u >= 0.25).astype(np.int64),
    ("float", ONE + "p = Tanh(u) g = Less(p, low) y = Where(g, zero, one)"): (
        lambda u: (np.tanh(u) >= 0.25).astype(np.float32)
    ),
}


@pytest.mark.parametrize(("dtype", "tail"), WHOLE)
def test_integers_of_logits(tmp_path: Path, network: Any, dtype: str, tail: str) -> None:
    conversion, feeds, _ = converted(network, tmp_path, f"float[N, 5] u, {dtype}[N, 5] y", tail)
    outputs, _ = everywhere(conversion, feeds)
    np.testing.assert_array_equal(outputs["y"], WHOLE[dtype, tail](outputs["u"]))
    assert audit(conversion.model).clean


@pytest.mark.parametrize(
    "tail",
    [
        # A rounded square may be zero where the source's is not: its logarithm would be infinite.
        "q = Mul(u, u) y = Log(q)",
        "q = Mul(u, u) y = Sqrt(q)",
        # Below the threshold both differ by 0.1: a choice, not a guard.
        "two = Constant<value_float = 2.0>() s = Softplus(u) g = Greater(u, two) y = Where(g, u, s)",
        "b = Relu(u) y = Mul(b, high)",
        # A sign and a quantiser, written out.
        "g = Greater(u, low) y = Cast<to = 1>(g)",
        "p = Sigmoid(u) b = Round(p) y = Mul(b, high)",
    ],
)
def test_what_stays_a_neuron(tmp_path: Path, network: Any, tail: str) -> None:
    conversion, _, _ = converted(network, tmp_path, "float[N, 5] y", tail)
    assert not [row for row in audit(conversion.model).host if row.allowed]


def test_a_gate_is_a_neuron(tmp_path: Path, network: Any) -> None:
    conversion, _, _ = converted(network, tmp_path, "float[N, 5] y", "p = Sigmoid(u) y = Mul(u, p)")
    assert not [row for row in audit(conversion.model).host if row.allowed]


@pytest.mark.parametrize(
    ("shape", "given"),
    [
        ("N, 5", "y = Add(m, m)"),
        ("N, 5", "y = Identity(m)"),
        (
            "N, 2",
            (
                "n = Shape<start = 0, end = 1>(x) two = Constant<value_ints = [2]>() "
                "s = Concat<axis = 0>(n, two) y = Expand(high, s)"
            ),
        ),
        (
            "N, 2",
            (
                "n = Shape<start = 0, end = 1>(x) two = Constant<value_ints = [2]>() "
                "s = Concat<axis = 0>(n, two) e = Exp(high) y = Expand(e, s)"
            ),
        ),
    ],
)
def test_outputs_that_no_layer_leads_to(tmp_path: Path, network: Any, shape: str, given: str) -> None:
    conversion, feeds, source = converted(network, tmp_path, f"float[N, 5] u, float[{shape}] y", given)
    outputs, _ = everywhere(conversion, feeds)
    np.testing.assert_array_equal(outputs["y"], source["y"])
    np.testing.assert_array_equal(OnnxRuntime(conversion.model).run(feeds)["y"], source["y"])
    assert audit(conversion.model).clean


def test_a_network_without_layers_is_no_tail(tmp_path: Path, network: Any) -> None:
    """Its functions are neurons, as they were: nothing passes through unseen."""
    path = network("g (float[N, 6] x) => (float[N, 6] y) { r = Relu(x) y = Add(r, r) }")
    np.savez(tmp_path / "x.npz", x=np.ones((2, 6), np.float32))
    model = convert(path, ConvertOptions(calibrate=str(tmp_path / "x.npz"))).model
    assert not [row for row in audit(model).host if row.allowed]
