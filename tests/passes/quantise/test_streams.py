"""Constants that join membranes, membranes that join each other, and what has no integer form."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from onnx import numpy_helper

from snnc.coding import CodeBook
from snnc.compile import ConvertOptions, convert
from snnc.errors import UnsupportedError
from snnc.ir import constant
from snnc.ops import attach_functions
from snnc.passes.analysis import Membrane
from snnc.passes.quantise.align_membranes import AlignMembranes
from snnc.passes.quantise.require_integers import RequireIntegers
from snnc.passes.quantise.room import joint_bound
from tests.agreement import everywhere
from tests.conftest import Net

SIGNED = CodeBook(4, 4, signed=True)


def tokens(net: Any, step: Any = 0.25) -> Any:
    made = net()
    made.x = made.quantise(made.input(["N", 5, 8]), step, SIGNED, name="code_in")
    return made


# --- round-constants ---


@pytest.mark.parametrize("op", ["Add", "Sub"])
@pytest.mark.parametrize("first", [True, False])
def test_position_embedding(net: Any, agree: Any, op: str, first: bool) -> None:
    made = tokens(net)
    m = made.matmul(made.x, (8, 6), weights=made.grid(8, 6))
    places = made.const(made.normal(1, 5, 6))
    total = made.op(op, [places, m] if first else [m, places])
    result = agree(made.output(made.quantise(total, 0.3, SIGNED), total))
    assert result.ops.count("MembraneAdd") == 1
    # One row of thresholds a channel at most, not one a position.
    tables = [node.inputs[1] for node in result.conversion.model.graph if node.op_type == "ExpGIF"]
    assert constant(tables[0]).shape[0] <= 6  # type: ignore[union-attr]
    assert any("rounded to multiples" in note for note in result.notes)


def test_position_embedding_behind_a_sum_of_other_steps(net: Any, agree: Any) -> None:
    made = tokens(net)
    parts = [weight_product(made, made.x, 8, 6, scale) for scale in (0.013, 0.0077)]
    total = made.op("Add", [made.op("Add", parts), made.const(made.normal(1, 5, 6))])
    result = agree(made.output(made.quantise(total, 0.3, SIGNED)))
    assert any("rounded to multiples" in note for note in result.notes)


def test_position_embedding_error_is_half_a_step(net: Any, agree: Any, in_float64: Any) -> None:
    made = tokens(net)
    m = made.matmul(made.x, (8, 6), weights=made.grid(8, 6))
    made.output(made.op("Add", [m, made.const(made.normal(1, 5, 6))], name="total"))
    feeds = made.feeds()
    result = agree(made, feeds)
    noted = next(note for note in result.notes if "rounded to multiples" in note)
    step = float(re.findall(r"multiples of ([\d.e+-]+)", noted)[0])
    distance = np.abs(result.outputs["total"] - in_float64(made.model(), feeds)["total"]).max()
    assert 0 < distance <= step / 2 * 1.01


def test_a_bias_per_channel_or_token_is_taken_up_by_the_thresholds(net: Any, agree: Any) -> None:
    made = tokens(net)
    m = made.matmul(made.x, (8, 6), weights=made.grid(8, 6))
    for shape in ((6,), (1, 5, 1), (1, 1, 1)):
        made.output(made.quantise(made.op("Add", [m, made.const(made.normal(*shape))]), 0.3, SIGNED))
    result = agree(made, source=True)
    assert "MembraneAdd" not in result.ops


@pytest.mark.parametrize("what", ["spikes", "membrane", "mirrored"])
def test_position_embedding_beside(net: Any, agree: Any, what: str) -> None:
    made = tokens(net)
    value = made.x if what == "spikes" else made.matmul(made.x, (8, 8))
    if what == "mirrored":
        value = made.op("Neg", [value])
    total = made.op("Add", [value, made.const(made.normal(5, 8))])
    agree(made.output(made.quantise(total, 0.3, SIGNED)))


def test_position_embedding_beside_a_dead_channel(net: Any, agree: Any) -> None:
    """A factor of zero (batch normalisation of a dead channel) leaves only the constant."""
    made = tokens(net)
    m = made.matmul(made.x, (8, 6), weights=made.grid(8, 6))
    m = made.op("Mul", [m, made.const([1.0, 0.0, -0.5, 2.0, 0.0, 1.0])])
    total = made.op("Add", [m, made.const(made.normal(5, 6))])
    agree(made.output(made.quantise(total, 0.3, SIGNED)))


@pytest.mark.parametrize("zero", [False, True])
@pytest.mark.parametrize("batch", ["free", "fixed"])
def test_class_token(net: Any, agree: Any, batch: str, zero: bool) -> None:
    made = net()
    size = 2 if batch == "fixed" else "N"
    x = made.quantise(made.input([size, 5, 8]), 0.25, SIGNED)
    m = made.matmul(x, (8, 6))
    token = made.const(made.normal(1, 1, 6) * (not zero))
    if batch == "fixed":
        token = made.op("Expand", [token, made.const([2, 1, 6], np.int64)])
    else:
        first = made.op("Gather", [made.op("Shape", [x]), made.const([0], np.int64)], axis=0)
        token = made.op("Expand", [token, made.op("Concat", [first, made.const([1, 6], np.int64)], axis=0)])
    joined = made.op("Concat", [token, m], axis=1)
    joined = made.op("Add", [joined, made.const(made.normal(1, 6, 6))])
    agree(made.output(made.quantise(joined, 0.3, SIGNED)), made.feeds(batch=2))


# --- align-membranes ---


def factors(result: Any) -> list[Any]:
    return [
        constant(node.inputs[1]) for node in result.conversion.quantised.graph if node.op_type == "Rescale"
    ]


def test_powers_of_two_join_by_shifts_exactly(net: Any, agree: Any) -> None:
    made = net()
    x = made.quantise(made.input(["N", 4, 4, 4]), 0.25, SIGNED)
    parts = [made.conv(x, (4, 4, 3, 3), weights=made.grid(4, 4, 3, 3, scale=2.0**-k)) for k in (7, 9, 12)]
    total = made.op("Add", [made.op("Sub", [parts[0], parts[1]]), parts[2]])
    result = agree(made.output(made.quantise(total, 0.3, SIGNED)), source=True)
    found = factors(result)
    assert found and all(np.all(np.log2(factor) % 1 == 0) for factor in found)
    assert not any("scaled by 1" in note for note in result.notes)


@pytest.mark.parametrize("op", ["Add", "Sub"])
def test_arbitrary_steps_join_within_what_is_noted(net: Any, agree: Any, in_float64: Any, op: str) -> None:
    """Weights that another tool put on its own grids: the ratio of the steps is no power of two."""
    made = net()
    x = made.quantise(made.input(["N", 6]), 0.25, SIGNED)
    parts = [weight_product(made, x, 6, 5, scale) for scale in (0.013, 0.0077)]
    made.output(made.op(op, parts, name="total"))
    feeds = made.feeds(batch=8, spread=2.0)
    result = agree(made, feeds)
    worst = max(
        float(text) for note in result.notes for text in re.findall(r"scaled by 1 ± ([\d.e+-]+)", note)
    )
    values = in_float64(made.model(), feeds)
    limit = sum(np.abs(values[part]) for part in parts) * worst * 1.05
    distance = np.abs(result.outputs["total"] - values["total"])
    assert worst < 1e-4  # 30 bits, 14 of them for the sum itself
    assert (distance <= limit + 1e-6 * np.abs(values["total"]).max()).all()


def weight_product(made: Any, x: str, inputs: int, outputs: int, scale: float) -> str:
    """MatMul with integer weights that came with the model."""
    integers = made.const(made.random.integers(-127, 128, (inputs, outputs)), np.int8)
    scales = made.const(scale * made.random.uniform(0.5, 2, (1, outputs)), np.float64)
    weight = made.op("Weight", [integers, scales, made.const(1.0, np.float64)], domain="ai.snnc")
    return str(made.op("MatMul", [x, weight]))


@pytest.mark.parametrize("blocks", [2, 6])
@pytest.mark.parametrize("own", [True, False])
def test_chains_of_residual_sums(net: Any, agree: Any, in_float64: Any, blocks: int, own: bool) -> None:
    """A long stream stays in 32 bits with little error, or is refused by name."""
    made = net()
    stream = made.quantise(made.input(["N", 8]), 0.25, SIGNED)
    for block in range(blocks):
        inner = made.quantise(stream, 0.25 * (block + 1) ** 0.5, SIGNED, name=f"block{block}_")
        if own:
            branch = made.matmul(inner, (8, 8))
        else:
            branch = weight_product(made, inner, 8, 8, 0.003 * 1.17**block)
        stream = made.op("Add", [stream, branch], name=f"stream{block}_")
    made.output(stream)
    feeds = made.feeds(batch=8)
    try:
        result = agree(made, feeds)
    except UnsupportedError as error:
        assert not own and error.code in {"SNN438", "SNN441"} and error.where.node is not None
        return
    noted = [float(text) for note in result.notes for text in re.findall(r"scaled by 1 ± ([\d.e+-]+)", note)]
    if own:
        assert not noted
    else:
        assert max(noted) < 0.01
    values = in_float64(result.conversion.quantised, feeds)[stream]
    assert np.abs(values - result.outputs[stream]).max() <= 1e-5 * np.abs(values).max()


@pytest.mark.parametrize("weights", ["int16", "wide"])
def test_a_stream_of_wide_weights_is_rounded_to_fit(
    net: Any, agree: Any, in_float64: Any, weights: str
) -> None:
    """24 bits a layer and a first layer of 26: the finest bits are given up, not the network."""
    made = net()
    stream = made.conv(made.input(["N", 2, 4, 4]), (4, 2, 3, 3))
    for block in range(3):
        code = made.quantise(stream, 0.1 * (block + 1), CodeBook(8, 8, signed=True))
        branches = [
            made.conv(code, (4, 4, 3, 3), weights=made.normal(4, 4, 3, 3) * 4.0**-block) for _ in "ab"
        ]
        stream = made.op("Add", [made.op("Sub", branches), stream])
    made.output(stream)
    feeds = made.feeds()
    result = agree(made, feeds, weights=weights)
    assert any("is rounded to multiples of" in note for note in result.notes) or weights == "int16"
    wanted = in_float64(made.model(), feeds)[stream]
    assert np.abs(result.outputs[stream] - wanted).max() < 1e-2 * np.abs(wanted).max()


def test_steps_far_apart(net: Any, agree: Any, in_float64: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The finer one is rounded away; what has no common step is refused by name."""
    made = net()
    x = made.quantise(made.input(["N", 8]), 0.25, SIGNED)
    parts = [weight_product(made, x, 8, 4, scale) for scale in (1e-6, 1e6)]
    made.output(made.op("Add", parts, name="sum_of_unequals"))
    result = agree(made)
    assert any("is rounded to multiples of" in note for note in result.notes)
    made.outputs.clear()
    turned = [made.op("Neg", [part]) for part in parts]
    made.output(made.op("Add", turned, name="mirrored_sum"))
    feeds = made.feeds()
    found = agree(made, feeds).outputs["mirrored_sum"]
    wanted = in_float64(made.model(), feeds)["mirrored_sum"]
    assert np.abs(found - wanted).max() < 1e-2 * np.abs(wanted).max()
    monkeypatch.setattr(AlignMembranes, "_common", lambda *_: None)
    with pytest.raises(UnsupportedError, match="SNN438") as caught:
        agree(made)
    assert caught.value.where.node == "mirrored_sum"


def test_a_small_side_that_matters_has_no_common_step() -> None:
    """Many small steps beside few large ones: rounding the small ones away would lose a fifth of the sum."""

    def side(step: Fraction, reach: int) -> Membrane:
        arrays = (np.array([-reach]), np.array([reach]))
        return Membrane(np.array([step], dtype=object), np.array([Fraction(0)], dtype=object), *arrays)

    far = side(Fraction(1), 1), side(Fraction(1, 3 * 2**31), 2**31)
    near = side(Fraction(1), 200), side(Fraction(1, 3 * 2**31), 200)
    assert AlignMembranes()._common(far, 30) is None
    assert AlignMembranes()._common(near, 30) is not None


def test_a_side_that_is_nothing_beside_a_full_stream_is_left_out() -> None:
    """A stream that fills 30 bits leaves no bit for a side that is smaller than its last one."""

    def side(step: Fraction, reach: int) -> Membrane:
        arrays = (np.array([-reach]), np.array([reach]))
        return Membrane(np.array([step], dtype=object), np.array([Fraction(0)], dtype=object), *arrays)

    stream, faint = side(Fraction(1, 2**24), 2**30 - 2**20), side(Fraction(1, 2**155), 40_000)
    found = AlignMembranes()._common((stream, faint), 26)
    assert found is not None and found[0] == [Fraction(1, 2**24)]
    assert [factor.tolist() for factor in found[1]] == [[1], [0]]
    # A tenth of the sum is not nothing, nor is a step that rounding changes by a tenth.
    assert AlignMembranes()._common((stream, side(Fraction(11, 10 * 2**24), 2**27)), 26) is None


def test_a_branch_that_calibration_never_saw_active(net: Any) -> None:
    """Dead units, and values of 1e-30, beside a residual stream: no reason to refuse a network."""
    for faint in (0.0, 1e-30):
        made = net()
        stream = made.matmul(made.input(["N", 4]), (4, 4))
        for _ in range(3):
            hidden = made.op("Relu", [made.op("Mul", [stream, made.const(faint)])])
            stream = made.op("Add", [stream, made.matmul(hidden, (4, 4))])
        made.output(made.matmul(stream, (4, 2)))
        convert(made.model(), ConvertOptions(calibrate="random:4"))


@pytest.mark.parametrize("op", ["Add", "Sub"])
def test_negative_and_zero_steps_join(net: Any, agree: Any, op: str) -> None:
    made = net()
    x = made.quantise(made.input(["N", 4, 4, 4]), 0.25, SIGNED)
    a, b = (made.conv(x, (4, 4, 3, 3)) for _ in range(2))
    made.output(a, b)  # what others read cannot take the factors into its weights
    a = made.op("Mul", [a, made.const(np.reshape([1.0, -1.0, 0.0, 0.3], (4, 1, 1)))])
    b = made.op("Mul", [b, made.const(np.reshape([-1.0, -2.0, 0.7, 0.0], (4, 1, 1)))])
    result = agree(made.output(made.quantise(made.op(op, [a, b]), 0.3, SIGNED)))
    assert any((factor < 0).any() for factor in factors(result))


def test_channels_dead_on_both_sides_join(net: Any, agree: Any) -> None:
    made = net()
    x = made.quantise(made.input(["N", 4]), 0.25, SIGNED)
    dead = made.const([0.0, 1.0])
    parts = [made.op("Mul", [made.matmul(x, (4, 2)), dead]) for _ in range(2)]
    agree(made.output(made.quantise(made.op("Add", parts), 0.3, SIGNED)))


@pytest.mark.parametrize("leak", [0.9, 1.7])
def test_a_leak_of_a_wide_membrane_is_a_sum_of_shifts(net: Any, agree: Any, leak: float) -> None:
    """A ratio of 12 bits on top of a membrane of 27 would leave no room; copies by shifts need none."""
    made = net()
    x, book = made.input(["N", 8]), CodeBook(8, 8, signed=True)
    held, new = (made.grid(8, 6, scale=2.0**-7) for _ in range(2))
    before = made.matmul(x, (8, 6), weights=held)  # read twice: the leak is no part of its weights
    kept = made.op("Mul", [before, made.const(leak)])
    v = made.op("Add", [kept, made.matmul(x, (8, 6), weights=new)])
    made.output(made.quantise(before, 2.0**-5, book), made.quantise(v, 2.0**-5, book))
    feeds = made.feeds()
    result = agree(made, feeds, float64=False, weights="wide")
    (note,) = [note for note in result.notes if "shifted copies" in note]
    assert float(note.split("±")[1].split(",")[0]) < 2.0**-11
    assert not any("operand is rounded" in note for note in result.notes)
    _, codes = result.codes.values()
    wanted = feeds["x"].astype(np.float64) @ (leak * held + new) * 2**5
    assert np.abs(codes - np.clip(np.round(wanted), -255, 255)).max() <= 1


def test_a_second_alignment_changes_nothing(net: Any) -> None:
    made = net()
    x = made.quantise(made.input(["N", 8]), 0.25, SIGNED)
    made.output(made.op("Add", [weight_product(made, x, 8, 4, scale) for scale in (0.1, 0.3)]))
    model = made.model()
    assert AlignMembranes().run(model).rewrites
    assert not AlignMembranes().run(model).rewrites


# --- require-integers ---


def test_every_lost_integer_form_is_listed_once(net: Any) -> None:
    made = net()
    x = made.quantise(made.input(["N", 4, 4, 4]), 0.25, SIGNED)
    erf = made.op("Mul", [made.conv(x, (4, 4, 1, 1)), x], name="run_time_product")
    after = made.op("Add", [erf, x], name="only_follows")
    pool = made.op("AveragePool", [x], kernel_shape=[3, 3], ceil_mode=1, strides=[2, 2], name="odd_pool")
    batch = made.op("ReduceMean", [x], axes=[0], name="batch_mean")
    made.output(after, pool, batch, made.op("Neg", ["x"], name="float_output"))
    with pytest.raises(UnsupportedError) as caught:
        RequireIntegers().run(made.model())
    error = caught.value
    assert error.code == "SNN401"
    # A convolution in float weights stands for itself; what follows a named node is not named.
    named = [problem.where.node or problem.where.tensor for problem in error.problems]
    assert named == ["conv", "odd_pool", "batch_mean", "float_output"]
    text = str(error)
    assert "ceil_mode" in text and "batch" in text and "hint" in text


def test_an_output_that_is_the_input_is_refused(net: Any, agree: Any) -> None:
    made = net()
    x = made.input(["N", 4])
    made.output(made.quantise(x, 0.25), made.op("Mul", [x, made.const(2.0)], name="doubled"))
    with pytest.raises(UnsupportedError, match="doubled"):
        agree(made)


def test_what_is_complete_passes_unchanged(net: Any, agree: Any) -> None:
    made = tokens(net)
    result = agree(made.output(made.matmul(made.x, (8, 4))))
    assert RequireIntegers().run(result.conversion.quantised).rewrites == []


def test_a_channel_of_a_coarse_step_keeps_its_bits_where_others_are_rounded(
    parse: Any, evaluate: Any
) -> None:
    code = (
        'ai.snnc.Quantise<timesteps = 4, groups = 4, partition = "interleaved", signed = 0, smallest = 0, '
        'largest = 3, ties = "away", codes = [0, 1, 2, 3], twice_midpoints = [1, 3, 5], closed = [1, 1, 1]>'
    )
    model = parse(
        f"""g (float[N, 3] x) => (float[N, 2] y) <float step = {{0.25}}, double den = {{0.25}},
        int8[3, 2] w = {{5, -3, 7, 1, 2, 2}}, int8[3, 2] v = {{4, 4, -7, 3, 6, 6}},
        double[1, 2] coarse = {{0.125, 0.125}}, double[1, 2] mixed = {{{2.0**-33}, 0.125}}> {{
          c = {code}(x, step)
          k = ai.snnc.Weight(w, coarse, den) a = MatMul(c, k)
          l = ai.snnc.Weight(v, mixed, den) b = MatMul(c, l)
          y = Add(a, b)
        }}"""
    )
    attach_functions(model)
    feeds = {"x": np.random.default_rng(0).uniform(0, 1, (9, 3)).astype(np.float32)}
    expected = evaluate(model, feeds)["y"]
    result = AlignMembranes().run(model)
    assert any("is rounded to multiples of" in note for note in result.notes)
    attach_functions(model)
    np.testing.assert_allclose(evaluate(model, feeds)["y"], expected, atol=1e-6)


def test_steps_of_either_sign_that_are_no_floats_are_rounded_to_fit(
    net: Any, agree: Any, in_float64: Any
) -> None:
    """Layer scales of either sign, and two sums of many bits: low bits go, not the network."""
    made = net()
    code = made.quantise(made.input(["N", 6, 4, 4]), 0.1, CodeBook(8, 8, signed=True))
    stream = made.conv(code, (6, 6, 3, 3))
    for scale in (0.37, 0.011):
        branch = made.conv(code, (6, 6, 3, 3), weights=made.normal(6, 6, 3, 3) * scale)
        gamma = made.const(np.array([0.3, -0.7, 1.1, -0.013, 0.6, 2.3]).reshape(6, 1, 1) / 3)
        stream = made.op("Add", [stream, made.op("Mul", [made.op("Sub", [branch, stream]), gamma])])
    made.output(stream)
    feeds = made.feeds()
    result = agree(made, feeds, weights="int16")
    wanted = in_float64(made.model(), feeds)[stream]
    assert np.abs(result.outputs[stream] - wanted).max() < 1e-2 * np.abs(wanted).max()


@pytest.mark.parametrize("scale", [1.0, 0.3])
def test_a_branch_that_calibration_never_saw_alive(scale: float) -> None:
    """Its steps are the least there are: no common step of 64 bits holds both sides of the join."""
    made = Net()
    x = made.input(["N", 4])
    far_below = made.op("Sub", [made.op("MatMul", [x, made.const(np.eye(4))]), made.const(100.0)])
    hidden = made.op("Relu", [far_below])
    branch = made.op("MatMul", [hidden, made.const(scale * made.normal(4, 4))])
    stream = made.op("MatMul", [x, made.const(made.normal(4, 4))])
    weights = made.normal(4, 3)
    made.output(made.op("MatMul", [made.op("Add", [stream, branch]), made.const(weights)]))
    feeds = {"x": made.random.standard_normal((16, 4)).astype(np.float32)}
    conversion = convert(made.model(), ConvertOptions(8, 8), calibration=feeds)
    outputs, _ = everywhere(conversion, feeds)
    (found,) = outputs.values()
    constants = [numpy_helper.to_array(tensor) for tensor in made.initializers]
    wanted = feeds["x"] @ constants[-2] @ weights
    assert np.abs(found - wanted).max() < 0.1


def test_a_factor_that_no_multiplier_holds_counts_even_beside_zeros() -> None:
    def side(reach: int) -> Membrane:
        ends = np.array([-reach]), np.array([reach])
        return Membrane(np.array([Fraction(1)], dtype=object), np.array([Fraction(0)], dtype=object), *ends)

    one = np.array([1])
    assert joint_bound((side(0), side(7)), (np.array([2**62]), one)) >= 2**62
    assert joint_bound((side(2**20), side(7)), (np.array([2**50]), one)) >= 2**62, "no wrapping around"
    assert joint_bound((side(0), side(7)), (np.array([2**30]), one)) == 7
    assert joint_bound((side(5), side(7)), (np.array([-3]), np.array([2]))) == 29


@pytest.mark.parametrize("places", [(0, 1), (1, 0)])
def test_zeros_take_the_step_of_what_they_are_added_to(net: Any, agree: Any, places: tuple[int, int]) -> None:
    """Relative positions that start as zeros beside scores of next to nothing: no common step has 32 bits."""
    made = tokens(net)
    small = made.op("Mul", [made.matmul(made.x, (8, 1)), made.const(1e-30)])
    zeros = made.matmul(made.x, (8, 4), weights=np.zeros((8, 4), np.float32))
    parts = [small, zeros]
    made.output(made.op("Add", [parts[place] for place in places]))
    outputs = agree(made).outputs
    (found,) = outputs.values()
    assert found.any()
    assert np.array_equal(found, np.broadcast_to(found[..., :1], found.shape))


@pytest.mark.parametrize("op", ["Add", "Sub"])
def test_places_minus_distances_join_places_plus_distances(net: Any, agree: Any, op: str) -> None:
    """Corners of boxes: a constant minus a membrane counts in negative steps until it becomes integers."""
    made = tokens(net)
    places = made.const(made.normal(1, 5, 2))
    near, far = (made.matmul(made.x, (8, 2), weights=made.grid(8, 2)) for _ in range(2))
    low, high = made.op("Sub", [places, near]), made.op("Add", [places, far])
    made.output(made.op(op, [low, high]))
    made.output(made.op(op, [high, low]))
    agree(made)


@pytest.mark.parametrize("calibrated", [True, False])
def test_the_remedy_speaks_of_quantisers_only_to_who_brought_them(net: Any, calibrated: bool) -> None:
    made = net()
    x = made.input(["N", 4])
    code = x if calibrated else made.quantise(x, 0.25, SIGNED)
    hidden = made.matmul(code, (4, 4))
    turned = made.op("PRelu", [hidden, x])
    code = turned if calibrated else made.quantise(turned, 0.25, SIGNED)
    model = made.output(made.matmul(code, (4, 2))).model()
    with pytest.raises(UnsupportedError, match="SNN4") as caught:
        convert(model, ConvertOptions(calibrate="random:4" if calibrated else None))
    assert caught.value.hint is not None
    assert ("quantiser" in caught.value.hint) is not calibrated, caught.value
    assert ("other operators" in caught.value.hint) is calibrated
