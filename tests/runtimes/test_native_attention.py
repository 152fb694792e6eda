"""Attention is one native operator where it is whole, with the same bits; what only looks like it stays."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from snnc.coding import CodeBook
from snnc.ir.weights import split
from snnc.runtimes import NumpyPacked, OnnxRuntime, fusion, ort

pytestmark = pytest.mark.skipif(ort.native_library() is None, reason="no native library")

SIGNED, PLAIN, WIDE = CodeBook(4, 4, signed=True), CodeBook(4, 4), CodeBook(16, 16)
QUERIES, KEYS, SIZE, VALUES = 4, 6, 8, 5


def attention(builder: Any, padded: Any, neuron: Any, form: str) -> tuple[Any, dict[str, Any]]:
    """Two heads; ``form`` names what is different."""
    rng = np.random.default_rng(5)
    model = builder()
    feeds: dict[str, Any] = {}

    def codes(name: str, book: CodeBook, *shape: int) -> str:
        feeds[name] = rng.integers(0, book.levels, (3, *shape)).astype(np.int32)
        return str(model.spikes(model.input(name, np.int32, ["N", *shape]), book))

    def whole(*numbers: int) -> str:
        return str(model.constant(np.array(numbers), np.int32))

    def table(book: CodeBook, low: int, high: int) -> str:
        limits = np.sort(rng.integers(low, high, (1, book.levels - 1), dtype=np.int32), axis=1)
        return str(model.constant(padded(book, limits)))

    query = codes("q", WIDE if form == "codes of 16 bits" else SIGNED, 2, QUERIES, SIZE)
    if form == "keys as they are":
        key = codes("k", SIGNED, 2, SIZE, KEYS)
    elif form == "keys turned otherwise":
        key = model.node("Transpose", [codes("k", SIGNED, SIZE, 2, KEYS)], perm=[0, 2, 1, 3])
    else:
        key = model.node("Transpose", [codes("k", SIGNED, 2, KEYS, SIZE)], perm=[0, 1, 3, 2])
    scores = model.node("SpikeMatMulHeld", [query, key])
    largest = model.node("MembraneMax", [scores], axis=2 if form == "another axis" else -1)
    minus = model.node("MembraneScale", [largest, whole(-2 if form == "factor" else -1)])
    centred = model.node("MembraneAdd", [scores, minus])
    row = model.constant(np.zeros((QUERIES, 1)), np.int32) if form == "rows of scores" else whole(0)
    fired = model.node("ExpGIF", [centred, table(PLAIN, -400, 0), row], **neuron(PLAIN))
    axes = [2, 3] if form == "a sum of all" else [-1]
    total = model.node("SpikeSum", [fired], axes=axes, keepdims=int(form != "dropped axis"))
    if form == "dropped axis":
        total = model.node("Unsqueeze", [total, model.constant([3], np.int64)])
    gain = total if form == "no charge" else model.node("Charge", [total])
    values = model.node("SpikeMatMulHeld", [fired, codes("v", SIGNED, 2, KEYS, VALUES)])
    rows = whole(0)
    if form == "rows of queries":
        rows = model.constant(np.zeros((QUERIES, 1)), np.int32)
    if form == "rows of the run":
        rows = model.input("r", np.int32, ["N", 2, 1, 1])
        feeds["r"] = np.zeros((3, 2, 1, 1), np.int32)
    divisor = gain
    if form == "another gain":
        divisor = model.node("MembraneAdd", [gain, whole(1)])
    fraction = 21 if form == "long fractions" else 4
    out = model.node(
        "ExpGIFGain", [values, divisor, table(PLAIN, -90, 90), rows], **neuron(PLAIN), fraction_bits=fraction
    )
    outputs = {model.node("Identity", [out]): (PLAIN.dtype, 4)}
    read = {"the largest is read": largest, "its negative is read": minus, "the gain is read": gain}
    if form in read:
        outputs[model.node("Identity", [read[form]])] = (np.int32, 4)
    # Converted files tell the shapes of inner tensors.
    return onnx.shape_inference.infer_shapes(model.proto(outputs)), feeds


def native(proto: Any) -> int:
    message, weights = split(ir.from_proto(proto))
    fusion.prepare(message, weights)
    return [node.op_type for node in message.graph.node].count("NativeAttention")


def compare(proto: Any, feeds: dict[str, Any]) -> None:
    model = ir.from_proto(proto)
    wanted = NumpyPacked(model).run(feeds)
    found = OnnxRuntime(model, "all", stock=False, threads=1).run(feeds)
    for name, array in wanted.items():
        assert found[name].tobytes() == array.tobytes(), name
        assert len(np.unique(array)) > 1


@pytest.mark.parametrize("form", ["plain", "no charge", "keys as they are", "keys turned otherwise"])
def test_attention_is_one_operator(builder: Any, padded: Any, neuron: Any, form: str) -> None:
    proto, feeds = attention(builder, padded, neuron, form)
    assert native(proto) == 1
    compare(proto, feeds)


@pytest.mark.parametrize(
    "form",
    [
        "another axis",
        "factor",
        "the largest is read",
        "its negative is read",
        "rows of scores",
        "a sum of all",
        "dropped axis",
        "the gain is read",
        "another gain",
        "rows of queries",
        "rows of the run",
        "long fractions",
        "codes of 16 bits",
    ],
)
def test_what_looks_like_attention_stays(builder: Any, padded: Any, neuron: Any, form: str) -> None:
    proto, feeds = attention(builder, padded, neuron, form)
    assert native(proto) == 0
    compare(proto, feeds)
