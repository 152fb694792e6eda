"""Held values, host ops, layout and whole blocks: the same bits in every runtime at every level."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from snnc.coding import CodeBook

Array = npt.NDArray[Any]

QUICK = settings(
    max_examples=8,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
SOME_BOOKS = [CodeBook(4, 2), CodeBook(4, 4, signed=True), CodeBook(8, 4), CodeBook(7, 7, signed=True)]


def label(book: CodeBook) -> str:
    bounds = f"_{book.smallest}..{book.largest}"
    return f"T{book.timesteps}G{book.groups}{book.partition[0]}{'s' if book.signed else 'u'}{bounds}"


def levels_input(rng: np.random.Generator, book: CodeBook, shape: tuple[int, ...]) -> Array:
    """Level indices, every one likely, some beyond both ends."""
    return rng.integers(-2, book.levels + 2, shape, dtype=np.int32)


@pytest.mark.parametrize("book", SOME_BOOKS, ids=label)
def test_merged_wires(builder: Any, everywhere: Any, book: CodeBook) -> None:
    """Pools of spikes in front of synapses: several spikes arrive in one time-step."""
    rng = np.random.default_rng(14)
    model = builder()
    model.input("v", np.int32, ["N", 4, 7, 6])
    spikes = model.spikes("v", book)
    pooled = model.node("SpikeSumPool", [spikes], kernel_shape=[3, 2], strides=[2, 1], pads=[1, 0, 1, 1])
    kernel = model.constant(rng.integers(-127, 128, (5, 4, 3, 3)), np.int8)
    conv = model.node("SpikeConv", [pooled, kernel], pads=[1, 1, 1, 1])
    summed = model.node("SpikeSum", [spikes], axes=[2, -1], keepdims=0)
    product = model.node("SpikeMatMul", [summed, model.constant(rng.integers(-9, 10, (4, 3)), np.int8)])
    outputs = {conv: (np.int32, 4), product: (np.int32, 2)}
    result = everywhere(model.proto(outputs), {"v": levels_input(rng, book, (2, 4, 7, 6))})
    codes = result[spikes].astype(np.int64)
    assert np.array_equal(result[summed], codes.sum(axis=(2, 3)))
    assert np.array_equal(result[pooled][:, :, 1, 1], codes[:, :, 1:4, 1:3].sum(axis=(2, 3)))


@pytest.mark.parametrize("shift", [0, 1, 7, 30])
@pytest.mark.parametrize("dtype", [np.int32, np.int64])
def test_membrane_round(builder: Any, everywhere: Any, shift: int, dtype: type[np.generic]) -> None:
    rng = np.random.default_rng(6)
    half = (1 << shift) >> 1
    near = np.array([-3, -2, -1, 0, 1, 2, 3])[:, None] * half + [-1, 0, 1]
    far = rng.integers(-(2**30), 2**30, (5, 3)) << (shift if dtype is np.int64 else 0)
    v = np.concatenate([near, far])
    v = np.clip(v, -(2**31), 2**31 - 1) if dtype is np.int32 else v
    model = builder()
    model.input("v", dtype, ["N", 3])
    y = model.node("MembraneRound", ["v"], shift=shift)
    result = everywhere(model.proto({y: (np.int32, 2)}), {"v": v.astype(dtype)})
    assert result[y].tolist() == [[(int(e) + half) // 2**shift for e in row] for row in v]


def test_membrane_arithmetic(builder: Any, everywhere: Any) -> None:
    rng = np.random.default_rng(7)
    model = builder()
    model.input("a", np.int32, ["N", 4, 3, 2])
    model.input("b", np.int32, ["N", 1, 3, 2])
    total = model.node("MembraneAdd", ["a", "b"])
    factors = model.constant(np.array([0, 1, -96, 1025]).reshape(4, 1, 1), np.int32)
    scaled = model.node("MembraneScale", [total, factors])
    kept = model.node("MembraneSum", [scaled], axes=[-1, 1])
    gone = model.node("MembraneSum", [scaled], axes=[2], keepdims=0)
    feeds = {
        "a": rng.integers(-(10**5), 10**5, (3, 4, 3, 2), dtype=np.int32),
        "b": rng.integers(-(10**5), 10**5, (3, 1, 3, 2), dtype=np.int32),
    }
    outputs = {total: (np.int32, 4), scaled: (np.int32, 4), kept: (np.int32, 4), gone: (np.int32, 3)}
    result = everywhere(model.proto(outputs), feeds)
    expected = (feeds["a"].astype(np.int64) + feeds["b"]) * np.array([0, 1, -96, 1025]).reshape(4, 1, 1)
    assert np.array_equal(result[scaled], expected)
    assert np.array_equal(result[kept], expected.sum(axis=(3, 1), keepdims=True))
    assert np.array_equal(result[gone], expected.sum(axis=2))


@QUICK
@given(data=st.data())
def test_readout(builder: Any, everywhere: Any, data: st.DataObject) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 9999)))
    scalar = data.draw(st.booleans())
    model = builder()
    model.input("v", np.int32, ["N", 5])
    scale = rng.lognormal(-8, 4, () if scalar else (5,)) * rng.choice([-1, 1])
    bias = rng.normal(size=5)
    y = model.node("Readout", ["v", model.constant(scale, np.float32), model.constant(bias, np.float32)])
    v = rng.integers(-(2**31), 2**31, (7, 5)).astype(np.int32)
    v[0] = 0
    result = everywhere(model.proto({y: (np.float32, 2)}), {"v": v})
    # Each operation rounds once: float64 holds the exact product and the exact cast.
    rounded = (v.astype(np.float32).astype(np.float64) * np.float32(scale)).astype(np.float32)
    assert np.array_equal(result[y], (rounded + np.float32(bias)).astype(np.float32))


@pytest.mark.parametrize(("fraction_bits", "bits"), [(12, 24), (0, 8), (7, 25)])
def test_fixed_point_input(builder: Any, everywhere: Any, fraction_bits: int, bits: int) -> None:
    rng = np.random.default_rng(8)
    x = np.concatenate([rng.normal(0, 3, 40), np.arange(-8, 8) / 2 ** (fraction_bits + 1), [1e30, -1e30]])
    x = x.astype(np.float32)[:, None]
    model = builder()
    model.input("x", np.float32, ["N", 1])
    encoded = model.node("FixedPointEncode", ["x"], fraction_bits=fraction_bits, bits=bits)
    real = model.node("FixedPoint", ["x"], fraction_bits=fraction_bits, bits=bits)
    result = everywhere(model.proto({encoded: (np.int32, 2), real: (np.float32, 2)}), {"x": x})
    limit = 2 ** (bits - 1) - 1
    expected = [max(-limit, min(limit, round(float(value) * 2**fraction_bits))) for value in x[:, 0]]
    assert result[encoded][:, 0].tolist() == expected
    assert np.array_equal(result[real], result[encoded] / np.float32(2**fraction_bits))


@pytest.mark.parametrize("group", [1, 3])
def test_host_layers(builder: Any, everywhere: Any, group: int) -> None:
    rng = np.random.default_rng(9)
    model = builder()
    model.input("x", np.float32, ["N", 3, 6, 7])
    encoded = model.node("FixedPointEncode", ["x"])
    kernel = model.constant(rng.integers(-128, 128, (6, 3 // group, 3, 2)), np.int32)
    conv = model.node("HostConv", [encoded, kernel], strides=[2, 1], pads=[1, 0, 1, 1], group=group)
    weights = rng.integers(-(2**15), 2**15, (7, 5))
    product = model.node("HostMatMul", [encoded, model.constant(weights, np.int32)])
    x = rng.normal(0, 900, (2, 3, 6, 7)).astype(np.float32)
    x[0, 0] = 1e9
    result = everywhere(model.proto({conv: (np.int64, 4), product: (np.int64, 4)}), {"x": x})
    assert np.array_equal(result[product], result[encoded].astype(np.int64) @ weights)
    assert np.abs(result[conv]).max() > 2**31


# Ties to the even code need consecutive codes.
QUANTISED = [
    pytest.param(book, ties, id=f"{label(book)}-{ties}")
    for book in SOME_BOOKS
    for ties in ("away", "up", "even")
    if ties != "even" or book.is_uniform
]


@pytest.mark.parametrize(("book", "ties"), QUANTISED)
def test_quantise(builder: Any, everywhere: Any, book: CodeBook, ties: str) -> None:
    rng = np.random.default_rng(10)
    step = np.array([0.5, 0.1, 0.3], np.float32)
    u = rng.normal(0, book.max_abs / 4, (40, 3)).astype(np.float32)
    # Exact ties: mid-points times the step, as the op rounds them.
    places = rng.choice(book.twice_midpoints, (20, 3)).astype(np.float32) / 2
    u[:20] = places * step
    attrs = book.to_attributes() | {
        "ties": ties,
        "codes": book.codes.tolist(),
        "twice_midpoints": book.twice_midpoints.tolist(),
        "closed": [int(flag) for flag in book.closed(ties)],
    }
    model = builder()
    model.input("u", np.float32, ["N", 3])
    y = model.node("Quantise", ["u", model.constant(step)], **attrs)
    result = everywhere(model.proto({y: (np.float32, 2)}), {"u": u})
    assert np.array_equal(result[y][:20], book.nearest(places, ties).astype(np.float32) * step)


def test_scales_of_the_quant_dialect(builder: Any, everywhere: Any) -> None:
    rng = np.random.default_rng(11)
    model = builder()
    model.input("u", np.float32, ["N", 4])
    whole = rng.integers(-128, 128, (3, 4)).astype(np.int8)
    steps = rng.lognormal(size=(3, 1)), rng.lognormal(size=(1, 4))
    weight = model.node("Weight", [model.constant(whole), model.constant(steps[0]), model.constant(steps[1])])
    factors = [model.constant(-3, np.int32), model.constant(0.3), model.constant(0.7)]
    scaled = model.node("Rescale", ["u", *factors])
    rounded = model.node("RoundMembrane", ["u", model.constant(0.3)])
    outputs = {weight: (np.float32, 2), scaled: (np.float32, 2), rounded: (np.float32, 2)}
    u = rng.normal(size=(6, 4)).astype(np.float32)
    result = everywhere(model.proto(outputs), {"u": u})
    assert np.array_equal(result[weight], (whole * steps[0] / steps[1]).astype(np.float32))
    assert np.allclose(result[scaled], u * (-0.9 / 0.7), rtol=1e-6)
    assert np.abs(result[rounded] - u).max() <= 0.1501


def test_layout_of_spikes(builder: Any, everywhere: Any) -> None:
    rng = np.random.default_rng(12)
    book, other = CodeBook(4, 2), CodeBook(3, 3)
    model = builder()
    model.input("v", np.int32, ["N", 4, 6])
    x = model.spikes("v", book)
    y = model.spikes("v", other)

    def ints(*values: int) -> str:
        return str(model.constant(values, np.int64))

    shape = model.node("Shape", [x])
    batch = model.node("Gather", [shape, ints(0)])
    dims = model.node("Concat", [batch, ints(2, 2, 6)], axis=0)
    heads = model.node("Reshape", [x, dims])
    turned = model.node("Transpose", [heads], perm=[0, 2, 1, 3])
    wide = model.node("Flatten", [turned], axis=1)
    first, second = model.node("Split", [turned, ints(1, 5)], axis=3, outputs=2)
    padded = model.node("Pad", [first, ints(0, 0, 0, 2, 0, 1, 0, 0)])
    part = model.node("Slice", [second, ints(-1, 0), ints(-9, 1), ints(3, 1), ints(-2, 1)])
    picked = model.node("Gather", [turned, ints(1, 0, 1)], axis=2)
    joined = model.node("Concat", [padded, padded], axis=1)
    unsqueezed = model.node("Unsqueeze", [part, ints(0)])
    squeezed = model.node("Squeeze", [unsqueezed, ints(0)])
    spread = model.node("Expand", [squeezed, ints(1, 2, 1, 1)])
    same = model.node("Identity", [spread])
    # Codes of different books on one wire bundle: uint8 both.
    mixed = model.node("Concat", [x, y], axis=2)
    mixed_sum = model.node("Charge", [mixed])
    ends = [wide, picked, joined, same, mixed_sum]
    ranks = [2, 4, 4, 4, 3]
    proto = model.proto(
        {name: (np.int32 if name == mixed_sum else np.uint8, r) for name, r in zip(ends, ranks, strict=True)}
    )
    everywhere(proto, {"v": levels_input(rng, book, (3, 4, 6))})


def test_blocks_of_space_and_depth(builder: Any, everywhere: Any) -> None:
    rng = np.random.default_rng(13)
    book = CodeBook(4, 2)
    model = builder()
    model.input("v", np.int32, ["N", 8, 4, 6])
    x = model.spikes("v", book)
    wide = [
        model.node("DepthToSpace", [x], blocksize=2),
        model.node("DepthToSpace", [x], blocksize=2, mode="CRD"),
        model.node("SpaceToDepth", [x], blocksize=2),
    ]
    sums = [model.node("Charge", [value]) for value in wide]
    proto = model.proto(dict.fromkeys(sums, (np.int32, 4)))
    found = everywhere(proto, {"v": levels_input(rng, book, (3, 8, 4, 6))})
    assert found[sums[0]].shape == found[sums[1]].shape == (3, 2, 8, 12)
    assert found[sums[2]].shape == (3, 32, 2, 3)
    assert (found[sums[0]] != found[sums[1]]).any()


def test_attention_with_held_operands(builder: Any, everywhere: Any, padded: Any, neuron: Any) -> None:
    """Two heads: scores from spikes of q and a held k, then spikes of the scores and a held v."""
    rng = np.random.default_rng(13)
    signed, plain = CodeBook(4, 2, signed=True), CodeBook(4, 4)
    tokens, dim = 5, 8
    model = builder()
    model.input("u", np.int32, ["N", tokens, dim])
    x = model.spikes("u", plain)

    def branch(perm: list[int]) -> str:
        weights = model.constant(rng.integers(-127, 128, (dim, dim)), np.int8)
        current = model.node("SpikeMatMul", [x, weights])
        limits = np.sort(rng.integers(-2000, 2000, (dim, signed.levels - 1), dtype=np.int32), axis=1)
        table, rows = model.constant(padded(signed, limits)), model.constant(np.arange(dim), np.int32)
        spikes = model.node("ExpGIF", [current, table, rows], **neuron(signed))
        heads = model.node("Reshape", [spikes, model.constant([0, tokens, 2, dim // 2], np.int64)])
        return str(model.node("Transpose", [heads], perm=perm))

    scores = model.node("SpikeMatMulHeld", [branch([0, 2, 1, 3]), branch([0, 2, 3, 1])])
    limits = np.sort(rng.integers(-300, 300, (1, plain.levels - 1), dtype=np.int32), axis=1)
    table = model.constant(padded(plain, limits))
    attention = model.node("ExpGIF", [scores, table, model.constant(0, np.int32)], **neuron(plain))
    mixed = model.node("SpikeMatMulHeld", [attention, branch([0, 2, 1, 3])])
    back = model.node("Transpose", [mixed], perm=[0, 2, 1, 3])
    merged = model.node("Reshape", [back, model.constant([0, tokens, dim], np.int64)])
    pooled = model.node("MembraneSum", [merged], axes=[1], keepdims=0)
    bias = model.constant(rng.normal(size=dim), np.float32)
    y = model.node("Readout", [pooled, model.constant(0.01, np.float32), bias])
    proto = model.proto({y: (np.float32, 2)})
    result = everywhere(proto, {"u": levels_input(rng, plain, (3, tokens, dim))})
    assert len(np.unique(result[attention])) > 4
