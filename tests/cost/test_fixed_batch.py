"""Counting networks that take a fixed number of images at once, on another number of images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from snnc.compile import ConvertOptions, convert
from snnc.cost import measure
from snnc.runtimes import NumpyPacked

NETWORK = """<ir_version: 10, opset_import: ["" : 17]>
g (float[{batch}, 1, 6, 6] x) => (float[{batch}, 2] y)
<float[2, 1, 3, 3] w = {{{weights}}}, float[18, 2] v = {{{more}}}, int64[2] flat = {{{batch}, 18}}>
{{ a = Conv(x, w) b = Relu(a) c = AveragePool<kernel_shape = [2, 2], strides = [1, 1]>(b)
   d = Reshape(c, flat) y = MatMul(d, v) }}"""


@pytest.mark.parametrize("batch", [1, 2])
def test_more_images_than_fit(batch: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    weights, more = (", ".join(map(str, rng.uniform(-1, 1, size).round(2))) for size in (18, 36))
    text = NETWORK.format(batch=batch, weights=weights, more=more)
    onnx.save(onnx.parser.parse_model(text), tmp_path / "fixed.onnx")
    images = rng.standard_normal((3, 1, 6, 6)).astype(np.float32)
    np.save(tmp_path / "x.npy", images)
    options = ConvertOptions(groups=4, calibrate=str(tmp_path / "x.npy"))
    model = convert(tmp_path / "fixed.onnx", options).model
    run = NumpyPacked(model).run
    report = measure(model, {"x": images}, run)
    assert report.images == -(-3 // batch) * batch
    single = [
        measure(model, {"x": np.repeat(images[[n % 3]], batch, axis=0)}, run) for n in range(report.images)
    ]
    assert sum(layer.sops for layer in report.layers) * batch == sum(
        layer.sops for each in single for layer in each.layers
    )
