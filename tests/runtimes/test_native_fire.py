"""A product fires in one native operator where each of its columns has one row of thresholds; same bits."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from onnx import TensorProto
from onnx.helper import make_tensor_value_info

from snnc.coding import CodeBook
from snnc.ir.weights import split
from snnc.runtimes import NumpyPacked, OnnxRuntime, fusion, ort

pytestmark = pytest.mark.skipif(ort.native_library() is None, reason="no native library")

BOOK, OTHER = CodeBook(4, 4), CodeBook(3, 3)
TOKENS, INPUTS, COLUMNS = 5, 8, 12
OF_HEADS = ("in heads", "a shape of the run", "arithmetic behind a layout")


def product(builder: Any, padded: Any, neuron: Any, form: str) -> tuple[Any, dict[str, Any]]:
    """A product with weights and what reads it; ``form`` names what that is."""
    rng = np.random.default_rng(6)
    model = builder()
    feeds = {"v": rng.integers(0, BOOK.levels, (3, TOKENS, INPUTS)).astype(np.int32)}
    x = model.spikes(model.input("v", np.int32, ["N", TOKENS, INPUTS]), BOOK)
    weights = model.constant(rng.integers(-7, 8, (INPUTS, COLUMNS)), np.int8)
    sums = model.node("SpikeMatMul", [x, weights])
    outputs: dict[str, tuple[Any, int]] = {}

    def ints(*numbers: int) -> str:
        return str(model.constant(np.array(numbers), np.int64))

    def fire(value: str, rows: Any, count: int, book: CodeBook = BOOK) -> str:
        limits = np.sort(rng.integers(-150, 150, (count, book.levels - 1), dtype=np.int32), axis=1)
        held = rows if isinstance(rows, str) else model.constant(np.asarray(rows), np.int32)
        inputs = [value, model.constant(padded(book, limits)), held]
        return str(model.node("ExpGIF", inputs, **neuron(book)))

    def cut(value: str, start: int, end: int) -> str:
        return str(model.node("Slice", [value, ints(start), ints(end), ints(2)]))

    own, heads = np.arange(COLUMNS), [0, TOKENS, 3, 4]
    of_heads = np.arange(COLUMNS).reshape(3, 4)
    ends: list[str] = []
    if form == "directly":
        ends = [fire(sums, own, COLUMNS)]
    elif form == "in heads":
        ends = [fire(model.node("Reshape", [sums, ints(*heads)]), of_heads, COLUMNS)]
    elif form == "in parts":
        ends = [fire(cut(sums, 4 * part, 4 * part + 4), np.arange(4), 4) for part in range(3)]
    elif form == "a part is read out":
        parts = [cut(sums, 0, 6), cut(sums, 6, 12)]
        ends = [fire(parts[0], np.arange(6), 6)]
        outputs[parts[1]] = (np.int32, 3)
    elif form == "a shape of the run":
        batch = model.node("Gather", [model.node("Shape", ["v"]), ints(0)])
        target = model.node("Concat", [batch, ints(*heads[1:])], axis=0)
        ends = [fire(model.node("Reshape", [sums, target]), of_heads, COLUMNS)]
    elif form == "arithmetic behind a layout":
        moved = model.node("Reshape", [sums, ints(*heads)])
        ends = [fire(model.node("MembraneAdd", [moved, moved]), of_heads, COLUMNS)]
    elif form == "two codes":
        ends = [fire(cut(sums, 0, 6), np.arange(6), 6), fire(cut(sums, 6, 12), np.arange(6), 6, OTHER)]
    elif form == "rows of the run":
        feeds["r"] = np.zeros((3, 1, 1), np.int32)
        ends = [fire(sums, model.input("r", np.int32, ["N", 1, 1]), 1)]
    elif form == "rows of tokens":
        ends = [fire(sums, np.arange(TOKENS).reshape(TOKENS, 1), TOKENS)]
    elif form == "rows of tokens behind a layout":
        ends = [fire(model.node("Transpose", [sums], perm=[0, 2, 1]), np.arange(TOKENS), TOKENS)]
    elif form == "a column twice":
        ends = [fire(cut(sums, 0, 8), np.arange(8), 8), fire(cut(sums, 4, 12), np.arange(8), 8)]
    elif form == "a column never":
        ends = [fire(cut(sums, 0, 4), np.arange(4), 4), fire(cut(sums, 4, 11), np.arange(7), 7)]
    for end in ends:
        outputs[model.node("Charge", [end])] = (np.int32, 4 if form in OF_HEADS else 3)
    proto = model.proto(outputs)
    # Converted files tell the shapes of inner tensors.
    proto.graph.value_info.append(make_tensor_value_info(sums, TensorProto.INT32, ["N", TOKENS, COLUMNS]))
    return proto, feeds


def fused(proto: Any) -> bool:
    message, weights = split(ir.from_proto(proto))
    fusion.prepare(message, weights)
    return "NativeMatMulFire" in [node.op_type for node in message.graph.node]


def compare(proto: Any, feeds: dict[str, Any]) -> None:
    model = ir.from_proto(proto)
    wanted = NumpyPacked(model).run(feeds)
    found = OnnxRuntime(model, "all", stock=False, threads=1).run(feeds)
    for name, array in wanted.items():
        assert found[name].tobytes() == array.tobytes(), name
        assert len(np.unique(array)) > 3


@pytest.mark.parametrize("form", ["directly", "in heads", "in parts"])
def test_a_product_fires(builder: Any, padded: Any, neuron: Any, form: str) -> None:
    proto, feeds = product(builder, padded, neuron, form)
    assert fused(proto)
    compare(proto, feeds)


@pytest.mark.parametrize(
    "form",
    [
        "a part is read out",
        "a shape of the run",
        "arithmetic behind a layout",
        "two codes",
        "rows of the run",
        "rows of tokens",
        "rows of tokens behind a layout",
        "a column twice",
        "a column never",
    ],
)
def test_what_has_no_row_for_each_column_stays(builder: Any, padded: Any, neuron: Any, form: str) -> None:
    proto, feeds = product(builder, padded, neuron, form)
    assert not fused(proto)
    compare(proto, feeds)
