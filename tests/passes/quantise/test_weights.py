"""Integer weights, fixed-point inputs and constants on grids: what the approximating passes promise."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from snnc.coding import CodeBook
from snnc.errors import UnsupportedError, UsageError
from snnc.ir import attributes, constant
from snnc.passes.quantise.fixed_point_input import FixedPointInput
from snnc.passes.quantise.grids import EXACT_FLOAT32, WeightFormat, integer_grid, smallest_integer_type
from snnc.passes.quantise.integer_weights import IntegerWeights

QUICK = settings(max_examples=80, deadline=None, derandomize=True, database=None)
SIGNED = CodeBook(4, 4, signed=True)
FORMATS = ("int2", "int4", "int8", "int16", "wide")


# --- grids ---


@QUICK
@given(
    hnp.arrays(
        np.float32, st.tuples(st.integers(1, 4), st.integers(1, 6)), elements=st.floats(-4, 4, width=32)
    ),
    st.sampled_from(FORMATS),
    st.booleans(),
    st.sampled_from([1, 15, 255, 4095]),
)
def test_grid(weights: Any, text: str, powers: bool, bound: int) -> None:
    charge = weights.astype(np.float64) * 0.3
    form = WeightFormat(text)
    integers, step = integer_grid(charge, (1,), form, bound, powers_of_two=powers)
    assert integers.dtype.kind == "i" and integers.shape == charge.shape
    integers = integers.astype(np.int64)
    assert step.shape == (len(charge), 1) and np.all(step > 0)
    if form.largest is not None:
        assert np.abs(integers).max(initial=0) <= form.largest
    else:
        assert (np.abs(integers).sum(axis=1) * bound < EXACT_FLOAT32).all()
    assert np.abs(integers * step - charge).max() <= step.max() * 0.5 * (1 + 1e-9)
    # No channel is so fine that to join it with another one costs more than six bits.
    assert step.min() >= step.max() / 64 * (0.5 if powers else 1) * (1 - 1e-9)
    if powers:
        assert np.all(np.frexp(step)[0] == 0.5)
    if not charge.any():
        assert not integers.any()


@pytest.mark.parametrize("text", ["int8", "wide"])
def test_grid_uses_what_it_may(text: str) -> None:
    charge = np.random.default_rng(0).standard_normal((3, 50))
    integers, _ = integer_grid(charge, (1,), WeightFormat(text), 15, powers_of_two=False)
    if text == "int8":
        assert (np.abs(integers).max(axis=1) == 127).all()
    else:
        assert (np.abs(integers).sum(axis=1) * 15 > 0.99 * EXACT_FLOAT32).all()


def test_a_layer_too_wide_for_exact_sums_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="SNN437"):
        integer_grid(np.ones((1, 2**14)), (1,), WeightFormat("wide"), 4095, powers_of_two=False)


@pytest.mark.parametrize("text", ["int1", "int17", "int", "uint8", "8", "int8 ", "", "int08x"])
def test_no_weight_format(text: str) -> None:
    with pytest.raises(UsageError, match="SNN260"):
        WeightFormat(text)


def test_float_weights_are_refused_with_the_alternative() -> None:
    with pytest.raises(UnsupportedError, match="wide"):
        WeightFormat("float")


@pytest.mark.parametrize(
    ("low", "high", "dtype"),
    [
        (-128, 127, np.int8),
        (-129, 0, np.int16),
        (0, 128, np.int16),
        (0, 2**15, np.int32),
        (-(2**40), 0, np.int64),
    ],
)
def test_smallest_integer_type(low: int, high: int, dtype: Any) -> None:
    assert np.dtype(smallest_integer_type(np.array([low, high], np.int64))) == dtype


# --- integer-weights ---


def weights_of(model: Any) -> list[tuple[Any, Any, Any]]:
    """Integers, numerator and denominator of every Weight node."""
    found = [node for node in model.graph if node.op_type == "Weight"]
    return [tuple(constant(value) for value in node.inputs) for node in found]  # type: ignore[misc]


def reals(weight: tuple[Any, Any, Any]) -> Any:
    integers, numerator, denominator = weight
    return integers * numerator / denominator


@pytest.mark.parametrize("text", FORMATS)
@pytest.mark.parametrize("group", [1, 2, 4])
def test_convolution_weights(net: Any, agree: Any, text: str, group: int) -> None:
    made = net()
    steps = np.array([0.25, 0.5, 0.1, 1.0], np.float32).reshape(1, 4, 1, 1)
    x = made.quantise(made.input(["N", 4, 5, 5]), steps, SIGNED)
    c = made.conv(x, (8, 4 // group, 3, 3), group=group)
    made.output(made.quantise(c, 0.3, SIGNED))
    result = agree(made, weights=text, float64=True)
    ((integers, numerator, denominator),) = weights_of(result.conversion.quantised)
    assert numerator.shape == (8, 1, 1, 1)
    assert denominator.shape == (8 if group > 1 else 1, 4 // group, 1, 1)
    # Every weight is divided by the step of the channel that it reads.
    wanted = steps.reshape(group, 1, -1).repeat(8 // group, axis=1).reshape(8, -1)
    assert np.array_equal(np.broadcast_to(denominator[..., 0, 0], wanted.shape).astype(np.float32), wanted)
    source = np.frombuffer(made.initializers[1].raw_data, np.float32).reshape(8, 4 // group, 3, 3)
    error = np.abs(integers * numerator / denominator - source)
    assert (error <= numerator / denominator * 0.5 * (1 + 1e-6)).all()
    assert any("signal to noise" in note for note in result.notes)


@pytest.mark.parametrize("rank", [2, 3])
def test_matmul_weights_with_a_step_per_channel(net: Any, agree: Any, rank: int) -> None:
    made = net()
    steps = np.array([0.25, 0.7, 0.1, 1.3, 0.2], np.float32)
    x = made.quantise(made.input(["N", *[3] * (rank - 2), 5]), steps, SIGNED)
    result = agree(made.output(made.matmul(x, (5, 4))))
    ((_, numerator, denominator),) = weights_of(result.conversion.quantised)
    assert numerator.shape == (1, 4) and denominator.shape == (5, 1)


def test_a_step_per_channel_through_a_flatten(net: Any, agree: Any) -> None:
    made = net()
    steps = np.array([0.25, 0.7, 0.1], np.float32).reshape(3, 1, 1)
    x = made.quantise(made.input(["N", 3, 2, 2]), steps, (4, 2))
    agree(made.output(made.matmul(made.op("Flatten", [x]), (12, 4))))


@pytest.mark.parametrize("kernel", [2, 3])
@pytest.mark.parametrize("to", ["conv", "matmul"])
def test_a_step_per_channel_through_a_pool(net: Any, agree: Any, kernel: int, to: str) -> None:
    """A ninth of a step is no float64: rounding may not make the channels differ."""
    made = net()
    steps = np.array([0.25, 0.7, 0.1], np.float32).reshape(3, 1, 1)
    x = made.quantise(made.input(["N", 3, kernel, kernel]), steps, (4, 2))
    p = made.op("AveragePool", [x], kernel_shape=[kernel, kernel])
    c = made.conv(p, (4, 3, 1, 1)) if to == "conv" else made.matmul(made.op("Flatten", [p]), (3, 4))
    agree(made.output(c))


def test_a_scaled_pool_per_channel(net: Any, agree: Any) -> None:
    made = net()
    x = made.quantise(made.input(["N", 3, 4, 4]), 0.3, (4, 2))
    p = made.op("GlobalAveragePool", [x])
    p = made.op("Mul", [p, made.const(np.reshape([0.3, 0.77, 1.1], (3, 1, 1)))])
    p = made.op("Div", [p, made.const(np.reshape([0.7, 0.3, 0.9], (3, 1, 1)))])
    agree(made.output(made.conv(p, (4, 3, 1, 1))))


@pytest.mark.parametrize("text", FORMATS)
def test_zero_channels_and_zero_layers(net: Any, agree: Any, text: str) -> None:
    made = net()
    x = made.quantise(made.input(["N", 3, 4, 4]), 0.25, (4, 2))
    some = made.normal(4, 3, 3, 3)
    some[1] = 0
    some[:, 2] = 0
    c = made.conv(x, (4, 3, 3, 3), weights=some)
    none = made.conv(x, (4, 3, 1, 1), weights=np.zeros((4, 3, 1, 1)))
    made.output(made.quantise(c, 0.2), made.quantise(made.op("Add", [c, none]), 0.2))
    result = agree(made, weights=text)
    assert any("all zero" in note or "no error" in note for note in result.notes)


def test_a_dead_input_channel(net: Any, agree: Any) -> None:
    """Weights of one input channel are huge, and its input never spikes: nothing overflows."""
    made = net()
    x = made.quantise(made.input(["N", 3, 4, 4]), 0.25, (4, 2))
    weights = made.normal(4, 3, 1, 1)
    weights[:, 1] = 1e8
    feeds = made.feeds()
    feeds["x"][:, 1] = -1
    agree(made.output(made.conv(x, (4, 3, 1, 1), weights=weights)), feeds)


def test_writers_of_a_stream_take_powers_of_two(net: Any, agree: Any) -> None:
    made = net()
    x = made.quantise(made.input(["N", 4, 5, 5]), 0.3, (4, 2))
    stem = made.conv(x, (6, 4, 3, 3))
    inner = made.quantise(stem, 0.2)
    branch = made.conv(inner, (6, 6, 3, 3))
    total = made.op("Add", [stem, branch])
    lone = made.conv(made.quantise(total, 0.2), (3, 6, 1, 1))
    made.output(made.quantise(lone, 0.2))
    result = agree(made)
    first, second, third = (np.frexp(weight[1])[0] for weight in weights_of(result.conversion.quantised))
    assert (first == 0.5).all() and (second == 0.5).all() and not (third == 0.5).any()
    assert not any("scaled by 1" in note for note in result.notes)  # joined by shifts alone


def test_integer_weights_are_left_alone(net: Any) -> None:
    made = net()
    x = made.quantise(made.input(["N", 4]), 0.25)
    inputs = [
        made.const([[1], [2], [3], [-4]], np.int8),
        made.const([[0.5]], np.float64),
        made.const(1.0, np.float64),
    ]
    w = made.op("Weight", inputs, domain="ai.snnc")
    made.output(made.op("MatMul", [x, w], name="product"))
    result = IntegerWeights().run(made.model())
    assert not result.rewrites and result.not_matched[0].node == "product"


def test_weights_shared_by_two_layers_of_different_steps(net: Any, agree: Any) -> None:
    made = net()
    x = made.input(["N", 4])
    w = made.const(made.normal(4, 3))
    a = made.op("MatMul", [made.quantise(x, 0.25), w])
    b = made.op("MatMul", [made.quantise(x, 0.1), w])
    result = agree(made.output(a, b))
    first, second = weights_of(result.conversion.quantised)
    assert np.allclose(reals(first), reals(second), atol=0.01)


def test_a_second_run_changes_nothing(net: Any) -> None:
    made = net()
    x = made.conv(made.input(["N", 3, 5, 5]), (4, 3, 3, 3))
    made.output(made.quantise(x, 0.2))
    model = made.model()
    assert FixedPointInput().run(model).rewrites and IntegerWeights().run(model).rewrites
    assert not FixedPointInput().run(model).rewrites and not IntegerWeights().run(model).rewrites


# --- fixed-point-input ---


def test_every_first_layer_reads_the_same_fixed_point(net: Any, agree: Any) -> None:
    made = net()
    x = made.input(["N", 3, 6, 6])
    y = made.op("Mul", [x, made.const(0.5)])
    for value in (x, x, y):
        made.output(made.quantise(made.conv(value, (4, 3, 3, 3)), 0.2))
    result = agree(made)
    points = [node for node in result.conversion.quantised.graph if node.op_type == "FixedPoint"]
    assert [node.inputs[0].name for node in points] == [x, y]  # type: ignore[union-attr]
    assert attributes(points[0]) == {"fraction_bits": 12, "bits": 24}
    assert sum("saturates at ±2048" in note for note in result.notes) == 2


def test_coded_layers_need_no_fixed_point(net: Any) -> None:
    made = net()
    model = made.output(made.matmul(made.quantise(made.input(["N", 4])), (4, 2))).model()
    assert not FixedPointInput().run(model).rewrites


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("joined", [True, False])
def test_accumulators_of_the_host_are_rounded(net: Any, agree: Any, bias: bool, joined: bool) -> None:
    made = net()
    x = made.input(["N", 3, 8, 8])
    c = made.conv(x, (4, 3, 7, 7), bias=bias)
    if joined:
        c = made.op("Add", [c, made.conv(x, (4, 3, 1, 1), bias=bias)])
    result = agree(made.output(made.quantise(c, 0.1, SIGNED)), made.feeds(spread=200.0))
    assert result.ops.count("MembraneRound") == (2 if joined else 1)
    assert result.ops.count("MembraneAdd") == (1 if joined else 0)
    values = evaluate(result, made)
    assert values < 2**-12 * 3 * 49  # what a fixed-point input and the rounding may cost


def evaluate(result: Any, made: Any) -> float:
    """Largest distance of the first layer's weights from those of the source."""
    source = np.frombuffer(made.initializers[0].raw_data, np.float32)
    return float(np.abs(reals(weights_of(result.conversion.quantised)[0]).reshape(-1) - source).max())


def test_the_first_layer_is_an_output(net: Any, agree: Any, in_float64: Any) -> None:
    made = net()
    made.output(made.conv(made.input(["N", 3, 5, 5]), (4, 3, 3, 3)))
    feeds = made.feeds()
    result = agree(made, feeds)
    wanted = in_float64(made.model(), feeds)["conv"]
    assert np.abs(result.outputs["conv"] - wanted).max() < 2e-3


@pytest.mark.parametrize("text", ["int2", "int8", "int16"])
def test_the_smallest_weights_stay_within_their_width(text: str) -> None:
    """Subnormal numbers of float32, times the smallest step of a code."""
    tiny = np.finfo(np.float32).smallest_subnormal
    charge = np.array([[400, -400, 127], [3, 1, 0]]) * np.float64(tiny) * np.float64(tiny)
    form = WeightFormat(text)
    integers, step = integer_grid(charge, (1,), form, 15, powers_of_two=False)
    largest = form.largest
    assert largest is not None and np.abs(integers.astype(np.int64)).max() == largest
    assert np.abs(integers * step - charge).max() <= step.max() / 2
