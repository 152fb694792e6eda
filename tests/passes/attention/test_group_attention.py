"""Pass group-attention: the numbers of masked dense attention, only the pairs of the groups, reasons."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper

from snnc.compile import ConvertOptions, convert
from snnc.errors import UnsupportedError
from snnc.ir import Model
from snnc.passes.attention.group_attention import GroupAttention
from snnc.passes.attention.pairs import dilated, windowed

HEADS, SIZE = 3, 4


def network(
    tokens: int,
    *,
    scale: float | None = 0.5,
    keys: int | None = None,
    rank: int = 4,
) -> onnx.ModelProto:
    """Scaled dot product attention on three inputs (batch, heads, tokens, size)."""
    keys = keys or tokens
    lead: list[Any] = ["N", *[HEADS] * (rank - 3)]
    shapes = {"q": [*lead, tokens, SIZE], "k": [*lead, SIZE, keys], "v": [*lead, keys, SIZE]}
    inputs = [helper.make_tensor_value_info(name, 1, shape) for name, shape in shapes.items()]
    nodes, held, last = [helper.make_node("MatMul", ["q", "k"], ["s"], name="scores")], [], "s"
    if scale is not None:
        held.append(numpy_helper.from_array(np.float32(scale), "c"))
        nodes.append(helper.make_node("Mul", [last, "c"], ["t"], name="scale"))
        last = "t"
    nodes.append(helper.make_node("Softmax", [last], ["p"], axis=-1, name="soft"))
    nodes.append(helper.make_node("MatMul", ["p", "v"], ["y"], name="mix"))
    out = helper.make_tensor_value_info("y", 1, shapes["q"])
    graph = helper.make_graph(nodes, "g", inputs, [out], held)
    return helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 17)])


def grouped(proto: onnx.ModelProto, stride: int = 2, window: int = 0, grid: str = "4x4") -> tuple[Model, Any]:
    import onnx_ir as ir

    model = ir.from_proto(onnx.shape_inference.infer_shapes(proto))
    return model, GroupAttention(stride, window, grid).run(model)


def run(model: Model, feeds: dict[str, np.ndarray], *more: str) -> list[np.ndarray]:
    import onnx_ir as ir

    session = onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString())
    return session.run(["y", *more], feeds)


def dense(feeds: dict[str, np.ndarray], masks: np.ndarray) -> np.ndarray:
    scores = np.where(masks, (feeds["q"] @ feeds["k"]) * 0.5, -np.inf)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    return (weights / weights.sum(-1, keepdims=True)) @ feeds["v"]


@pytest.mark.parametrize(("side", "extra", "stride", "window"), [(4, 0, 2, 0), (4, 1, 2, 0), (6, 1, 3, 3)])
def test_numbers_are_those_of_masked_attention(side, extra, stride, window):
    tokens = side * side + extra
    model, result = grouped(network(tokens), stride, window, f"{side}x{side}")
    assert [rewrite.rule for rewrite in result.rewrites] == ["group-attention"]
    random = np.random.default_rng(0)
    feeds = {
        name: random.standard_normal(shape).astype(np.float32)
        for name, shape in (
            ("q", (2, HEADS, tokens, SIZE)),
            ("k", (2, HEADS, SIZE, tokens)),
            ("v", (2, HEADS, tokens, SIZE)),
        )
    }
    masks = np.zeros((HEADS, tokens, tokens), bool)
    row, column = np.divmod(np.arange(side * side), side)
    near = np.equal.outer(row % stride, row % stride) & np.equal.outer(column % stride, column % stride)
    cut = window or side // stride
    local = np.equal.outer(row // cut, row // cut) & np.equal.outer(column // cut, column // cut)
    masks[:2, extra:, extra:], masks[2:, extra:, extra:] = near, local
    masks[:, :extra], masks[:, :, :extra] = True, True
    np.testing.assert_allclose(run(model, feeds)[0], dense(feeds, masks), atol=1e-6)
    share = f"{100 * masks.mean():.1f} % of the pairs are left"
    assert share in result.notes[0]


def test_products_of_other_pairs_are_gone():
    model, _ = grouped(network(17))
    shapes = [tuple(node.outputs[0].shape)[1:] for node in model.graph if node.op_type == "Softmax"]
    # Groups of four tokens and the class token; the class token with all.
    assert shapes == [(2, 4, 4, 5), (1, 4, 4, 5), (3, 1, 17)]


def test_second_run_changes_nothing():
    model, _ = grouped(network(17))
    again = GroupAttention(2, grid="4x4").run(model)
    assert not again.rewrites and len(again.not_matched) == 3


def test_index_maps():
    assert dilated((4, 4), 2).tolist()[1] == [1, 3, 9, 11]
    assert windowed((4, 4), (2, 2)).tolist()[1] == [2, 3, 6, 7]
    assert dilated((2, 4), 2).tolist()[1] == [1, 3] and windowed((2, 4), (1, 2)).tolist()[1] == [2, 3]
    for groups in (dilated((6, 6), 3), windowed((6, 6), (2, 2)), windowed((4, 9), (2, 3))):
        assert sorted(groups.ravel()) == list(range(36))


@pytest.mark.parametrize(
    ("proto", "stride", "grid", "reason"),
    [
        (network(15), 2, "4x4", "its 15 tokens are not the 4 x 4 stated"),
        (network(33), 2, "4x4", "its 33 tokens are not the 4 x 4 stated, and at most 16 more"),
        # Squares, and squares and one: that says nothing.
        (network(16), 2, "", "no map is seen that its 16 tokens come from: --grid HEIGHTxWIDTH"),
        (network(25), 2, "", "no map is seen that its 25 tokens come from: --grid HEIGHTxWIDTH"),
        (network(16), 3, "4x4", "does not divide the grid of 4 x 4"),
        (network(16, keys=25), 2, "4x4", "differ in number: 16 and 25"),
        (network(16, rank=5), 2, "4x4", "within windows or groups already"),
    ],
)
def test_what_is_left_alone(proto, stride, grid, reason):
    before = [node.name for node in proto.graph.node]
    model, result = grouped(proto, stride, grid=grid)
    assert not result.rewrites and reason in result.not_matched[0].reason
    assert [node.name for node in model.graph] == before


def test_conversion_says_what_grouping_costs_and_refuses_before_it_calibrates():
    path = Path(__file__).parents[2] / "sources" / "vit_torchscript.onnx"
    samples = np.random.default_rng(0).random((8, 3, 8, 8), dtype=np.float32)
    options = {"groups": 4, "attention": "grouped"}
    conversion = convert(path, ConvertOptions(**options), calibration=samples)
    (record,) = [entry for entry in conversion.approximations if entry.name == "group-attention"]
    assert any("% of the pairs are left" in note for note in record.notes)
    assert any("attention on 8 samples" in note and "same class" in note for note in record.notes)
    read = []
    with pytest.raises(UnsupportedError, match=r"SNN464(.|\n)*stride 3"):
        convert(
            path,
            ConvertOptions(**options, stride=3),
            calibration=samples,
            progress=lambda done, count: read.append(done),
        )
    assert not read
