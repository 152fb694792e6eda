"""Divisions by what the network computes: sums of codes divide, whatever may be negative does not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from snnc.compile import ConvertOptions, convert, look_through
from snnc.cost.audit import audit
from snnc.debug.verify import verify
from snnc.errors import UnsupportedError
from snnc.runtimes import NumpyPacked, NumpyTimestep, OnnxRuntime

RUNTIMES = {"numpy": NumpyPacked, "numpy-timestep": NumpyTimestep, "onnxruntime": OnnxRuntime}
Build = Callable[[Any, str], str]


def axis(net: Any, *axes: int) -> str:
    return str(net.const(list(axes), np.int64))


def shares(function: str, epsilon: float | None, guard: str = "Add") -> Build:
    """What never is negative, divided by its sum."""

    def build(net: Any, x: str) -> str:
        parts = net.op(function, [x])
        total = net.op("ReduceSum", [parts, axis(net, -1)], keepdims=1)
        if epsilon is not None:
            total = net.op(guard, [total, net.const(epsilon)])
        return str(net.op("Div", [parts, total]))

    return build


def response(net: Any, x: str) -> str:
    """Global response normalisation, as ConvNeXt V2 has it."""
    lengths = net.op("ReduceL2", [x], axes=[1], keepdims=1)
    mean = net.op("Add", [net.op("ReduceMean", [lengths], axes=[-1]), net.const(1e-6)])
    scaled = net.op(
        "Mul", [net.op("Mul", [x, net.op("Div", [lengths, mean])]), net.const(net.normal(6, 1)[:, 0])]
    )
    return str(net.op("Add", [scaled, x]))


def linear_attention(net: Any, x: str) -> str:
    """Attention without softmax: keys and values are multiplied first."""
    query, key = (net.op("Relu", [net.matmul(x, (6, 6))]) for _ in range(2))
    pairs = net.op("MatMul", [net.op("Transpose", [key], perm=[0, 2, 1]), net.matmul(x, (6, 6))])
    total = net.op("Transpose", [net.op("ReduceSum", [key, axis(net, 1)], keepdims=1)], perm=[0, 2, 1])
    total = net.op("Add", [net.op("MatMul", [query, total]), net.const(1e-6)])
    return str(net.op("Div", [net.op("MatMul", [query, pairs]), total]))


def signed_weights(net: Any, x: str) -> str:
    weights = net.op("Tanh", [net.matmul(x, (6, 5))])
    total = net.op("ReduceSum", [weights, axis(net, -1)], keepdims=1)
    return str(net.op("Div", [net.op("MatMul", [weights, net.op("Relu", [x])]), total]))


def energies(square: str) -> Build:
    """Attention by energy, as SimAM has it: what keeps the divisor from zero is scaled with it."""

    def build(net: Any, x: str) -> str:
        centred = net.op("Sub", [x, net.op("ReduceMean", [x], axes=[1], keepdims=1)])
        squares = net.op(square, [centred, centred if square == "Mul" else net.const(2.0)])
        variance = net.op("Div", [net.op("ReduceSum", [squares, axis(net, 1)], keepdims=1), net.const(4.0)])
        divisor = net.op("Mul", [net.op("Add", [variance, net.const(0.1)]), net.const(4.0)])
        energy = net.op("Add", [net.op("Div", [squares, divisor]), net.const(0.5)])
        return str(net.op("Mul", [x, net.op("Sigmoid", [energy])]))

    return build


FORMS: dict[str, Build] = {
    "shares": shares("Relu", None),
    "shares, guarded": shares("Softplus", 1e-6),
    "shares of exponentials": shares("Exp", None),
    "shares, a large summand": shares("Sigmoid", 0.5),
    "global response": response,
    "linear attention": linear_attention,
    "energies": energies("Mul"),
    "energies by a power": energies("Pow"),
}


def network(net: Any, folder: Path, build: Build) -> tuple[Path, dict[str, Any]]:
    made = net(seed=3)
    x = made.matmul(made.input(["N", 5, 6]), (6, 6))
    made.output(made.matmul(build(made, x), (6, 3)))
    return Path(made.save(folder)), made.feeds(batch=12)


@pytest.mark.parametrize("build", FORMS.values(), ids=FORMS)
def test_quotients(net: Any, tmp_path: Path, build: Build) -> None:
    path, feeds = network(net, tmp_path, build)
    np.savez(tmp_path / "x.npz", **feeds)
    conversion = convert(path, ConvertOptions(8, 8, calibrate=str(tmp_path / "x.npz")))
    report = verify(path, conversion.model, {"x": feeds["x"][:3]}, runtimes=RUNTIMES)
    assert report.identical, report.first_mismatch()
    assert audit(conversion.model).clean
    assert (report.distances[0].decibel or 0) > 25


@pytest.mark.parametrize("build", FORMS.values(), ids=FORMS)
def test_what_is_told_without_data(net: Any, tmp_path: Path, build: Build) -> None:
    path, _ = network(net, tmp_path, build)
    assert not look_through(path).problems


def test_a_sum_that_may_be_negative_does_not_divide(net: Any, tmp_path: Path) -> None:
    """A gain is positive: the result would be another one wherever the sum is not."""
    path, feeds = network(net, tmp_path, signed_weights)
    np.savez(tmp_path / "x.npz", **feeds)
    with pytest.raises(UnsupportedError, match="SNN401") as caught:
        convert(path, ConvertOptions(8, 8, calibrate=str(tmp_path / "x.npz")))
    (problem,) = caught.value.problems
    assert problem.where.node == "div" and "may be negative" in problem.message


def test_rows_of_unlike_steps_keep_their_low_bits(network: Callable[..., Path]):
    # The mean has a step of its own, no power of two from that of the rows; each row is normalised alone.
    source = network("""g (float[N, 6, 12] x) => (float[N, 7, 4] y)
      <float[12, 8] w = {RANDOM}, float[8] s = {RANDOM}, float[8] b = {RANDOM}, float[8, 4] v = {RANDOM}> {
        a = MatMul(x, w) m = ReduceMean<axes = [1]>(a) c = Concat<axis = 1>(m, a)
        n = LayerNormalization(c, s, b) y = MatMul(n, v) }""")
    data = np.random.default_rng(0).standard_normal((16, 6, 12)).astype(np.float32)
    conversion = convert(source, ConvertOptions(8, 8), calibration=data)
    (distance,) = verify(source, conversion.model, {"x": data[:4]}).distances
    assert distance.decibel is not None
    assert distance.decibel > 36


@pytest.mark.parametrize(
    "divisor",
    ["e = Abs(b) d = Add(e, one)", "d = Exp(b)", "e = Mul(b, b) f = Add(e, one) d = Sqrt(f)"],
    ids=["1 + |b|", "exp(b)", "sqrt(1 + b^2)"],
)
def test_a_division_by_no_sum_multiplies_by_the_reciprocal(
    network: Callable[..., Path], divisor: str
) -> None:
    source = network(f"""g (float[N, 12] x) => (float[N, 4] y)
      <float[12, 8] w = {{RANDOM}}, float[12, 8] u = {{RANDOM}}, float[8, 4] v = {{RANDOM}},
       float one = {{1}}, float third = {{0.3}}> {{
        z = Mul(x, third) a = MatMul(z, w) c = MatMul(z, u) b = Tanh(c) {divisor}
        q = Div(a, d) y = MatMul(q, v) }}""")
    data = np.random.default_rng(0).standard_normal((64, 12)).astype(np.float32)
    conversion = convert(source, ConvertOptions(8, 8), calibration=data)
    report = verify(source, conversion.model, {"x": data[:8]}, runtimes=RUNTIMES)
    assert report.identical, report.first_mismatch()
    assert report.distances[0].decibel is not None
    assert report.distances[0].decibel > 25
    assert audit(conversion.model).clean
