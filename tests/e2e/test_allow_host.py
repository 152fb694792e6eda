"""--allow-host: what stays in float is named and billed, and its bits are the same in every runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from snnc.compile import ConvertOptions, convert
from snnc.cost import measure
from snnc.cost.audit import audit
from snnc.debug.verify import verify
from snnc.errors import UnsupportedError, UsageError
from snnc.ir import load, save
from snnc.ir.hosting import DECLARED, same_form
from snnc.runtimes import create

IMAGE = "float[8, 3, 3, 3] w = {RANDOM}, float[8] b = {RANDOM}, float[8, 5] v = {RANDOM}"
RESIZED = f"""g (float[N,3,8,8] x) => (float[N,5] y) <{IMAGE}, float[4] k = {{1, 1, 2, 2}}> {{
    c = Conv(x, w, b) r = Relu(c) z = Resize<mode = "linear">(r, , k) s = Softmax<axis = 1>(z) l = Log(s)
    p = GlobalAveragePool(l) f = Flatten(p) y = MatMul(f, v) }}"""
WINDOWS = """g (float[N,8,8,8] x) => (float[N,5] y) <float[16, 8, 3, 3] w = {RANDOM}, float[16] b = {RANDOM},
    float[16, 16, 3, 3] u = {RANDOM}, float[16, 5] v = {RANDOM}> {
    c = Conv<pads = [1, 1, 1, 1]>(x, w, b) r = Relu(c)
    d = Conv<strides = [2, 2], pads = [0, 0, 1, 1]>(r, u, b)
    a = AveragePool<kernel_shape = [2, 2]>(d) q = GlobalAveragePool(a) f = Flatten(q) y = MatMul(f, v) }"""
RECURRENT = """g (float[N,6,8] x) => (float[N,4] y, int64[N,2] k) <float[1, 16, 8] w = {RANDOM},
    float[1, 16, 4] r = {RANDOM}, float[8, 8] v = {RANDOM}, float[4, 4] z = {RANDOM},
    int64[1] two = {2}, int64[1] zero = {0}> {
    c = MatMul(x, v) t = Transpose<perm = [1, 0, 2]>(c) o, h = LSTM<hidden_size = 4>(t, w, r)
    e = Squeeze(h, zero) y = MatMul(e, z) s = Sin(y) m, k = TopK(s, two) }"""
NORMALISED = """g (float[N,6,8] x) => (float[N,5] y, int64[N] k) <float[8, 8] w = {RANDOM},
    float[8] a = {RANDOM}, float[8] b = {RANDOM}, float[8, 5] v = {RANDOM}, int64[1] ax = {1}> {
    c = MatMul(x, w) n = LayerNormalization(c, a, b) e = Gelu(n) q = MatMul(e, w) t = Add(q, c)
    p = ReduceMean<keepdims = 0>(t, ax) z = MatMul(p, v) y = Softmax(z)
    k = ArgMax<axis = -1, keepdims = 0>(y) }"""
OLD = """g (float[N,3,5,5] x) => (float[N,5] y) <float[4] k = {1, 1, 2, 2}, float[4, 3, 3, 3] w = {RANDOM},
    float[256, 5] v = {RANDOM}> { u = Upsample<mode = "linear">(x, k) c = Conv(u, w) s = Softmax<axis = 2>(c)
    f = Flatten(s) y = MatMul(f, v) }"""


def data(tmp_path: Path, *shape: int) -> Any:
    array = np.random.default_rng(3).standard_normal((6, *shape)).astype(np.float32)
    np.savez(tmp_path / "x.npz", x=array)
    return array


@pytest.mark.parametrize(
    ("text", "opset", "shape", "allowed", "claimed"),
    [
        (RESIZED, 18, (3, 8, 8), ("Resize", "Softmax", "n_l"), "n_z (Resize), n_s (Softmax), n_l (Log)"),
        (WINDOWS, 13, (8, 8, 8), ("n_d", "AveragePool"), "n_d (Conv), n_a (AveragePool)"),
        (RECURRENT, 14, (6, 8), ("LSTM", "Sin", "TopK"), "n_o (LSTM), n_s (Sin), n_m (TopK)"),
        (NORMALISED, 20, (6, 8), ("Gelu", "n_y", "ArgMax"), "n_e (Gelu), n_y (Softmax), n_k (ArgMax)"),
        (NORMALISED, 20, (6, 8), ("LayerNormalization", "Softmax", "ArgMax"), "n_n (LayerNormalization)"),
        (OLD, 9, (3, 5, 5), ("n_u", "n_s"), "n_u (Resize), n_s (Softmax)"),
    ],
    ids=["resize", "windows", "recurrent", "newer opset", "normalisation", "older opset"],
)
def test_same_bits_everywhere(tmp_path, network, text, opset, shape, allowed, claimed):
    source = network(text, opset)
    samples = data(tmp_path, *shape)
    conversion = convert(source, ConvertOptions(calibrate=str(tmp_path / "x.npz"), allow_host=allowed))
    file = tmp_path / "out.snn.onnx"
    save(conversion.model, file)
    report = verify(source, file, {"x": samples})
    assert report.identical
    found = audit(load(file))
    assert found.clean
    assert found.claim.startswith("multiplication-free between encoder and readout except host nodes: ")
    assert claimed in found.claim


def test_it_is_billed(tmp_path, network):
    source = network(RESIZED, 18)
    samples = data(tmp_path, 3, 8, 8)
    options = ConvertOptions(calibrate=str(tmp_path / "x.npz"), allow_host=("Resize", "Softmax", "Log"))
    model = convert(source, options).model
    cost = measure(model, {"x": samples}, create("numpy", model).run)
    macs = {row.name: row.macs / cost.images for row in cost.of_kind("host") if not row.op.startswith("Host")}
    # Two neighbours along two axes; an exponential and a quotient; a logarithm: of 8 x 12 x 12 numbers.
    assert (macs["n_z"], macs["n_l"]) == (4 * 8 * 12 * 12, 8 * 12 * 12)
    softmax = next(row for row in cost.layers if row.op == "Softmax")
    assert softmax.macs / cost.images == 2 * 8 * 12 * 12
    assert cost.energy.with_host > cost.energy.spikes + 4.6 * 7 * 8 * 12 * 12


def test_nothing_is_hosted_unasked(tmp_path, network):
    data(tmp_path, 3, 8, 8)
    with pytest.raises(UnsupportedError):
        options = ConvertOptions(calibrate=str(tmp_path / "x.npz"), allow_host=("Relu",))
        convert(network(RESIZED.replace("Log", "Hardmax"), 18), options)


@pytest.mark.parametrize("with_data", [True, False])
def test_one_error_lists_everything_and_the_flags_that_help(tmp_path, network, with_data):
    """Refusals of different stages, before any data is asked for; the flags of the hint are enough."""
    text = RECURRENT.replace("Sin(y)", "Pow(y, y)").replace("hidden_size = 4", "hidden_size = 4, clip = 1.0")
    source = network(text, 14)
    data(tmp_path, 6, 8)
    calibrate = str(tmp_path / "x.npz")
    with pytest.raises(UnsupportedError) as caught:
        convert(source, ConvertOptions(calibrate=calibrate if with_data else None))
    assert [problem.where.node for problem in caught.value.problems] == ["n_o", "n_s"]
    hint = caught.value.hint or ""
    assert hint.endswith("--allow-host n_o --allow-host n_s")
    flags = tuple(hint.split("--allow-host ")[1:])
    convert(source, ConvertOptions(calibrate=calibrate, allow_host=tuple(flag.strip() for flag in flags)))


def test_operators_stand_for_all_of_their_nodes(network):
    text = RESIZED.replace("l = Log(s)", "t = Hardmax(s) o = LpNormalization<p = 1>(t) l = Hardmax(o)")
    with pytest.raises(UnsupportedError) as caught:
        convert(network(text, 18))
    assert (caught.value.hint or "").endswith("--allow-host Hardmax --allow-host n_o")


def test_no_flags_where_they_would_not_help(network):
    text = RESIZED.replace("l = Log(s)", "l = other.domain.Frobnicate(s)")
    with pytest.raises(UnsupportedError) as caught:
        convert(network(text, 18))
    assert "n_l" in str(caught.value)
    assert "--allow-host" not in (caught.value.hint or "")


def test_unknown_names(network):
    with pytest.raises(UsageError, match="no node and no operator") as caught:
        convert(network(RESIZED, 18), ConvertOptions(allow_host=("Rezise",)))
    assert "Resize" in (caught.value.hint or "")
    with pytest.raises(UsageError) as caught:
        convert(network(RESIZED, 18), ConvertOptions(allow_host=("n_zz",)))
    assert "n_z" in (caught.value.hint or "")


@pytest.mark.parametrize("allowed", ["Frobnicate", "n_z", "other.domain::Frobnicate"])
def test_operators_of_other_domains_are_never_hosted(network, allowed):
    text = RESIZED.replace('Resize<mode = "linear">(r, , k)', "other.domain.Frobnicate(r)")
    with pytest.raises(UnsupportedError) as caught:
        convert(network(text, 18), ConvertOptions(allow_host=(allowed,)))
    assert "n_z" in str(caught.value)


def test_a_file_cannot_declare_its_own_host_nodes(tmp_path, network):
    """Metadata in a source is no leave: only the option is."""
    source = load(network(RESIZED.replace("Log", "Hardmax"), 18))
    for node in source.graph:
        node.metadata_props[DECLARED] = '{"op": "Softmax", "asked": "Softmax"}'
    data(tmp_path, 3, 8, 8)
    with pytest.raises(UnsupportedError):
        convert(source, ConvertOptions(calibrate=str(tmp_path / "x.npz")))


def test_host_behind_trained_quantisers_needs_no_calibration(tmp_path, network):
    quantise = "u{0} = Div({0}, t) i{0} = Round(u{0}) l{0} = Clip(i{0}, lo, hi) q{0} = Mul(l{0}, t)"
    text = f"""g (float[N,3,8,8] x) => (float[N,5] y) <{IMAGE}, float t = {{0.1}}, float lo = {{0}},
        float hi = {{15}}> {{ c = Conv(x, w, b) {quantise.format("c")} s = Softmax<axis = 1>(qc)
        h = Mul(s, hi) {quantise.format("h")} p = GlobalAveragePool(qh) f = Flatten(p) y = MatMul(f, v) }}"""
    source = network(text)
    conversion = convert(source, ConvertOptions(allow_host=("Softmax",)))
    save(conversion.model, tmp_path / "out.snn.onnx")
    assert verify(source, tmp_path / "out.snn.onnx", {"x": data(tmp_path, 3, 8, 8)}).identical
    assert audit(conversion.model).clean


def test_forms_of_operators():
    assert same_form("Softmax", 20, 17)
    assert same_form("Sigmoid", 21, 17)
    assert not same_form("ReduceMean", 18, 17)
    assert not same_form("Gelu", 20, 17)
    assert not same_form("Resize", 18, 17)
