"""Neurons with a gain, and what computes gains: the same bits in every runtime at every level."""

from __future__ import annotations

from math import isqrt
from typing import Any

import numpy as np
import pytest

from snnc.coding import CodeBook

BOOKS = [CodeBook(4, 2), CodeBook(8, 4, signed=True), CodeBook(3, 3, largest=4), CodeBook(4, 2, largest=1)]
OPSETS = [17, 21]


def label(book: CodeBook) -> str:
    return f"T{book.timesteps}G{book.groups}{'s' if book.signed else 'u'}_{book.largest}"


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("axis", [-1, 1])
def test_maximum(builder: Any, everywhere: Any, opset: int, axis: int) -> None:
    rng = np.random.default_rng(1)
    model = builder(opset)
    model.input("a", np.int32, ["N", 4, 5])
    y = model.node("MembraneMax", ["a"], axis=axis)
    a = rng.integers(-9, 9, (3, 4, 5), dtype=np.int32)
    a[0] = [-(2**31), -(2**31), 2**31 - 1, 2**31 - 2, 0]
    result = everywhere(model.proto({y: (np.int32, 3)}), {"a": a})
    assert np.array_equal(result[y], a.max(axis=axis, keepdims=True))


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("centred", [0, 1])
@pytest.mark.parametrize("epsilon", [0, 7, 2**40])
def test_norm(builder: Any, everywhere: Any, opset: int, centred: int, epsilon: int) -> None:
    rng = np.random.default_rng(2)
    count = 48
    largest = (2**31 - 2**10) // count
    r = rng.integers(-largest, largest + 1, (2, 6, count), dtype=np.int32)
    r[0, 0] = 0
    r[0, 1] = largest
    r[0, 2] = -largest
    r[0, 3] = rng.integers(-3, 4, count)
    r[0, 4] = [largest, -largest] * (count // 2)
    r[0, 5, 1:] = 0
    sign = rng.choice([-1, 1], count)
    model = builder(opset)
    model.input("r", np.int32, ["N", 6, count])
    v = model.node("NormPotential", ["r", model.constant(sign, np.int32)], axes=[-1], centred=centred)
    gain = model.node("NormGain", ["r"], axes=[-1], centred=centred, epsilon=epsilon)
    result = everywhere(model.proto({v: (np.int64, 3), gain: (np.int64, 3)}), {"r": r})
    for index in np.ndindex(2, 6):
        row = [int(item) for item in r[index]]
        total = sum(row) * centred
        assert result[v][index].tolist() == [
            int(s) * (count * item - total) for s, item in zip(sign, row, strict=True)
        ]
        radicand = count * sum(item * item for item in row) - total**2 + epsilon
        assert int(result[gain][index][0]) == max(1, isqrt(radicand))


def test_roots_next_to_squares(builder: Any, everywhere: Any) -> None:
    """Radicands n^2 - 1, n^2 and n^2 + 1, where a rounded root goes wrong first."""
    # With one element that is not centred the radicand is r^2 + epsilon.
    roots = np.array([1, 2, 3, 94906265, 94906267, 2**30 - 1, 2**31 - 1 - 2**7], dtype=np.int64)
    r = roots.astype(np.int32)[:, None]
    model = builder()
    model.input("r", np.int32, ["N", 1])
    gains = [model.node("NormGain", ["r"], axes=[1], centred=0, epsilon=epsilon) for epsilon in (0, 1, 2**31)]
    result = everywhere(model.proto(dict.fromkeys(gains, (np.int64, 2))), {"r": r})
    for gain, epsilon in zip(gains, (0, 1, 2**31), strict=True):
        assert result[gain][:, 0].tolist() == [isqrt(int(root) ** 2 + epsilon) for root in roots]


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("fraction", [0, 5, 12])
@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("book", BOOKS, ids=label)
def test_neuron_with_gain(
    builder: Any,
    everywhere: Any,
    neuron: Any,
    padded: Any,
    book: CodeBook,
    opset: int,
    fraction: int,
    wide: bool,
) -> None:
    rng = np.random.default_rng(3)
    scale = 2**20 if wide else 1
    dtype = np.int64 if wide else np.int32
    limits = np.sort(rng.integers(-40, 40, (5, book.levels - 1)), axis=1) << max(0, fraction - 2)
    gain = rng.integers(1, 9, (6, 1, 3)) * scale
    v = rng.integers(-45, 45, (6, 5, 3)) * gain // rng.integers(1, 4, (6, 1, 1))
    v[0] = limits[:, :1] * gain[0] >> fraction  # at a threshold, or just below
    gain[1, 0, 0], v[1, :, 0] = 0, 0
    model = builder(opset)
    model.input("v", dtype, ["N", 5, 3])
    model.input("gain", dtype, ["N", 1, 3])
    table = model.constant(padded(book, limits.astype(np.int32)))
    rows = model.constant(np.arange(5).reshape(5, 1), np.int32)
    code = model.node("ExpGIFGain", ["v", "gain", table, rows], **neuron(book), fraction_bits=fraction)
    feeds = {"v": v.astype(dtype), "gain": gain.astype(dtype)}
    result = everywhere(model.proto({code: (book.dtype, 3)}), feeds)
    shifted, least = v.astype(object) * 2**fraction, np.maximum(gain, 1).astype(object)
    count = (shifted[..., None] >= least[..., None] * limits.astype(object)[:, None, :]).sum(axis=-1)
    assert np.array_equal(result[code], book.codes[count.astype(int)])


def test_a_table_that_does_not_ascend(builder: Any, everywhere: Any, neuron: Any) -> None:
    book = CodeBook(4, 2)
    codes = [*book.codes.tolist()[:2], 0, 2]
    attrs = {**neuron(book), "codes": codes, "depth": 2, "fraction_bits": 4}
    model = builder()
    model.input("v", np.int32, ["N", 2])
    model.input("gain", np.int32, ["N", 1])
    table = model.constant([[-16, 8, 32]], np.int32)
    code = model.node("ExpGIFGain", ["v", "gain", table, model.constant(0, np.int32)], **attrs)
    v = np.array([[-4, -3], [1, 2], [5, 6], [7, 100]], np.int32)
    gain = np.array([[3], [3], [3], [3]], np.int32)
    result = everywhere(model.proto({code: (book.dtype, 2)}), {"v": v, "gain": gain})
    assert result[code].tolist() == [[0, 1], [1, 0], [0, 2], [2, 2]]


@pytest.mark.parametrize("opset", OPSETS)
def test_ops_of_the_quant_dialect(builder: Any, everywhere: Any, opset: int) -> None:
    rng = np.random.default_rng(4)
    model = builder(opset)
    model.input("n", np.float32, ["N", 5])
    model.input("d", np.float32, ["N", 1])
    steps = [model.constant(0.25), model.constant(0.5)]
    quotient = model.node("FloorQuotient", ["n", "d", *steps], fraction_bits=10)
    sign = model.constant([1, -1, 1, 1, -1], np.int32)
    attrs = {"axes": [-1], "epsilon": 3, "fraction_bits": 10}
    normal = model.node("Normalise", ["n", sign, model.constant(0.25)], centred=1, **attrs)
    plain = model.node("Normalise", ["n", sign, model.constant(0.25)], centred=0, **attrs)
    n = rng.integers(-400, 400, (7, 5)).astype(np.float32) / 4
    d = rng.integers(0, 90, (7, 1)).astype(np.float32) / 2
    outputs = {quotient: (np.float32, 2), normal: (np.float32, 2), plain: (np.float32, 2)}
    result = everywhere(model.proto(outputs), {"n": n, "d": d})
    exact = n / np.maximum(d, 0.5)
    assert np.abs(result[quotient] - exact).max() <= 2**-10
    centred = n - n.mean(axis=1, keepdims=True)
    mirrored = np.array([1, -1, 1, 1, -1])
    assert np.allclose(result[normal], mirrored * centred / n.std(axis=1, keepdims=True), atol=0.01)
    assert np.allclose(result[plain], mirrored * n / np.sqrt((n**2).mean(axis=1, keepdims=True)), atol=0.01)


@pytest.mark.parametrize("opset", OPSETS)
def test_root_mean_square_in_float(builder: Any, everywhere: Any, opset: int) -> None:
    """It lives only until a neuron takes its place, and is in float: small integers make its sums exact."""
    rng = np.random.default_rng(3)
    model = builder(opset)
    model.input("x", np.float32, ["N", 5, 4])
    scale = np.array([1.0, -0.5, 2.0, 0.0], dtype=np.float32)
    y = model.node("RMSNorm", ["x", model.constant(scale), model.constant(np.float32(0.25))])
    x = rng.integers(-9, 10, (3, 5, 4)).astype(np.float32)
    x[0, 0] = 0
    result = everywhere(model.proto({y: (np.float32, 3)}), {"x": x})
    root = np.sqrt(np.square(x.astype(np.float64)).mean(axis=-1, keepdims=True) + 0.25)
    np.testing.assert_allclose(result[y], x / root * scale, rtol=1e-6)
