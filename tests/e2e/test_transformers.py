"""Float transformers with LayerNorm and softmax: integers from the first code to the readout, everywhere.

``vit_torchscript`` (GELU) and ``vit_dynamo`` (ReLU, scaled_dot_product_attention) are made by
tests/sources/make_vit.py.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from snnc.compile import Conversion, ConvertOptions, convert
from snnc.cost import measure
from snnc.cost.audit import audit
from snnc.debug.verify import verify
from snnc.runtimes import NumpyPacked

Array = npt.NDArray[Any]
SOURCES = Path(__file__).resolve().parents[1] / "sources"
NAMES = ["vit_torchscript", "vit_dynamo"]


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "calibration.npz"
    np.savez(path, image=np.random.default_rng(3).random((48, 3, 8, 8), dtype=np.float32))
    return path


@pytest.fixture(scope="module")
def conversions(samples: Path) -> dict[str, Conversion]:
    options = ConvertOptions(groups=4, calibrate=str(samples))
    return {name: convert(SOURCES / f"{name}.onnx", options) for name in NAMES}


@pytest.fixture(scope="module")
def images() -> Array:
    return np.random.default_rng(4).random((6, 3, 8, 8), dtype=np.float32)


@pytest.mark.parametrize("name", NAMES)
def test_all_runtimes_agree(conversions: dict[str, Conversion], images: Array, name: str) -> None:
    report = verify(SOURCES / f"{name}.onnx", conversions[name].model, {"image": images})
    assert len(report.agreements) == 6
    for agreement in report.agreements:
        assert agreement.identical, f"{agreement.runtime}: {agreement.first}"
    assert report.distances[0].decibel is not None
    assert report.distances[0].decibel > 20


@pytest.mark.parametrize("name", NAMES)
def test_what_the_network_is_made_of(conversions: dict[str, Conversion], name: str) -> None:
    ops = Counter(node.op_type for node in conversions[name].model.graph)
    assert ops["NormGain"] == ops["NormPotential"] == 5
    assert ops["MembraneMax"] == 2
    assert ops["ExpGIFGain"] == 5 + 2
    assert not set(ops) & {
        "Softmax",
        "LayerNormalization",
        "Exp",
        "Div",
        "Sqrt",
        "ReduceMax",
        "Erf",
        "Einsum",
    }


def test_inputs_far_outside_the_calibration_saturate(
    conversions: dict[str, Conversion], images: Array
) -> None:
    wild = {"image": np.concatenate([images * 1000, -images * 1000, 0 * images])[::3]}
    name = "vit_torchscript"
    report = verify(SOURCES / f"{name}.onnx", conversions[name].model, wild)
    assert report.identical


def test_cost_counts_gains_and_roots(conversions: dict[str, Conversion], images: Array) -> None:
    model = conversions["vit_torchscript"].model
    report = measure(model, {"image": images[:2]}, NumpyPacked(model).run)
    rows = {kind: [row for row in report.layers if row.op == kind] for kind in ("ExpGIFGain", "NormGain")}
    assert all(row.additions > 0 and row.comparisons > 0 for row in rows["ExpGIFGain"] + rows["NormGain"])
    assert len(rows["NormGain"]) == 5


def test_a_network_that_normalises_its_input_codes_it_first(tmp_path: Path) -> None:
    import onnx

    text = """<ir_version: 10, opset_import: ["" : 17]>
    g (float[N, 4] image) => (float[N, 1] y) <float[4] g = {1, 1, 1, 1}, float[4, 1] w = {1, 2, 3, 4}> {
      n = LayerNormalization(image, g)
      y = MatMul(n, w)
    }"""
    path = tmp_path / "norm.onnx"
    onnx.save(onnx.parser.parse_model(text), path)
    data = tmp_path / "x.npz"
    np.savez(data, image=np.random.default_rng(0).random((8, 4), dtype=np.float32))
    conversion = convert(path, ConvertOptions(8, 8, calibrate=str(data)))
    report = verify(path, conversion.model, dict(np.load(data)))
    assert report.identical and audit(conversion.model).clean
    assert (report.distances[0].decibel or 0) > 25
