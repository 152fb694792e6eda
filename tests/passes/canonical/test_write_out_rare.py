"""Rare forms of pools, moves, choices and transposed convolutions: the same numbers, or the reason."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from snnc.passes.canonical.conv_transpose_to_conv import ConvTransposeToConv
from snnc.passes.canonical.write_out_moves import WriteOutMoves
from snnc.passes.canonical.write_out_pools import WriteOutPools
from snnc.passes.canonical.write_out_squares import WriteOutSquares
from snnc.passes.canonical.write_out_variadic import WriteOutVariadic

IMAGE = "float[N, 2, 4, 5] x"
ROWS = "float[N, 3, 4] x"
WEIGHTS = (
    "float[4] row = {1, -2, 0.5, 0}, float k = {0.25}, float[4] ks = {1, 2, 3, 4}, float[1, 1] one = {1}, "
    "int8[2, 3, 1, 2] w = {1, 2, 3, -4, 5, 6, 7, -8, 9, 10, 11, -12}, float step = {0.25}, int8 z = {2}, "
    "float[2] steps = {0.25, 0.5}, int8[2] zs = {0, 0}, "
    "float[3] three = {0.1, 0.2, 0.4}, int8[3] z3 = {0, 0, 0}, "
    "int64[6] wide = {0, 0, 2, 0, 0, 3}, int64[6] gone = {0, 0, -4, 0, 0, 1}, float[0] empty = {}, "
    "bool[3, 1] mask = {1, 0, 1}, bool[2, 1, 1] both = {1, 0}, int64 two = {2}, int64[0] none = {}"
)


def built(parse: Any, inputs: str, body: str, opset: int) -> Any:
    header = f'<ir_version: 9, opset_import: ["" : {opset}]>'
    kind, rank = inputs.split("[", maxsplit=1)[0], inputs.count(",") + 1
    return parse(f"{header} g ({inputs}) => ({kind}[{', '.join('ABCD'[:rank])}] y) <{WEIGHTS}> {{ {body} }}")


@pytest.mark.parametrize(
    ("step", "inputs", "body", "opset"),
    [
        (WriteOutVariadic(), ROWS, "a = Mul(x, ks) y = Max(x, a)", 17),
        (WriteOutVariadic(), ROWS, "a = Mul(k, x) y = Max(a, x)", 17),
        (WriteOutVariadic(), ROWS, "y = Max(x, row)", 17),
        (WriteOutVariadic(), ROWS, "y = Min(row, x, k)", 17),
        (WriteOutVariadic(), ROWS, "y = Max(x, one)", 17),
        (WriteOutSquares(), ROWS, "a = Abs(x) y = ReduceLogSum<axes = [2]>(a)", 17),
        (WriteOutPools(), IMAGE, "y = AveragePool<kernel_shape = [2, 2], dilations = [2, 3]>(x)", 19),
        (WriteOutPools(), ROWS, "y = ReduceMax<axes = [1, 2]>(x)", 17),
        (ConvTransposeToConv(), IMAGE, "d = DequantizeLinear(w, step) y = ConvTranspose(x, d)", 17),
        (
            ConvTransposeToConv(),
            IMAGE,
            "d = DequantizeLinear(w, step, z) y = ConvTranspose<group = 2>(x, d)",
            17,
        ),
        (ConvTransposeToConv(), IMAGE, "d = DequantizeLinear(w, three, z3) y = ConvTranspose(x, d)", 17),
        (WriteOutMoves(), ROWS, 'y = Pad<mode = "wrap">(x, wide)', 19),
    ],
)
def test_the_same_numbers(
    parse: Any, check: Any, ops: Any, step: Any, inputs: str, body: str, opset: int
) -> None:
    model = built(parse, inputs, body, opset)
    before = ops(model)
    assert check(step, model, tolerance=1e-5).rewrites
    assert ops(model) != before


def test_a_pool_padded_by_more_than_its_window(parse: Any, evaluate: Any, random_feeds: Any) -> None:
    """onnxruntime refuses such padding; what it computes behind a Pad is the reference."""
    attrs = "kernel_shape = [2, 2], strides = [2, 2], ceil_mode = 1"
    model = parse(
        f"g ({IMAGE}) => (float[N, 2, A, B] y) "
        f"{{ y = AveragePool<{attrs}, pads = [2, 2, 2, 2], count_include_pad = 1>(x) }}"
    )
    padded = parse(
        f"g ({IMAGE}) => (float[N, 2, A, B] y) <int64[8] p = {{0, 0, 2, 2, 0, 0, 2, 2}}> "
        f"{{ a = Pad(x, p) y = AveragePool<{attrs}>(a) }}"
    )
    feeds = random_feeds(model)
    assert WriteOutPools().run(model).rewrites
    np.testing.assert_allclose(evaluate(model, feeds)["y"], evaluate(padded, feeds)["y"], atol=1e-6)


@pytest.mark.parametrize(
    ("step", "inputs", "body", "opset", "reason"),
    [
        (WriteOutVariadic(), "int64[N, 3] x", "y = Max(x, two)", 17, "it has no operands that vary"),
        (WriteOutVariadic(), ROWS, "y = Max(row, k)", 17, "it has no operands that vary"),
        (WriteOutVariadic(), ROWS, "y = Where(both, x, row)", 17, "its sizes are not static"),
        (WriteOutSquares(), ROWS, "y = LpNormalization<axis = 0>(x)", 17, "it normalises the batch"),
        (WriteOutSquares(), ROWS, "y = LogSoftmax<axis = 0>(x)", 17, "it normalises the batch"),
        (
            WriteOutPools(),
            IMAGE,
            "y = AveragePool<kernel_shape = [1, 1], pads = [1, 1, 1, 1], ceil_mode = 1>(x)",
            17,
            "a window of it lies beside its input",
        ),
        (WriteOutPools(), ROWS, "y = ReduceSum(x)", 17, "it reduces the batch"),
        (WriteOutMoves(), ROWS, "y = Resize(x, , empty)", 17, "it has neither scales nor sizes"),
        (WriteOutMoves(), ROWS, "y = Pad(x, none)", 17, "its widths are not constant"),
        (WriteOutMoves(), ROWS, 'y = Pad<mode = "mirror">(x, wide)', 17, "its mode mirror is not known"),
        (WriteOutMoves(), ROWS, 'y = Pad<mode = "edge">(x, gone)', 17, "nothing is left to repeat"),
        (
            ConvTransposeToConv(),
            IMAGE,
            "d = DequantizeLinear<axis = 0>(w, steps, zs) y = ConvTranspose(x, d)",
            17,
            "its scale differs along other than one output channel",
        ),
    ],
)
def test_what_is_left_has_a_reason(
    parse: Any, ops: Any, step: Any, inputs: str, body: str, opset: int, reason: str
) -> None:
    model = built(parse, inputs, body, opset)
    before = ops(model)
    (entry,) = step.run(model).not_matched
    assert reason in entry.reason
    assert ops(model) == before


@pytest.mark.parametrize(
    ("step", "body"),
    [
        (WriteOutPools(), "y = AveragePool<kernel_shape = [2, 2], ceil_mode = 1>(x)"),
        (WriteOutPools(), "y = LpPool<kernel_shape = [2, 2], p = 1, ceil_mode = 1>(x)"),
        (WriteOutSquares(), "y = LpPool<kernel_shape = [2, 2], ceil_mode = 1>(x)"),
        (ConvTransposeToConv(), "d = DequantizeLinear(w, step, z) y = ConvTranspose(x, d)"),
    ],
)
def test_a_result_of_unknown_size_is_left(parse: Any, step: Any, body: str) -> None:
    model = built(parse, IMAGE, body, 18)
    model.graph.outputs[0].shape = None
    (entry,) = step.run(model).not_matched
    assert entry.reason == "its sizes are not static"
