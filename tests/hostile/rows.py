"""Rows of hostile input: how a file is made, what is done with it, and what must come of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

FLOAT = TensorProto.FLOAT
#: What is done with a model unless a row says otherwise; ``{}`` is the folder.
CONVERT = ("convert", "{}/bad.onnx", "-o", "{}/out.onnx", "--calibrate", "random:4", "--quiet")


@dataclass(frozen=True)
class Row:
    """One hostile input.

    Attributes:
        check: Number of the acceptance check that it stands for.
        name: What is wrong.
        make: Writes files into an empty folder; returns a model for ``bad.onnx``, its bytes, or None.
        status: Exit status that must come of it.
        code: Code of the error; empty where the command succeeds.
        words: What the error must say, besides the name of the file.
        command: Command line; ``{}`` stands for the folder.
        file: Name of the file that the error must name.
        seconds: Most time.
        bomb: Whether the file is small and what it asks for is not: run once more in a process of its own.
        left: Files that the command may leave, besides what was there.
    """

    check: int
    name: str
    make: Callable[[Path], onnx.ModelProto | bytes | None]
    status: int
    code: str = ""
    words: tuple[str, ...] = ()
    command: tuple[str, ...] = CONVERT
    file: str = "bad.onnx"
    seconds: float = 10
    bomb: bool = False
    left: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.check:02d} {self.name}"


def tensor(array: Any, name: str = "w", dtype: Any = np.float32) -> TensorProto:
    return numpy_helper.from_array(np.asarray(array, dtype), name)


def info(name: str, shape: Any, dtype: int = FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, dtype, shape)


def model(
    nodes: list[onnx.NodeProto],
    stored: list[TensorProto] | None = None,
    inputs: Any = None,
    opset: int = 17,
    functions: Any = (),
    outputs: Any = None,
) -> onnx.ModelProto:
    """A model with the float input ``x`` [N, 4] and the output ``y``."""
    outputs = outputs or [info("y", None)]
    graph = helper.make_graph(nodes, "g", inputs or [info("x", ["N", 4])], outputs, stored or [])
    imports = [helper.make_opsetid("", opset), helper.make_opsetid("f", 1)]
    return helper.make_model(graph, ir_version=8, opset_imports=imports, functions=list(functions))


def node(op: str, *inputs: str, output: str = "y", name: str = "guilty", **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(op, list(inputs), [output], name=name, **attributes)


W = tensor(np.linspace(-1, 1, 12).reshape(4, 3))
V = tensor(np.linspace(-1, 1, 6).reshape(3, 2), "v")
PRODUCT = node("MatMul", "x", "w", name="product")


def good() -> onnx.ModelProto:
    """A network of two layers that converts."""
    nodes = [
        node("MatMul", "x", "w", output="p", name="first"),
        node("Relu", "p", output="r", name="relu"),
        node("MatMul", "r", "v", name="second"),
    ]
    return model(nodes, [W, V])


def image(*nodes: onnx.NodeProto, stored: Any = ()) -> onnx.ModelProto:
    return model(list(nodes), list(stored), [info("x", ["N", 3, 8, 8])])


def conv(shape: tuple[int, ...] = (4, 3, 3, 3), **attributes: Any) -> onnx.ModelProto:
    return image(node("Conv", "x", "w", **attributes), stored=[tensor(np.ones(shape))])


def holding(**fields: Any) -> onnx.ModelProto:
    """A product with a tensor of made-up fields."""
    entry = TensorProto(name="w", data_type=fields.pop("data_type", FLOAT))
    entry.dims.extend(fields.pop("dims", [4, 3]))
    for name, content in fields.items():
        if name == "raw_data":
            entry.raw_data = content
        else:
            getattr(entry, name).extend(content)
    return model([PRODUCT], [entry])


def quantised(scale: float) -> onnx.ModelProto:
    nodes = [
        node("QuantizeLinear", "x", "s", "z", output="q"),
        node("DequantizeLinear", "q", "s", "z", output="d", name="other"),
        node("MatMul", "d", "w", name="product"),
    ]
    return model(nodes, [W, tensor(scale, "s"), tensor(0, "z", np.uint8)])


def normalised(variance: float) -> onnx.ModelProto:
    names = ("scale", "bias", "mean", "variance")
    entries = [tensor(np.full(3, variance if name == "variance" else 1.0), name) for name in names]
    return image(node("BatchNormalization", "x", *names), stored=entries)


def doubling(levels: int, calls: int) -> onnx.ModelProto:
    """Functions of which each calls the one before it several times."""
    functions = []
    for level in range(levels):
        op, domain = ("Identity", "") if level == 0 else (f"L{level - 1}", "f")
        names = ["a", *(f"t{index}" for index in range(calls - 1)), "b"]
        body = [helper.make_node(op, [before], [after], domain=domain) for before, after in pairwise(names)]
        imports = [helper.make_opsetid("", 17), helper.make_opsetid("f", 1)]
        functions.append(helper.make_function("f", f"L{level}", ["a"], ["b"], body, imports))
    call = helper.make_node(f"L{levels - 1}", ["x"], ["a"], domain="f")
    return model([call, node("MatMul", "a", "w")], [W], functions=functions)


def calling(**calls: str) -> onnx.ModelProto:
    """Functions that call one another."""
    imports = [helper.make_opsetid("f", 1)]
    functions = [
        helper.make_function(
            "f", own, ["a"], ["b"], [helper.make_node(other, ["a"], ["b"], domain="f")], imports
        )
        for own, other in calls.items()
    ]
    call = helper.make_node(next(iter(calls)), ["x"], ["a"], domain="f")
    return model([call, node("MatMul", "a", "w")], [W], functions=functions)


def fed(op: str, *constants: tuple[str, Any, Any], **attributes: Any) -> onnx.ModelProto:
    """A node of constants only, of whose result the largest number meets the input."""
    entries = [tensor(content, name, dtype) for name, content, dtype in constants]
    made = node(op, *(name for name, _, _ in constants), output="c", **attributes)
    return model([made, *reduced("c")], [W, *entries])


def reduced(name: str) -> list[onnx.NodeProto]:
    """Add the largest number of a tensor to the input, and multiply by weights."""
    return [
        node("Cast", name, output="f", name="cast", to=FLOAT),
        node("ReduceMax", "f", output="m", name="largest", keepdims=0),
        node("Add", "x", "m", output="a", name="after"),
        node("MatMul", "a", "w", name="product"),
    ]


def training_dropout() -> onnx.ModelProto:
    drop = node("Dropout", "x", "ratio", "training", output="a")
    return model(
        [drop, node("MatMul", "a", "w")], [W, tensor(0.5, "ratio"), tensor(True, "training", np.bool_)]
    )


def zipped() -> onnx.ModelProto:
    """A classifier as skl2onnx writes it by default: probabilities by class, a list of dictionaries."""
    kind = helper.make_tensor_type_proto(TensorProto.FLOAT, None)
    classes = helper.make_sequence_type_proto(helper.make_map_type_proto(TensorProto.INT64, kind))
    made = model([PRODUCT, node("ZipMap", "y", output="by_class", domain="ai.onnx.ml")], [W])
    made.graph.output.append(helper.make_value_info("by_class", classes))
    return made


def nested(depth: int) -> onnx.GraphProto:
    """Branches within branches, with a product in the innermost."""
    inner = helper.make_graph(
        [node("MatMul", "x", "w", output="o0", name="inner")], "g0", [], [info("o0", None)]
    )
    for level in range(1, depth + 1):
        other = helper.make_graph(
            [node("MatMul", "x", "w", output=f"e{level}", name=f"else{level}")],
            "e",
            [],
            [info(f"e{level}", None)],
        )
        made = helper.make_node(
            "If", ["c"], [f"o{level}"], name=f"if{level}", then_branch=inner, else_branch=other
        )
        inner = helper.make_graph([made], f"g{level}", [], [info(f"o{level}", None)])
    return inner


def varint(number: int) -> bytes:
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes([*out, number])


def field(number: int, content: bytes) -> bytes:
    """A field of bytes in the wire format of protobuf."""
    return varint(number << 3 | 2) + varint(len(content)) + content


def deep(levels: int) -> bytes:
    """A model with branches nested deeper than protobuf itself reads, its bytes laid by hand."""
    graph = field(2, b"g")
    for _ in range(levels):
        attribute = field(1, b"then_branch") + field(6, graph) + varint(20 << 3) + varint(5)
        graph = field(1, field(4, b"If") + field(5, attribute)) + field(2, b"g")
    return b"\x08\x08" + field(8, field(1, b"") + b"\x10\x11") + field(7, graph)
