"""absorb-activations, drop-repeated-quantisers, remove-straight-through, check-quantisers."""

from __future__ import annotations

import numpy as np
import onnx_ir
import pytest

from snnc.coding import CodeBook
from snnc.errors import InputError
from snnc.ir import attributes, constant
from snnc.ir.rewrite import set_attribute
from snnc.ops import attach_functions
from snnc.ops.quantise import QUANTISE
from snnc.passes.recognise import (
    AbsorbActivations,
    CheckQuantisers,
    DropRepeatedQuantisers,
    RecogniseQuantisers,
    RecogniseWeights,
    RemoveStraightThrough,
)
from snnc.passes.recognise.uniform import quantise_attributes


def quantise(u, y, book, ties="away", step="s"):
    """ONNX text of a Quantise node."""
    listed = ", ".join(
        f"{key} = {list(value) if not isinstance(value, str | int) else repr(value)}"
        for key, value in quantise_attributes(book, ties).items()
    ).replace("'", '"')
    return f"{y} = ai.snnc.Quantise<{listed}>({u}, {step})"


INT4, UINT4 = CodeBook.uniform(-8, 7), CodeBook.uniform(0, 15)
SPARSE = CodeBook(4, 2, signed=True)
WEIGHTS = "float s = {0.25}, float t = {0.5}, float zero = {0}, float six = {0.8}, float low = {-0.6}"
WEIGHTS += ", float[4] row = {-0.5, 0.125, 0.375, 9}"


def graph(parse, body, outputs="float[N, 2, 4] y"):
    """A model of these nodes with the functions of its own ops."""
    model = parse(f"g (float[N, 2, 4] x) => ({outputs}) <{WEIGHTS}> {{ {body} }}")
    attach_functions(model)
    return model


def books(model):
    return [CodeBook.from_attributes(attributes(node)) for node in model.graph if node.op_type == "Quantise"]


@pytest.mark.parametrize("ties", ["away", "up", "even"])
@pytest.mark.parametrize(
    ("activation", "book", "expected"),
    [
        ("Relu(x)", UINT4, (0, 15)),
        ("Relu(x)", INT4, (0, 7)),
        ("Clip(x, zero, six)", INT4, (0, 3)),
        ("Clip(x, low)", INT4, (-2, 7)),
        ("Clip(x, low, six)", SPARSE, (-2, 3)),
        ("Relu(x)", SPARSE, (0, 12)),
    ],
)
def test_absorbs(parse, check, ops, ties, activation, book, expected):
    if ties == "even" and book is SPARSE:
        pytest.skip("ties to even need consecutive codes")
    model = graph(parse, f"r = {activation} {quantise('r', 'y', book, ties)}")
    on_ties = np.arange(-20, 20).reshape(5, 2, 4).astype(np.float32) * 0.125
    check(AbsorbActivations(), model, feeds={"x": on_ties})
    assert ops(model) == ["Quantise"]
    assert books(model) == [book.restricted(*expected)]
    assert attributes(model.graph[0]) == quantise_attributes(book.restricted(*expected), ties)


def test_absorbs_through_pooling_into_several(parse, check, ops):
    model = graph(
        parse,
        f"r = Relu(x) p = MaxPool<kernel_shape = [2]>(r) {quantise('p', 'a', INT4)} t0 = "
        f"Transpose<perm = [0, 2, 1]>(r)"
        f" {quantise('t0', 'b', INT4, step='t')}",
        "float[N, 2, 3] a, float[N, 4, 2] b",
    )
    check(AbsorbActivations(), model, spread=2.0)
    assert sorted(ops(model)) == ["MaxPool", "Quantise", "Quantise", "Transpose"]
    assert books(model) == [CodeBook(4, 4, signed=True, smallest=0, largest=7)] * 2


def test_two_in_a_row(parse, check, ops):
    model = graph(parse, f"c = Clip(x, low, six) r = Relu(c) {quantise('r', 'y', INT4)}")
    check(AbsorbActivations(), model)
    assert ops(model) == ["Quantise"] and books(model)[0].smallest == 0 and books(model)[0].largest == 3


@pytest.mark.parametrize(
    ("body", "outputs", "reason"),
    [
        (
            f"r = Relu(x) {quantise('r', 'q', INT4)} y = Add(q, r)",
            "float[N, 2, 4] y",
            "Add 'n_y' reads its result",
        ),
        (
            f"r = Relu(x) {quantise('r', 'y', INT4)}",
            "float[N, 2, 4] y, float[N, 2, 4] r",
            "its result is an output",
        ),
        (
            f"k = Abs(zero) r = Clip(x, k) {quantise('r', 'y', INT4)}",
            "float[N, 2, 4] y",
            "not constant numbers",
        ),
        (
            f"r = Clip(x, zero, zero) {quantise('r', 'y', INT4)}",
            "float[N, 2, 4] y",
            "only one level would be left",
        ),
    ],
)
def test_absorb_reasons(parse, body, outputs, reason):
    model = graph(parse, body, outputs)
    result = AbsorbActivations().run(model)
    assert not result.rewrites and reason in result.not_matched[0].reason


def test_absorb_needs_one_code_for_all_channels(parse):
    model = parse(
        f"""g (float[N, 2, 4] x) => (float[N, 2, 4] y) <float[2, 1] s = {{0.25, 0.5}}, float z =
          {{0}}, float m = {{1}}>
        {{ r = Clip(x, z, m) {quantise("r", "y", INT4)} }}"""
    )
    assert "another code in each channel" in AbsorbActivations().run(model).not_matched[0].reason


def test_drops_repeated(parse, check, ops):
    model = graph(
        parse,
        f"{quantise('x', 'a', UINT4)} p = MaxPool<kernel_shape = [2]>(a) r = Identity(p) "
        f"{quantise('r', 'b', UINT4, 'even')} "
        "y = Neg(b)",
        "float[N, 2, 3] y",
    )
    result = check(DropRepeatedQuantisers(), model, spread=3.0)
    assert ops(model) == ["Quantise", "MaxPool", "Identity", "Neg"]
    assert result.rewrites[0].removed == ("n_b",)


@pytest.mark.parametrize(
    ("inputs", "mask", "step", "goes"),
    [
        ("int64[N, 4] m", "f = Cast<to = 1>(m)", 1 / 15, True),
        ("bool[N, 4] m", "n = Not(m) g = Cast<to = 1>(n) f = Mul(g, closed)", 10000 / 15, True),
        # Two thirds is no level; an input of floats, and what the network computes, may be any number.
        ("int64[N, 4] m", "f = Cast<to = 1>(m)", 2 / 3, False),
        ("float[N, 4] m", "f = Mul(m, closed)", 1 / 15, False),
        ("bool[N, 4] m", "f = Sub(x, closed)", 1 / 15, False),
    ],
)
def test_a_quantiser_of_a_mask_whose_numbers_are_levels(parse, ops, inputs, mask, step, goes):
    book = CodeBook.uniform(-15, 15)
    model = parse(
        f"g (float[N, 4] x, {inputs}) => (float[N, 4] y) <float s = {{{step}}}, float closed = {{-10000}}> "
        f"{{ {mask} {quantise('f', 'a', book, 'even')} z = Relu(x) y = Add(z, a) }}"
    )
    result = DropRepeatedQuantisers().run(model)
    assert ("Quantise" not in ops(model)) == bool(result.rewrites) == goes


def test_a_quantised_constant_is_a_constant(parse, check, ops):
    model = graph(parse, f"{quantise('row', 'a', UINT4, 'even')} y = Add(x, a)")
    check(RecogniseWeights(), model, spread=3.0)
    assert ops(model) == ["Add"]


def test_a_quantised_constant_falls_where_the_kernel_puts_it(parse):
    """Break points are rounded to float32 (semantics.md 2): a constant on one of them is at or above it."""
    points = UINT4.twice_midpoints.astype(np.float32) / np.float32(2)
    for step in (np.arange(1, 200, dtype=np.float32) / np.float32(1000)) + np.float32(1.234e-4):
        model = graph(parse, f"{quantise('row', 'a', UINT4)} y = Add(x, a)", f"float[N, {points.size}] y")
        quantiser = next(node for node in model.graph if node.op_type == "Quantise")
        held = points * step
        for value, given in zip(quantiser.inputs, (held, step), strict=True):
            value.const_value = onnx_ir.tensor(given)
        before = attributes(quantiser)
        RecogniseWeights().run(model)
        (sum_,) = model.graph
        np.testing.assert_array_equal(constant(sum_.inputs[1]), QUANTISE.packed([held, step], before))


@pytest.mark.parametrize(
    ("second", "reason"),
    [
        (quantise("a", "y", UINT4, step="t"), "its step differs from the step before"),
        (
            quantise("a", "y", CodeBook.uniform(0, 7), "even"),
            "it drops codes that others read, or rounds otherwise",
        ),
    ],
)
def test_keeps_quantisers_that_change_something(parse, second, reason):
    model = graph(parse, f"{quantise('x', 'a', UINT4)} {second}")
    result = DropRepeatedQuantisers().run(model)
    assert not result.rewrites and result.not_matched[0].reason == reason


def test_a_quantiser_that_only_cuts_swallows_the_first(parse, check, ops):
    model = graph(
        parse,
        f"{quantise('x', 'a', INT4)} p = Flatten(a) r = Relu(p) {quantise('r', 'y', INT4)}",
        "float[N, 8] y",
    )
    check(AbsorbActivations(), model, spread=2.0)
    assert ops(model) == ["Quantise", "Flatten", "Quantise"]
    result = check(DropRepeatedQuantisers(), model, spread=2.0)
    assert ops(model) == ["Flatten", "Quantise"]
    assert result.rewrites[0].rule.endswith("the first")
    assert (books(model)[0].smallest, books(model)[0].largest) == (0, 7)


def test_the_first_stays_where_others_read_it(parse, ops):
    cut = quantise("a", "b", CodeBook.uniform(0, 7))
    model = graph(parse, f"{quantise('x', 'a', INT4)} {cut} y = Sub(a, b)")
    assert not DropRepeatedQuantisers().run(model).rewrites


@pytest.mark.parametrize(
    ("behind", "expected"),
    [("Relu(a)", (0, 7)), ("Clip(a, low2, one)", (-2, 4)), ("Clip(a, zero, wide)", (0, 7))],
)
def test_absorbs_behind_a_quantiser(parse, check, ops, behind, expected):
    model = parse(
        f"""g (float[N, 4] x) => (float[N, 4] y)
        <float s = {{0.25}}, float zero = {{0}}, float one = {{1}}, float low2 = {{-0.5}},
         float wide = {{99}}>
        {{ {quantise("x", "a", INT4)} b = {behind} y = Neg(b) }}"""
    )
    attach_functions(model)
    check(AbsorbActivations(), model, spread=3.0)
    assert ops(model) == ["Quantise", "Neg"]
    assert (books(model)[0].smallest, books(model)[0].largest) == expected


def test_a_bound_between_levels_is_not_absorbed_behind(parse):
    model = graph(parse, f"{quantise('x', 'a', INT4)} b = Clip(a, low, six) y = Neg(b)")
    result = AbsorbActivations().run(model)
    assert result.not_matched[0].reason == "its bound is not one of the levels that arrive"


def test_pooled_values_are_not_on_the_grid(parse):
    model = graph(
        parse,
        f"{quantise('x', 'a', UINT4)} p = AveragePool<kernel_shape = [2]>(a) {quantise('p', 'y', UINT4)}",
        "float[N, 2, 3] y",
    )
    assert not DropRepeatedQuantisers().run(model).rewrites


@pytest.mark.parametrize(
    "body",
    [
        "d = Sub(q, x) y = Add(x, d)",
        "d = Sub(q, x) y = Add(d, x)",
        "d = Sub(x, q) y = Sub(x, d)",
    ],
)
def test_straight_through(parse, check, ops, body):
    model = graph(parse, f"q = Round(x) {body}")
    check(RemoveStraightThrough(), model, tolerance=1e-6)
    assert ops(model) == ["Round"]
    assert model.graph[0].outputs[0].name == "y"


@pytest.mark.parametrize(
    "body",
    [
        "d = Sub(q, x) y = Add(q, d)",
        "d = Sub(q, x) e = Add(x, d) y = Add(e, d)",
        "d = Sub(x, q) y = Add(x, d)",
    ],
)
def test_other_sums_stay(parse, ops, body):
    model = graph(parse, f"q = Round(x) {body}")
    before = ops(model)
    assert not RemoveStraightThrough().run(model).rewrites and ops(model) == before


def test_straight_through_then_chain(parse, ops):
    model = parse(
        """g (float[N, 4] x) => (float[N, 4] y) <float s = {0.1}, float lo = {0}, float hi = {15}>
        { a = Div(x, s) c = Clip(a, lo, hi) r = Round(c) d = Sub(r, c) e = Add(c, d) y = Mul(e, s) }"""
    )
    RemoveStraightThrough().run(model)
    RecogniseQuantisers().run(model)
    assert ops(model) == ["Quantise"]


def test_derived_attributes_are_redone(parse, check):
    model = graph(parse, quantise("x", "y", SPARSE))
    assert not CheckQuantisers().run(model).rewrites
    set_attribute(model.graph[0], "codes", [1, 2, 3])
    del model.graph[0].attributes["closed"]
    result = CheckQuantisers().run(model)
    assert result.rewrites[0].note == "n_y"
    assert attributes(model.graph[0]) == quantise_attributes(SPARSE, "away")


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (quantise("x", "y", INT4, step="neg"), "its step is not positive"),
        (quantise("x", "y", INT4, step="x"), "its step is not constant"),
        (quantise("x", "y", INT4).replace("timesteps = 4", "timesteps = 40"), "timesteps must be 1 to 16"),
        (quantise("x", "y", INT4).replace('"away"', '"down"'), "ties must be one of"),
        ("y = ai.snnc.ExpGIF(x)", "a source file may not hold ExpGIF"),
        ("y = ai.snnc.Weight(x)", "has not 3 inputs"),
        ("y = ai.snnc.Weight(x, one, one)", "its integers are not constant signed integers"),
        ("y = ai.snnc.Weight(whole, neg, one)", "its numerator is not positive"),
    ],
)
def test_illegal_nodes(parse, body, reason):
    model = parse(
        f"""g (float[N, 2] x) => (float[N, 2] y)
        <float s = {{0.25}}, float neg = {{-1}}, double one = {{1}}, int8[2, 2] whole = {{1, 2, 3,
          4}}> {{ {body} }}"""
    )
    with pytest.raises(InputError, match="SNN322") as caught:
        CheckQuantisers().run(model)
    assert reason in str(caught.value) and "n_y" in str(caught.value)


STEPPED = "float[N, 2, 4] x, float p"


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (f"r = Relu(x) {quantise('r', 'y', INT4, step='p')}", "the step of its quantiser is not constant"),
        (f"{quantise('x', 'q', INT4, step='p')} y = Relu(q)", "the step of its quantiser is not constant"),
        (
            f"{quantise('x', 'q', INT4, step='channels')} y = Clip(q, zero, six)",
            "its bound is another code in each channel, or cuts every level",
        ),
        (
            f"{quantise('x', 'q', INT4)} y = Clip(q, far, further)",
            "its bound is another code in each channel, or cuts every level",
        ),
    ],
)
def test_steps_that_keep_an_activation(parse, ops, body, reason):
    more = ", float[2, 1] channels = {0.25, 0.5}, float far = {7}, float further = {8}"
    model = parse(f"g ({STEPPED}) => (float[N, 2, 4] y) <{WEIGHTS}{more}> {{ {body} }}")
    before = ops(model)
    result = AbsorbActivations().run(model)
    assert [entry.reason for entry in result.not_matched] == [reason]
    assert ops(model) == before and not result.rewrites


@pytest.mark.parametrize(
    ("first", "second", "outputs", "reason"),
    [
        # Codes that the first has not; and one step after the other, both of them results.
        (UINT4, CodeBook.uniform(-3, 7), "y", "it drops codes that others read, or rounds otherwise"),
        (UINT4, SPARSE, "y", "it drops codes that others read, or rounds otherwise"),
        (UINT4, INT4.restricted(0, 7), "q, y", "it drops codes that others read, or rounds otherwise"),
        (UINT4, UINT4, "q, y", "its result is an output of the graph and so is its input"),
    ],
)
def test_two_quantisers_that_stay(parse, ops, first, second, outputs, reason):
    listed = ", ".join(f"float[N, 2, 4] {name}" for name in outputs.split(", "))
    model = graph(parse, f"{quantise('x', 'q', first)} {quantise('q', 'y', second)}", listed)
    result = DropRepeatedQuantisers().run(model)
    assert [entry.reason for entry in result.not_matched] == [reason]
    assert ops(model) == ["Quantise", "Quantise"]


def test_a_straight_through_sum_whose_code_is_a_result_stays(parse, ops):
    model = graph(
        parse,
        f"{quantise('x', 'q', INT4)} d = Sub(q, x) y = Add(x, d)",
        "float[N, 2, 4] q, float[N, 2, 4] y",
    )
    result = RemoveStraightThrough().run(model)
    assert ops(model) == ["Quantise", "Sub", "Add"] and not result.rewrites
    (entry,) = result.not_matched
    assert entry.reason == "its result is an output of the graph and so is what it would become"


def test_a_file_may_bring_a_silu_with_a_positive_alpha(parse, ops):
    model = graph(parse, "y = ai.snnc.Silu(x, s)")
    assert not CheckQuantisers().run(model).rewrites and ops(model) == ["Silu"]
    with pytest.raises(InputError, match="its alpha is not positive"):
        CheckQuantisers().run(graph(parse, "y = ai.snnc.Silu(x, low)"))


def test_a_code_of_one_level_is_refused(parse):
    text = quantise("x", "y", INT4)
    assert "smallest = -8" in text and "largest = 7" in text
    model = graph(parse, text)
    set_attribute(model.graph[0], "smallest", 0)
    set_attribute(model.graph[0], "largest", 0)
    with pytest.raises(InputError, match="its code book has a single level"):
        CheckQuantisers().run(model)


def test_attributes_that_a_quantiser_has_not_are_dropped(parse):
    model = graph(parse, quantise("x", "y", INT4))
    set_attribute(model.graph[0], "colour", 3)
    assert len(CheckQuantisers().run(model).rewrites) == 1
    assert "colour" not in attributes(model.graph[0])
    assert attributes(model.graph[0]) == quantise_attributes(INT4, "away")
