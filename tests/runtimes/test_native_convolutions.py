"""Convolutions that do the arithmetic behind them and fire, against numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
from onnx import helper, numpy_helper

from snnc.coding import CodeBook
from snnc.ir.weights import split
from snnc.runtimes import NumpyPacked, OnnxRuntime, fusion, ort

pytestmark = pytest.mark.skipif(ort.native_library() is None, reason="no native library")

# Kernel, strides, pads, groups (0: one for each channel), extents, channels in and out.
WINDOWS: dict[str, tuple[Any, ...]] = {
    "dense": ([3, 3], [1, 1], [1, 1, 1, 1], 1, [9, 11], 5, 70),
    "strides": ([3, 2], [2, 3], [1, 0, 0, 1], 1, [12, 10], 4, 6),
    "points": ([1, 1], [1, 1], [0, 0, 0, 0], 1, [7, 7], 66, 17),
    "whole": ([2], [2], [0, 0], 1, [6], 3, 4),
    "margin": ([1, 1], [2, 2], [1, 1, 0, 0], 1, [1, 1], 3, 4),
    "groups": ([3, 3], [1, 1], [1, 1, 1, 1], 2, [8, 8], 6, 4),
    "depthwise": ([3, 3], [1, 1], [1, 1, 1, 1], 0, [14, 14], 21, 21),
    "depthwise strides": ([3, 3], [2, 2], [1, 1, 1, 1], 0, [15, 14], 4, 8),
    "depthwise wide": ([3, 3], [1, 1], [1, 2, 1, 0], 0, [5, 130], 4, 4),
    "depthwise line": ([5], [1], [2, 2], 0, [150], 6, 6),
    "line": ([5], [1], [2, 2], 1, [40], 3, 6),
    "volume": ([2, 2, 2], [1, 1, 1], [0, 1, 0, 1, 0, 1], 1, [4, 5, 6], 3, 4),
    "volume depthwise": ([2, 2, 2], [1, 2, 1], [0, 1, 0, 1, 0, 1], 0, [4, 5, 6], 3, 3),
}


def window_output(which: str) -> list[int]:
    kernel, strides, pads, _, extents, _, _ = WINDOWS[which]
    rank = len(kernel)
    return [(extents[i] + pads[i] + pads[i + rank] - kernel[i]) // strides[i] + 1 for i in range(rank)]


def fused_ops(model: Any) -> list[str]:
    message, weights = split(model)
    fusion.prepare(message, weights)
    return [node.op_type for node in message.graph.node]


def compare(proto: Any, feeds: dict[str, Any]) -> None:
    model = ir.from_proto(proto)
    wanted = NumpyPacked(model).run(feeds)
    for threads in (1, 2):
        found = OnnxRuntime(model, stock=False, threads=threads).run(feeds)
        for name, array in wanted.items():
            assert found[name].dtype == array.dtype
            assert np.array_equal(found[name], array), (name, threads)


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("which", WINDOWS)
def test_arithmetic_and_neurons(builder: Any, neuron: Any, padded: Any, which: str, signed: bool) -> None:
    """Scales, biases, a rounding and a sum, read by a neuron and by something else."""
    rng = np.random.default_rng(len(which))
    kernel, strides, pads, groups, extents, channels, outputs = WINDOWS[which]
    inside = CodeBook(8, 4, signed=True) if signed else CodeBook(8, 4)
    book = CodeBook(8, 4)
    result = ["N", outputs, *window_output(which)]
    model = builder()
    model.input("v", np.int32, ["N", channels, *extents])
    model.input("r", np.int32, result)
    group = groups or channels
    weights = rng.integers(-128, 128, (outputs, channels // group, *kernel)).astype(np.int8)
    spikes = model.spikes("v", inside)
    conv = model.node("SpikeConv", [spikes, model.constant(weights)], strides=strides, pads=pads, group=group)
    of_channels = (1, outputs, *[1] * len(kernel))

    def number(low: int, high: int) -> str:
        return str(model.constant(rng.integers(low, high, of_channels).astype(np.int32)))

    steps = [conv]
    steps.append(model.node("MembraneScale", [steps[-1], number(-4, 5)]))
    steps.append(model.node("MembraneAdd", [number(-900, 900), steps[-1]]))
    steps.append(model.node("MembraneRound", [steps[-1]], shift=3))
    steps.append(model.node("MembraneScale", [steps[-1], model.constant(7, np.int32)]))
    steps.append(model.node("MembraneScale", ["r", number(-3, 4)]))
    steps.append(model.node("MembraneAdd", [steps[-1], steps[-2]]))
    limits = np.sort(rng.integers(-9000, 9000, (3, book.levels - 1)).astype(np.int32), axis=1)
    rows = rng.integers(0, 3, of_channels).astype(np.int32)
    table = [model.constant(padded(book, limits)), model.constant(rows)]
    code = model.node("ExpGIF", [steps[-1], *table], **neuron(book))
    twice = model.node("MembraneAdd", [steps[-1], steps[-1]])
    rank = 2 + len(kernel)
    proto = model.proto({code: (book.dtype, rank), twice: (np.int32, rank)})
    proto.graph.value_info.extend(helper.make_tensor_value_info(name, 6, result) for name in steps)
    ops = fused_ops(ir.from_proto(proto))
    assert "NativeConvFire" in ops
    assert ops.count("MembraneAdd") == 1
    for samples in (1, 3):
        v = rng.integers(0, inside.levels, (samples, channels, *extents)).astype(np.int32)
        r = rng.integers(-4000, 4000, (samples, *result[1:])).astype(np.int32)
        compare(proto, {"v": v, "r": r})
    session = OnnxRuntime(ir.from_proto(proto), stock=False, threads=1).session
    found = session.run(None, {"v": v[:0], "r": r[:0]})
    assert [array.shape for array in found] == [(0, *result[1:])] * 2


@pytest.mark.parametrize("bits", [9, 16, 17, 24])
@pytest.mark.parametrize("most", [100, 2000, 32767])
def test_first_layers(builder: Any, neuron: Any, padded: Any, bits: int, most: int) -> None:
    """Inputs of up to 24 bits, weights of up to 16: the sums are wide until they are rounded."""
    rng = np.random.default_rng(bits + most)
    book = CodeBook(4, 2)
    model = builder()
    model.input("x", np.int32, ["N", 3, 10, 13])
    weights = rng.integers(-most, most + 1, (20, 3, 7, 7)).astype(np.int16)
    conv = model.node("HostConv", ["x", model.constant(weights)], strides=[2, 2], pads=[3] * 4)
    rounded = model.node("MembraneRound", [conv], shift=18)
    limits = np.arange(1, book.levels, dtype=np.int32)[None] * 40
    table = [model.constant(padded(book, limits)), model.constant(0, np.int32)]
    code = model.node("ExpGIF", [rounded, *table], **neuron(book))
    proto = model.proto({code: (book.dtype, 4)})
    tapped = model.proto({conv: (np.int64, 4), code: (book.dtype, 4)})
    for each in (proto, tapped):
        each.graph.value_info.append(helper.make_tensor_value_info(rounded, 6, ["N", 20, 5, 7]))
    assert fused_ops(ir.from_proto(proto)) == ["NativeConvFire"]
    x = rng.integers(-(2 ** (bits - 1)) + 1, 2 ** (bits - 1), (2, 3, 10, 13)).astype(np.int32)
    x[0] = 2 ** (bits - 1) - 1
    for each in (proto, tapped):
        compare(each, {"x": x})


def test_neurons_behind_slices(builder: Any, neuron: Any, padded: Any) -> None:
    """Parts of the channels have neurons of their own behind slices and reshapes."""
    rng = np.random.default_rng(0)
    book = CodeBook(8, 4)
    model = builder()
    model.input("v", np.int32, ["N", 3, 6, 6])
    weights = rng.integers(-128, 128, (8, 3, 3, 3)).astype(np.int8)
    conv = model.node("SpikeConv", [model.spikes("v", book), model.constant(weights)], pads=[1] * 4)
    infos = [helper.make_tensor_value_info(conv, 6, ["N", 8, 6, 6])]
    codes = []
    for start, end in ((0, 3), (3, 8)):
        bounds = [model.constant([value], np.int64) for value in (start, end, 1)]
        part = model.node("Slice", [conv, *bounds])
        infos.append(helper.make_tensor_value_info(part, 6, ["N", end - start, 6, 6]))
        limits = np.sort(rng.integers(-9000, 9000, (end - start, book.levels - 1)).astype(np.int32), axis=1)
        rows = np.arange(end - start, dtype=np.int32).reshape(1, -1, 1, 1)
        table = [model.constant(padded(book, limits)), model.constant(rows)]
        codes.append(model.node("ExpGIF", [part, *table], **neuron(book)))
    proto = model.proto(dict.fromkeys(codes, (book.dtype, 4)))
    proto.graph.value_info.extend(infos)
    ops = fused_ops(ir.from_proto(proto))
    assert ops.count("NativeConvFire") == 1
    assert ops.count("ExpGIF") == 1  # the encoder
    compare(proto, {"v": rng.integers(0, book.levels, (3, 3, 6, 6)).astype(np.int32)})


@pytest.mark.parametrize("reader", ["none", "sum"])
def test_two_neurons(builder: Any, neuron: Any, padded: Any, reader: str) -> None:
    """All channels have one neuron, and parts of them another; only what something else reads is stored."""
    rng = np.random.default_rng(1)
    books = CodeBook(4, 2), CodeBook(8, 4, signed=True)
    model = builder()
    model.input("v", np.int32, ["N", 3, 6, 6])
    weights = rng.integers(-128, 128, (8, 3, 3, 3)).astype(np.int8)
    conv = model.node("SpikeConv", [model.spikes("v", books[0]), model.constant(weights)], pads=[1] * 4)
    total = model.node("MembraneAdd", [conv, model.constant(rng.integers(-9, 9, (1, 8, 1, 1)), np.int32)])
    infos = [helper.make_tensor_value_info(name, 6, ["N", 8, 6, 6]) for name in (conv, total)]
    parts = [(total, 8, books[0])]
    for start, end in ((0, 3), (3, 8)):
        bounds = [model.constant([value], np.int64) for value in (start, end, 1)]
        parts.append((model.node("Slice", [total, *bounds]), end - start, books[1]))
        infos.append(helper.make_tensor_value_info(parts[-1][0], 6, ["N", end - start, 6, 6]))
    codes = {}
    for part, channels, book in parts:
        limits = np.sort(rng.integers(-9000, 9000, (channels, book.levels - 1)).astype(np.int32), axis=1)
        table = [
            model.constant(padded(book, limits)),
            model.constant(np.arange(channels, dtype=np.int32).reshape(1, -1, 1, 1)),
        ]
        codes[model.node("ExpGIF", [part, *table], **neuron(book))] = (book.dtype, 4)
    if reader == "sum":
        codes[model.node("MembraneAdd", [total, total])] = (np.int32, 4)
    proto = model.proto(codes)
    proto.graph.value_info.extend(infos)
    ops = fused_ops(ir.from_proto(proto))
    assert ("NativeConvFireTwice" in ops) == (reader == "none")
    assert ops.count("ExpGIF") == (1 if reader == "none" else 3)  # the encoder
    compare(proto, {"v": rng.integers(0, books[0].levels, (3, 3, 6, 6)).astype(np.int32)})


@pytest.mark.parametrize(
    ("said", "numbers", "other", "changes"),
    [
        ("five for each channel", (4, 2), (1, 2, 5, 5), {}),
        ("do not fit its channels", (5, 3), (1, 2, 5, 5), {}),
        ("has another shape", (5, 2), (1, 2, 5, 4), {}),
        ("attribute 'shift' is a number out of range: 99", (5, 2), (1, 2, 5, 5), {"shift": 99}),
        ("are not rounded", (5, 2), (1, 2, 5, 5), {"host": 1}),
        ("groups", (5, 2), (1, 2, 5, 5), {"group": 3}),
    ],
)
def test_malformed_nodes_are_refused(
    said: str, numbers: tuple[int, ...], other: tuple[int, ...], changes: dict[str, int]
) -> None:
    constants = {"w": np.ones((2, 2, 1, 1), np.int8), "n": np.ones(numbers, np.int32)}
    inputs = {"x": (1, 2, 5, 5), "r": other}
    attrs = {"has_other": 1, **changes}
    node = helper.make_node("NativeConvFinish", ["x", "w", "n", "r"], ["y"], domain="ai.snnc", **attrs)
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info(name, 6, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info("y", 6, [None] * 4)],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.snnc", 1)]
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    ort.register(options)
    proto = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    with pytest.raises(Exception, match=said):
        onnxruntime.InferenceSession(
            proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
        ).run(None, {name: np.ones(shape, np.int32) for name, shape in inputs.items()})


ORDERS: list[tuple[list[int], list[tuple[str, Any]]]] = [
    (
        [4, 6, 6],
        [("Reshape", [0, 4, 3, 2, 3, 2]), ("Transpose", [0, 3, 5, 1, 2, 4]), ("Reshape", [0, 4, 4, 9])],
    ),
    ([4, 6, 6], [("Transpose", [0, 2, 3, 1]), ("Reshape", [0, 36, 2, 2]), ("Transpose", [0, 2, 3, 1])]),
    ([5, 7], [("Transpose", [0, 2, 1]), ("Transpose", [0, 2, 1])]),
    ([3, 8], [("Reshape", [0, 3, 2, 4]), ("Transpose", [0, 2, 1, 3]), ("Reshape", [0, 24])]),
    ([3, 8], [("Transpose", [1, 0, 2])]),
    ([3, 8], [("Reshape", [-1, 2, 4]), ("Transpose", [0, 2, 1])]),
]


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int32, np.float32])
@pytest.mark.parametrize("which", range(len(ORDERS)))
def test_moves(builder: Any, which: int, dtype: Any) -> None:
    """Reshapes and transposes become one copy, unless they mix samples."""
    extents, steps = ORDERS[which]
    model = builder()
    name = model.input("x", dtype, ["N", *extents])
    for op, order in steps:
        if op == "Reshape":
            name = model.node(op, [name, model.constant(order, np.int64)])
        else:
            name = model.node(op, [name], perm=order)
    again = model.node("Identity", [name])
    rank = len(steps[-1][1])
    model = ir.from_proto(model.proto({again: (dtype, rank)}))
    ops = fused_ops(model)
    assert ops == (["NativeMove", "Identity"] if which < 4 else [op for op, _ in steps] + ["Identity"])
    x = np.random.default_rng(which).integers(0, 200, (3, *extents)).astype(dtype)
    found = [
        OnnxRuntime(model, stock=stock, threads=2).session.run(None, {"x": x})[0] for stock in (True, False)
    ]
    assert found[0].shape == found[1].shape
    assert np.array_equal(found[0], found[1])


@pytest.mark.parametrize("operands", ["codes", "signed"])
def test_small_products_of_codes(builder: Any, operands: str) -> None:
    """Attention in windows: many products of a few tokens."""
    rng = np.random.default_rng(0)
    book = CodeBook(8, 4, signed=operands == "signed")
    model = builder()
    names = [model.input("q", np.int32, ["N", 3, 49, 24]), model.input("k", np.int32, ["N", 3, 24, 49])]
    y = model.node("SpikeMatMulHeld", [model.spikes(name, book) for name in names])
    feeds = {
        name: rng.integers(0, book.levels, (2, 3, *shape)).astype(np.int32)
        for name, shape in (("q", (49, 24)), ("k", (24, 49)))
    }
    compare(model.proto({y: (np.int32, 4)}), feeds)
