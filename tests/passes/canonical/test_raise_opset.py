"""raise-opset: ops of opsets 7 to 16 as opset 17 has them, with the same bits; onnxruntime runs both."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from snnc.compile import ConvertOptions, convert
from snnc.errors import UnsupportedError
from snnc.passes.canonical.raise_opset import RaiseOpset


def old(opset: int, inputs: str, outputs: str, weights: str, body: str) -> str:
    held = f"<{weights}>" if weights else ""
    return f'<ir_version: 7, opset_import: ["" : {opset}]> g ({inputs}) => ({outputs}) {held} {{ {body} }}'


ROWS = ("float[N, 3, 4] x", "float[N, 3, 4] y")


@pytest.mark.parametrize(
    ("opset", "form", "weights", "body", "after"),
    [
        (11, ROWS, "", "y = Softmax(x)", ["Reshape", "Softmax", "Reshape"]),
        (11, ROWS, "", "y = LogSoftmax<axis = -2>(x)", ["Reshape", "LogSoftmax", "Reshape"]),
        (11, ROWS, "", "y = Softmax<axis = 2>(x)", ["Softmax"]),
        (11, ROWS, "", "y = Softmax<axis = -1>(x)", ["Softmax"]),
        (
            11,
            ("float[2, 3, 4] x", "float[2, 3, 4] y"),
            "",
            "y = Softmax<axis = 0>(x)",
            ["Reshape", "Softmax", "Reshape"],
        ),
        (13, ROWS, "", "y = Softmax<axis = 1>(x)", ["Softmax"]),
        (
            9,
            ("float[N, 3, 4] x", "float[N, 3, 3] y"),
            "",
            "y = Slice<axes = [2], starts = [1], ends = [4]>(x)",
            ["Slice"],
        ),
        (
            10,
            ("float[N, 3, 4] x", "float[N, 5, 4] y"),
            "",
            "y = Pad<pads = [0, 1, 0, 0, 1, 0], value = 2.5>(x)",
            ["Pad"],
        ),
        (10, ROWS, "", "y = Clip<min = -0.5, max = 0.25>(x)", ["Clip"]),
        (10, ROWS, "", "y = Clip<max = 0.25>(x)", ["Clip"]),
        (
            12,
            ("float[N, 3, 4] x", "float[N, 4] y"),
            "",
            "y = ReduceSum<axes = [1], keepdims = 0>(x)",
            ["ReduceSum"],
        ),
        (
            12,
            ("float[N, 3, 4] x", "float[N, 3, 1] y"),
            "",
            "y, z = Split<axis = 2, split = [1, 3]>(x)",
            ["Split"],
        ),
        (
            12,
            ("float[N, 3, 1] x", "float[N, 1, 3] y"),
            "",
            "s = Squeeze<axes = [2]>(x) y = Unsqueeze<axes = [1]>(s)",
            ["Squeeze", "Unsqueeze"],
        ),
        (9, ("float[N, 3, 4] x", "float[N, 3, 2] y"), "", "y, i = TopK<k = 2>(x)", ["TopK"]),
        (
            10,
            ("float[N, 1, 2, 3] x", "float[N, 1, 4, 6] y"),
            "float[4] s = {1, 1, 2, 2}",
            "y = Resize(x, s)",
            ["Resize"],
        ),
        (
            9,
            ("float[N, 1, 2, 3] x", "float[N, 1, 4, 9] y"),
            "float[4] s = {1, 1, 2, 3}",
            "y = Upsample(x, s)",
            ["Resize"],
        ),
        (
            8,
            ("float[N, 1, 2, 3] x", "float[N, 1, 4, 6] y"),
            "",
            "y = Upsample<scales = [1.0, 1.0, 2.0, 2.0]>(x)",
            ["Resize"],
        ),
        (
            9,
            ("float[N, 1, 2, 3] x", "float[N, 1, 4, 6] y"),
            "float[4] s = {1, 1, 2, 2}",
            'y = Upsample<mode = "linear">(x, s)',
            ["Resize"],
        ),
        (
            10,
            ROWS,
            "int64[1, 1, 2] i = {2, 0}, float[1, 1, 2] u = {5, 6}",
            "c = Scatter<axis = 2>(k, i, u) y = Add(x, c)",
            ["ScatterElements", "Add"],
        ),
        (
            8,
            ("float[N, 2, 3] x", "float[N, 2, 3] y"),
            "float[2] s = {1, 2}, float[2] b = {0, 1}, float[2] m = {0.5, 1}, float[2] v = {1, 4}",
            "y = BatchNormalization(x, s, b, m, v)",
            ["BatchNormalization"],
        ),
        (11, ROWS, "", "y = Dropout<ratio = 0.5>(x)", ["Dropout"]),
    ],
)
def test_the_same_bits(parse, check, ops, opset, form, weights, body, after):
    more = "float[1, 1, 3] k = {1, 2, 3}" if "Scatter" in body else ""
    weights = ", ".join(filter(None, (weights, more)))
    form = ("float[N, 3, 3] x", "float[N, 3, 3] y") if more else form
    model = parse(old(opset, *form, weights, body))
    result = check(RaiseOpset(), model)
    assert ops(model) == after
    assert model.graph.opset_imports[""] == 17
    assert result.rewrites[-1].note == f"opset {opset} is now 17"


@pytest.mark.parametrize(
    ("opset", "body", "reason"),
    [
        (11, "y = Softmax<axis = 0>(x)", "it makes one row of the batch"),
        (11, "y = LogSoftmax(z)", "its sizes are not static"),
        (8, "y = BatchNormalization<spatial = 0>(x, s, s, s, s)", "its statistics differ at each position"),
    ],
)
def test_what_cannot_be_written_in_opset_17_is_refused(parse, opset, body, reason):
    """Softmax and BatchNormalization would mean something else there."""
    held = "float[3, 4] s = {1, 2, 3, 4, 5, 6, 7, 8, 9, 1, 2, 3}"
    result = "float[N, K, 4] y" if "(z)" in body else "float[N, 3, 4] y"
    model = parse(old(opset, "float[N, 3, 4] x, float[N, K, 4] z", result, held, f"[n] {body}"))
    refused(model, reason)


def refused(model, reason):
    with pytest.raises(UnsupportedError) as caught:
        RaiseOpset().run(model)
    assert caught.value.code == "SNN461"
    (problem,) = caught.value.problems
    assert problem.where.node == "n"
    assert problem.message.endswith(f"has no form in opset 17: {reason}")


def test_a_softmax_of_unknown_rank_is_refused(parse):
    model = parse(old(11, *ROWS, "", "[n] y = Softmax(x)"))
    model.graph.inputs[0].shape = None
    refused(model, "its rank is not known")


@pytest.mark.parametrize("allowed", [(), ("s",), ("Softmax",)])
def test_the_host_cannot_keep_what_has_no_form(tmp_path, allowed):
    """It did, and with the opset the meaning changed: a wrong result without a word."""
    weights = "float[4, 4] w = {1, 2, 3, 4, 5, -6, 7, 8, 9, 1, -2, 3, 4, 5, 6, 7}"
    body = "a = MatMul(x, w) [s] s = Softmax<axis = 0>(a) y = MatMul(s, w)"
    onnx.save(onnx.parser.parse_model(old(11, *ROWS, weights, body)), tmp_path / "net.onnx")
    np.save(tmp_path / "x.npy", np.ones((2, 3, 4), np.float32))
    with pytest.raises(UnsupportedError, match="it makes one row of the batch") as caught:
        convert(tmp_path / "net.onnx", ConvertOptions(calibrate=str(tmp_path / "x.npy"), allow_host=allowed))
    assert caught.value.code == "SNN461"
    assert "--allow-host" not in str(caught.value)


def test_models_of_opset_17_stay(parse, check):
    model = parse("g (float[N, 3] x) => (float[N, 3] y) { y = Softmax<axis = 1>(x) }")
    assert not check(RaiseOpset(), model, feeds={"x": np.ones((2, 3), np.float32)}).rewrites
