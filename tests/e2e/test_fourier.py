"""Networks that mix tokens by Fourier transforms."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from snnc.compile import ConvertOptions, convert
from snnc.cost.audit import audit
from snnc.debug.verify import verify
from snnc.runtimes import NumpyPacked, OnnxRuntime

RUNTIMES = {"numpy": NumpyPacked, "onnxruntime": OnnxRuntime}


def test_real_part_over_features_and_tokens(network: Callable[..., Path]) -> None:
    """FNet, as torch's newer exporter writes it."""
    source = network(
        """g (float[N, 5, 6] x) => (float[N, 5, 4] y)
      <float[6, 6] w = {RANDOM}, float[6, 4] v = {RANDOM}, int64[1] last = {-1}, int64 first = {1},
       int64 none = {0}> {
        a = MatMul(x, w) r = Relu(a) u = Unsqueeze(r, last) f = DFT(u) t = DFT(f, , first)
        m = Gather<axis = 3>(t, none) y = MatMul(m, v) }""",
        opset=20,
    )
    data = np.random.default_rng(0).standard_normal((16, 5, 6)).astype(np.float32)
    conversion = convert(source, ConvertOptions(8, 8), calibration=data)
    report = verify(source, conversion.model, {"x": data[:4]}, runtimes=RUNTIMES)
    assert report.identical, report.first_mismatch()
    assert report.distances[0].decibel is not None
    assert report.distances[0].decibel > 25
    assert audit(conversion.model).clean
