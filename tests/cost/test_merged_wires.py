"""Spikes through merged wires: counted one neuron and one time-step at a time, never as a weighted sum."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from snnc.coding import CodeBook
from snnc.cost import LayerCost, measure, required_taps
from snnc.errors import InternalError
from snnc.ops import OPS

BOOK = CodeBook(4, 2)
SIGNED = CodeBook(3, 2, signed=True)
INT32 = onnx.TensorProto.INT32

Evaluate = Callable[..., dict[str, Any]]


def rows(model: Any, inputs: dict[str, Any], evaluate: Evaluate) -> dict[str, LayerCost]:
    report = measure(model, inputs, lambda part, taps: evaluate(model, part, taps), batch=2)
    return {layer.name: layer for layer in report.layers}


def potentials(*shape: int) -> Any:
    return np.random.default_rng(5).integers(-8, 40, shape).astype(np.int32)


def test_pooled_spikes_travel_one_by_one(builder: Any, tmp_path: Path, evaluate: Evaluate) -> None:
    weights = np.ones((3, 2, 3, 3), np.int8)
    builder.neuron("a", "v", 2, SIGNED, width=6)
    builder.op("SpikeSumPool", "pooled", "a", kernel_shape=[2, 2], strides=[1, 2], pads=[0, 1, 0, 0])
    builder.op("SpikeConv", "c", "pooled", builder.weight("w", weights), pads=[1, 1, 1, 1])
    model = builder.model({"v": (INT32, ["N", 2, 5, 6])}, {"c": (INT32, 4)}, tmp_path / "m.onnx")
    inputs = {"v": potentials(3, 2, 5, 6)}
    codes = evaluate(model, inputs, ["a"])["a"]
    assert (codes < 0).any() and (codes > 0).any()

    expected = 0
    for step in np.abs(SIGNED.encode(codes)):
        window = {"kernel_shape": [2, 2], "strides": [1, 2], "pads": [0, 1, 0, 0]}
        arriving = OPS["SpikeSumPool"].packed([step], window)
        expected += int(OPS["SpikeConv"].packed([arriving, weights], {"pads": [1, 1, 1, 1]}).sum())
    layer = rows(model, inputs, evaluate)["/c"]
    assert layer.sops == expected
    assert layer.limit == 2 * 4  # two spikes a neuron, four neurons a wire
    assert layer.sops <= layer.sop_bound
    assert required_taps(model) == ("a",)


def test_merged_wires_through_layouts(builder: Any, tmp_path: Path, evaluate: Evaluate) -> None:
    builder.neuron("a", "v", 4)
    builder.op("SpikeSum", "sums", "a", axes=[2, 3], keepdims=1)
    builder.op("Reshape", "flat", "sums", builder.weight("shape", np.array([-1, 4])))
    names = ["first", "second"]
    builder.nodes.append(onnx.helper.make_node("Split", ["flat"], names, name="/split", axis=1))
    builder.neuron("b", "u", 1)
    builder.op("Flatten", "b_flat", "b", axis=1)
    builder.op("Concat", "both", "second", "b_flat", axis=1)
    builder.op("SpikeMatMul", "y", "both", builder.weight("w", np.ones((3, 7), np.int8)))
    shapes = {"v": (INT32, ["N", 4, 3, 3]), "u": (INT32, ["N", 1, 1, 1])}
    model = builder.model(shapes, {"y": (INT32, 2)}, tmp_path / "m.onnx")
    inputs = {"v": potentials(5, 4, 3, 3), "u": potentials(5, 1, 1, 1)}
    values = evaluate(model, inputs, ["a", "b"])
    layer = rows(model, inputs, evaluate)["/y"]
    spikes = np.abs(BOOK.encode(values["a"][:, 2:])).sum() + np.abs(BOOK.encode(values["b"])).sum()
    assert layer.spikes == spikes > 0
    assert layer.sops == spikes * 7


def test_a_held_operand_is_read_after_its_merge(builder: Any, tmp_path: Path, evaluate: Evaluate) -> None:
    builder.neuron("a", "v", 2)
    builder.neuron("k", "u", 2)
    builder.op("SpikeSumPool", "held", "k", kernel_shape=[1, 2], strides=[1, 2])
    builder.op("SpikeMatMulHeld", "y", "a", "held")
    shapes = {"v": (INT32, ["N", 2, 4, 3]), "u": (INT32, ["N", 2, 3, 8])}
    model = builder.model(shapes, {"y": (INT32, 4)}, tmp_path / "m.onnx")
    inputs = {"v": potentials(3, 2, 4, 3), "u": potentials(3, 2, 3, 8) - 30}
    values = evaluate(model, inputs, ["a", "held"])
    spikes = np.abs(BOOK.encode(values["a"])).sum(axis=0)
    layer = rows(model, inputs, evaluate)["/y"]
    assert layer.sops == spikes.sum() * 4
    assert layer.sops_zero_skipping == np.einsum("ncid,ncdj->", spikes, (values["held"] != 0).astype(int))
    assert layer.sops_zero_skipping < layer.sops


def test_nothing_reads_merged_wires_as_codes(builder: Any, tmp_path: Path) -> None:
    builder.neuron("a", "v", 2)
    builder.op("SpikeSumPool", "pooled", "a", kernel_shape=[2, 2])
    builder.op("CodeSlice", "low", "pooled", shift=0, bits=2)
    builder.op("SpikeConv", "c", "low", builder.weight("w", np.ones((3, 2, 1, 1), np.int8)))
    model = builder.model({"v": (INT32, ["N", 2, 4, 4])}, {"c": (INT32, 4)}, tmp_path / "m.onnx")
    with pytest.raises(InternalError, match=r"SNN144.*'/low'"):
        required_taps(model)
