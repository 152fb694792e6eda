"""What looks like a normalisation of one native operator and is none; orders of elements as strides."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from snnc.coding import CodeBook
from snnc.ir.weights import split
from snnc.runtimes import NumpyPacked, OnnxRuntime, fusion, ort
from snnc.runtimes.fusion_moves import _axes

BOOK, TOKENS, WIDTH = CodeBook(4, 2, signed=True), 3, 24


@pytest.mark.skipif(ort.native_library() is None, reason="no native library")
@pytest.mark.parametrize(
    ("form", "native"),
    [
        ("whole", 1),
        ("the potential is read", 0),
        ("axes named otherwise", 0),
        ("another axis", 0),
        ("long fractions", 0),
        ("rows of the run", 0),
        ("rows of tokens", 0),
    ],
)
def test_normalisations(builder: Any, padded: Any, neuron: Any, form: str, native: int) -> None:
    rng = np.random.default_rng(9)
    model = builder()
    feeds = {"r": rng.integers(-30_000, 30_000, (2, TOKENS, WIDTH)).astype(np.int32)}
    model.input("r", np.int32, ["N", TOKENS, WIDTH])
    axis = 1 if form == "another axis" else -1
    signs = model.constant(rng.choice([-1, 1], WIDTH).astype(np.int32))
    potential = model.node("NormPotential", ["r", signs], axes=[axis], centred=1)
    axes = [2] if form == "axes named otherwise" else [axis]
    gain = model.node("NormGain", ["r"], axes=axes, centred=1, epsilon=9)
    limits = np.sort(rng.integers(-9000, 9000, (1, BOOK.levels - 1)).astype(np.int32), axis=1)
    rows = model.constant(np.zeros((TOKENS if form == "rows of tokens" else 1, 1), np.int32))
    if form == "rows of the run":
        rows, feeds["i"] = model.input("i", np.int32, ["N", 1, 1]), np.zeros((2, 1, 1), np.int32)
    fraction = 21 if form == "long fractions" else 12
    inputs = [potential, gain, model.constant(padded(BOOK, limits)), rows]
    code = model.node("ExpGIFGain", inputs, fraction_bits=fraction, **neuron(BOOK))
    results = {code: (BOOK.dtype, 3)}
    if form == "the potential is read":
        results[model.node("Identity", [potential])] = (np.int64, 3)
    proto = model.proto(results)
    made = ir.from_proto(proto)
    message, weights = split(made)
    fusion.prepare(message, weights)
    assert [node.op_type for node in message.graph.node].count("NativeNormFire") == native
    wanted = NumpyPacked(made).run(feeds)
    found = OnnxRuntime(made, "all", stock=False, threads=1).run(feeds)
    assert all(found[name].tobytes() == array.tobytes() for name, array in wanted.items())
    assert len(np.unique(wanted[code])) > 1


@pytest.mark.parametrize(
    ("shape", "perm"),
    [
        ((6,), (0,)),
        ((2, 3), (1, 0)),
        ((2, 3, 4), (2, 0, 1)),
        ((2, 3, 4), (0, 2, 1)),
        ((3, 2, 2, 5), (2, 1, 3, 0)),
    ],
)
def test_an_order_of_elements_is_extents_and_strides(shape: tuple[int, ...], perm: tuple[int, ...]) -> None:
    order = np.arange(7, 7 + np.prod(shape)).reshape(shape).transpose(perm).reshape(-1)
    found = _axes(order)
    assert found is not None
    offsets = np.zeros((), np.int64)
    for extent, stride in zip(*found, strict=True):
        offsets = offsets[..., None] + stride * np.arange(extent)
    assert np.array_equal(offsets.reshape(-1) + 7, order)


@pytest.mark.parametrize(
    "order", [[3, 2, 1, 0], [0, 1, 3, 2], [0, 1, 2, 4, 5, 7], [0, 2, 4, 1, 3], [0, 1, 0, 1, 1]]
)
def test_an_order_that_no_strides_give(order: list[int]) -> None:
    assert _axes(np.array(order)) is None
