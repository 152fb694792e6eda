"""Products of slices and of digits are joined for the native operators, with the same bits."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from snnc.coding import CodeBook
from snnc.ir.weights import split
from snnc.runtimes import NumpyPacked, OnnxRuntime, fusion, ort

pytestmark = pytest.mark.skipif(ort.native_library() is None, reason="no native library")

BOOKS = {
    "bytes": CodeBook(8, 4),
    "signed bytes": CodeBook(6, 3, signed=True),
    "words": CodeBook(8, 4, signed=True),
}


def fused_ops(proto: Any) -> list[str]:
    message, weights = split(ir.from_proto(proto))
    fusion.prepare(message, weights)
    return [node.op_type for node in message.graph.node]


def compare(proto: Any, feeds: dict[str, Any]) -> None:
    model = ir.from_proto(proto)
    wanted = NumpyPacked(model).run(feeds)
    for level in ("none", "all"):
        found = OnnxRuntime(model, level, stock=False, threads=1).run(feeds)
        for name, array in wanted.items():
            assert found[name].dtype == array.dtype
            assert found[name].tobytes() == array.tobytes(), (name, level)


def joined(model: Any, parts: list[tuple[int, str]]) -> str:
    total = ""
    for factor, part in parts:
        name = (
            part if factor == 1 else model.node("MembraneScale", [part, model.constant([[factor]], np.int32)])
        )
        total = model.node("MembraneAdd", [total, name]) if total else name
    return total


def product(model: Any, op: str, code: str, rng: Any, book: CodeBook) -> tuple[Any, str]:
    """Return how to multiply a code of shape (N, 6, 5), and the other operand."""
    if op == "SpikeMatMulHeld":
        other = model.spikes(model.input("w", np.int32, ["N", 5, 9]), book)
    else:
        shape = (7, 6, 3) if op == "SpikeConv" else (5, 9)
        other = model.constant(rng.integers(-128, 128, shape).astype(np.int8))
    attrs = {"pads": [1, 1]} if op == "SpikeConv" else {}
    return (lambda each: model.node(op, [each, other], **attrs)), other


@pytest.mark.parametrize("which", BOOKS)
@pytest.mark.parametrize("op", ["SpikeConv", "SpikeMatMul", "SpikeMatMulHeld"])
@pytest.mark.parametrize("widths", [(8,), (3, 2, 8), (7, 7)])
def test_slices(builder: Any, op: str, which: str, widths: tuple[int, ...]) -> None:
    """All slices of a code: one product is left, even where another reader keeps one of them."""
    rng = np.random.default_rng(len(op) + len(widths))
    book = BOOKS[which]
    model = builder()
    code = model.spikes(model.input("v", np.int32, ["N", 6, 5]), book)
    multiply, _ = product(model, op, code, rng, book)
    shift, parts, slices = 0, [], []
    for bits in widths:
        slices.append(model.node("CodeSlice", [code], shift=shift, bits=bits))
        parts.append((1 << shift, multiply(slices[-1])))
        shift += bits
    total = joined(model, parts)
    extra = model.node("Charge", [slices[0]])
    last = model.node("Identity", [total])
    feeds = {"v": rng.integers(0, book.levels, (3, 6, 5)).astype(np.int32)}
    feeds["v"][0] = book.levels - 1
    if op == "SpikeMatMulHeld":
        feeds["w"] = rng.integers(0, book.levels, (3, 5, 9)).astype(np.int32)
    outputs = {last: (np.int32, 3), extra: (np.int32, 3)}
    proto = model.proto(outputs)
    compare(proto, feeds)
    ops = fused_ops(proto)
    assert ops.count(op) == 1
    assert ops.count("CodeSlice") == 1  # the one that something else reads
    assert "MembraneAdd" not in ops


@pytest.mark.parametrize(
    "break_it", ["missing bit", "factor", "overlap", "order", "another weight", "read in between", "code"]
)
def test_other_sums_stay(builder: Any, break_it: str) -> None:
    """What is not all of one code is not joined."""
    rng = np.random.default_rng(3)
    book = BOOKS["bytes"]
    model = builder()
    code = model.spikes(model.input("v", np.int32, ["N", 6, 5]), book)
    multiply, _ = product(model, "SpikeMatMul", code, rng, book)
    another, _ = product(model, "SpikeMatMul", code, rng, book)
    source = model.spikes("v", CodeBook(4, 2)) if break_it == "code" else code
    low = model.node("CodeSlice", [code], shift=0, bits=4)
    high = model.node(
        "CodeSlice",
        [source],
        shift=3 if break_it == "overlap" else 4,
        bits=3 if break_it == "missing bit" else 4,
    )
    first = multiply(low)
    parts = [
        (1, first),
        (8 if break_it == "factor" else 16, (another if break_it == "another weight" else multiply)(high)),
    ]
    if break_it == "order":
        parts = [(16, parts[0][1]), (1, parts[1][1])]
    last = model.node("Identity", [joined(model, parts)])
    outputs = {last: (np.int32, 3)}
    if break_it == "read in between":
        outputs[model.node("Identity", [first])] = (np.int32, 3)
    proto = model.proto(outputs)
    assert fused_ops(proto).count("SpikeMatMul") == 2
    compare(proto, {"v": rng.integers(0, book.levels, (2, 6, 5)).astype(np.int32)})


@pytest.mark.parametrize("op", ["SpikeConv", "SpikeMatMul"])
@pytest.mark.parametrize(("largest", "left"), [(127, 1), (32767, 1), (40000, 2)])
def test_digits(builder: Any, op: str, largest: int, left: int) -> None:
    """Weights in digits are one weight again where 16 bits hold it, else the digits that they hold."""
    rng = np.random.default_rng(largest)
    book = BOOKS["words"]
    model = builder()
    code = model.spikes(model.input("v", np.int32, ["N", 6, 5]), book)
    shape = (7, 6, 3) if op == "SpikeConv" else (5, 9)
    rest = rng.integers(-largest, largest + 1, shape)
    rest.reshape(-1)[:2] = largest, -largest
    parts = []
    for shift in (0, 6, 12):
        digit = rest if shift == 12 else (rest + 32) % 64 - 32
        rest = (rest - digit) // 64
        attrs = {"pads": [1, 1]} if op == "SpikeConv" else {}
        parts.append((1 << shift, model.node(op, [code, model.constant(digit.astype(np.int8))], **attrs)))
    last = model.node("Identity", [joined(model, parts)])
    proto = model.proto({last: (np.int32, 3)})
    assert fused_ops(proto).count(op) == left
    compare(proto, {"v": rng.integers(0, book.levels, (3, 6, 5)).astype(np.int32)})


def test_long_sums_end(builder: Any) -> None:
    """Sums of far more products than any has parts are not followed to their beginning."""
    rng = np.random.default_rng(4)
    book = BOOKS["bytes"]
    model = builder()
    code = model.spikes(model.input("v", np.int32, ["N", 6, 5]), book)
    multiply, _ = product(model, "SpikeMatMul", code, rng, book)
    last = model.node("Identity", [joined(model, [(1, multiply(code)) for _ in range(1200)])])
    compare(
        model.proto({last: (np.int32, 3)}), {"v": rng.integers(0, book.levels, (2, 6, 5)).astype(np.int32)}
    )
