"""Grids that are no squares, class tokens and registers, heads folded into the batch."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from onnx import helper, numpy_helper

from snnc.passes.attention.adjacent_attention import AdjacentAttention
from snnc.passes.attention.group_attention import GroupAttention
from snnc.passes.attention.keep_batch_apart import KeepBatchApart

HEADS, SIZE = 2, 4
WIDTH = HEADS * SIZE


def build(nodes: list[Any], shapes: dict[str, list[Any]], held: dict[str, list[int]], out: int) -> ir.Model:
    inputs = [helper.make_tensor_value_info(name, 1, shape) for name, shape in shapes.items()]
    weights = [numpy_helper.from_array(np.array(value, np.int64), name) for name, value in held.items()]
    output = helper.make_tensor_value_info("y", 1, [None] * out)
    graph = helper.make_graph(nodes, "g", inputs, [output], weights)
    proto = helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 17)])
    return ir.from_proto(onnx.shape_inference.infer_shapes(proto, data_prop=True))


def run(model: ir.Model, feeds: dict[str, np.ndarray]) -> np.ndarray:
    session = onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString())
    return np.asarray(session.run(["y"], feeds)[0])


def network(height: int, width: int, extra: int, *, behind: bool = False) -> ir.Model:
    """A map becomes tokens, tokens are put in front (or behind), heads attend."""
    node, tokens = helper.make_node, height * width + extra
    parts = ["patches", "cls"] if behind else ["cls", "patches"]
    nodes = [
        node("Reshape", ["x", "flat"], ["f"]),
        node("Transpose", ["f"], ["patches"], perm=[0, 2, 1]),
        node("Concat", parts, ["t"], axis=1) if extra else node("Identity", ["patches"], ["t"]),
        node("Reshape", ["t", "heads"], ["h"]),
        node("Transpose", ["h"], ["q"], perm=[0, 2, 1, 3]),
        node("Transpose", ["h"], ["k"], perm=[0, 2, 3, 1]),
        node("MatMul", ["q", "k"], ["s"]),
        node("Softmax", ["s"], ["p"], axis=-1, name="soft"),
        node("MatMul", ["p", "q"], ["y"]),
    ]
    shapes: dict[str, list[Any]] = {"x": ["N", WIDTH, height, width]}
    if extra:
        shapes["cls"] = ["N", extra, WIDTH]
    return build(nodes, shapes, {"flat": [0, WIDTH, height * width], "heads": [0, tokens, HEADS, SIZE]}, 4)


def wanted(feeds: dict[str, np.ndarray], mask: np.ndarray) -> np.ndarray:
    tokens = feeds["x"].reshape(2, WIDTH, -1).transpose(0, 2, 1)
    if "cls" in feeds:
        tokens = np.concatenate([feeds["cls"], tokens], 1)
    q = tokens.reshape(2, -1, HEADS, SIZE).transpose(0, 2, 1, 3)
    scores = np.where(mask, q @ q.transpose(0, 1, 3, 2), -np.inf)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    return np.asarray((weights / weights.sum(-1, keepdims=True)) @ q)


# 2 x 12 and a class token are 25 tokens, 2 x 8 are 16: squares that they are not.
@pytest.mark.parametrize(("height", "width", "extra"), [(2, 12, 1), (2, 8, 0), (4, 6, 1), (4, 4, 5)])
@pytest.mark.parametrize("kind", ["grouped", "adjacent"])
def test_the_grid_is_that_of_the_map(height: int, width: int, extra: int, kind: str) -> None:
    model = network(height, width, extra)
    random = np.random.default_rng(0)
    feeds = {"x": random.standard_normal((2, WIDTH, height, width)).astype(np.float32)}
    if extra:
        feeds["cls"] = random.standard_normal((2, extra, WIDTH)).astype(np.float32)
    row, column = np.divmod(np.arange(height * width), width)

    def same(rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        return np.equal.outer(rows, rows) & np.equal.outer(columns, columns)

    mask = np.ones((HEADS, extra + height * width, extra + height * width), bool)
    if kind == "grouped":
        result = GroupAttention(2).run(model)
        mask[0, extra:, extra:] = same(row % 2, column % 2)
        mask[1, extra:, extra:] = same(row // (height // 2), column // (width // 2))
    else:
        result = AdjacentAttention(3).run(model)
        far = np.maximum(np.abs(np.subtract.outer(row, row)), np.abs(np.subtract.outer(column, column)))
        mask[:, extra:, extra:] = far <= 1
    assert len(result.rewrites) == 1
    assert (
        f"{100 * mask.mean():.1f} % of the pairs" in result.notes[0]
        and f"{height} x {width}" in result.notes[0]
    )
    np.testing.assert_allclose(run(model, feeds), wanted(feeds, mask), atol=1e-5)


@pytest.mark.parametrize("kind", ["grouped", "adjacent"])
def test_windows_put_together_again_are_the_rows_and_columns_they_were_cut_from(kind: str) -> None:
    """A map that went through windows, as that of Swin's earlier stages, and is not split on the way."""
    node, (height, width) = helper.make_node, (4, 6)
    nodes = [
        node("Reshape", ["x", "cut"], ["c"]),
        node("Transpose", ["c"], ["w"], perm=[0, 2, 4, 3, 5, 1]),
        node("Reshape", ["w", "windows"], ["ws"]),
        node("Relu", ["ws"], ["r"]),
        node("Reshape", ["r", "apart"], ["a"]),
        node("Transpose", ["a"], ["b"], perm=[0, 1, 3, 2, 4, 5]),
        node("Reshape", ["b", "tokens"], ["t"]),
        node("Reshape", ["t", "heads"], ["h"]),
        node("Transpose", ["h"], ["q"], perm=[0, 2, 1, 3]),
        node("Transpose", ["h"], ["k"], perm=[0, 2, 3, 1]),
        node("MatMul", ["q", "k"], ["s"]),
        node("Softmax", ["s"], ["p"], axis=-1, name="soft"),
        node("MatMul", ["p", "q"], ["y"]),
    ]
    held = {
        "cut": [0, WIDTH, 2, 2, 2, 3],
        "windows": [-1, 6, WIDTH],
        "apart": [-1, 2, 2, 2, 3, WIDTH],
        "tokens": [-1, height * width, WIDTH],
        "heads": [0, height * width, HEADS, SIZE],
    }
    model = build(nodes, {"x": ["N", WIDTH, height, width]}, held, 4)
    result = GroupAttention(2).run(model) if kind == "grouped" else AdjacentAttention(3).run(model)
    assert len(result.rewrites) == 1, result.not_matched
    assert "4 x 6" in result.notes[0]


def test_registers_between_a_class_token_and_the_patches_it_was_put_in_front_of() -> None:
    """As DINOv2 puts them there: class token and patches are cut from one value."""
    model = network(4, 4, 1)
    proto = ir.to_proto(model)
    node = helper.make_node
    nodes = []
    for entry in proto.graph.node:
        if entry.op_type == "Concat":
            nodes += [
                node("Concat", ["cls", "patches"], ["e"], axis=1),
                node("Slice", ["e", "none", "one", "axis"], ["head"]),
                node("Slice", ["e", "one", "all", "axis"], ["rest"]),
                node("Concat", ["head", "registers", "rest"], ["t"], axis=1),
            ]
        else:
            nodes.append(entry)
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)
    proto.graph.input.append(helper.make_tensor_value_info("registers", 1, ["N", 4, WIDTH]))
    held = {"none": [0], "one": [1], "all": [17], "axis": [1], "heads": [0, 21, HEADS, SIZE]}
    kept = [entry for entry in proto.graph.initializer if entry.name not in held]
    del proto.graph.initializer[:]
    proto.graph.initializer.extend(kept)
    for name, value in held.items():
        proto.graph.initializer.append(numpy_helper.from_array(np.array(value, np.int64), name))
    del proto.graph.value_info[:]
    model = ir.from_proto(onnx.shape_inference.infer_shapes(proto, data_prop=True))
    result = GroupAttention(2).run(model)
    assert len(result.rewrites) == 1, result.not_matched
    assert "4 x 4" in result.notes[0] and "class token" in result.notes[0]


def test_one_token_is_no_grid() -> None:
    result = GroupAttention(2).run(network(1, 1, 0))
    assert not result.rewrites and "it has one token" in result.not_matched[0].reason


@pytest.mark.parametrize("kind", ["grouped", "adjacent"])
@pytest.mark.parametrize(("front", "behind"), [(0, 1), (1, 3)])
def test_class_tokens_behind_the_grid(kind: str, front: int, behind: int) -> None:
    """Detection tokens, as YOLOS has them, stand behind the patches."""
    height, width, more = 4, 6, front + behind
    area, tokens = height * width, height * width + more
    model = network(height, width, more, behind=True)
    cut = [helper.make_node("Split", ["cls", "sizes"], ["first", "last"], axis=1)]
    joined = helper.make_node("Concat", ["first", "patches", "last"], ["t"], axis=1)
    proto = ir.to_proto(model)
    nodes = [*cut, *(joined if node.op_type == "Concat" else node for node in proto.graph.node)]
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)
    proto.graph.initializer.append(numpy_helper.from_array(np.array([front, behind]), "sizes"))
    model = ir.from_proto(onnx.shape_inference.infer_shapes(proto, data_prop=True))
    random = np.random.default_rng(0)
    feeds = {
        "x": random.standard_normal((2, WIDTH, height, width)).astype(np.float32),
        "cls": random.standard_normal((2, more, WIDTH)).astype(np.float32),
    }
    result = (GroupAttention(2) if kind == "grouped" else AdjacentAttention(3)).run(model)
    assert len(result.rewrites) == 1, result.not_matched
    row, column = np.divmod(np.arange(area), width)
    mask = np.ones((HEADS, tokens, tokens), bool)
    held = mask[:, front : front + area, front : front + area]
    if kind == "grouped":
        held[0] = np.equal.outer(row % 2, row % 2) & np.equal.outer(column % 2, column % 2)
        held[1] = np.equal.outer(row // 2, row // 2) & np.equal.outer(column // 3, column // 3)
    else:
        apart = np.maximum(np.abs(np.subtract.outer(row, row)), np.abs(np.subtract.outer(column, column)))
        held[:] = apart <= 1
    assert f"{100 * mask.mean():.1f} % of the pairs" in result.notes[0]
    patches = feeds["x"].reshape(2, WIDTH, -1).transpose(0, 2, 1)
    whole = np.concatenate([feeds["cls"][:, :front], patches, feeds["cls"][:, front:]], 1)
    q = whole.reshape(2, tokens, HEADS, SIZE).transpose(0, 2, 1, 3)
    scores = np.where(mask, q @ q.transpose(0, 1, 3, 2), -np.inf)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    wanted_result = (weights / weights.sum(-1, keepdims=True)) @ q
    np.testing.assert_allclose(run(model, feeds), wanted_result, atol=1e-5)


def test_heads_are_not_merged_with_the_batch() -> None:
    """What nn.MultiheadAttention exports: (tokens, N, C) to (tokens, N heads, size) and back."""
    nodes = [
        helper.make_node("Reshape", ["x", "fold"], ["f"]),
        helper.make_node("Transpose", ["f"], ["t"], perm=[1, 0, 2]),
        helper.make_node("Reshape", ["t", "apart"], ["y"]),
    ]
    held = {"fold": [5, -1, SIZE], "apart": [-1, HEADS, 5, SIZE]}
    model = build(
        [helper.make_node("Transpose", ["z"], ["x"], perm=[1, 0, 2]), *nodes], {"z": ["N", 5, WIDTH]}, held, 4
    )
    feeds = {"z": np.random.default_rng(0).standard_normal((3, 5, WIDTH)).astype(np.float32)}
    before = run(model, feeds)
    result = KeepBatchApart().run(model)
    assert len(result.rewrites) == 1
    assert [node.op_type for node in model.graph] == ["Transpose", "Reshape", "Transpose"]
    np.testing.assert_array_equal(run(model, feeds), before)
    assert not KeepBatchApart().run(model).rewrites


APART: dict[str, tuple[list[tuple[str, list[str], dict[str, Any]]], list[int]]] = {
    "scaled behind the turn": (
        [("Transpose", ["f"], {"perm": [1, 0, 2]}), ("Mul", [".", "half"], {})],
        [-1, HEADS, 5, SIZE],
    ),
    "scaled and shifted": (
        [("Sub", ["half", "f"], {}), ("Div", [".", "cube"], {}), ("Transpose", ["."], {"perm": [1, 0, 2]})],
        [-1, HEADS, 5, SIZE],
    ),
    "with fewer axes": (
        [("Transpose", ["f"], {"perm": [1, 0, 2]}), ("Add", ["cube", "."], {})],
        [-1, HEADS * 5 * SIZE],
    ),
    "heads joined": ([("Transpose", ["f"], {"perm": [1, 0, 2]})], [-1, HEADS * 5, SIZE]),
    "turned around": ([("Transpose", ["f"], {})], [SIZE, -1, HEADS, 5]),
}


def folded(
    between: list[tuple[str, list[str], dict[str, Any]]], fold: list[int], apart: list[int]
) -> ir.Model:
    """Heads folded into the batch by one Reshape, and taken out of it by another."""
    nodes, last = [helper.make_node("Reshape", ["x", "fold"], ["f"])], "f"
    for place, (op, inputs, attrs) in enumerate(between):
        names = [last if name == "." else name for name in inputs]
        last = f"t{place}"
        nodes.append(helper.make_node(op, names, [last], **attrs))
    nodes.append(helper.make_node("Reshape", [last, "apart"], ["y"]))
    turn = helper.make_node("Transpose", ["z"], ["x"], perm=[1, 0, 2])
    model = build([turn, *nodes], {"z": ["N", 5, WIDTH]}, {"fold": fold, "apart": apart}, len(apart))
    for name, shape in (("half", ()), ("cube", (1, 1, 1))):
        model.graph.initializers.add(
            ir.Value(name=name, const_value=ir.tensor(np.full(shape, 0.5, np.float32), name=name))
        )
    return ir.from_proto(onnx.shape_inference.infer_shapes(ir.to_proto(model), data_prop=True))


@pytest.mark.parametrize(("between", "apart"), APART.values(), ids=APART)
def test_heads_are_kept_apart_whatever_lies_between(between: Any, apart: list[int]) -> None:
    model = folded(between, [5, -1, SIZE], apart)
    feeds = {"z": np.random.default_rng(0).standard_normal((3, 5, WIDTH)).astype(np.float32)}
    before = run(model, feeds)
    assert len(KeepBatchApart().run(model).rewrites) == 1
    after = run(model, feeds)
    assert after.shape == before.shape
    np.testing.assert_array_equal(after, before)
    assert sum(node.op_type == "Reshape" for node in model.graph) == 1 + (len(apart) != 4)


@pytest.mark.parametrize(
    ("between", "fold", "apart"),
    [
        # Heads outside, samples inside; sizes that share no factor; a factor for each element.
        ([("Transpose", ["f"], {"perm": [1, 0, 2]})], [5, -1, SIZE], [HEADS, -1, 5, SIZE]),
        ([("Transpose", ["f"], {"perm": [1, 0, 2]})], [2, -1, 10], [-1, 4, 10]),
        ([("Mul", ["f", "f"], {})], [5, -1, SIZE], [5, -1, HEADS, SIZE]),
    ],
)
def test_what_cannot_be_kept_apart_stays(between: Any, fold: list[int], apart: list[int]) -> None:
    model = folded(between, fold, apart)
    before = [node.op_type for node in model.graph]
    assert not KeepBatchApart().run(model).rewrites
    assert [node.op_type for node in model.graph] == before


def test_a_fold_that_stays_is_left_alone() -> None:
    nodes = [
        helper.make_node("Reshape", ["x", "fold"], ["f"]),
        helper.make_node("Reshape", ["f", "on"], ["y"]),
    ]
    model = build(nodes, {"x": ["N", 4, WIDTH]}, {"fold": [-1, WIDTH], "on": [-1, HEADS, SIZE]}, 3)
    assert not KeepBatchApart().run(model).rewrites
