"""Fourier transforms are products with constant matrices."""

from __future__ import annotations

import numpy as np
import pytest

from snnc.passes.canonical.fourier import fourier_matrix
from snnc.passes.canonical.write_out_moves import WriteOutMoves


@pytest.mark.parametrize("length", [5, 8, 11])
@pytest.mark.parametrize(("inverse", "onesided"), [(False, False), (False, True), (True, False)])
def test_matrix(length, inverse, onesided):
    x = np.random.default_rng(0).standard_normal((3, 8, 2))
    signal = x[..., 0] + 1j * x[..., 1]
    transform = np.fft.ifft if inverse else np.fft.fft
    wanted = transform(signal, length)[:, : length // 2 + 1 if onesided else length]
    matrix = fourier_matrix(8, 2, length, inverse=inverse, onesided=onesided)
    found = (x.reshape(3, 16) @ matrix).reshape(3, -1, 2)
    assert np.allclose(found[..., 0] + 1j * found[..., 1], wanted, atol=1e-12)
    real = fourier_matrix(8, 1, length, inverse=inverse, onesided=onesided)
    assert np.array_equal(real, matrix[::2])


@pytest.mark.parametrize(
    ("opset", "shapes", "call"),
    [
        (17, ("N, 6, 1", "N, 4, 2"), "DFT<onesided = 1>(x)"),
        (17, ("N, 3, 6, 2", "N, 3, 6, 2"), "DFT<axis = 2, inverse = 1>(x)"),
        (20, ("N, 3, 6, 1", "N, 3, 6, 2"), "DFT(x)"),
        (20, ("N, 3, 6, 2", "N, 3, 6, 2"), "DFT(x, , first)"),
    ],
)
def test_transform(parse, ops, evaluate, opset, shapes, call):
    header = (
        f'<ir_version: 10, opset_import: ["" : {opset}]> g (float[{shapes[0]}] x) => (float[{shapes[1]}] y)'
    )
    model = parse(f"{header} <int64 first = {{1}}> {{ y = {call} }}")
    sizes = [2 if size == "N" else int(size) for size in shapes[0].split(", ")]
    feeds = {"x": np.random.default_rng(0).standard_normal(sizes).astype(np.float32)}
    before = evaluate(model, feeds)["y"]
    assert len(WriteOutMoves().run(model).rewrites) == 1
    assert "DFT" not in ops(model)
    assert np.allclose(evaluate(model, feeds)["y"], before, atol=1e-5)
    assert not WriteOutMoves().run(model).rewrites
