"""--encode-input: the input goes as spikes, pixels lose nothing, and no layer is left on the host."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from snnc.compile import ConvertOptions, convert
from snnc.cost.audit import audit
from snnc.debug.verify import verify
from snnc.ir import attributes, constant, load, save

MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
CONV = "float[8, 3, 3, 3] w = {RANDOM}, float[8] b = {RANDOM}, float[8, 5] v = {RANDOM}"
BODY = """c = Conv<pads = [1, 1, 1, 1], strides = [2, 2]>(SOURCE, w, b) r = Relu(c)
    p = GlobalAveragePool(r) f = Flatten(p) y = MatMul(f, v)"""


def pixels(count: int = 12, seed: int = 1) -> Any:
    return np.random.default_rng(seed).integers(0, 256, (count, 3, 12, 12))


def encoded(tmp_path: Path, source: Path, data: Any, calibrate: bool = True) -> Any:
    """Convert with the option, verify, and return the conversion after the general checks."""
    samples = tmp_path / "x.npz"
    np.savez(samples, x=data.astype(np.float32))
    options = ConvertOptions(calibrate=str(samples) if calibrate else None, encode_input=True)
    conversion = convert(source, options)
    file = tmp_path / "out.snn.onnx"
    save(conversion.model, file)
    report = verify(source, file, {"x": data.astype(np.float32)[:4]})
    assert report.identical
    found = audit(load(file))
    assert found.clean
    assert {row.op.removeprefix("ai.snnc::") for row in found.host} == {"Encode", "Readout"}
    assert "SpikeConv" in {node.op_type for node in conversion.model.graph}
    return conversion, report


def encoder(conversion: Any) -> Any:
    return next(node for node in conversion.model.graph if node.op_type == "Encode")


def notes(conversion: Any) -> str:
    record = next(entry for entry in conversion.approximations if entry.name == "encode-input")
    return "; ".join(record.notes)


@pytest.mark.parametrize("kind", ["raw", "unit", "around zero", "normalised"])
def test_pixels_lose_nothing(tmp_path, network, kind):
    source = network(f"g (float[N,3,12,12] x) => (float[N,5] y) <{CONV}> "
                     f"{{ {BODY.replace('SOURCE', 'x')} }}")  # fmt: skip
    whole = pixels()
    shape = (1, 3, 1, 1)
    data = {
        "raw": whole * 1.0,
        "unit": whole / 255,
        "around zero": whole / 127.5 - 1,
        "normalised": (whole / 255 - MEAN.reshape(shape)) / STD.reshape(shape),
    }[kind]
    conversion, report = encoded(tmp_path, source, data)
    attrs = attributes(encoder(conversion))
    assert (attrs["timesteps"], attrs["groups"], attrs["signed"]) == (8, 8, 0)
    assert encoder(conversion).inputs[0].name == "x"
    assert "nothing is lost" in notes(conversion)
    from snnc.runtimes import NumpyPacked

    codes = NumpyPacked(conversion.model).run({"x": data.astype(np.float32)}, ["x_code"])["x_code"]
    np.testing.assert_array_equal(codes, whole)
    assert report.distances[0].decibel > 25


def test_other_values_get_a_signed_code(tmp_path, network):
    source = network(f"g (float[N,3,12,12] x) => (float[N,5] y) <{CONV}> "
                     f"{{ {BODY.replace('SOURCE', 'x')} }}")  # fmt: skip
    conversion, _ = encoded(tmp_path, source, np.random.default_rng(0).standard_normal((8, 3, 12, 12)))
    attrs = attributes(encoder(conversion))
    assert (attrs["timesteps"], attrs["groups"], attrs["signed"]) == (8, 8, 1)
    assert "511 uniform levels" in notes(conversion)


PREPROCESSED = """g (float[N,3,12,12] x) => (float[N,5] y) <float k = {SCALE},
    float[3, 1, 1] m = {0.485, 0.456, 0.406}, float[3, 1, 1] s = {0.229, 0.224, 0.225},
    float step = {0.1}, float zero = {0}, CONV> {
    a = Div(x, k) d = Sub(a, m) e = Div(d, s)
    BODY }"""


@pytest.mark.parametrize("scale", ["255", "1"])
@pytest.mark.parametrize("calibrate", [True, False])
def test_preprocessing_in_the_network_is_folded_into_the_thresholds(tmp_path, network, scale, calibrate):
    quantised = """c = Conv<pads = [1, 1, 1, 1], strides = [2, 2]>(e, w, b) r = Relu(c)
        u = Div(r, step) i = Round(u) l = Clip(i, zero, top) q = Mul(l, step)
        p = GlobalAveragePool(q) f = Flatten(p) y = MatMul(f, v)"""
    text = PREPROCESSED.replace("SCALE", scale).replace("CONV", f"float top = {{63}}, {CONV}")
    body = BODY.replace("SOURCE", "e") if calibrate else quantised
    source = network(text.replace("BODY", body))
    whole = pixels()
    data = (whole if scale == "255" else whole / 255).astype(np.float32)
    conversion, _ = encoded(tmp_path, source, data, calibrate)
    node = encoder(conversion)
    assert node.inputs[0].name == "x"
    assert attributes(node)["timesteps"] == 8
    from snnc.runtimes import NumpyPacked

    (name,) = [out.name for out in node.outputs]
    codes = NumpyPacked(conversion.model).run({"x": data}, [name])[name]
    np.testing.assert_array_equal(codes, whole)
    # One comparison with thresholds in the unit of the input stands for all of the preprocessing.
    middle = constant(node.inputs[1])[:, :255] * (1 if scale == "255" else 255)
    assert np.abs(middle - (np.arange(255) + 0.5)).max() < 0.01


@pytest.mark.parametrize(
    ("chain", "scale", "known"),
    [
        ("a = Mul(x, k) e = Add(a, minus)", "0.00784313725", "0..255"),
        ("a = Mul(x, k) b2 = Sub(one, a) e = Neg(b2)", "0.00784313725", "0..255"),
        ("a = Sub(x, half) e = Mul(k, a)", "2", "0..1"),
        # Of none of these a factor and a summand tell the range.
        ("a = Mul(x, x) e = Sub(a, half)", "1", ""),
        ("a = Add(x, x) e = Sub(a, half)", "1", ""),
        ("a = Div(k, x) e = Sub(a, half)", "1", ""),
        ("e = Mul(x, k)", "-1", ""),
        ("e = Identity(x)", "1", ""),
    ],
)
def test_what_preprocessing_implies_of_the_range(tmp_path, network, chain, scale, known):
    quantised = """c = Conv<pads = [1, 1, 1, 1], strides = [2, 2]>(e, w, b) r = Relu(c)
        u = Div(r, step) i = Round(u) l = Clip(i, zero, top) q = Mul(l, step)
        p = GlobalAveragePool(q) f = Flatten(p) y = MatMul(f, v)"""
    source = network(f"""g (float[N,3,12,12] x) => (float[N,5] y) <float k = {{{scale}}}, float one = {{1}},
        float half = {{0.5}}, float minus = {{-1}}, float step = {{0.1}}, float zero = {{0}},
        float top = {{63}}, {CONV}> {{ {chain} {quantised} }}""")
    conversion = convert(source, ConvertOptions(encode_input=True))
    assert audit(conversion.model).clean
    said = f"256 pixel levels in {known}" if known else "because nothing is known of its range"
    assert said in notes(conversion)


def test_patches_by_a_matrix_product(tmp_path, network):
    text = """g (float[N,3,12,12] x) => (float[N,5] y) <
        int64[6] a = {-1, 3, 3, 4, 3, 4}, int64[3] d = {-1, 9, 48}, float[48, 8] w = {RANDOM},
        float[8, 5] v = {RANDOM}> {
        r = Reshape(x, a) t = Transpose<perm = [0, 2, 4, 1, 3, 5]>(r) p = Reshape(t, d)
        m = MatMul(p, w) h = Relu(m) g = ReduceMean<axes = [1], keepdims = 0>(h) y = MatMul(g, v) }"""
    source = network(text)
    whole = pixels()
    data = (whole / 255 - MEAN.reshape((1, 3, 1, 1))) / STD.reshape((1, 3, 1, 1))
    samples = data.astype(np.float32)
    np.savez(tmp_path / "x.npz", x=samples)
    conversion = convert(source, ConvertOptions(calibrate=str(tmp_path / "x.npz"), encode_input=True))
    save(conversion.model, tmp_path / "out.snn.onnx")
    report = verify(source, tmp_path / "out.snn.onnx", {"x": samples[:4]})
    assert report.identical
    assert report.distances[0].decibel > 25
    assert "a grid per channel" in notes(conversion)


def test_quantised_network_without_data_says_what_it_assumes(tmp_path):
    source = Path(__file__).parents[1] / "sources" / "qcfs_dynamo.onnx"
    conversion = convert(source, ConvertOptions(encode_input=True))
    assert audit(conversion.model).clean
    assert not any(node.op_type.startswith("Host") for node in conversion.model.graph)
    assert "nothing is known of its range" in notes(conversion)


def test_input_that_carries_a_code_is_left_alone():
    source = Path(__file__).parents[1] / "sources" / "ort_qdq_u8s8.onnx"
    conversion = convert(source, ConvertOptions(encode_input=True))
    record = next(entry for entry in conversion.records if entry.name == "encode-input")
    assert not record.changed
    assert [entry.reason for entry in record.not_matched] == ["it carries a code already"]


def test_a_mean_over_the_features_of_the_first_layer(network: Any) -> None:
    # Sums of spikes have a step for each feature; the encoder in front is no quantiser of the source.
    source = network("""g (float[N, 5, 4] x) => (float[N, 5, 1] y)
      <float[4, 6] w = {RANDOM}, float[6] b = {RANDOM}> {
        m = MatMul(x, w) s = Add(m, b) y = ReduceMean<axes = [2]>(s) }""")
    data = np.random.default_rng(0).standard_normal((16, 5, 4)).astype(np.float32)
    conversion = convert(source, ConvertOptions(encode_input=True), calibration=data)
    report = verify(source, conversion.model, {"x": data[:4]})
    assert report.identical
    assert report.distances[0].decibel > 25
    assert audit(conversion.model).clean
