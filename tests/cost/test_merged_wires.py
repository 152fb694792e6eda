"""Synapses behind pools: every spike counts at every output it reaches through the merged wires."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from snnc.coding import CodeBook
from snnc.cost import measure

BOOK = CodeBook(4, 2)


def reached(influence: Callable[[Any], Any], codes: Any) -> int:
    """Sum over spikes of the number of synapses between the wire and the outputs it can change.

    A wire reaches an output once for every window position that merges it into a synapse's input; sending
    one unit with all weights set to one counts them.
    """
    total = 0
    for index in np.ndindex(codes.shape):
        spikes = int(BOOK.spike_count(codes[index]))
        if spikes:
            unit = np.zeros_like(codes, dtype=np.int64)
            unit[index] = 1
            total += spikes * int(influence(unit).sum())
    return total


def pool(x: Any, kernel: int, stride: int) -> Any:
    rows, columns = ((size - kernel) // stride + 1 for size in x.shape[2:])
    result = np.zeros((*x.shape[:2], rows, columns), dtype=np.int64)
    for r in range(rows):
        for c in range(columns):
            result[:, :, r, c] = x[
                :, :, r * stride : r * stride + kernel, c * stride : c * stride + kernel
            ].sum(axis=(2, 3))
    return result


def conv_of_ones(x: Any, filters: int, kernel: int) -> Any:
    padded = np.pad(x.sum(axis=1), [(0, 0), (1, 1), (1, 1)])
    rows, columns = x.shape[2:]
    summed = np.zeros((len(x), rows, columns), dtype=np.int64)
    for dy in range(kernel):
        for dx in range(kernel):
            summed += padded[:, dy : dy + rows, dx : dx + columns]
    return np.repeat(summed[:, None], filters, axis=1)


@pytest.mark.parametrize(("kernel", "stride"), [(2, 2), (3, 1), (3, 2)])
def test_convolution_of_pooled_spikes(
    builder: Any, evaluate: Any, tmp_path: Path, kernel: int, stride: int
) -> None:
    rng = np.random.default_rng(kernel * 10 + stride)
    builder.neuron("spikes", "v", 3)
    builder.op("SpikeSumPool", "pooled", "spikes", kernel_shape=[kernel, kernel], strides=[stride, stride])
    builder.op(
        "SpikeConv",
        "a",
        "pooled",
        builder.weight("w", rng.integers(-5, 6, (4, 3, 3, 3), dtype=np.int8)),
        pads=[1] * 4,
    )
    model = builder.model(
        {"v": (onnx.TensorProto.INT32, ["N", 3, 7, 6])},
        {"a": (onnx.TensorProto.INT32, 4)},
        tmp_path / "m.onnx",
    )
    v = rng.integers(-40, 160, (2, 3, 7, 6)).astype(np.int32)
    codes = evaluate(model, {"v": v}, ["spikes"])["spikes"]
    report = measure(model, {"v": v}, lambda part, taps: evaluate(model, part, taps))
    (row,) = report.synaptic_layers
    expected = reached(lambda unit: conv_of_ones(pool(unit, kernel, stride), 4, 3), codes)
    assert row.sops == expected
    assert row.limit == int(BOOK.spikes.max()) * kernel**2


def test_matrix_product_of_mean_spikes(builder: Any, evaluate: Any, tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    builder.neuron("spikes", "v", 3)
    builder.op("SpikeSum", "mean", "spikes", axes=[2, 3], keepdims=1)
    shape = builder.weight("shape", np.array([-1, 3], dtype=np.int64))
    builder.op("Reshape", "flat", "mean", shape)
    builder.op("SpikeMatMul", "a", "flat", builder.weight("w", rng.integers(-5, 6, (3, 5), dtype=np.int8)))
    model = builder.model(
        {"v": (onnx.TensorProto.INT32, ["N", 3, 4, 4])},
        {"a": (onnx.TensorProto.INT32, 2)},
        tmp_path / "m.onnx",
    )

    v = rng.integers(-40, 160, (2, 3, 4, 4)).astype(np.int32)
    codes = evaluate(model, {"v": v}, ["spikes"])["spikes"]
    report = measure(model, {"v": v}, lambda part, taps: evaluate(model, part, taps))
    (row,) = report.synaptic_layers
    # Every spike meets one weight in each of the five columns.
    assert row.sops == 5 * int(BOOK.spike_count(codes).sum())
    assert report.latency == 4
