"""Operators written with others: onnxruntime computes the same before and after, or the reason is named.

Families: moves (Resize, Tile, CumSum, Pad), pools, sums and maxima of several values, squares, transposed
convolutions, normalisations of other axes than the last.
"""

from __future__ import annotations

from typing import Any

import pytest

from snnc.ir import infer_shapes
from snnc.passes.canonical.conv_transpose_to_conv import ConvTransposeToConv
from snnc.passes.canonical.norms_to_layer_norm import NormsToLayerNorm
from snnc.passes.canonical.write_out_moves import WriteOutMoves
from snnc.passes.canonical.write_out_pools import WriteOutPools
from snnc.passes.canonical.write_out_squares import WriteOutSquares
from snnc.passes.canonical.write_out_variadic import WriteOutVariadic

IMAGE = "float[N, 2, 4, 5] x"
ROWS = "float[N, 3, 4] x"
OPEN = "float[N, K, 4] x"
SCALES = "float[4] s = {1, 1, 2, 1.5}, float[4] b = {2, 1, 1, 1}"
SIZES = "int64[4] z = {0, 2, 8, 10}, float[0] e = {}"
PADS = "int64[8] p = {0, 0, 1, 2, 0, 0, 2, 1}, int64[8] n = {1, 0, 0, 0, 0, 0, 0, 0}"
PADS += ", int64[8] c = {0, 0, -2, 1, 0, 0, -2, 0}, float low = {-1e30}, float six = {6}"
KERNEL = "float[2, 3, 2, 2] k = {" + ", ".join(str(round(0.1 * n - 1, 1)) for n in range(24)) + "}"
NORM = "float[4] g = {1, -1, 2, 0.5}, float[4] o = {0, 1, 0, -1}"


def made(parse: Any, opset: int, inputs: str, output: str, weights: str, body: str) -> Any:
    held = f"<{weights}>" if weights else ""
    header = f'<ir_version: 8, opset_import: ["" : {opset}]>'
    return parse(f"{header} g ({inputs}) => (float[{output}] y) {held} {{ {body} }}")


@pytest.mark.parametrize(
    ("step", "opset", "inputs", "output", "weights", "body", "after"),
    [
        (WriteOutMoves(), 13, IMAGE, "N, 2, 8, 7", SCALES, "y = Resize(x, , s)", {"Gather"}),
        (
            WriteOutMoves(),
            13,
            IMAGE,
            "N, 2, 8, 7",
            SCALES,
            'y = Resize<mode = "linear", coordinate_transformation_mode = "align_corners">(x, , s)',
            {"Transpose", "MatMul"},
        ),
        (
            WriteOutMoves(),
            13,
            IMAGE,
            "N, 2, 8, 7",
            SCALES,
            'y = Resize<mode = "cubic", coordinate_transformation_mode = "half_pixel">(x, , s)',
            {"Transpose", "MatMul"},
        ),
        (
            WriteOutMoves(),
            13,
            IMAGE,
            "N, 2, 12, 5",
            "int64[4] t = {1, 1, 3, 1}",
            "y = Tile(x, t)",
            {"Gather"},
        ),
        (WriteOutMoves(), 14, ROWS, "N, 3, 4", "int64 a = {1}", "y = CumSum(x, a)", {"Transpose", "MatMul"}),
        (
            WriteOutMoves(),
            14,
            ROWS,
            "N, 3, 4",
            "int64 a = {-1}",
            "y = CumSum<exclusive = 1, reverse = 1>(x, a)",
            {"MatMul"},
        ),
        (WriteOutMoves(), 13, IMAGE, "N, 2, 7, 8", PADS, "y = Pad(x, p)", {"Pad"}),
        (WriteOutMoves(), 13, IMAGE, "N, 2, 7, 8", PADS, "y = Pad(x, p, six)", {"Pad", "Add"}),
        (WriteOutMoves(), 13, IMAGE, "N, 2, 7, 8", PADS, 'y = Pad<mode = "reflect">(x, p)', {"Gather"}),
        (WriteOutMoves(), 13, IMAGE, "N, 2, 7, 8", PADS, 'y = Pad<mode = "edge">(x, p)', {"Gather"}),
        (
            WriteOutMoves(),
            13,
            IMAGE,
            "N, 2, 5, 6",
            PADS,
            'a = Pad(x, p, low) y = MaxPool<kernel_shape = [3, 3], auto_pad = "VALID">(a)',
            {"MaxPool"},
        ),
        (
            WriteOutPools(),
            13,
            IMAGE,
            "N, 2, 2, 3",
            "",
            "y = AveragePool<kernel_shape = [2, 2], strides = [2, 2], ceil_mode = 1>(x)",
            {"AveragePool", "Mul"},
        ),
        (
            WriteOutPools(),
            13,
            IMAGE,
            "N, 2, 3, 3",
            "",
            (
                "y = AveragePool<kernel_shape = [3, 3], strides = [2, 2], pads = [1, 1, 1, 1], "
                "ceil_mode = 1, count_include_pad = 1>(x)"
            ),
            None,
        ),
        (WriteOutPools(), 13, IMAGE, "N, 2, 1, 1", "", "y = GlobalMaxPool(x)", None),
        (WriteOutPools(), 18, IMAGE, "N, 2, 3, 4", "", "y = LpPool<kernel_shape = [2, 2], p = 1>(x)", None),
        (WriteOutPools(), 13, ROWS, "N, 3", "", "y = ReduceL1<axes = [2], keepdims = 0>(x)", None),
        (WriteOutPools(), 18, ROWS, "N, 3, 4", "", "y = ReduceL1<noop_with_empty_axes = 1>(x)", {"Abs"}),
        (
            WriteOutPools(),
            18,
            ROWS,
            "N, 3, 4",
            "",
            "r = Relu(x) y = ReduceSum<noop_with_empty_axes = 1>(r)",
            {"Relu"},
        ),
        (WriteOutPools(), 13, ROWS, "N, 3", "", "y = ReduceMin<axes = [2], keepdims = 0>(x)", None),
        (WriteOutSquares(), 18, IMAGE, "N, 2, 3, 4", "", "y = LpPool<kernel_shape = [2, 2], p = 2>(x)", None),
        (WriteOutSquares(), 13, IMAGE, "N, 2, 1, 1", "", "y = GlobalLpPool(x)", None),
        (
            WriteOutSquares(),
            18,
            IMAGE,
            "N, 2, 2, 3",
            "",
            "y = LpPool<kernel_shape = [2, 2], strides = [2, 2], ceil_mode = 1>(x)",
            None,
        ),
        (
            WriteOutSquares(),
            18,
            IMAGE,
            "N, 2, 3, 3",
            "",
            "y = LpPool<kernel_shape = [2, 2], strides = [2, 2], pads = [1, 1, 1, 0]>(x)",
            None,
        ),
        (
            WriteOutPools(),
            18,
            IMAGE,
            "N, 2, 2, 3",
            "",
            "y = LpPool<kernel_shape = [2, 2], strides = [2, 2], ceil_mode = 1, p = 1>(x)",
            None,
        ),
        (
            WriteOutSquares(),
            18,
            IMAGE,
            "N, 2, 3, 3",
            "",
            "y = LpPool<kernel_shape = [2, 2], strides = [2, 2], pads = [1, 0, 1, 0], ceil_mode = 1>(x)",
            None,
        ),
        (WriteOutSquares(), 13, ROWS, "N, 3", "", "y = ReduceL2<axes = [2], keepdims = 0>(x)", None),
        (WriteOutSquares(), 13, ROWS, "N, 1, 4", "", "y = ReduceLogSumExp<axes = [1]>(x)", None),
        (WriteOutSquares(), 13, ROWS, "N, 3", "", "y = ReduceSumSquare<axes = [2], keepdims = 0>(x)", None),
        (
            WriteOutVariadic(),
            13,
            ROWS,
            "N, 3, 4",
            "float[4] o = {1, 2, 3, 4}",
            "r = Relu(x) y = Sum(x, r, o)",
            {"Relu", "Add"},
        ),
        (
            WriteOutVariadic(),
            13,
            ROWS,
            "N, 3, 4",
            "float[4] o = {1, 2, 3, 4}",
            "r = Relu(x) y = Mean(x, r, o, o)",
            None,
        ),
        (WriteOutVariadic(), 13, ROWS, "N, 3, 4", "", "r = Neg(x) y = Max(x, r)", None),
        (WriteOutVariadic(), 13, ROWS, "N, 3, 4", "", "r = Neg(x) y = Min(x, r)", None),
        (WriteOutVariadic(), 13, ROWS, "N, 3, 4", "", "r = Neg(x) y = Max(r, r)", {"Neg"}),
        (WriteOutVariadic(), 13, f"{ROWS}, float[N, 1, 4] w", "N, 3, 4", "", "y = Max(x, w)", None),
        (WriteOutVariadic(), 13, ROWS, "N, 3, 4", "float t = {0.1}", "r = Mul(x, t) y = Max(x, r)", None),
        (
            ConvTransposeToConv(),
            13,
            IMAGE,
            "N, 3, 5, 6",
            KERNEL,
            "y = ConvTranspose(x, k)",
            {"Conv"},
        ),
        (
            ConvTransposeToConv(),
            13,
            IMAGE,
            "N, 3, 8, 10",
            KERNEL,
            "y = ConvTranspose<strides = [2, 2]>(x, k)",
            None,
        ),
        (
            ConvTransposeToConv(),
            13,
            IMAGE,
            "N, 6, 6, 9",
            KERNEL,
            (
                "y = ConvTranspose<strides = [1, 2], dilations = [2, 1], group = 2, pads = [0, 1, 0, 0], "
                "output_padding = [0, 0]>(x, k)"
            ),
            None,
        ),
        (
            ConvTransposeToConv(),
            13,
            IMAGE,
            "N, 3, 8, 10",
            KERNEL,
            'y = ConvTranspose<strides = [2, 2], auto_pad = "SAME_UPPER">(x, k)',
            None,
        ),
        (
            ConvTransposeToConv(),
            13,
            IMAGE,
            "N, 3, 8, 10",
            KERNEL,
            'y = ConvTranspose<strides = [2, 2], auto_pad = "VALID">(x, k)',
            None,
        ),
        (
            ConvTransposeToConv(),
            13,
            IMAGE,
            "N, 3, 5, 6",
            "int8[2, 3, 2, 2] k = {"
            + ", ".join(map(str, range(-12, 12)))
            + "}, float[3] s = {0.1, 0.2, 0.3}, "
            "int8[3] z = {1, -2, 0}",
            "w = DequantizeLinear<axis = 1>(k, s, z) y = ConvTranspose(x, w)",
            None,
        ),
        (
            NormsToLayerNorm(),
            17,
            "float[N, 4, 3, 2] x",
            "N, 4, 3, 2",
            NORM,
            "y = InstanceNormalization(x, g, o)",
            None,
        ),
        (
            NormsToLayerNorm(),
            21,
            "float[N, 4, 3, 2] x",
            "N, 4, 3, 2",
            NORM,
            "y = GroupNormalization<num_groups = 2>(x, g, o)",
            None,
        ),
        (
            NormsToLayerNorm(),
            17,
            "float[N, 4, 3, 2] x",
            "N, 4, 3, 2",
            "",
            "y = MeanVarianceNormalization<axes = [2, 3]>(x)",
            None,
        ),
        (
            NormsToLayerNorm(),
            17,
            "float[N, 4, 3, 2] x",
            "N, 4, 3, 2",
            "",
            "y = MeanVarianceNormalization<axes = [1]>(x)",
            None,
        ),
    ],
)
def test_the_same_numbers(
    parse: Any,
    check: Any,
    ops: Any,
    step: Any,
    opset: int,
    inputs: str,
    output: str,
    weights: str,
    body: str,
    after: set[str] | None,
) -> None:
    model = made(parse, opset, inputs, output, weights, body)
    before = ops(model)
    result = check(step, model, tolerance=1e-5)
    assert not result.not_matched
    assert ops(model) != before or after == set(before)
    if after is not None:
        assert set(ops(model)) == after


REFUSED = [
    (WriteOutMoves(), 13, OPEN, "y = Tile(x, t)", "its sizes are not static"),
    (WriteOutMoves(), 13, IMAGE, "y = Resize(x, , given)", "its scales or sizes are not constant"),
    (WriteOutMoves(), 13, IMAGE, "y = Resize(x, , b)", "it changes the batch"),
    (WriteOutMoves(), 13, IMAGE, "y = Resize(x, , , first)", "it changes the batch"),
    (
        WriteOutMoves(),
        18,
        IMAGE,
        'y = Resize<keep_aspect_ratio_policy = "not_larger">(x, , , z)',
        "it keeps the aspect ratio",
    ),
    (WriteOutMoves(), 13, IMAGE, "y = Tile(x, repeats)", "its repeats are not constant"),
    (WriteOutMoves(), 13, IMAGE, "y = Tile(x, two)", "it changes the batch"),
    (WriteOutMoves(), 14, ROWS, "y = CumSum(x, axis)", "its axis is not constant"),
    (WriteOutMoves(), 14, ROWS, "y = CumSum(x, zero)", "it changes the batch"),
    (WriteOutMoves(), 13, IMAGE, "y = Pad(x, widths)", "its widths are not constant"),
    (WriteOutMoves(), 13, IMAGE, "y = Pad(x, p, number)", "its widths are not constant"),
    (WriteOutMoves(), 13, IMAGE, "y = Pad(x, n)", "it changes the batch"),
    (WriteOutMoves(), 13, IMAGE, "y = Pad(x, p, low)", "it pads with a number that no step can hold"),
    (
        WriteOutMoves(),
        13,
        IMAGE,
        "a = Pad(x, c, low) y = MaxPool<kernel_shape = [2, 2]>(a)",
        "it pads with a number that no step can hold",
    ),
    (
        WriteOutMoves(),
        13,
        IMAGE,
        "a = Pad(x, p, low) y = MaxPool<kernel_shape = [2, 2]>(a)",
        "it pads with a number that no step can hold",
    ),
    (
        WriteOutMoves(),
        13,
        IMAGE,
        'a = Pad(x, p, low) y = MaxPool<kernel_shape = [3, 3], auto_pad = "SAME_UPPER">(a)',
        "it pads with a number that no step can hold",
    ),
    (WriteOutPools(), 13, "float[N, 2] x", "y = GlobalMaxPool(x)", "it has no positions"),
    (
        WriteOutPools(),
        13,
        IMAGE,
        'y = AveragePool<kernel_shape = [2, 2], auto_pad = "SAME_UPPER">(x)',
        "its padding was not resolved",
    ),
    (WriteOutPools(), 18, ROWS, "y = ReduceL1(x, axes)", "its axes are not constant"),
    (
        WriteOutPools(),
        18,
        ROWS,
        "y = ReduceSum<noop_with_empty_axes = 1>(x)",
        "passes an input of the graph, a weight or another output on to an output",
    ),
    (WriteOutSquares(), 18, IMAGE, "y = LpPool<kernel_shape = [2, 2], p = 3>(x)", "its p is not 1 or 2"),
    (
        WriteOutSquares(),
        18,
        "float[N, 2, 4, 5] u, int64[4] form, float[N, 2, 4, K] x",
        "y = LpPool<kernel_shape = [2, 2], ceil_mode = 1>(x)",
        "its sizes are not static",
    ),
    (WriteOutSquares(), 18, ROWS, "y = ReduceL2(x, axes)", "its axes are not constant"),
    (WriteOutSquares(), 18, ROWS, "y = ReduceL2<noop_with_empty_axes = 1>(x)", "it reduces nothing"),
    (WriteOutSquares(), 13, ROWS, "y = ReduceL2<axes = [0]>(x)", "it reduces the batch"),
    (WriteOutSquares(), 13, OPEN, "y = ReduceL2<axes = [2]>(x)", "its sizes are not static"),
    (WriteOutVariadic(), 13, OPEN, "r = Neg(x) y = Max(x, r)", "its sizes are not static"),
    (
        WriteOutVariadic(),
        13,
        f"{ROWS}, float[1, 3, 4] w",
        "y = Max(x, w)",
        "its operands differ in their batch",
    ),
    (ConvTransposeToConv(), 13, IMAGE, "y = ConvTranspose(x, kernel)", "its weights are not constant"),
    (
        ConvTransposeToConv(),
        13,
        IMAGE,
        "q = DequantizeLinear(bytes, one) y = ConvTranspose(x, q)",
        "its weights are not constant",
    ),
    (ConvTransposeToConv(), 13, "float[N, 2, K, 5] x", "y = ConvTranspose(x, k)", "its sizes are not static"),
    (
        NormsToLayerNorm(),
        17,
        "float[N, 4, K] x",
        "y = InstanceNormalization(x, g, o)",
        "its sizes are not static",
    ),
    (
        NormsToLayerNorm(),
        17,
        "float[N, 4, 3] x",
        "y = InstanceNormalization(x, v, o)",
        "its scale or bias is not",
    ),
    (
        NormsToLayerNorm(),
        17,
        "float[N, 4, 3, 2] x",
        "y = MeanVarianceNormalization(x)",
        "it normalises the batch",
    ),
]


@pytest.mark.parametrize(("step", "opset", "inputs", "body", "reason"), REFUSED)
def test_what_is_left_has_a_reason(
    parse: Any, ops: Any, step: Any, opset: int, inputs: str, body: str, reason: str
) -> None:
    weights = ", ".join(
        [
            SCALES,
            SIZES.split(", float", maxsplit=1)[0],
            PADS,
            KERNEL,
            NORM,
            "int64[3] t = {1, 2, 1}",
            "int64[4] two = {2, 1, 1, 1}",
            "int64 zero = {0}",
            "float one = {1}",
            "int64[4] first = {5, 2, 4, 5}",
        ]
    )
    more = (
        "float[4] given, int64[4] repeats, int64 axis, int64[8] widths, float number, int64[1] axes, "
        "float[2, 3, 2, 2] kernel, int8[2, 3, 2, 2] bytes, float[4] v"
    )
    model = made(parse, opset, f"{inputs}, {more}", "A, B, C, D", weights, body)
    model.graph.outputs[0].shape = None
    infer_shapes(model)
    before = ops(model)
    result = step.run(model)
    assert [entry.reason for entry in result.not_matched if reason in entry.reason], result.not_matched
    assert ops(model) == before


def test_a_tensor_of_integers_is_resized_by_places_alone(parse: Any) -> None:
    model = parse(
        '<ir_version: 8, opset_import: ["" : 13]> g (int32[N, 2, 4, 5] x) => (int32[N, 2, 8, 7] y) '
        f'<{SCALES}> {{ y = Resize<mode = "linear">(x, , s) }}'
    )
    (entry,) = WriteOutMoves().run(model).not_matched
    assert entry.reason == "it interpolates integers, each of them rounded"
