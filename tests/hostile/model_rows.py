"""Models that contradict themselves or the standard, or that ask for more than there is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from tests.hostile.rows import (
    FLOAT,
    PRODUCT,
    Row,
    V,
    W,
    calling,
    conv,
    deep,
    doubling,
    fed,
    good,
    holding,
    image,
    info,
    model,
    nested,
    node,
    normalised,
    quantised,
    reduced,
    tensor,
    training_dropout,
    zipped,
)

I64 = np.int64


def _imports(*entries: tuple[str, int], ir: int = 8) -> onnx.ModelProto:
    made = good()
    del made.opset_import[:]
    made.opset_import.extend(helper.make_opsetid(*entry) for entry in entries)
    made.ir_version = ir
    return made


def _sparse(indices: list[int], values: list[float], dims: list[int]) -> onnx.ModelProto:
    made = model([PRODUCT])
    entry = made.graph.sparse_initializer.add(dims=dims)
    entry.values.CopyFrom(tensor(values, "w"))
    entry.indices.CopyFrom(tensor(indices, "i", I64))
    return made


_TEXT = helper.make_tensor("t", TensorProto.STRING, [1], [b"3"])


def _held(**content: Any) -> onnx.ModelProto:
    made = node("Constant", output="c", name="guilty", **content)
    return model([made, node("Add", "x", "c", output="a"), node("MatMul", "a", "w")], [W])


def _spread(index: int, size: int = 4) -> onnx.SparseTensorProto:
    return helper.make_sparse_tensor(tensor([1.0], "v"), tensor([index], "i", I64), [size])


def _attribute(kind: int, **content: object) -> onnx.ModelProto:
    """A Conv with an attribute whose type and content disagree."""
    made = conv()
    made.graph.node[0].attribute.add(name="strides", type=kind, **content)  # type: ignore[arg-type]
    return made


def _declared(shape: list[int | str], *, inner: bool = False) -> onnx.ModelProto:
    made = good()
    if inner:
        made.graph.value_info.append(info("p", shape))
    else:
        made.graph.output[0].CopyFrom(info("y", shape))
    return made


def _typed(dtype: int) -> onnx.ModelProto:
    made = good()
    made.graph.output[0].CopyFrom(info("y", ["N", 2], dtype))
    return made


def _again(folder: Path) -> onnx.ModelProto | None:
    """A network that was converted already."""
    from snnc.compile import ConvertOptions, convert
    from snnc.ir import save

    (folder / "good.onnx").write_bytes(good().SerializeToString())
    options = ConvertOptions(calibrate="random:4")
    save(convert(folder / "good.onnx", options).model, folder / "bad.onnx")
    return None


def _loop(trips: int) -> onnx.ModelProto:
    body = helper.make_graph(
        [
            node("Identity", "c", output="c2", name="go on"),
            node("Add", "s", "s", output="s2", name="add"),
        ],
        "body",
        [info("i", [], TensorProto.INT64), info("c", [], TensorProto.BOOL), info("s", None)],
        [info("c2", [], TensorProto.BOOL), info("s2", None)],
    )
    loop = helper.make_node("Loop", ["trips", "yes", "x"], ["l"], name="guilty", body=body)
    stored = [tensor(trips, "trips", I64), tensor(True, "yes", np.bool_), W]
    return model([loop, node("MatMul", "l", "w", name="product")], stored)


def _branches(depth: int) -> onnx.ModelProto:
    made = model(list(nested(depth).node), [W, tensor(True, "c", np.bool_)])
    made.graph.node[-1].output[0] = "y"
    return made


def _float(value: float) -> onnx.ModelProto:
    made = good()
    array = np.linspace(-1, 1, 12).reshape(4, 3)
    array[1, 2] = value
    made.graph.initializer[0].CopyFrom(tensor(array))
    return made


def _constant(value: float) -> onnx.ModelProto:
    made = node("Constant", output="w", name="guilty", value=tensor(np.full((4, 3), value), "c"))
    return model([made, node("MatMul", "x", "w", name="product")])


def _named(name: str) -> onnx.ModelProto:
    made = good()
    for entry in made.graph.node:
        entry.name = name
    made.graph.node[0].output[0] = made.graph.node[1].input[0] = name
    return made


def _chain(length: int) -> onnx.ModelProto:
    names = ["x", *(f"t{index}" for index in range(length))]
    nodes = [node("Relu", names[i], output=names[i + 1], name=f"n{i}") for i in range(length)]
    return model([*nodes, node("MatMul", names[-1], "w", name="product")], [W])


def _diamond(stages: int) -> onnx.ModelProto:
    nodes, last = [], "x"
    for stage in range(stages):
        nodes += [
            node("Relu", last, output=f"l{stage}", name=f"left{stage}"),
            node("Relu", last, output=f"r{stage}", name=f"right{stage}"),
            node("Add", f"l{stage}", f"r{stage}", output=f"s{stage}", name=f"sum{stage}"),
        ]
        last = f"s{stage}"
    return model([*nodes, node("MatMul", last, "w", name="product")], [W])


def _inputs(*values: onnx.ValueInfoProto) -> onnx.ModelProto:
    return model([PRODUCT], [W], list(values))


def _sub_tensor(entry: TensorProto) -> onnx.ModelProto:
    """A subgraph whose own initializer is broken."""
    made = _branches(2)
    graph = made.graph.node[0].attribute[1].g
    graph.initializer.append(entry)
    return made


def _function_tensor(entry: TensorProto) -> onnx.ModelProto:
    body = [
        helper.make_node("Constant", [], ["k"], value=entry),
        helper.make_node("Add", ["a", "k"], ["b"]),
    ]
    made = helper.make_function("f", "F", ["a"], ["b"], body, [helper.make_opsetid("", 17)])
    call = helper.make_node("F", ["x"], ["a"], domain="f", name="call")
    return model([call, node("MatMul", "a", "w", name="product")], [W], functions=[made])


def _unsorted() -> onnx.ModelProto:
    nodes = [
        node("MatMul", "r", "v"),
        node("Relu", "p", output="r", name="relu"),
        node("MatMul", "x", "w", output="p", name="p"),
    ]
    return model(nodes, [W, V])


def _inner(*nodes: onnx.NodeProto) -> onnx.ModelProto:
    """A branch that holds some nodes, of which the last makes ``o``."""
    then = helper.make_graph(list(nodes), "then", [], [info("o", None)])
    other = helper.make_graph([node("Relu", "x", output="e", name="else")], "else", [], [info("e", None)])
    branch = helper.make_node("If", ["c"], ["b"], name="branch", then_branch=then, else_branch=other)
    return model([branch, node("MatMul", "b", "w", name="product")], [W, tensor(True, "c", np.bool_)])


def _inner_cycle() -> onnx.ModelProto:
    return _inner(
        node("Add", "x", "q", output="p", name="round"),
        node("Relu", "p", output="q"),
        node("Relu", "q", output="o"),
    )


def _inner_unknown() -> onnx.ModelProto:
    return _inner(node("Frobnicate", "x", output="o"))


def _laughing_branch() -> onnx.ModelProto:
    made = _inner(helper.make_node("L8", ["x"], ["o"], domain="f"))
    made.functions.extend(doubling(9, 10).functions)
    return made


def _no_outputs() -> onnx.ModelProto:
    made = good()
    del made.graph.output[:]
    return made


def _no_inputs() -> onnx.ModelProto:
    made = model([PRODUCT], [W, tensor(np.ones((1, 4)), "x")])
    del made.graph.input[:]
    return made


def _named_nodes(name: str) -> onnx.ModelProto:
    made = good()
    for entry in made.graph.node:
        entry.name = name
    return made


def _eye() -> onnx.ModelProto:
    made = node("ConstantOfShape", "s", output="b", name="guilty")
    eye = node("EyeLike", "b", output="c", name="eye", dtype=FLOAT)
    return model([made, eye, *reduced("c")], [W, tensor([2**20, 2**20], "s", I64)])


def _resize() -> onnx.ModelProto:
    made = helper.make_node("Resize", ["b", "", "", "s"], ["c"], name="guilty", mode="nearest")
    stored = [W, tensor(np.ones((1, 1, 1, 1)), "b"), tensor([1, 1, 2**20, 2**20], "s", I64)]
    return model([made, *reduced("c")], stored)


def _doubled() -> onnx.ModelProto:
    """Forty times one behind the other: a tensor and itself."""
    nodes = [
        node("Concat", f"d{step}", f"d{step}", output=f"d{step + 1}", name=f"guilty{step}", axis=0)
        for step in range(40)
    ]
    return model([*nodes, *reduced("d40")], [W, tensor([1.0], "d0")])


def _many_expansions() -> onnx.ModelProto:
    """Each of a hundred constants is within bounds; together they are not."""
    stored = [tensor(1.0, "one"), tensor([2**13, 2**13], "s", I64), W]
    nodes, last = [], "x"
    for index in range(100):
        nodes += [
            node("Expand", "one", "s", output=f"e{index}", name=f"expand{index}"),
            node("ReduceMax", f"e{index}", output=f"m{index}", name=f"max{index}", keepdims=0),
            node("Add", last, f"m{index}", output=f"a{index}", name=f"add{index}"),
        ]
        last = f"a{index}"
    return model([*nodes, node("MatMul", last, "w", name="product")], stored)


def _twice() -> onnx.ModelProto:
    made = conv(group=1)
    made.graph.node[0].attribute.append(helper.make_attribute("group", 3))
    return made


def _random(op: str) -> onnx.ModelProto:
    return model([node(op, "x", output="a"), node("MatMul", "a", "w", name="product")], [W])


def _random_source() -> onnx.ModelProto:
    made = node("RandomNormal", output="a", shape=[1, 4])
    add = node("Add", "x", "a", output="b", name="add")
    return model([made, add, node("MatMul", "b", "w", name="product")], [W])


def _sequence() -> onnx.ModelProto:
    kind = helper.make_sequence_type_proto(helper.make_tensor_type_proto(FLOAT, ["N", 4]))
    at = node("SequenceAt", "x", "i", output="a", name="at")
    made = helper.make_value_info("x", kind)
    return model([at, node("MatMul", "a", "w", name="product")], [W, tensor(0, "i", I64)], [made])


SHORT = TensorProto(name="short", data_type=FLOAT, dims=[4], raw_data=b"\0" * 3)
NAN = tensor([np.nan] * 4, "nan")

TENSORS = [
    Row(18, "2^31 × 2^31 elements", lambda _: holding(dims=[2**31, 2**31]), 3, "SNN303", ("'w'", "elements")),
    Row(18, "2^40 + 1 elements", lambda _: holding(dims=[2**40 + 1]), 3, "SNN303", ("'w'", "elements")),
    Row(18, "a product beyond int64", lambda _: holding(dims=[2**62, 2**62, 4]), 3, "SNN303", ("'w'",)),
    Row(18, "hidden by a zero", lambda _: holding(dims=[0, 2**62, 2**62]), 3, "SNN303", ("'w'",)),
    Row(
        18,
        "a negative dimension",
        lambda _: holding(dims=[-4, 3], float_data=[0.0] * 12),
        3,
        "SNN303",
        ("'w'", "negative"),
    ),
    Row(18, "2^33 elements without data", lambda _: holding(dims=[2**33]), 3, "SNN303", ("'w'", "no data")),
    Row(19, "too few bytes", lambda _: holding(raw_data=b"\0" * 8), 3, "SNN303", ("'w'", "needs 48")),
    Row(19, "too many bytes", lambda _: holding(raw_data=b"\0" * 480), 3, "SNN303", ("'w'", "needs 48")),
    Row(19, "too few numbers", lambda _: holding(float_data=[0.0] * 11), 3, "SNN303", ("'w'", "12")),
    Row(19, "too many numbers", lambda _: holding(float_data=[0.0] * 13), 3, "SNN303", ("'w'", "12")),
    Row(
        19,
        "numbers of another type",
        lambda _: holding(int32_data=[0] * 12),
        3,
        "SNN303",
        ("'w'", "int32_data"),
    ),
    Row(
        19,
        "two payloads",
        lambda _: holding(raw_data=b"\0" * 48, float_data=[0.0] * 12),
        3,
        "SNN303",
        ("'w'", "twice"),
    ),
    Row(19, "no payload", lambda _: holding(), 3, "SNN303", ("'w'", "no data")),
    Row(
        19,
        "int4 of the wrong length",
        lambda _: holding(data_type=TensorProto.INT4, dims=[5], raw_data=b"\0\0"),
        3,
        "SNN303",
        ("'w'", "needs 3"),
    ),
    Row(19, "short in a subgraph", lambda _: _sub_tensor(SHORT), 3, "SNN303", ("'short'", "needs 16")),
    Row(19, "short in a function", lambda _: _function_tensor(SHORT), 3, "SNN303", ("'short'", "needs 16")),
    Row(
        20, "no such type", lambda _: holding(data_type=999, raw_data=b"\0" * 48), 3, "SNN303", ("'w'", "999")
    ),
    Row(20, "type 0", lambda _: holding(data_type=0, raw_data=b"\0" * 48), 3, "SNN303", ("'w'",)),
    Row(
        20,
        "integers times floats",
        lambda _: model([node("MatMul", "x", "w")], [tensor(np.ones((4, 3)), dtype=I64)]),
        3,
        "SNN303",
        ("'guilty'", "int64"),
    ),
    Row(
        20,
        "text times floats",
        lambda _: model(
            [node("MatMul", "x", "w")], [helper.make_tensor("w", TensorProto.STRING, [4, 3], [b"a"] * 12)]
        ),
        3,
        "SNN303",
        ("'guilty'", "string"),
    ),
    Row(
        20,
        "complex weights",
        lambda _: holding(data_type=TensorProto.COMPLEX64, raw_data=b"\0" * 96),
        3,
        "SNN303",
        ("complex64",),
    ),
    Row(21, "weights that are NaN", lambda _: _float(np.nan), 3, "SNN323", ("'w'", "1 value", "[1, 2]")),
    Row(21, "an infinite weight", lambda _: _float(np.inf), 3, "SNN323", ("'w'", "1 value", "[1, 2]")),
    Row(21, "a constant that is NaN", lambda _: _constant(np.nan), 3, "SNN323", ("12 values", "[0, 0]")),
    Row(21, "NaN in a function", lambda _: _function_tensor(NAN), 3, "SNN323", ("'nan'", "4 values")),
    Row(21, "NaN in a subgraph", lambda _: _sub_tensor(NAN), 3, "SNN323", ("'nan'", "4 values")),
    Row(
        21,
        "NaN in an attribute",
        lambda _: model(
            [node("LeakyRelu", "x", output="a", alpha=float("nan")), node("MatMul", "a", "w", name="p")], [W]
        ),
        3,
        "SNN323",
        ("'guilty'", "alpha"),
    ),
    Row(
        21,
        "NaN as float16",
        lambda _: holding(data_type=TensorProto.FLOAT16, raw_data=b"\x00\x7e" * 12),
        3,
        "SNN323",
        ("'w'", "12 values"),
    ),
    Row(
        21,
        "NaN as bfloat16",
        lambda _: holding(data_type=TensorProto.BFLOAT16, raw_data=b"\xc0\x7f" * 12),
        3,
        "SNN323",
        ("'w'", "12 values"),
    ),
    Row(22, "weights of FLT_MAX", lambda _: _float(3.4028234e38), 0),
    Row(22, "weights of -FLT_MAX", lambda _: _float(-3.4028234e38), 3, "SNN346", ("not finite",)),
    Row(23, "denormal weights", lambda _: model([PRODUCT], [tensor(np.full((4, 3), 1e-42))]), 0),
    Row(23, "weights of zero", lambda _: model([PRODUCT], [tensor(np.zeros((4, 3)))]), 0),
    Row(
        23,
        "a channel of zeros",
        lambda _: model([PRODUCT], [tensor(np.arange(12).reshape(4, 3) * [0, 1, 1])]),
        0,
    ),
    Row(24, "an empty tensor", lambda _: model([PRODUCT], [tensor(np.ones((4, 0)))]), 3, "SNN303", ("'w'",)),
    Row(24, "no samples", lambda _: _inputs(info("x", [0, 4])), 3, "SNN303", ("'x'", "0 samples")),
    Row(24, "an empty input", lambda _: _inputs(info("x", ["N", 0])), 3, "SNN303", ("'x'",)),
    Row(24, "an input of negative size", lambda _: _inputs(info("x", ["N", -4])), 3, "SNN303", ("'x'", "-4")),
    Row(
        19,
        "a sparse tensor that points outside",
        lambda _: _sparse([99], [1.0], [4, 3]),
        3,
        "SNN303",
        ("'w'",),
    ),
    Row(
        19,
        "a sparse tensor of 2^60 elements",
        lambda _: _sparse([1], [1.0], [2**30, 2**30]),
        3,
        "SNN303",
        ("'w'",),
    ),
]

GRAPHS = [
    Row(
        19,
        "a sparse tensor of 2^30 elements",
        lambda _: _sparse([1], [1.0], [2**15, 2**15]),
        3,
        "SNN303",
        ("'w'",),
    ),
    *(
        Row(19, f"a Constant {name}", lambda _, held=held: _held(**held), status, code, words)
        for name, held, status, code, words in (
            ("without a value", {}, 3, "SNN303", ("'guilty'", "no value")),
            ("of two values", {"value_float": 1.0, "value_int": 2}, 3, "SNN303", ("'guilty'", "value_float")),
            ("of text", {"value_string": "text"}, 4, "SNN461", ("'guilty'", "text")),
            ("of texts", {"value_strings": ["a", "b"]}, 4, "SNN461", ("'guilty'", "text")),
            ("of a tensor of text", {"value": _TEXT}, 4, "SNN461", ("'guilty'", "text")),
            ("whose sparse value points outside", {"sparse_value": _spread(4)}, 3, "SNN303", ("outside",)),
            ("that claims 2^60 elements", {"sparse_value": _spread(0, 2**60)}, 3, "SNN303", ("elements",)),
            ("of a sound sparse value", {"sparse_value": _spread(3)}, 0, "", ()),
        )
    ),
    Row(19, "a sound sparse tensor", lambda _: _sparse([1, 5], [1.0, -1.0], [4, 3]), 0),
    Row(
        26,
        "a cycle",
        lambda _: model(
            [node("Add", "x", "b", output="a"), node("Relu", "a", output="b", name="two"), PRODUCT], [W]
        ),
        3,
        "SNN321",
        ("guilty", "two"),
    ),
    Row(
        26,
        "a node that reads itself",
        lambda _: model([node("Add", "x", "y")], [W]),
        3,
        "SNN321",
        ("guilty",),
    ),
    Row(
        26,
        "a cycle within a branch",
        lambda _: _inner_cycle(),
        3,
        "SNN321",
        ("round",),
    ),
    Row(
        27,
        "two nodes make one tensor",
        lambda _: model([PRODUCT, node("MatMul", "x", "w")], [W]),
        3,
        "SNN303",
        ("'product'", "'guilty'"),
    ),
    Row(27, "two initializers of one name", lambda _: model([PRODUCT], [W, W]), 3, "SNN303", ("'w'", "two")),
    Row(
        27,
        "two inputs of one name",
        lambda _: _inputs(info("x", ["N", 4]), info("x", ["N", 4])),
        3,
        "SNN303",
        ("'x'",),
    ),
    Row(
        27,
        "two outputs of one name",
        lambda _: model([PRODUCT], [W], outputs=[info("y", None), info("y", None)]),
        3,
        "SNN303",
        ("'y'",),
    ),
    Row(
        27,
        "a node that overwrites the input",
        lambda _: model([node("Relu", "x", output="x"), PRODUCT], [W]),
        3,
        "SNN303",
        ("'guilty'",),
    ),
    Row(
        27,
        "nothing makes an input",
        lambda _: model([node("MatMul", "x", "nowhere")]),
        3,
        "SNN303",
        ("'nowhere'",),
    ),
    Row(
        27,
        "nothing makes the output",
        lambda _: model([node("Relu", "x", output="z")]),
        3,
        "SNN303",
        ("'y'",),
    ),
    Row(28, "unsorted nodes", lambda _: _unsorted(), 0),
    Row(29, "no opset", lambda _: _imports(), 3, "SNN303", ("opset", "7")),
    Row(29, "opset 999", lambda _: _imports(("", 999)), 3, "SNN303", ("999", "7 to")),
    Row(29, "opset 1", lambda _: _imports(("", 1)), 3, "SNN303", ("opset 1", "7 to")),
    Row(29, "opset -3", lambda _: _imports(("", -3)), 3, "SNN303", ("-3", "7 to")),
    Row(29, "two opsets at once", lambda _: _imports(("", 17), ("", 13)), 3, "SNN303", ("17", "13")),
    Row(
        29,
        "two opsets by two names",
        lambda _: _imports(("", 17), ("ai.onnx", 13)),
        3,
        "SNN303",
        ("17", "13"),
    ),
    Row(29, "IR 999", lambda _: _imports(("", 17), ir=999), 3, "SNN303", ("999", "to")),
    Row(29, "IR 0", lambda _: _imports(("", 17), ir=0), 3, "SNN303", ("IR",)),
    Row(
        30,
        "an unknown operator",
        lambda _: model([node("Frobnicate", "x")]),
        4,
        "SNN461",
        ("Frobnicate", "'guilty'"),
    ),
    Row(
        30,
        "an unknown domain",
        lambda _: model([node("Frobnicate", "x", domain="f")]),
        4,
        "SNN4",
        ("Frobnicate", "'guilty'"),
    ),
    Row(
        30,
        "several unknown operators",
        lambda _: model([node("Frob", "x", output="a", name="one"), node("Nicate", "a", name="two")]),
        4,
        "SNN461",
        ("Frob ", "Nicate", "'one'", "'two'"),
    ),
    Row(30, "an unknown operator in a branch", lambda _: _inner_unknown(), 4, "SNN4", ("Frobnicate",)),
    Row(31, "no graph", lambda _: onnx.ModelProto(ir_version=8), 3, "SNN302", ("no graph",)),
    Row(31, "no nodes", lambda _: model([], outputs=[info("x", ["N", 4])]), 3, "SNN303", ("'x'",)),
    Row(31, "no outputs", lambda _: _no_outputs(), 3, "SNN303", ("output",)),
    Row(31, "no inputs", lambda _: _no_inputs(), 3, "SNN303", ("input",)),
    Row(31, "only an identity", lambda _: model([node("Identity", "x")]), 4, "SNN4", ()),
    Row(32, "nodes of one name", lambda _: _named_nodes("same"), 0),
    Row(32, "nodes without names", lambda _: _named_nodes(""), 0),
    *(
        Row(33, what, lambda _, name=name: _named(name), 0)
        for what, name in {
            "a path as a name": "../../../../pwned",
            "an absolute path as a name": "/tmp/pwned",
            "a name of 100 kB": "n" * 100_000,
            "a name with NUL": "a\0b",
            "a formula as a name": "=cmd|'/C calc'!A0\n+1",
            "a script as a name": "<script>alert(1)</script>",
            "terminal codes as a name": "\x1b]0;pwned\x07\x1b[2J",
            "letters of other scripts": "слой\u202egnp.🙂",
            "markup as a name": "[red]{0}%s$(id)`id`",
        }.items()
    ),
    Row(34, "12 nested branches", lambda _: _branches(12), 4, "SNN4", ()),
    Row(34, "25 nested branches", lambda _: _branches(25), 3, "SNN324", ("deep",)),
    Row(34, "60 nested branches", lambda _: deep(60), 3, "SNN3", ("deep",)),
    Row(34, "5,000 nested branches", lambda _: deep(5000), 3, "SNN3", ("deep",)),
    Row(35, "a function that calls itself", lambda _: calling(A="A"), 3, "SNN320", ("circle", "f::A")),
    Row(
        35, "functions in a circle", lambda _: calling(A="B", B="A"), 3, "SNN320", ("circle", "f::A", "f::B")
    ),
    Row(
        36,
        "a billion laughs",
        lambda _: doubling(9, 10),
        3,
        "SNN320",
        ("1,000,000,001",),
        seconds=2,
        bomb=True,
    ),
    Row(36, "10^60 laughs", lambda _: doubling(60, 10), 3, "SNN320", ("nodes",), seconds=2, bomb=True),
    Row(
        36,
        "a billion laughs in a branch",
        lambda _: _laughing_branch(),
        3,
        "SNN320",
        ("nodes",),
        seconds=2,
        bomb=True,
    ),
    Row(
        37,
        "an endless range",
        lambda _: fed("Range", ("start", 0, I64), ("limit", 2**40, I64), ("delta", 1, I64)),
        3,
        "SNN303",
        ("'guilty'", "elements"),
        seconds=2,
        bomb=True,
    ),
    *(
        Row(37, f"a bomb by {op}", build, 3, "SNN303", ("elements",), seconds=2, bomb=True)
        for op, build in {
            "ConstantOfShape": lambda _: fed("ConstantOfShape", ("s", [2**20, 2**20, 4], I64)),
            "ConstantOfShape of text": lambda _: fed("ConstantOfShape", ("s", [2**40], I64)),
            "Expand": lambda _: fed("Expand", ("one", [1.0], np.float32), ("s", [2**20, 2**20, 4], I64)),
            "Tile": lambda _: fed("Tile", ("one", [[1.0]], np.float32), ("s", [2**20, 2**20], I64)),
            "Pad": lambda _: fed("Pad", ("one", [1.0], np.float32), ("s", [0, 2**40], I64)),
            "OneHot": lambda _: fed(
                "OneHot", ("one", [1], I64), ("d", 2**40, I64), ("v", [0, 1], np.float32)
            ),
            "outer product": lambda _: fed(
                "MatMul",
                ("left", np.ones((2**14, 1)), np.float32),
                ("right", np.ones((1, 2**14)), np.float32),
            ),
            "broadcasting": lambda _: fed(
                "Add", ("left", np.ones((2**14, 1)), np.float32), ("right", np.ones((1, 2**14)), np.float32)
            ),
            "EyeLike": lambda _: _eye(),
            "doubling": lambda _: _doubled(),
            "Resize": lambda _: _resize(),
        }.items()
    ),
    Row(37, "a bomb in steps", lambda _: _many_expansions(), 3, "SNN303", ("elements",), bomb=True),
    Row(38, "a loop without end", lambda _: _loop(2**62), 4, "SNN4", ("Loop", "'guilty'")),
    Row(39, "a chain of 300 nodes", lambda _: _chain(300), 0, seconds=30),
    Row(39, "2^26 paths", lambda _: _diamond(26), 0, seconds=30),
    Row(40, "no shape", lambda _: _inputs(info("x", None)), 4, "SNN435", ("'x'", "no shape")),
    Row(40, "no type", lambda _: _inputs(onnx.ValueInfoProto(name="x")), 3, "SNN303", ("'x'", "type")),
    Row(41, "0 groups", lambda _: conv(group=0), 3, "SNN303", ("'guilty'", "0 groups")),
    Row(41, "groups that do not divide", lambda _: conv(group=2), 3, "SNN303", ("'guilty'", "expects 6")),
    Row(41, "other channels", lambda _: conv(shape=(4, 5, 3, 3)), 3, "SNN303", ("'guilty'", "expects 5")),
    Row(
        41,
        "a false kernel_shape",
        lambda _: conv(kernel_shape=[5, 5]),
        3,
        "SNN303",
        ("'guilty'", "kernel_shape"),
    ),
    Row(41, "stride 0", lambda _: conv(strides=[0, 0]), 3, "SNN303", ("'guilty'", "strides")),
    Row(41, "dilation 0", lambda _: conv(dilations=[0, 0]), 3, "SNN303", ("'guilty'", "dilations")),
    Row(41, "a stride of 2^62", lambda _: conv(strides=[2**62, 2**62]), 0),
    Row(
        41,
        "padding of 2^40",
        lambda _: conv(pads=[2**40] * 4),
        3,
        "SNN303",
        ("'guilty'", "elements"),
        bomb=True,
    ),
    Row(41, "negative padding", lambda _: conv(pads=[-1] * 4), 3, "SNN303", ("'guilty'", "pads")),
    Row(
        41,
        "a kernel larger than its input",
        lambda _: conv(shape=(4, 3, 99, 99)),
        3,
        "SNN303",
        ("'guilty'", "99"),
    ),
    Row(
        41,
        "a pool larger than its input",
        lambda _: image(node("MaxPool", "x", kernel_shape=[2**31, 2**31])),
        3,
        "SNN303",
        ("'guilty'", "2147483648"),
        bomb=True,
    ),
    Row(
        41, "an attribute of another type", lambda _: conv(strides=1.5), 3, "SNN303", ("'guilty'", "strides")
    ),
    Row(
        41,
        "an attribute whose type is a lie",
        lambda _: _attribute(onnx.AttributeProto.INTS, f=1.5),
        3,
        "SNN303",
        ("'guilty'", "strides"),
    ),
    Row(
        41,
        "an attribute of no type",
        lambda _: _attribute(0, ints=[1, 1]),
        3,
        "SNN303",
        ("'guilty'", "strides"),
    ),
    Row(41, "an attribute given twice", lambda _: _twice(), 3, "SNN303", ("'guilty'", "group")),
    Row(41, "an attribute that does not exist", lambda _: conv(wings=2), 3, "SNN303", ("'guilty'", "wings")),
    Row(
        41,
        "a permutation",
        lambda _: image(node("Transpose", "x", perm=[0, 0, 1, 2])),
        3,
        "SNN303",
        ("'guilty'", "perm"),
    ),
    Row(41, "an axis", lambda _: image(node("Softmax", "x", axis=9)), 3, "SNN303", ("'guilty'", "axis")),
    Row(41, "too few inputs", lambda _: model([node("MatMul", "x")]), 3, "SNN303", ("'guilty'",)),
    Row(41, "too many inputs", lambda _: model([node("Relu", "x", "w")], [W]), 3, "SNN303", ("'guilty'",)),
    Row(41, "inner dimensions", lambda _: model([node("MatMul", "x", "w")], [V]), 3, "SNN303", ("'guilty'",)),
    Row(
        41,
        "a reshape into another size",
        lambda _: model(
            [node("Reshape", "x", "s", output="r"), node("MatMul", "r", "w", name="p")],
            [W, tensor([3, 5], "s", I64)],
            [info("x", [1, 4])],
        ),
        3,
        "SNN303",
        ("'p'", "MatMul"),
    ),
    Row(
        41,
        "shapes that do not broadcast",
        lambda _: model(
            [node("Add", "x", "b", output="a"), node("MatMul", "a", "w", name="p")],
            [W, tensor([1, 2, 3], "b")],
        ),
        3,
        "SNN303",
        ("'guilty'",),
    ),
    Row(
        41,
        "an index beyond its table",
        lambda _: model(
            [node("Gather", "x", "i", output="a", axis=1), node("MatMul", "a", "w", name="p")],
            [W, tensor([0, 1, 2, 99], "i", I64)],
        ),
        3,
        "SNN303",
        ("'guilty'", "99"),
    ),
    Row(42, "a declared output of another shape", lambda _: _declared(["N", 7]), 0),
    Row(42, "a declared output of another rank", lambda _: _declared(["N", 2, 2]), 0),
    Row(42, "a declared inner shape", lambda _: _declared(["N", 7], inner=True), 0),
    Row(42, "a declared type", lambda _: _typed(TensorProto.INT64), 0),
    Row(43, "a variance of -1", lambda _: normalised(-1.0), 3, "SNN303", ("'guilty'", "variance")),
    *(
        Row(
            43,
            f"a scale of {scale}",
            lambda _, scale=scale: quantised(scale),
            3,
            "SNN303",
            ("scale", "'guilty'"),
        )
        for scale in (0.0, -1.0, np.inf)
    ),
    Row(43, "a scale that is NaN", lambda _: quantised(np.nan), 3, "SNN323", ("'s'", "not finite")),
    Row(44, "dropout in training", lambda _: training_dropout(), 4, "SNN4", ("eval mode",)),
    *(
        Row(44, f"{op} at random", lambda _, op=op: _random(op), 4, "SNN4", (op, "'guilty'"))
        for op in ("RandomNormalLike", "RandomUniformLike", "Bernoulli")
    ),
    Row(
        44, "random numbers from nothing", lambda _: _random_source(), 4, "SNN4", ("RandomNormal", "'guilty'")
    ),
    Row(45, "converted already", _again, 4, "SNN4", ("already", "snnc")),
    Row(40, "dictionaries as outputs", lambda _: zipped(), 4, "SNN403", ("zipmap",)),
    Row(40, "a sequence as input", lambda _: _sequence(), 4, "SNN4", ("'x'", "sequence")),
]
