"""A constant repeated for every sample joins as integers: it needs no neuron of its own."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
from onnx import numpy_helper

from snnc.passes.analysis.exact import as_exact
from snnc.passes.quantise.align_membranes import _common_step
from snnc.passes.quantise.sites import quantiser_sites

GRAPH = """
<ir_version: 10, opset_import: ["" : 17]>
token (float[n, 4, 8] x) => (float[n, 5, 8] y)
<int64[1] zero = {0}, int64[2] rest = {1, 8}>
{
    first = MatMul(x, w)
    size = Shape(x)
    count = Gather(size, zero)
    target = Concat<axis = 0>(count, rest)
    token = Expand(start, target)
    joined = Concat<axis = 1>(token, first)
    y = MatMul(joined, w)
}
"""


def test_a_class_token_gets_no_quantiser() -> None:
    proto = onnx.parser.parse_model(GRAPH)
    generator = np.random.default_rng(0)
    for name, shape in (("w", (8, 8)), ("start", (1, 1, 8))):
        array = generator.standard_normal(shape).astype(np.float32)
        proto.graph.initializer.append(numpy_helper.from_array(array, name))
    model = ir.from_proto(onnx.shape_inference.infer_shapes(proto))
    assert [site.value.name for site in quantiser_sites(model)] == ["joined"]


def test_steps_that_repeat_are_brought_together_once() -> None:
    left = as_exact(np.array([0.3, 0.5], dtype=np.float32).repeat(50_000).reshape(2, 50_000)[:, ::-1])
    right = as_exact(np.linspace(0.1, 0.2, 3, dtype=np.float32)[np.arange(90) % 3].reshape(1, 90))
    step, factors = _common_step(left, right, 12)
    assert step.shape == (2, 90) == np.broadcast_shapes(*(factor.shape for factor in factors))
    for one, factor in zip((left, right), factors, strict=True):
        error = np.abs((factor * step / one - 1).astype(np.float64))
        assert error.max() <= 2.0**-11
