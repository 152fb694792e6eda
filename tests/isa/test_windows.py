"""Windows of any number of axes and any extent: sums and maxima of smaller ones that instructions slide."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from onnx import helper, numpy_helper

from snnc.coding import CodeBook
from snnc.compile import ConvertOptions, convert
from snnc.emit.compiled import compile_program
from snnc.isa.arch import Arch
from snnc.isa.assembly import assemble, disassemble
from snnc.isa.codec import decode_all, encode_all
from snnc.isa.table import FORMS
from snnc.runtimes import NumpyPacked

SMALL = Arch(name="small", wmem=4096, smem=4096, amem=4096, tmem=2048)
THREE = Arch(cores=3)
BOOK = CodeBook(4, 2)

#: Op, extents, attributes, machine. Group 0: depthwise.
WINDOWS: dict[str, tuple[str, tuple[int, ...], dict[str, Any], Arch | None]] = {
    "three axes": ("SpikeConv", (5, 6, 4), {"kernel": (3, 3, 3), "pads": [1] * 6}, None),
    "three axes, tiles": ("SpikeConv", (7, 6, 5), {"kernel": (3, 2, 3), "strides": [2, 1, 2]}, SMALL),
    "three axes, depthwise, dilated": (
        "SpikeConv",
        (7, 5, 6),
        {"kernel": (3, 3, 3), "group": 0, "pads": [2, 1, 2, 2, 1, 2], "dilations": [2, 1, 2]},
        THREE,
    ),
    # Some windows see nothing at all: padding on both sides is longer than the kernel.
    "mostly padding": ("SpikeConv", (2, 1, 3), {"kernel": (2, 1, 2), "pads": [3, 2, 0, 3, 2, 4]}, None),
    "along the first axis only": ("SpikeConv", (6, 4, 3), {"kernel": (3, 1, 1), "pads": [1, 0, 0] * 2}, None),
    "a kernel of 512": ("SpikeConv", (600,), {"kernel": (512,), "pads": [256, 255]}, None),
    "a kernel of 400 far apart": (
        "SpikeConv",
        (900,),
        {"kernel": (3,), "dilations": [400], "pads": [400] * 2},
        None,
    ),
    "steps of 300": ("SpikeConv", (1000,), {"kernel": (7,), "strides": [300], "pads": [3, 3]}, SMALL),
    "a sum of 300": (
        "MembraneSumPool",
        (700,),
        {"kernel": (300,), "strides": [100], "pads": [150, 150]},
        None,
    ),
    "sums side by side": ("MembraneSumPool", (900,), {"kernel": (300,), "strides": [300]}, None),
    "a sum of all": ("MembraneSumPool", (3, 270, 2), {"kernel": (3, 270, 2)}, None),
    "a maximum of 300": (
        "SpikeMaxPool",
        (2, 420),
        {"kernel": (2, 300), "strides": [1, 7], "pads": [0, 150] * 2},
        THREE,
    ),
    "maxima over three axes": (
        "MembraneMaxPool",
        (5, 4, 5),
        {"kernel": (3, 2, 2), "strides": [2, 2, 1], "pads": [1, 0, 0] * 2, "ceil_mode": 1},
        None,
    ),
    # No element of the window is seen by all outputs along the axis that instructions do not slide along.
    "maxima at both ends": (
        "SpikeMaxPool",
        (3, 9, 9),
        {"kernel": (2, 3, 3), "strides": [3, 1, 1], "pads": [1, 1, 1] * 2},
        None,
    ),
}


def _info(name: str, dtype: Any, shape: list[Any]) -> Any:
    return helper.make_tensor_value_info(name, int(helper.np_dtype_to_tensor_dtype(dtype)), shape)


def network(op: str, extents: tuple[int, ...], attrs: dict[str, Any]) -> tuple[ir.Model, str]:
    """A network of a neuron and one window over its codes or, for an op on membranes, over their charge."""
    rank, random = len(extents), np.random.default_rng(len(extents))
    attrs = dict(attrs)
    kernel = attrs.pop("kernel")
    table = np.full((1, 15), np.iinfo(np.int32).max, np.int32)
    table[0, : BOOK.levels - 1] = np.arange(1, BOOK.levels)
    held = {"table": table, "row": np.asarray(0, np.int32), "offset": np.asarray(-5, np.int32)}
    code = {
        **BOOK.to_attributes(),
        "codes": BOOK.codes.tolist(),
        "code_type": int(helper.np_dtype_to_tensor_dtype(BOOK.dtype)),
        "depth": (BOOK.levels - 1).bit_length(),
    }
    nodes = [helper.make_node("ExpGIF", ["v", "table", "row"], ["code"], "fire", domain="ai.snnc", **code)]
    source = "code"
    if op == "SpikeConv":
        groups = 4 if attrs.get("group") == 0 else 1
        attrs["group"] = groups
        held["w"] = random.integers(-128, 128, (4, 4 // groups, *kernel)).astype(np.int8)
        inputs = ["w"]
    else:
        attrs["kernel_shape"], inputs = kernel, []
        if op.startswith("Membrane"):
            nodes.append(helper.make_node("Charge", ["code"], ["charge"], "charge", domain="ai.snnc"))
            nodes.append(
                helper.make_node("MembraneAdd", ["charge", "offset"], ["a"], "add", domain="ai.snnc")
            )
            source = "a"
    nodes.append(helper.make_node(op, [source, *inputs], ["y"], "window", domain="ai.snnc", **attrs))
    kind = BOOK.dtype if op == "SpikeMaxPool" else np.dtype(np.int32)
    graph = helper.make_graph(
        nodes,
        "g",
        [_info("v", np.dtype(np.int32), ["N", 4, *extents])],
        [_info("y", kind, [None] * (rank + 2))],
        [numpy_helper.from_array(array, name) for name, array in held.items()],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.snnc", 1)]
    return ir.from_proto(helper.make_model(graph, opset_imports=opsets)), "y"


@pytest.mark.parametrize("name", WINDOWS)
def test_any_window_is_that_of_numpy(name: str) -> None:
    op, extents, attrs, arch = WINDOWS[name]
    model, result = network(op, extents, attrs)
    feeds = {"v": np.random.default_rng(1).integers(0, BOOK.levels, (1, 4, *extents), dtype=np.int32)}
    expected = NumpyPacked(model).run(feeds)[result]
    made = compile_program(model, arch)
    assert encode_all(assemble(disassemble(decode_all(made.binary)))) == made.binary
    for order, seed in (("parallel", None), ("serial", 3)):
        found = made.runtime(order=order, seed=seed).run(feeds)[result]  # type: ignore[arg-type]
        assert np.array_equal(found, expected), (order, seed)


def test_no_more_instructions_than_a_window_needs() -> None:
    """One for each element along a third axis, one for each 256 of a large one; one where two axes do."""

    def count(name: str) -> int:
        op, extents, attrs, arch = WINDOWS[name]
        made = compile_program(network(op, extents, attrs)[0], arch)
        return sum(item.name in ("SCONV", "SDWC", "POOL", "FILL") for item in made.program.instructions)

    assert count("three axes") == 3
    assert count("along the first axis only") == 1
    assert count("a kernel of 512") == 3
    assert count("sums side by side") == 6
    assert count("a sum of all") == 4
    assert max(field.high for field in FORMS["POOL"].fields if field.name in ("kh", "kw")) == 256


def test_networks_with_such_windows(net: Any) -> None:
    """Through the command's way: conversion, several cores, both orders; every tensor."""
    made = net(7)
    code = made.quantise(made.conv(made.input(["N", 1, 4, 6, 6]), (3, 1, 3, 3, 3)), 0.4, (4, 2))
    pooled = made.op("MaxPool", [code], kernel_shape=[2, 2, 2], strides=[2, 2, 2])
    deep = made.quantise(made.conv(pooled, (6, 1, 3, 3, 3), group=3), 0.4, (4, 2))
    mean = made.op("AveragePool", [deep], kernel_shape=[2, 3, 3])
    model = made.output(made.matmul(made.op("Flatten", [mean]), (6, 3))).model()
    converted = convert(model, ConvertOptions()).model
    feeds = {"x": np.random.default_rng(0).standard_normal((1, 1, 4, 6, 6)).astype(np.float32)}
    runtime = compile_program(converted, THREE).runtime(order="serial", seed=1)
    names = [name for name in runtime.tensors if name not in runtime.outputs]
    expected, found = NumpyPacked(converted).run(feeds, names), runtime.run(feeds, names)
    assert len(names) >= 6
    for name, array in expected.items():
        assert np.array_equal(found[name].reshape(array.shape), array), name
