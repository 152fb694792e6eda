"""Products and normalisations with the membrane arithmetic beside them, and parts of codes, against numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from onnx import helper

from snnc.coding import CodeBook
from snnc.runtimes import ort
from tests.runtimes.test_native_convolutions import compare, fused_ops

pytestmark = pytest.mark.skipif(ort.native_library() is None, reason="no native library")


@pytest.mark.parametrize("scaled", ["each", "all", "other only"])
@pytest.mark.parametrize("twice", [False, True])
def test_arithmetic_behind_a_product(builder: Any, scaled: str, twice: bool) -> None:
    """Scales, biases, a rounding and a residual; what something else reads is still there."""
    rng = np.random.default_rng(7)
    depth, columns, shape = 70, 90, ["N", 5, 90]
    model = builder()
    model.input("v", np.int32, ["N", 5, depth])
    model.input("r", np.int32, shape)
    weights = rng.integers(-128, 128, (depth, columns)).astype(np.int8)
    spikes = model.spikes("v", CodeBook(8, 4, signed=True))
    steps = [model.node("SpikeMatMul", [spikes, model.constant(weights)])]

    def number(low: int, high: int) -> str:
        extents = (1, 1, columns) if scaled == "each" else (columns,) if low > 0 else (1,)
        return str(model.constant(rng.integers(low, high, extents).astype(np.int32)))

    if scaled != "other only":
        steps.append(model.node("MembraneScale", [steps[-1], number(1, 5)]))
        steps.append(model.node("MembraneAdd", [steps[-1], number(-900, 900)]))
    steps.append(model.node("MembraneRound", [steps[-1]], shift=3))
    steps.append(model.node("MembraneScale", ["r", number(1, 4)]))
    steps.append(model.node("MembraneAdd", [steps[-1], steps[-2]]))
    results = {model.node("MembraneRound", [steps[-1]], shift=1): (np.int32, 3)}
    if twice:  # the rounded sums are read besides
        results[model.node("MembraneScale", [steps[-3], number(1, 4)])] = (np.int32, 3)
    proto = model.proto(results)
    proto.graph.value_info.extend(helper.make_tensor_value_info(name, 6, shape) for name in steps)
    ops = fused_ops(ir.from_proto(proto))
    assert ops.count("NativeMatMulFinish") == 1
    assert ops.count("MembraneAdd") == int(twice)
    for samples in (1, 3):
        v = rng.integers(0, 100, (samples, 5, depth)).astype(np.int32)
        compare(proto, {"v": v, "r": rng.integers(-4000, 4000, (samples, 5, columns)).astype(np.int32)})


@pytest.mark.parametrize("read", ["alone", "scaled besides", "rounded besides"])
def test_arithmetic_before_a_normalisation(builder: Any, neuron: Any, padded: Any, read: str) -> None:
    rng = np.random.default_rng(8)
    book, width = CodeBook(4, 2, signed=True), 24
    model = builder()
    model.input("r", np.int32, ["N", 3, width])
    factors = model.constant(rng.integers(1, 9, (1, 1, width)).astype(np.int32))
    steps = [model.node("MembraneScale", ["r", factors])]
    for shift in (1, 4):
        steps.append(model.node("MembraneRound", [steps[-1]], shift=shift))
    signs = model.constant(rng.choice([-1, 1], width).astype(np.int32))
    steps.append(model.node("NormPotential", [steps[2], signs], axes=[-1], centred=1))
    steps.append(model.node("NormGain", [steps[2]], axes=[-1], centred=1, epsilon=9))
    limits = np.sort(rng.integers(-9000, 9000, (1, book.levels - 1)).astype(np.int32), axis=1)
    inputs = [*steps[-2:], model.constant(padded(book, limits)), model.constant(np.zeros((1, 1), np.int32))]
    code = model.node("ExpGIFGain", inputs, fraction_bits=12, **neuron(book))
    results = {code: (book.dtype, 3)}
    if read != "alone":
        tapped = steps[1 if read == "rounded besides" else 0]
        results[model.node("MembraneAdd", [tapped, tapped])] = (np.int32, 3)
    proto = model.proto(results)
    shape = ["N", 3, width]
    proto.graph.value_info.extend(helper.make_tensor_value_info(name, 6, shape) for name in steps[:3])
    ops = fused_ops(ir.from_proto(proto))
    left = {
        "alone": [],
        "scaled besides": ["MembraneScale"],
        "rounded besides": ["MembraneRound", "MembraneScale"],
    }
    assert sorted(set(ops) - {"MembraneAdd"}) == sorted(["NativeNormFire", *left[read]])
    compare(proto, {"r": rng.integers(-30_000, 30_000, (2, 3, width)).astype(np.int32)})


@pytest.mark.parametrize("op", ["Slice", "Split"])
def test_parts_of_codes(builder: Any, op: str) -> None:
    """Queries, keys and values are one copy each, whatever the network did to take them apart."""
    book = CodeBook(8, 4, signed=True)
    model = builder()
    model.input("v", np.int32, ["N", 5, 24])
    spikes = model.spikes("v", book)
    heads = model.node("Reshape", [spikes, model.constant([0, 5, 3, 2, 4], np.int64)])
    turned = model.node("Transpose", [heads], perm=[2, 0, 3, 1, 4])
    if op == "Split":
        parts = model.node("Split", [turned], axis=0, outputs=3)
    else:
        ends = [model.constant([end], np.int64) for end in range(4)]
        parts = [model.node("Slice", [turned, ends[i], ends[i + 1], ends[0]]) for i in range(3)]
    shape = model.constant([-1, 2, 5, 4], np.int64)
    results = [model.node("Identity", [model.node("Reshape", [part, shape])]) for part in parts]
    proto = model.proto(dict.fromkeys(results, (book.dtype, 4)))
    proto.graph.value_info.append(
        helper.make_tensor_value_info(
            spikes, helper.np_dtype_to_tensor_dtype(np.dtype(book.dtype)), ["N", 5, 24]
        )
    )
    ops = fused_ops(ir.from_proto(proto))
    assert ops.count("NativeMove") == 3
    assert not {"Transpose", "Split", "Slice", "Reshape"} & set(ops)
    compare(proto, {"v": np.random.default_rng(0).integers(0, book.levels, (3, 5, 24)).astype(np.int32)})
