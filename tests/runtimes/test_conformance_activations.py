"""Activation functions of the quant dialect: their bodies in onnxruntime against their numpy forms.

They are never part of a converted network, so the last bits may differ; that is measured here.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime as ort
import pytest

from snnc.ops import OPS


@pytest.mark.parametrize("level", ["ORT_DISABLE_ALL", "ORT_ENABLE_ALL"])
@pytest.mark.parametrize(
    ("name", "extra", "attrs", "slope"),
    [
        ("Gelu", [], {"tanh": 0}, 1.13),
        ("Gelu", [], {"tanh": 1}, 1.13),
        ("Gelu", [], {}, 1.13),
        ("Silu", [1.0], {}, 1.1),
        ("Silu", [1.702], {}, 1.1),
        ("Mish", [], {}, 1.1),
        ("HardSwish", [], {}, 1.5),
        ("Bipolar", [], {}, 1.0),
        ("Table", [0.3125, [0.5, -2.0, 7.25, 1.0, 0.0]], {"smallest": -2}, 1.0),
    ],
)
def test_bodies_are_the_functions(
    builder: Any, name: str, extra: list[Any], attrs: dict[str, int], slope: float, level: str
) -> None:
    x = np.linspace(-30, 30, 2001, dtype=np.float32)
    model = builder()
    constants = [np.asarray(number, dtype=np.float32) for number in extra]
    y = model.node(name, [model.input("x", np.float32, ["N"]), *map(model.constant, constants)], **attrs)
    options = ort.SessionOptions()
    options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, level)
    options.intra_op_num_threads = 1
    proto = model.proto({y: (np.float32, 1)}).SerializeToString()
    session = ort.InferenceSession(proto, options, providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"x": x})
    expected = OPS[name].packed([x, *constants], attrs)
    assert expected.dtype == np.float32
    assert np.array_equal(expected, OPS[name].timestep([x, *constants], attrs))
    # A few float32 roundings of numbers of this size.
    assert np.abs(found - expected).max() < 30 * 2.0**-21 * slope
    near = np.abs(x) < 2
    assert np.abs(found - expected)[near].max() < 2.0**-20
