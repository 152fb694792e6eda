"""Networks quantised by other tools, converted with no options at all: nothing is lost.

The files and the scripts that made them are in tests/sources.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from snnc.compile import Conversion, ConvertOptions, convert
from snnc.debug.verify import VerifyReport, verify
from snnc.passes import quantisers_of
from snnc.runtimes import create

SOURCES = Path(__file__).resolve().parents[1] / "sources"
QDQ = ["ort_qdq_u8s8", "ort_qdq_u8u8", "ort_qdq_s8s8", "ort_qdq_s8s4"]
#: Least signal to noise of the quantised network against its float source, in dB. Where the source has float
#: weights, rounding them to 8 bits costs most; where it has integers, what is left are comparisons so close
#: to a break point that float32 decides them otherwise, and each of them moves a value by a whole step.
OTHERS = {
    "fake_quantize_torchscript": 100.0,
    "brevitas_qcdq": 40.0,
    "qcfs_dynamo": 30.0,
    "qcfs_torchscript": 30.0,
    "round_clamp_dynamo": 30.0,
}


@pytest.fixture(scope="module")
def images() -> Any:
    return np.random.default_rng(11).random((48, 3, 8, 8), dtype=np.float32)


def judge(name: str, images: Any, **options: Any) -> tuple[Conversion, VerifyReport]:
    """Convert and compare; equal bits in every runtime are required here already."""
    conversion = convert(SOURCES / f"{name}.onnx", ConvertOptions(**options))
    report = verify(SOURCES / f"{name}.onnx", conversion.model, {"image": images})
    assert len(report.agreements) == 6
    for agreement in report.agreements:
        assert agreement.mismatches == 0, f"{agreement.runtime}: {agreement.first}"
        assert len(agreement.tensors) > 3
    return conversion, report


def source_logits(name: str, images: Any) -> Any:
    """The source in onnxruntime without optimisation, which would change a quantised graph."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(SOURCES / f"{name}.onnx"), options)
    return session.run(None, {"image": images})[0]


@pytest.mark.parametrize("name", QDQ)
def test_qdq_of_onnxruntime_equals_its_source(name: str, images: Any) -> None:
    """T = G = 8 is the default here, and not one output bit differs from the 8-bit network's."""
    conversion, report = judge(name, images)
    books = quantisers_of(conversion.model).values()
    assert len(books) > 4
    assert {book.groups == book.timesteps for book in books} == {True}
    assert {book.timesteps for book in books} == {8}
    expected = source_logits(name, images)
    found = create("numpy-timestep", conversion.model).run({"image": images})["logits"]
    np.testing.assert_array_equal(found.view(np.int32), expected.view(np.int32))
    assert report.distances[0].noise == 0.0
    assert report.distances[0].agreeing == len(images)
    # And every code times its step is the source's dequantised tensor, value for value.
    assert len(report.tensors) == len(quantisers_of(conversion.quantised))
    assert {distance.noise for distance in report.tensors.values()} == {0.0}


@pytest.mark.parametrize("steps", [8, 10])
def test_asking_for_enough_steps_changes_no_value(steps: int, images: Any) -> None:
    conversion, report = judge("ort_qdq_u8s8", images, timesteps=steps, groups=steps)
    (recode,) = [record for record in conversion.records if record.name == "recode"]
    assert recode.notes == ()
    assert report.distances[0].noise == 0.0


def test_fewer_levels_are_reported_as_approximate(images: Any) -> None:
    """Every runtime has the bits of the coarser network; how far that is from the source is told."""
    conversion, report = judge("ort_qdq_u8s8", images, timesteps=4, groups=2)
    (recode,) = [record for record in conversion.approximations if record.name == "recode"]
    assert len(recode.notes) == len(quantisers_of(conversion.quantised))
    assert all("256 levels become" in note for note in recode.notes)
    assert report.distances[0].noise > 0.0
    assert {book.timesteps for book in quantisers_of(conversion.model).values()} == {4}
    assert {book.groups for book in quantisers_of(conversion.model).values()} == {2}


@pytest.mark.parametrize(("name", "decibel"), OTHERS.items())
def test_other_dialects(name: str, decibel: float, images: Any) -> None:
    _, report = judge(name, images)
    distance = report.distances[0]
    assert distance.decibel is None or distance.decibel > decibel
    assert distance.agreeing == len(images)


@pytest.mark.parametrize("name", ["qcfs_dynamo", "qcfs_torchscript", "round_clamp_dynamo"])
def test_the_wide_form_of_float_weights_is_closer(name: str, images: Any) -> None:
    """What is left after rounding to 8 bits is lost mostly to those bits, not to the conversion."""
    _, narrow = judge(name, images)
    _, wide = judge(name, images, weights="wide")
    assert wide.distances[0].noise < narrow.distances[0].noise / 4


@pytest.mark.slow
def test_slice_of_16_bits(images: Any) -> None:
    """65,536 levels: legal, and slow to convert, because every level is a threshold."""
    conversion, report = judge("ort_qdq_u16s8", images[:4])
    assert {book.timesteps for book in quantisers_of(conversion.model).values()} == {16}
    assert report.distances[0].decibel is None or report.distances[0].decibel > 60.0


def test_qonnx_equals_the_same_network_in_qcdq(images: Any) -> None:
    """onnxruntime cannot run QONNX; the same network written with QuantizeLinear says what it computes."""
    conversion, report = judge("qonnx_quant", images)
    assert report.distances == []
    assert any("cannot be run" in note for note in report.notes)
    found = create("numpy", conversion.model).run({"image": images})["logits"]
    twin, _ = judge("brevitas_qcdq", images)
    expected = create("numpy", twin.model).run({"image": images})["logits"]
    # One is output by a product whose scale is split differently: the last bit of float32 may differ.
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)
