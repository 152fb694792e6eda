"""Every encoding rule: the spiking graph it makes, and equal codes and bits in every runtime."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from snnc.coding import CodeBook
from snnc.errors import InputError, UnsupportedError
from snnc.passes.analysis import Membrane, analyse
from snnc.passes.spike.builder import SpikeBuilder

STEP = 0.25
SIGNED = CodeBook(4, 4, signed=True)


@pytest.fixture
def image(net: Any) -> Any:
    """A network whose input (N, 4, 6, 6) is encoded as signed codes; ``image.x`` is the coded tensor."""
    made = net()
    made.x = made.quantise(made.input(["N", 4, 6, 6]), STEP, SIGNED, name="code_in")
    return made


@pytest.fixture
def tokens(net: Any) -> Any:
    """A network whose input (N, 5, 8) is encoded as signed codes; ``tokens.x`` is the coded tensor."""
    made = net()
    made.x = made.quantise(made.input(["N", 5, 8]), STEP, SIGNED, name="code_in")
    return made


def finish(made: Any, value: str, *, step: float = STEP, book: Any = (4, 2)) -> Any:
    """A neuron, and its codes as the output."""
    return made.output(made.quantise(value, step, book, name="y"))


# --- products ---


@pytest.mark.parametrize("book", [(1, 1), (4, 1), (4, 2, "contiguous"), (4, 4, "interleaved", True), (8, 8)])
@pytest.mark.parametrize("ties", ["away", "up"])
def test_neuron_of_any_book(net: Any, agree: Any, book: Any, ties: str) -> None:
    made = net()
    x = made.quantise(made.input(["N", 4, 6, 6]), STEP, book, ties=ties, name="code_in")
    c = made.conv(x, (3, 4, 3, 3), weights=made.grid(3, 4, 3, 3))
    made.output(made.quantise(c, STEP, book, ties=ties, name="y"))
    result = agree(made, source=True, partition=book[2] if len(book) > 2 else "interleaved")
    assert result.ops == ["Encode", "SpikeConv", "ExpGIF", "Charge", "Readout"]
    assert np.unique(result.codes["y"]).size > 1


@pytest.mark.parametrize("ties", ["even", "away", "up"])
def test_exact_ties(net: Any, agree: Any, ties: str) -> None:
    """Half of all sums are ties: weights of 1/2, steps of one."""
    made = net()
    x = made.quantise(made.input(["N", 7]), 1.0, SIGNED, ties="even", name="code_in")
    weights = np.full((7, 4), 0.5)
    weights[6] = 63.5  # the largest on the int8 grid of halves; its input is always zero
    made.output(made.quantise(made.matmul(x, (7, 4), weights=weights), 1.0, SIGNED, ties=ties, name="y"))
    feeds = {"x": made.random.integers(-5, 6, (40, 7)).astype(np.float32)}
    feeds["x"][:, 6] = 0
    total = feeds["x"].sum(axis=1) / 2
    assert 0 < np.count_nonzero(total % 1) < 40
    wanted = {
        "even": np.rint(total),
        "up": np.floor(total + 0.5),
        "away": np.sign(total) * np.floor(np.abs(total) + 0.5),
    }[ties]
    found = agree(made, feeds, source=True).codes["y"][:, 0]
    assert np.array_equal(found, np.clip(wanted, -15, 15))


def test_convolutions_of_images(image: Any, agree: Any) -> None:
    for shape, attrs in (
        ((6, 4, 3, 3), {}),
        ((6, 4, 1, 1), {}),
        ((4, 1, 3, 3), {"group": 4}),
        ((8, 1, 3, 3), {"group": 4, "strides": [2, 2]}),
        ((8, 2, 3, 3), {"group": 2, "strides": [2, 2]}),
        ((3, 4, 2, 3), {"pads": [0, 1, 1, 2], "strides": [2, 1]}),
        ((3, 4, 3, 3), {"dilations": [2, 2], "pads": [2, 2, 2, 2]}),
    ):
        finish(image, image.conv(image.x, shape, weights=image.grid(*shape), **attrs))
    result = agree(image, source=True)
    assert result.ops.count("SpikeConv") == 7


def test_convolutions_of_one_and_three_dimensions(net: Any, agree: Any) -> None:
    made = net()
    line = made.quantise(made.input(["N", 4, 9], name="line"), STEP, SIGNED)
    finish(made, made.conv(line, (3, 4, 3), weights=made.grid(3, 4, 3)))
    volume = made.quantise(made.input(["N", 2, 4, 4, 4], name="volume"), STEP, SIGNED)
    finish(made, made.conv(volume, (3, 2, 2, 2, 2), weights=made.grid(3, 2, 2, 2, 2)))
    agree(made, source=True)


@pytest.mark.parametrize("mode", [b"SAME_UPPER", b"SAME_LOWER", b"VALID"])
@pytest.mark.parametrize("stride", [1, 2])
def test_auto_pad(image: Any, agree: Any, mode: bytes, stride: int) -> None:
    w = image.const(image.grid(3, 4, 2, 3))
    agree(finish(image, image.op("Conv", [image.x, w], strides=[stride, stride], auto_pad=mode)), source=True)


def test_matmul_batched_weights_and_rank_four(net: Any, agree: Any) -> None:
    made = net()
    x = made.quantise(made.input(["N", 2, 5, 8]), STEP, SIGNED)
    w = made.const(made.normal(8, 3)[None].repeat(2, axis=0) * np.array([1, 0.5], np.float32)[:, None, None])
    agree(finish(made, made.op("MatMul", [x, w])))


def test_gemm(net: Any, agree: Any) -> None:
    made = net()
    x = made.quantise(made.input(["N", 8]), STEP, SIGNED)
    inputs = [x, made.const(made.grid(8, 3).T), made.const([0.1, -0.2, 0.3])]
    agree(finish(made, made.op("Gemm", inputs, transB=1)), source=True)


def test_first_layer_in_fixed_point(net: Any, agree: Any) -> None:
    made = net()
    c = made.conv(made.input(["N", 3, 8, 8]), (4, 3, 3, 3))
    c = made.quantise(c, 0.3, (4, 2))
    m = made.matmul(made.op("Flatten", [c]), (256, 5))
    result = agree(made.output(m))
    assert result.ops[:3] == ["FixedPointEncode", "HostConv", "MembraneRound"]


def test_first_layer_is_a_matmul(net: Any, agree: Any) -> None:
    made = net()
    m = made.matmul(made.input(["N", 12]), (12, 6))
    m = made.op("Add", [m, made.const(made.random.standard_normal(6))])
    result = agree(made.output(made.matmul(made.quantise(m, 0.2), (6, 3))))
    assert "HostMatMul" in result.ops


def test_fixed_point_saturates_alike(net: Any, agree: Any) -> None:
    made = net()
    m = made.quantise(made.matmul(made.input(["N", 4]), (4, 3)), 500.0, SIGNED)
    feeds = {"x": np.array([[1e30, -1e30, 2048, -2048], [2047.9, 1e-9, -0.0, 1e38]], np.float32)}
    agree(made.output(m), feeds)


def test_attention(tokens: Any, agree: Any) -> None:
    q, k, v = (
        tokens.quantise(tokens.matmul(tokens.x, (8, 8)), 0.2, SIGNED, name=name) for name in ("q", "k", "v")
    )
    scores = tokens.op("MatMul", [q, tokens.op("Transpose", [k], perm=[0, 2, 1])])
    scores = tokens.op("Mul", [scores, tokens.const(8**-0.5)])
    a = tokens.quantise(scores, 0.3, (4, 1), name="a")
    result = agree(finish(tokens, tokens.op("MatMul", [a, v])))
    assert result.ops.count("SpikeMatMulHeld") == 2


def test_attention_with_heads(net: Any, agree: Any) -> None:
    """Reshape, Transpose and Split as exporters write them, four axes."""
    made = net()
    x = made.quantise(made.input(["N", 5, 8]), STEP, SIGNED)
    qkv = made.quantise(made.matmul(x, (8, 24)), 0.2, SIGNED)
    qkv = made.op("Reshape", [qkv, made.const([-1, 5, 3, 2, 4], np.int64)])
    qkv = made.op("Transpose", [qkv], perm=[2, 0, 3, 1, 4])
    parts = [made.op("Gather", [qkv, made.const(i, np.int64)], axis=0) for i in range(3)]
    scores = made.op("MatMul", [parts[0], made.op("Transpose", [parts[1]], perm=[0, 1, 3, 2])])
    a = made.quantise(scores, 0.3, (4, 2))
    out = made.op("Transpose", [made.op("MatMul", [a, parts[2]])], perm=[0, 2, 1, 3])
    out = made.op("Reshape", [out, made.const([-1, 5, 8], np.int64)])
    agree(finish(made, out))


# --- splits where float32 sums would not be exact ---


def test_a_sum_beyond_float32_is_split_by_time_steps(net: Any, agree: Any) -> None:
    made = net()
    book = CodeBook(12, 12, signed=True)
    x = made.quantise(made.input(["N", 200]), 2.0**-9, book)
    m = made.matmul(x, (200, 3), weights=np.full((200, 3), 1.0))
    feeds = {"x": np.full((2, 200), 100.0, np.float32) * np.array([[1], [-1]], np.float32)}
    result = agree(made.output(m), feeds, source=True)
    assert result.ops.count("CodeSlice") > 1
    assert any("split into slices" in note for note in result.notes)
    assert result.outputs[made.outputs[0].name][0, 0] == 200 * 4095 * 2.0**-9
    agree(made, made.feeds(batch=4, spread=2.0))


def test_unsigned_convolution_split_by_time_steps(net: Any, agree: Any) -> None:
    made = net()
    x = made.quantise(made.input(["N", 16, 5, 5]), 2.0**-12, CodeBook(14, 14))
    result = agree(finish(made, made.conv(x, (3, 16, 3, 3)), step=0.1, book=(4, 2)))
    assert "CodeSlice" in result.ops


def test_held_product_split_by_time_steps(net: Any, agree: Any) -> None:
    made = net()
    x = made.quantise(made.input(["N", 40, 40]), 2.0**-6, CodeBook(10, 10, signed=True))
    y = made.quantise(made.input(["N", 40, 40], name="z"), 2.0**-6, CodeBook(10, 10, signed=True))
    result = agree(made.output(made.op("MatMul", [x, y])), made.feeds(batch=2, spread=3.0), source=True)
    assert result.ops.count("SpikeMatMulHeld") > 1


def test_merged_spikes_split_the_weights_by_digits(net: Any, agree: Any) -> None:
    made = net()
    x = made.quantise(made.input(["N", 8, 8, 8]), 2.0**-6, CodeBook(8, 8))
    p = made.op("GlobalAveragePool", [x])
    result = agree(finish(made, made.conv(p, (4, 8, 1, 1)), step=0.1), weights="int16")
    assert any("weights split into" in note for note in result.notes)
    assert result.ops.count("SpikeConv") > 1


def test_sums_beyond_int32_are_refused(net: Any, agree: Any) -> None:
    made = net()
    x = made.quantise(made.input(["N", 9000]), 2.0**-6, CodeBook(12, 12))
    made.output(made.matmul(x, (9000, 2), weights=np.ones((9000, 2))))
    with pytest.raises(UnsupportedError, match="SNN441"):
        agree(made)


@pytest.mark.parametrize("pool", ["GlobalAveragePool", "ReduceSum"])
def test_merged_sums_beyond_int32_are_refused(net: Any, agree: Any, pool: str) -> None:
    made = net()
    x = made.quantise(made.input(["N", 1, 1500, 1500]), 2.0**-6, CodeBook(10, 10))
    inputs = [x] if pool == "GlobalAveragePool" else [x, made.const([2, 3], np.int64)]
    made.output(made.op(pool, inputs))
    with pytest.raises(UnsupportedError, match="SNN441"):
        agree(made)


# --- sums ---


@pytest.mark.parametrize("op", ["Add", "Sub"])
def test_joins(image: Any, agree: Any, op: str) -> None:
    """Two membranes; spikes and a membrane, in either order; spikes and spikes."""
    a, b, c, d = (image.conv(image.x, (4, 4, 3, 3)) for _ in range(4))
    for pair in ([a, b], [c, image.x], [image.x, d], [image.x, image.x]):
        finish(image, image.op(op, pair))
    result = agree(image)
    assert result.ops.count("MembraneAdd") == 4
    assert result.ops.count("Charge") == 4 + 1  # the outputs, and the input once


@pytest.mark.parametrize("op", ["Add", "Sub", "Mul", "Div"])
def test_constants_beside_a_membrane(image: Any, agree: Any, op: str) -> None:
    c = image.conv(image.x, (4, 4, 3, 3), weights=image.grid(4, 4, 3, 3))
    for shape in ((), (1,), (4, 1, 1), (1, 1, 6), (1, 4, 1, 1)):
        for first in (False, True) if op != "Div" else (False,):
            numbers = image.random.uniform(0.5, 2, shape) * image.random.choice([-1, 1], shape)
            constant = image.const(numbers)
            finish(image, image.op(op, [constant, c] if first else [c, constant]))
    result = agree(image, source=True)
    assert "MembraneAdd" not in result.ops  # they lie in the thresholds


def test_constants_beside_spikes(image: Any, agree: Any) -> None:
    for op in ("Add", "Sub", "Mul", "Div"):
        finish(image, image.op(op, [image.x, image.const([[[0.5]], [[1.5]], [[0.75]], [[2.0]]])]))
    agree(image, source=True)


def test_constants_that_enlarge(net: Any, agree: Any) -> None:
    """(N, 4, 1, 1) with (1, 1, 3, 2) gives (N, 4, 3, 2)."""
    made = net()
    spikes = made.quantise(made.input(["N", 4, 1, 1]), STEP, SIGNED)
    membrane = made.conv(spikes, (4, 4, 1, 1), weights=made.grid(4, 4, 1, 1))
    wide = made.quantise(made.input(["N", 4, 5, 5], name="z"), STEP, SIGNED)
    merged = made.op("GlobalAveragePool", [wide])
    numbers = made.const(np.linspace(0.51, 2, 3).reshape(1, 1, 3, 1) * np.ones((1, 1, 1, 2)))
    for value in (spikes, membrane, merged):
        for op in ("Add", "Mul"):
            large = made.op(op, [value, numbers])
            finish(made, made.op("Transpose", [large], perm=[0, 2, 1, 3]))
    agree(made, source=True)


def test_a_uniform_factor_that_enlarges_spikes(net: Any, agree: Any) -> None:
    made = net()
    x = made.op("GlobalAveragePool", [made.quantise(made.input(["N", 4, 2, 2]), STEP, SIGNED)])
    large = made.op("Mul", [x, made.const(np.full((1, 1, 3, 3), 2.0))])
    agree(finish(made, made.conv(large, (2, 4, 3, 3), weights=made.grid(2, 4, 3, 3))), source=True)


def test_negation(image: Any, agree: Any) -> None:
    once = image.op("Neg", [image.conv(image.x, (4, 4, 3, 3), weights=image.grid(4, 4, 3, 3))])
    finish(image, once)
    finish(image, image.op("Neg", [once]))
    agree(finish(image, image.op("Neg", [image.x])), source=True)


def test_channels_of_either_sign_and_dead_ones(image: Any, agree: Any) -> None:
    """A factor per channel of a layer that others read too: negative and zero ones among them."""
    c = image.conv(image.x, (4, 4, 3, 3), weights=image.grid(4, 4, 3, 3))
    image.output(c)
    c = image.op("Mul", [c, image.const(np.reshape([1.5, -0.75, 0.0, -2.0], (4, 1, 1)))])
    c = image.op("Add", [c, image.const(np.reshape([0.1, -0.3, 0.6, 0.125], (4, 1, 1)))])
    result = agree(finish(image, c), source=True)
    assert "MembraneScale" in result.ops


def test_dead_channels_of_a_join(tokens: Any, agree: Any) -> None:
    """A factor of zero, as a pruned network or a layer scale has it, in front of an addition."""
    factor = tokens.const([1, 0.5, 0, 1, -1, 0, 1, 1])
    dead = tokens.op("Mul", [tokens.matmul(tokens.x, (8, 8)), factor])
    biased = tokens.op("Add", [dead, tokens.const(np.linspace(-1, 1, 8))])
    agree(finish(tokens, tokens.op("Add", [biased, tokens.matmul(tokens.x, (8, 8))])))


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("op", ["MatMul", "Add", "Mul"])
def test_constants_that_are_not_finite_are_refused(tokens: Any, agree: Any, op: str, number: float) -> None:
    array = np.ones((8, 8) if op == "MatMul" else 8)
    array[2] = number
    source = tokens.x if op == "MatMul" else tokens.matmul(tokens.x, (8, 8))
    with pytest.raises(InputError, match=f"SNN323.*'{op.lower()}'"):
        agree(finish(tokens, tokens.op(op, [source, tokens.const(array)], name=op.lower())))


def test_a_mask_beyond_all_grids_is_refused(tokens: Any, agree: Any) -> None:
    scores = tokens.op("MatMul", [tokens.x, tokens.op("Transpose", [tokens.x], perm=[0, 2, 1])])
    mask = np.triu(np.full((5, 5), np.finfo(np.float32).min), 1)
    with pytest.raises(UnsupportedError, match="mask"):
        agree(finish(tokens, tokens.op("Add", [scores, tokens.const(mask)])))


# --- pools ---


POOLS = [
    {"kernel_shape": [2, 2], "strides": [2, 2]},
    {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]},
    {"kernel_shape": [3, 2], "pads": [1, 0, 1, 1], "strides": [2, 1]},
    {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "count_include_pad": 1, "strides": [2, 2]},
    {"kernel_shape": [2, 3], "pads": [0, 1, 1, 2], "count_include_pad": 1},
]


def test_average_pools(image: Any, agree: Any) -> None:
    membrane = image.conv(image.x, (4, 4, 3, 3), weights=image.grid(4, 4, 3, 3), bias=False)
    for attrs in POOLS:
        for value in (image.x, membrane):
            pool = image.op("AveragePool", [value], **attrs)
            # Away from ties: sevenths and ninths in float64 are not exact.
            finish(image, image.op("Add", [pool, image.const(0.0123)]))
    result = agree(image, source=True)
    assert result.ops.count("MembraneSumPool") == result.ops.count("SpikeSumPool") == len(POOLS)


def test_average_pool_of_a_biased_membrane(image: Any, agree: Any) -> None:
    value = image.conv(image.x, (4, 4, 3, 3), weights=image.grid(4, 4, 3, 3))
    agree(finish(image, image.op("AveragePool", [value], **POOLS[1])), source=True)
    again = image.op("AveragePool", [value], **POOLS[3])
    image.outputs.clear()
    with pytest.raises(UnsupportedError, match="counts padding"):
        agree(finish(image, again))


def test_average_pools_in_front_of_synapses(image: Any, agree: Any) -> None:
    """No neuron between them: the spikes of a window arrive together."""
    for attrs in (POOLS[0], POOLS[3]):
        pool = image.op("AveragePool", [image.x], **attrs)
        finish(image, image.conv(pool, (3, 4, 3, 3)))
    result = agree(image)
    assert result.ops.count("SpikeSumPool") == 2 and result.ops.count("ExpGIF") == 2


def test_pool_of_a_pool(image: Any, agree: Any) -> None:
    value = image.op("AveragePool", [image.x], kernel_shape=[2, 2])
    value = image.op("GlobalAveragePool", [value])
    agree(finish(image, value, step=0.125), source=True)


def test_average_pool_with_auto_pad(image: Any, agree: Any) -> None:
    pooled = image.op("AveragePool", [image.x], kernel_shape=[3, 3], strides=[2, 2], auto_pad="SAME_UPPER")
    agree(finish(image, pooled), source=True)


def test_average_pool_in_ceil_mode(image: Any, agree: Any) -> None:
    """The last windows hang over the edge and divide by what they hold."""
    value = image.op("AveragePool", [image.x], kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1)
    agree(finish(image, value, step=0.37))


def test_average_pool_with_dilations(net: Any, agree: Any) -> None:
    """Opset 19 has them; its means are products with rounded weights, so the step leaves no ties."""
    made = net(opset=19)
    x = made.quantise(made.input(["N", 4, 6, 6]), STEP, SIGNED)
    value = made.op("AveragePool", [x], kernel_shape=[2, 2], dilations=[2, 2])
    agree(finish(made, value, step=0.37), source=True)


def test_max_pools(image: Any, agree: Any) -> None:
    membrane = image.conv(image.x, (4, 4, 3, 3), weights=image.grid(4, 4, 3, 3))
    for attrs in (
        {"kernel_shape": [2, 2], "strides": [2, 2]},
        {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "strides": [2, 2]},
        {"kernel_shape": [2, 2], "dilations": [2, 2]},
        {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1},
    ):
        for value in (image.x, membrane):
            finish(image, image.op("MaxPool", [value], **attrs), step=0.5)
    result = agree(image, source=True)
    assert result.ops.count("MembraneMaxPool") == result.ops.count("SpikeMaxPool") == 4


@pytest.mark.parametrize("op", ["AveragePool", "MaxPool"])
def test_pools_of_membranes_wider_than_float32(image: Any, agree: Any, op: str) -> None:
    """A join of steps far apart reaches beyond 2^24: its maxima are exact all the same, its sums are not."""
    coarse, fine = (image.conv(image.x, (4, 4, 3, 3), bias=False) for _ in range(2))
    fine = image.op("Mul", [fine, image.const(2.0**-14)])
    joined = image.op("Add", [coarse, fine])
    made = finish(image, image.op(op, [joined], kernel_shape=[2, 2]), step=0.37)
    if op == "AveragePool":
        with pytest.raises(UnsupportedError, match="SNN445"):
            agree(made)
        return
    result = agree(made)
    assert "MembraneMaxPool" in result.ops
    pool = next(node for node in result.conversion.quantised.graph if node.op_type == op)
    found = analyse(result.conversion.quantised).kind(pool.inputs[0])
    assert isinstance(found, Membrane) and found.bound >= 2**24


def test_max_pool_of_negative_codes_ignores_padding(image: Any, agree: Any) -> None:
    value = image.op("MaxPool", [image.x], kernel_shape=[3, 3], pads=[1, 1, 1, 1])
    result = agree(image.output(value), {"x": np.full((1, 4, 6, 6), -1.0, np.float32)}, source=True)
    assert (result.outputs[value] == -1.0).all()


def test_max_pool_of_mirrored_membranes(image: Any, agree: Any) -> None:
    membrane = image.conv(image.x, (4, 4, 3, 3), weights=image.grid(4, 4, 3, 3))
    signs = image.const(np.array([1, -1, 0.5, -0.25]).reshape(4, 1, 1))
    for value in (image.op("Neg", [membrane]), image.op("Mul", [membrane, signs])):
        finish(image, image.op("MaxPool", [value], kernel_shape=[2, 2]), step=0.5)
    agree(image, source=True)


@pytest.mark.parametrize(
    ("change", "exact"),
    [
        (lambda made, x: made.op("Neg", [x]), True),
        (lambda made, x: made.op("Sub", [made.const(0.3), x]), True),
        (lambda made, x: made.op("Add", [x, made.const(np.arange(8) * 0.17)]), False),
        (lambda made, x: made.op("Sub", [made.const(np.arange(8) * 0.17), x]), False),
        (lambda made, x: made.op("Mul", [x, made.const(np.array([1, 1, 2, 0.5, 0.25, 1, 4, 1]))]), True),
        (lambda made, x: made.op("Div", [x, made.const(np.linspace(0.7, 2, 8))]), False),
    ],
    ids=["mirrored", "taken from a number", "biased", "taken from biases", "powers of two", "unlike"],
)
def test_largest_of_unlike_channels(
    tokens: Any, agree: Any, in_float64: Any, change: Any, exact: bool
) -> None:
    """Integers are brought into the order of the values that they stand for."""
    value = change(tokens, tokens.x)
    largest = tokens.op("ReduceMax", [value], axes=[-1], keepdims=1)
    finish(tokens, tokens.op("Sub", [value, largest]), step=0.31, book=SIGNED)
    result = agree(tokens, source=exact)
    assert "MembraneMax" in result.ops
    if not exact:
        wanted = np.rint(in_float64(tokens.model(), tokens.feeds())["y"] / 0.31)
        off = np.abs(wanted - result.codes["y"])
        assert off.max() <= 1 and np.mean(off) < 0.05


def test_reductions(image: Any, agree: Any) -> None:
    membrane = image.conv(image.x, (4, 4, 3, 3), weights=image.grid(4, 4, 3, 3), bias=False)
    membrane = image.op("Add", [membrane, image.const(0.3)])
    negated = image.op("Neg", [image.x])
    for axes, keep in (([2, 3], 1), ([1], 0), ([-1], 0), ([1, 2, 3], 0)):
        # Channels of different steps have no common sum; a negated code has one step.
        for value in (image.x, negated if 1 in axes else membrane):
            mean = image.op("ReduceMean", [value], axes=axes, keepdims=keep)
            # Away from ties: sixths in float64 are not exact.
            finish(image, image.op("Add", [mean, image.const(0.0123)]), step=0.0625, book=SIGNED)
            total = image.op("ReduceSum", [value, image.const(axes, np.int64)], keepdims=keep)
            finish(image, total, step=1.0, book=SIGNED)
    finish(image, image.op("GlobalAveragePool", [membrane]), step=0.01)
    result = agree(image, source=True)
    assert result.ops.count("MembraneSum") == 9 and result.ops.count("SpikeSum") == 8


def test_mean_of_a_bias_that_differs_along_the_axis(tokens: Any, agree: Any) -> None:
    value = tokens.matmul(tokens.x, (8, 4), weights=tokens.grid(8, 4))
    value = tokens.op("Add", [value, tokens.const(np.linspace(-1, 1, 5).reshape(1, 5, 1))])
    agree(finish(tokens, tokens.op("ReduceMean", [value], axes=[1])), source=True)


@pytest.mark.parametrize("perm", [[0, 1, 2, 3], [1, 0, 2, 3]])
def test_mean_over_the_batch_is_refused(image: Any, agree: Any, perm: list[int]) -> None:
    turned = image.op("Transpose", [image.x], perm=perm)
    with pytest.raises(UnsupportedError, match="batch"):
        agree(finish(image, image.op("ReduceMean", [turned], axes=[perm.index(0)])))


def test_large_constants_are_told_apart_by_all_their_numbers(tokens: Any) -> None:
    model = finish(tokens, tokens.matmul(tokens.x, (8, 6))).model()
    builder = SpikeBuilder(model, analyse(model))
    one = np.random.default_rng(0).integers(-9, 9, (90, 80)).astype(np.int16)
    two = one.copy()
    two[1, 3] += 1  # between the numbers that are compared first
    first = builder.constant(one, "w")
    assert builder.constant(one.copy(), "w") is first
    assert builder.constant(two, "w") is not first
    assert builder.constant(one.astype(np.int32), "w") is not first
    assert builder.constant(one.reshape(80, 90), "w") is not first
    negative = np.full((90, 80), -0.0, np.float32)
    assert builder.constant(np.abs(negative), "z") is not builder.constant(negative, "z")
