"""Masks, elementwise products and quotients on the host: the same bits in every runtime at every level."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime as ort
import pytest

from snnc.coding import CodeBook
from snnc.ops import OPS
from snnc.ops.types import onnx_type

BOOKS = [CodeBook(4, 2), CodeBook(8, 4, signed=True), CodeBook(12, 12)]
OPSETS = [17, 21]


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("axis", [-1, 1])
def test_masked_rows(builder: Any, everywhere: Any, opset: int, axis: int) -> None:
    rng = np.random.default_rng(1)
    model = builder(opset)
    model.input("s", np.int32, ["N", 4, 5])
    model.input("gate", np.bool_, ["N", 1, 5])
    y = model.node("MembraneMask", ["s", "gate"], axis=axis)
    s = rng.integers(-(2**31), 2**31 - 1, (3, 4, 5), dtype=np.int32)
    gate = rng.random((3, 1, 5)) < 0.5
    gate[0] = False
    result = everywhere(model.proto({y: (np.int32, 3)}), {"s": s, "gate": gate})
    lowest = np.broadcast_to(s.min(axis=axis, keepdims=True), s.shape)
    assert np.array_equal(result[y], np.where(np.broadcast_to(gate, s.shape), s, lowest))


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("book", BOOKS)
def test_gated_spikes(builder: Any, everywhere: Any, opset: int, book: CodeBook) -> None:
    rng = np.random.default_rng(2)
    model = builder(opset)
    model.input("level", np.int32, ["N", 3, 4])
    model.input("gate", np.bool_, ["N", 1, 4])
    spikes = model.spikes("level", book)
    y = model.node("SpikeGate", [spikes, "gate"], code_type=onnx_type(book.dtype))
    charged = model.node("Charge", [y])
    level = rng.integers(0, book.levels, (5, 3, 4), dtype=np.int32)
    gate = rng.random((5, 1, 4)) < 0.5
    result = everywhere(model.proto({charged: (np.int32, 3)}), {"level": level, "gate": gate})
    assert np.array_equal(result[charged], book.codes[level] * gate)


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("first", BOOKS)
@pytest.mark.parametrize("second", BOOKS)
def test_elementwise_products(
    builder: Any, everywhere: Any, opset: int, first: CodeBook, second: CodeBook
) -> None:
    rng = np.random.default_rng(3)
    model = builder(opset)
    model.input("a", np.int32, ["N", 3, 4])
    model.input("b", np.int32, ["N", 3, 1])
    y = model.node("SpikeMulHeld", [model.spikes("a", first), model.spikes("b", second)])
    a = rng.integers(0, first.levels, (5, 3, 4), dtype=np.int32)
    b = rng.integers(0, second.levels, (5, 3, 1), dtype=np.int32)
    result = everywhere(model.proto({y: (np.int32, 3)}), {"a": a, "b": b})
    assert np.array_equal(result[y], first.codes[a].astype(np.int64) * second.codes[b])


@pytest.mark.parametrize("opset", OPSETS)
def test_quotients_on_the_host_are_rounded_down(builder: Any, everywhere: Any, opset: int) -> None:
    rng = np.random.default_rng(4)
    model = builder(opset)
    model.input("v", np.int64, ["N", 6])
    model.input("gain", np.int64, ["N", 1])
    y = model.node("HostQuotient", ["v", "gain"], fraction_bits=12)
    gain = rng.integers(0, 2**31, (40, 1), dtype=np.int64)
    v = rng.integers(-(2**18), 2**18, (40, 6)) * np.maximum(gain, 1)
    result = everywhere(model.proto({y: (np.int32, 2)}), {"v": v, "gain": gain})
    exact = [[(int(n) << 12) // max(int(d), 1) for n in row] for row, (d,) in zip(v, gain, strict=True)]
    assert result[y].tolist() == exact


@pytest.mark.parametrize(("name", "attrs"), [("Gate", {}), ("MaskRow", {"axis": -1})])
def test_bodies_of_the_quant_dialect(builder: Any, name: str, attrs: dict[str, int]) -> None:
    rng = np.random.default_rng(5)
    x, gate = rng.standard_normal((3, 4, 5)).astype(np.float32), rng.random((3, 1, 5)) < 0.5
    model = builder()
    y = model.node(
        name, [model.input("x", np.float32, ["N", 4, 5]), model.input("g", np.bool_, ["N", 1, 5])], **attrs
    )
    session = ort.InferenceSession(model.proto({y: (np.float32, 3)}).SerializeToString())
    expected = OPS[name].packed([x, gate], attrs)
    assert np.array_equal(session.run(None, {"x": x, "g": gate})[0], expected)
    assert np.array_equal(OPS[name].timestep([x, gate], attrs), expected)
