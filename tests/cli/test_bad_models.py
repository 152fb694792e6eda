"""Models that contradict themselves or the standard: one clear error, its exit status, nothing written."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

FLOAT = TensorProto.FLOAT


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
) -> onnx.ModelProto:
    """A model with the float input ``x`` [N, 4] and the output ``y``."""
    graph = helper.make_graph(nodes, "g", inputs or [info("x", ["N", 4])], [info("y", None)], stored or [])
    imports = [helper.make_opsetid("", opset), helper.make_opsetid("f", 1)]
    return helper.make_model(graph, ir_version=8, opset_imports=imports, functions=list(functions))


def node(op: str, *inputs: str, output: str = "y", name: str = "guilty", **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(op, list(inputs), [output], name=name, **attributes)


W = tensor(np.ones((4, 3)))
PRODUCT = node("MatMul", "x", "w", name="product")


def image(*nodes: onnx.NodeProto, stored: Any = ()) -> onnx.ModelProto:
    return model(list(nodes), list(stored), [info("x", ["N", 3, 8, 8])])


def conv(shape: tuple[int, ...] = (4, 3, 3, 3), **attributes: Any) -> onnx.ModelProto:
    return image(node("Conv", "x", "w", **attributes), stored=[tensor(np.ones(shape))])


def stored(**fields: Any) -> onnx.ModelProto:
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


def circle() -> onnx.ModelProto:
    imports = [helper.make_opsetid("f", 1)]
    functions = [
        helper.make_function(
            "f", own, ["a"], ["b"], [helper.make_node(other, ["a"], ["b"], domain="f")], imports
        )
        for own, other in (("A", "B"), ("B", "A"))
    ]
    call = helper.make_node("A", ["x"], ["a"], domain="f")
    return model([call, node("MatMul", "a", "w")], [W], functions=functions)


def fed(op: str, *constants: tuple[str, Any, Any], after: str = "Add") -> onnx.ModelProto:
    """A node of constants only, whose result meets the input."""
    entries = [tensor(content, name, dtype) for name, content, dtype in constants]
    made = node(op, *(name for name, _, _ in constants), output="c")
    return model([made, helper.make_node(after, ["x", "c"], ["y"])], entries)


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


CASES: dict[str, tuple[Callable[[], onnx.ModelProto], int, str]] = {
    "cycle": (
        lambda: model(
            [node("Add", "x", "b", output="a"), node("Relu", "a", output="b", name="two"), PRODUCT], [W]
        ),
        3,
        "cycle",
    ),
    "two nodes make one tensor": (lambda: model([PRODUCT, node("MatMul", "x", "w")], [W]), 3, "'product'"),
    "two initializers of one name": (lambda: model([PRODUCT], [W, W]), 3, "two initializers"),
    "nothing makes an input": (lambda: model([node("MatMul", "x", "nowhere")]), 3, "'nowhere'"),
    "unknown operator": (lambda: model([node("Frobnicate", "x")]), 4, "Frobnicate"),
    "unknown domain": (lambda: model([node("Frobnicate", "x", domain="f")]), 4, "Frobnicate"),
    "negative dimension": (lambda: stored(dims=[-4, 3], float_data=[0.0] * 12), 3, "negative"),
    "more elements than exist": (lambda: stored(dims=[2**31, 2**31]), 3, "elements"),
    "too few bytes": (lambda: stored(raw_data=b"\0" * 8), 3, "needs 48"),
    "too many bytes": (lambda: stored(raw_data=b"\0" * 480), 3, "needs 48"),
    "two payloads": (lambda: stored(raw_data=b"\0" * 48, float_data=[0.0] * 12), 3, "twice"),
    "no payload": (stored, 3, "no data"),
    "no such type": (lambda: stored(data_type=999, raw_data=b"\0" * 48), 3, "999"),
    "integers times floats": (
        lambda: model([node("MatMul", "x", "w")], [tensor(np.ones((4, 3)), dtype=np.int64)]),
        3,
        "int64",
    ),
    "text times floats": (
        lambda: model(
            [node("MatMul", "x", "w")], [helper.make_tensor("w", TensorProto.STRING, [4, 3], [b"a"] * 12)]
        ),
        3,
        "string",
    ),
    "not a number": (lambda: model([PRODUCT], [tensor(np.full((4, 3), np.nan))]), 3, "not finite"),
    "no groups": (lambda: conv(group=0), 3, "0 groups"),
    "groups do not divide": (lambda: conv(group=2), 3, "expects 6"),
    "other channels": (lambda: conv(shape=(4, 5, 3, 3)), 3, "expects 5"),
    "kernel shape": (lambda: conv(kernel_shape=[5, 5]), 3, "kernel_shape"),
    "stride 0": (lambda: conv(strides=[0, 0]), 3, "strides"),
    "dilation 0": (lambda: conv(dilations=[0, 0]), 3, "dilations"),
    "negative padding": (lambda: conv(pads=[-1] * 4), 3, "pads"),
    "kernel larger than its input": (lambda: conv(shape=(4, 3, 99, 99)), 3, "99"),
    "pool larger than its input": (
        lambda: image(node("MaxPool", "x", kernel_shape=[2**31, 2**31])),
        3,
        "2147483648",
    ),
    "attribute of another type": (lambda: conv(strides=1.5), 3, "strides"),
    "permutation": (lambda: image(node("Transpose", "x", perm=[0, 0, 1, 2])), 3, "perm"),
    "axis": (lambda: image(node("Softmax", "x", axis=9)), 3, "axis"),
    "variance": (lambda: normalised(-1.0), 3, "variance"),
    **{
        f"scale {scale}": (lambda scale=scale: quantised(scale), 3, "scale")
        for scale in (0.0, -1.0, np.nan, np.inf)
    },
    "functions in a circle": (circle, 3, "circle"),
    "functions without end": (lambda: doubling(9, 10), 3, "1,000,000,001"),
    "training": (training_dropout, 4, "eval mode"),
    "endless range": (
        lambda: fed("Range", ("a", 0, np.int64), ("b", 2**40, np.int64), ("c1", 1, np.int64)),
        3,
        "Range",
    ),
    "bomb": (lambda: fed("ConstantOfShape", ("s", [2**20, 2**20, 4], np.int64)), 3, "guilty"),
    "no shape": (lambda: model([PRODUCT], [W], [info("x", None)]), 4, "no shape"),
    "dictionaries": (zipped, 4, "zipmap"),
    "no samples": (lambda: model([PRODUCT], [W], [info("x", [0, 4])]), 3, "0 samples"),
}


def convert(snnc: Any, path: Path) -> Any:
    target = path.with_name("out.onnx")
    return snnc("convert", path, "-o", target, "--calibrate", "random:4", "--quiet")


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", CASES)
def test_a_bad_model_is_refused_with_its_reason(name: str, snnc: Any, tmp_path: Path) -> None:
    build, status, text = CASES[name]
    path = tmp_path / "bad.onnx"
    path.write_bytes(build().SerializeToString())
    result = convert(snnc, path)
    lines = result.stderr.strip().splitlines()
    assert result.exit_code == status, result.output
    assert lines[0].startswith("error: SNN") and "bad.onnx" in lines[0]
    assert text in result.stderr
    assert "Traceback" not in result.output and "Warning" not in result.output
    assert sorted(entry.name for entry in tmp_path.iterdir() if entry.is_file()) == ["bad.onnx"]


def test_unsorted_nodes_are_sorted(snnc: Any, tmp_path: Path) -> None:
    nodes = [
        node("MatMul", "r", "v"),
        node("Relu", "p", output="r", name="relu"),
        node("MatMul", "x", "w", output="p", name="p"),
    ]
    path = tmp_path / "unsorted.onnx"
    path.write_bytes(model(nodes, [W, tensor(np.ones((3, 2)), "v")]).SerializeToString())
    result = convert(snnc, path)
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize("scale", [3.4e38, 1e-42, 0.0])
def test_extreme_weights_convert_without_a_word(scale: float, snnc: Any, tmp_path: Path) -> None:
    path = tmp_path / "extreme.onnx"
    path.write_bytes(model([PRODUCT], [tensor(np.full((4, 3), scale))]).SerializeToString())
    result = convert(snnc, path)
    assert result.exit_code == 0 and result.stderr == ""


@pytest.mark.parametrize("data", ["missing.npz", "random:0", "other.npz"])
def test_bad_data_leaves_no_model_even_where_no_quantiser_needs_it(
    data: str, snnc: Any, tmp_path: Path
) -> None:
    """The only layer reads the input in fixed point: nothing is calibrated, only measured."""
    path = tmp_path / "single.onnx"
    path.write_bytes(model([PRODUCT], [W]).SerializeToString())
    np.savez(tmp_path / "other.npz", x=np.ones((4, 9), np.float32))
    given = data if data.startswith("random") else tmp_path / data
    result = snnc("convert", path, "-o", tmp_path / "out.onnx", "--calibrate", given, "--quiet")
    assert result.exit_code in (2, 3) and not (tmp_path / "out.onnx").exists()
