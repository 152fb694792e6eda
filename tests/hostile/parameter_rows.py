"""Parameters of operators that contradict their definitions: scales, axes, words, bodies of loops."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from tests.hostile.rows import FLOAT, Row, W, conv, good, image, info, model, node, tensor

INT64, BOOL = TensorProto.INT64, TensorProto.BOOL


def linear(scale: Any, zero: Any, zeros: Any = np.uint8, **attributes: int) -> onnx.ModelProto:
    """A quantiser of the input in front of a product."""
    entries = [W, tensor(scale, "s"), tensor(zero, "z", zeros)]
    nodes = [
        node("QuantizeLinear", "x", "s", "z", output="q", **attributes),
        node("DequantizeLinear", "q", "s", "z", output="d", name="other", **attributes),
        node("MatMul", "d", "w", name="product"),
    ]
    return model(nodes, entries)


def blocks(size: int, sizes: tuple[int, ...] = (2, 3)) -> onnx.ModelProto:
    """Integer weights [4, 3] with a scale in each block along the first axis."""
    entries = [
        tensor(np.arange(12).reshape(4, 3), "q", np.int8),
        tensor(np.full(sizes, 0.1), "s"),
        tensor(np.zeros(sizes), "z", np.int8),
    ]
    made = node("DequantizeLinear", "q", "s", "z", output="d", axis=0, block_size=size)
    return model([made, node("MatMul", "x", "d", name="product")], entries, opset=21)


def loop(
    states: tuple[str, ...], made: tuple[str, ...], outputs: tuple[str, ...] = ("l",)
) -> onnx.ModelProto:
    """A loop of three turns whose body takes and gives other values than the node."""
    inputs = [info("turn", [], INT64), info("go", [], BOOL), *(info(name, None) for name in states)]
    nodes = [node("Relu", "a", output="r", name="inner"), node("Identity", "go", output="on", name="goes")]
    known = {"on": info("on", [], BOOL), "r": info("r", None)}
    body = helper.make_graph(nodes, "b", inputs, [known[name] for name in made])
    turns, yes = tensor(3, "turns", np.int64), tensor(True, "yes", np.bool_)
    made_node = helper.make_node("Loop", ["turns", "yes", "x"], list(outputs), name="guilty", body=body)
    return model([made_node, node("MatMul", outputs[0], "w", name="product")], [W, turns, yes])


def scan(sequences: int, **attributes: list[int]) -> onnx.ModelProto:
    body = helper.make_graph(
        [node("Relu", "s", output="so", name="inner")], "b", [info("s", [4])], [info("so", [4])]
    )
    made = helper.make_node(
        "Scan", ["x"], ["l"], name="guilty", body=body, num_scan_inputs=sequences, **attributes
    )
    return model([made, node("MatMul", "l", "w", name="product")], [W], [info("x", [2, 4])])


def divided(op: str, divisor: Any, dtype: Any = np.float32) -> onnx.ModelProto:
    return model(
        [node(op, "x", "c", output="a"), node("MatMul", "a", "w", name="product")],
        [W, tensor(divisor, "c", dtype)],
    )


def shaped(op: str, numbers: list[int], divisor: list[int]) -> onnx.ModelProto:
    """A shape that is computed by a division."""
    entries = [W, tensor(numbers, "c", np.int64), tensor(divisor, "d", np.int64)]
    nodes = [
        node(op, "c", "d", output="s"),
        node("Reshape", "x", "s", output="a", name="reshape"),
        node("MatMul", "a", "w", name="product"),
    ]
    return model(nodes, entries)


def padded(mode: str) -> onnx.ModelProto:
    pads = tensor([0, 0, 0, 0], "p", np.int64)
    return model(
        [node("Pad", "x", "p", output="a", mode=mode), node("MatMul", "a", "w", name="product")], [W, pads]
    )


def of_float6() -> onnx.ModelProto:
    entry = TensorProto(name="t", data_type=27, raw_data=bytes(9))
    entry.dims.extend([4, 3])
    cast = node("Cast", "t", output="c", name="cast", to=FLOAT)
    return model([cast, node("MatMul", "x", "c", name="product")], [entry])


def flattened() -> onnx.ModelProto:
    flat = node("Flatten", "x", output="a", axis=2**62)
    return model([flat, node("MatMul", "a", "w", name="product")], [W])


def pooled(**attributes: Any) -> onnx.ModelProto:
    return image(node("MaxPool", "x", kernel_shape=[2, 2], **attributes))


def resized(mode: str) -> onnx.ModelProto:
    scales = tensor([1, 1, 2, 2], "s")
    return image(node("Resize", "x", "", "s", mode=mode), stored=[scales])


def _refused(name: str, make: Callable[[], onnx.ModelProto], *words: str) -> Row:
    return Row(43, name, lambda _: make(), 3, "SNN303", ("guilty", *words))


def per_channel() -> onnx.ModelProto:
    """A scale in each channel of what is no constant is sound, if rare."""
    made = linear([0.1, 0.2, 0.1, 0.2], [128] * 4, axis=1)
    made.graph.node.add().CopyFrom(node("Relu", "y", output="r", name="relu"))
    made.graph.output[0].name = "r"
    return made


def with_initializers(*more: TensorProto) -> onnx.ModelProto:
    made = good()
    made.graph.initializer.extend(more)
    return made


PARAMETERS: list[Row] = [
    _refused("a quantiser's axis of 99", lambda: linear([0.1] * 4, [0] * 4, axis=99), "axis is 99"),
    _refused("a quantiser's axis of -99", lambda: linear([0.1] * 4, [0] * 4, axis=-99), "axis is -99"),
    _refused("scales of another axis", lambda: linear([0.1] * 5, [0] * 5, axis=1), "[5]"),
    _refused("no scale at all", lambda: linear([], []), "[0]"),
    _refused("a zero point for each of other channels", lambda: linear(0.1, [0, 0, 0]), "zero point", "[3]"),
    _refused("one zero in a vector of scales", lambda: linear([0.1, 0, 0.1, 0.1], [0] * 4, axis=1)),
    _refused("scales of two axes", lambda: linear(np.full((2, 2), 0.1), np.zeros((2, 2)), axis=1), "[2, 2]"),
    _refused("blocks of 2^62", lambda: blocks(2**62), "blocks of 4611686018427387904"),
    _refused("blocks of -2", lambda: blocks(-2), "blocks of -2"),
    _refused("blocks of 1 with too few scales", lambda: blocks(1), "blocks of 1"),
    _refused("blocks with scales of one axis", lambda: blocks(2, (2,)), "blocks of 2"),
    _refused("a division by 0", lambda: divided("Div", 0), "divides by 0"),
    _refused("a division by 0 in one channel", lambda: divided("Div", [1, 0, 1, 1]), "[1]"),
    _refused("a size divided by 0", lambda: shaped("Div", [4, 4], [0, 1]), "divides by 0"),
    _refused("a size modulo 0", lambda: shaped("Mod", [4, 4], [1, 0]), "divides by 0"),
    Row(43, "a size of 2^63", lambda _: shaped("Div", [-(2**63), 4], [-1, 1]), 4, "SNN4"),
    _refused("an axis of Flatten", flattened, "axis"),
    _refused("auto_pad of no kind", lambda: conv(auto_pad="FOO"), "auto_pad", "FOO"),
    _refused("auto_pad of no kind in a pool", lambda: pooled(auto_pad="same"), "auto_pad", "same"),
    _refused("Pad of no mode", lambda: padded("foo"), "mode", "foo"),
    _refused("Resize of no mode", lambda: resized("area"), "mode", "area"),
    _refused("a word with terminal codes", lambda: padded("\x1b[31m"), r"\x1b[31m"),
    Row(20, "weights of float6", lambda _: of_float6(), 3, "SNN303", ("'t'", "float6e2m3")),
    Row(
        38,
        "a loop that gives one value more",
        lambda _: loop(("a",), ("on", "r", "r")),
        4,
        "SNN4",
        ("guilty",),
    ),
    Row(
        38,
        "a loop that takes one value more",
        lambda _: loop(("a", "b"), ("on", "r")),
        4,
        "SNN4",
        ("guilty",),
    ),
    Row(38, "a loop that gives nothing", lambda _: loop(("a",), ()), 4, "SNN4", ("guilty",)),
    Row(
        38,
        "a loop with fewer outputs",
        lambda _: loop(("a",), ("on", "r"), ("l", "m")),
        4,
        "SNN4",
        ("guilty",),
    ),
    Row(38, "a Scan of 99 sequences", lambda _: scan(99), 4, "SNN4", ("guilty",)),
    Row(38, "a Scan of -1 sequences", lambda _: scan(-1), 4, "SNN4", ("guilty",)),
    Row(
        38,
        "a Scan with two axes for one sequence",
        lambda _: scan(1, scan_input_axes=[0, 0]),
        4,
        "SNN4",
        ("guilty",),
    ),
    Row(43, "a scale in each channel of the input", lambda _: per_channel(), 0),
    Row(20, "an unused weight of int64", lambda _: with_initializers(tensor([2**62], "u", np.int64)), 0),
    Row(20, "an unused text", lambda _: with_initializers(helper.make_tensor("u", 8, [1], [b"a"])), 0),
]
