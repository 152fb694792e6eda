"""Products of means over so many positions that their exact sums pass what float32 holds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from snnc.compile import ConvertOptions, convert
from snnc.cost.audit import audit
from snnc.debug.verify import verify
from snnc.runtimes import NumpyPacked, OnnxRuntime

RUNTIMES = {"numpy": NumpyPacked, "onnxruntime": OnnxRuntime}


def test_a_squeeze_of_a_large_map(network: Callable[..., Path], tmp_path: Path) -> None:
    source = network("""g (float[N, 3, 32, 32] x) => (float[N, 5] y)
      <float[96, 3, 1, 1] w = {RANDOM}, float[8, 96, 1, 1] u = {RANDOM}, float[8, 5] v = {RANDOM}> {
        a0 = Conv(x, w) a = Relu(a0) b = GlobalAveragePool(a) c = Conv(b, u) d = Relu(c) e = Flatten(d)
        y = MatMul(e, v) }""")
    rng = np.random.default_rng(0)
    lit = rng.uniform(0.5, 3, (6, 3, 1, 1))
    data = (lit * rng.standard_normal((6, 3, 32, 32)) + rng.standard_normal((6, 3, 1, 1))).astype(np.float32)
    np.save(tmp_path / "x.npy", data)
    conversion = convert(source, ConvertOptions(8, 8, calibrate=str(tmp_path / "x.npy")))
    assert any("split into" in note for record in conversion.records for note in record.notes)
    report = verify(source, conversion.model, {"x": data[:1]}, runtimes=RUNTIMES)
    assert report.identical, report.first_mismatch()
    assert report.distances[0].decibel is not None
    assert report.distances[0].decibel > 15
    assert audit(conversion.model).clean


def test_a_mean_that_leaves_its_product_no_room_gets_a_code(
    network: Callable[..., Path], tmp_path: Path
) -> None:
    # 512 channels of 1,200 positions times 8-bit weights: beyond 32 bits in the worst case.
    source = network("""g (float[N, 2, 1, 1200] x) => (float[N, 3] y)
      <float[512, 2, 1, 1] w = {RANDOM}, float[512, 3] v = {RANDOM}> {
        a = Conv(x, w) b = Relu(a) c = AveragePool<kernel_shape = [1, 1200]>(b) d = Flatten(c)
        y = MatMul(d, v) }""")
    data = np.random.default_rng(0).standard_normal((8, 2, 1, 1200)).astype(np.float32)
    conversion = convert(source, ConvertOptions(), calibration=data)
    report = verify(source, conversion.model, {"x": data[:2]}, runtimes=RUNTIMES)
    assert report.identical, report.first_mismatch()
    assert report.distances[0].decibel is not None
    assert report.distances[0].decibel > 25
    # A quarter of the channels fits, and its sums stay as they are: nothing is coded twice without need.
    fits = network("""g (float[N, 2, 1, 1200] x) => (float[N, 3] y)
      <float[128, 2, 1, 1] w = {RANDOM}, float[128, 3] v = {RANDOM}> {
        a = Conv(x, w) b = Relu(a) c = AveragePool<kernel_shape = [1, 1200]>(b) d = Flatten(c)
        y = MatMul(d, v) }""")
    conversions = [conversion, convert(fits, ConvertOptions(), calibration=data)]
    neurons = [sum(node.op_type == "ExpGIF" for node in found.model.graph) for found in conversions]
    assert neurons == [2, 1]


@pytest.mark.parametrize("by_layer", [False, True])
def test_a_maximum_of_sums_of_wide_weights_gets_a_code(network: Callable[..., Path], by_layer: bool) -> None:
    """Maxima of membranes are exact below 2^24: 27 products of pixels and 16-bit weights may be larger."""
    source = network("""g (float[N, 3, 6, 6] x) => (float[N, 5] y)
      <float[6, 3, 3, 3] w = {RANDOM}, float[54, 5] v = {RANDOM}> {
        a = Conv<pads = [1, 1, 1, 1]>(x, w) b = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(a)
        c = Tanh(b) d = Flatten(c) y = MatMul(d, v) }""")
    data = np.random.default_rng(0).standard_normal((8, 3, 6, 6)).astype(np.float32)
    wide: dict[str, Any] = {"layers": ("*:weights=int16",)} if by_layer else {"weights": "int16"}
    conversion = convert(source, ConvertOptions(2, 1, encode_input=True, **wide), calibration=data)
    report = verify(source, conversion.model, {"x": data[:2]}, runtimes=RUNTIMES)
    assert report.identical, report.first_mismatch()


def test_windows_at_the_edge_join_a_stream(network: Callable[..., Path]) -> None:
    # Of 4, 6 and 9 places: steps that are no powers of two apart, from each other or from the stream.
    source = network("""g (float[N, 3, 8, 8] x) => (float[N, 4, 8, 8] y)
      <float[8, 3, 3, 3] w = {RANDOM}, float[4, 8, 1, 1] v = {RANDOM}, float[8, 1, 1] g = {RANDOM}> {
        s = Conv<pads = [1, 1, 1, 1]>(x, w) r = Relu(s)
        p = AveragePool<kernel_shape = [3, 3], pads = [1, 1, 1, 1]>(r) d = Sub(p, r) e = Mul(d, g)
        t = Add(s, e) y = Conv(t, v) }""")
    data = np.random.default_rng(0).standard_normal((16, 3, 8, 8)).astype(np.float32)
    conversion = convert(source, ConvertOptions(8, 8), calibration=data)
    report = verify(source, conversion.model, {"x": data[:2]}, runtimes=RUNTIMES)
    assert report.identical, report.first_mismatch()
    assert report.distances[0].decibel is not None
    assert report.distances[0].decibel > 34
