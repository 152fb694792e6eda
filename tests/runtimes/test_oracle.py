"""The oracle against rational arithmetic, and against the ranges and steps that the type analysis states."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from snnc.coding import CodeBook
from snnc.compile import convert, quantise
from snnc.errors import UnsupportedError
from snnc.ir import constant
from snnc.passes.analysis import Membrane, Merged, analyse, as_exact, as_membrane
from snnc.runtimes.nearest import nearest_codes
from snnc.runtimes.oracle import QuantisedOracle

QUICK = settings(max_examples=60, deadline=None, derandomize=True, database=None)
SIGNED = CodeBook(4, 4, signed=True)
BOOKS = [CodeBook(2, 2), CodeBook(4, 2), SIGNED, CodeBook(4, 1, "contiguous", True), CodeBook.uniform(-8, 7)]


# --- the quantiser ---


def nearest(u: Fraction, book: CodeBook, ties: str) -> int:
    distances = [(abs(u - int(c)), int(c)) for c in book.codes]
    best = min(distances)[0]
    candidates = [c for distance, c in distances if distance == best]
    if ties == "up" or len(candidates) == 1:
        return candidates[-1]
    if ties == "even":
        return next(c for c in candidates if c % 2 == 0)
    return max(candidates, key=abs)


fractions = st.fractions(-100, 100, max_denominator=10**12)


@QUICK
@given(
    st.lists(st.integers(-40, 40), min_size=1, max_size=6),
    fractions,
    st.integers(-(2**20), 2**20),
    st.sampled_from(BOOKS),
    st.sampled_from(["away", "up", "even"]),
)
def test_nearest_codes(numbers: list[int], scale: Fraction, at: int, book: CodeBook, ties: str) -> None:
    """Near ties and exact ones, beyond what float64 tells apart."""
    assume(ties != "even" or book.is_uniform)
    middle = Fraction(int(book.twice_midpoints[at % (book.levels - 1)]), 2)
    for nudge in (Fraction(0), Fraction(1, 2**70), -Fraction(1, 2**70)):
        bias = middle - scale * numbers[0] + nudge
        exact = [as_exact(np.array([number], dtype=object)) for number in (scale, bias)]
        found = nearest_codes(np.array(numbers), *exact, book, ties)  # type: ignore[arg-type]
        assert found.tolist() == [nearest(scale * n + bias, book, ties) for n in numbers]


def test_nearest_codes_of_floats_and_of_channels() -> None:
    scale = as_exact(np.array([[0.5], [2.0]]))
    bias = as_exact(np.array([[0.0], [0.5]]))
    x = np.array([[1.0, -1.0, np.float32(0.1)], [0.0, 1e30, -1e30]], np.float32)
    found = nearest_codes(x, scale, bias, SIGNED, "away")
    assert found.tolist() == [[1, -1, 0], [1, 15, -15]]
    # A bias that has more axes than the integers.
    wide = nearest_codes(
        np.array([[1]]), as_exact(np.ones((1, 1))), as_exact(np.arange(3.0)[None]), SIGNED, "up"
    )
    assert wide.tolist() == [[1, 2, 3]]


# --- what the analysis says of every value, observed ---


def observed(made: Any, feeds: Any) -> tuple[Any, dict[str, Any]]:
    """Type analysis of a quantised network, and what the oracle holds for every value."""
    model = quantise(made.model())
    held: dict[str, Any] = {}
    evaluate = QuantisedOracle.__dict__["run_batch"].__globals__["_evaluate"]

    def watch(node: Any, inputs: Any) -> Any:
        results = evaluate(node, inputs)
        for value, item in zip(node.outputs, results, strict=False):
            held[value.name] = item
        return results

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(QuantisedOracle.__dict__["run_batch"].__globals__, "_evaluate", watch)
        QuantisedOracle(model).run_batch(feeds)
    return analyse(model), held


def network(net: Any, seed: int) -> Any:
    made = net(seed)
    steps = np.array([0.25, 0.5, 0.125], np.float32).reshape(3, 1, 1)
    x = made.quantise(made.input(["N", 3, 5, 5]), steps, SIGNED, name="in")
    unsigned = made.quantise(made.conv(x, (4, 3, 3, 3)), 0.2, (4, 2), name="unsigned")
    stem = made.conv(unsigned, (4, 4, 3, 3))
    total = made.op("Sub", [stem, made.conv(unsigned, (4, 1, 3, 3), group=4)])
    total = made.op("Add", [made.op("Neg", [total]), unsigned])
    total = made.op("Mul", [total, made.const(np.reshape([1.0, -2.0, 0.5, 3.0], (4, 1, 1)))])
    total = made.op("Add", [total, made.const(made.normal(4, 5, 5))])
    pooled = made.op("AveragePool", [total], kernel_shape=[3, 3], pads=[1, 1, 1, 1])
    best = made.op("MaxPool", [made.op("Mul", [stem, made.const(2.0)])], kernel_shape=[2, 2])
    joined = made.op("Concat", [unsigned, made.op("Transpose", [stem], perm=[0, 1, 3, 2])], axis=1)
    mean = made.op("ReduceMean", [joined], axes=[3], keepdims=0)
    tokens = made.quantise(made.op("Flatten", [unsigned]), 0.2, (4, 2))
    held = made.quantise(made.op("Reshape", [stem, made.const([-1, 4, 25], np.int64)]), 0.3, SIGNED)
    turned = made.op("Transpose", [held], perm=[0, 2, 1])
    scores = made.op("Div", [made.op("MatMul", [held, turned]), made.const(5.0)])
    merged = made.op("GlobalAveragePool", [made.op("AveragePool", [unsigned], kernel_shape=[2, 2])])
    product = made.conv(merged, (2, 4, 1, 1))
    made.output(made.matmul(tokens, (100, 3)), scores, best, mean, product, pooled)
    return made


@pytest.mark.parametrize("seed", range(3))
def test_ranges_hold_and_steps_agree(net: Any, seed: int) -> None:
    """Extreme inputs, every value: integers in the stated range, and step and bias those of the oracle."""
    made = network(net, seed)
    random = np.random.default_rng(seed)
    shape = (4, 3, 5, 5)
    extremes = [
        np.full(shape, 1e9),
        np.full(shape, -1e9),
        np.zeros(shape),
        1e9 * random.choice([-1, 1], shape),
    ]
    feeds = {"x": np.concatenate([*extremes, random.standard_normal(shape)]).astype(np.float32)}
    analysis, held = observed(made, feeds)
    compared = 0
    for name, item in held.items():
        value = next(v for node in analysis.model.graph for v in node.outputs if v.name == name)
        kind = as_membrane(analysis.kind(value))
        if kind is None or not hasattr(item, "scale"):
            continue
        compared += 1
        low, high = item.integers.min(axis=0, keepdims=True), item.integers.max(axis=0, keepdims=True)
        assert np.all(kind.low <= low) and np.all(high <= kind.high), name
        assert np.all(kind.step == item.scale) and np.all(kind.bias == item.bias), name
    assert compared > 25
    assert any(isinstance(analysis.kind(v), Merged) for node in analysis.model.graph for v in node.outputs)


def test_ranges_are_reached(net: Any) -> None:
    """A bound that no input reaches would refuse networks that fit: for one layer it is exact."""
    made = net()
    weights = np.array([[1, -2], [3, 4], [-5, 6]])
    x = made.quantise(made.input(["N", 3]), 1.0, SIGNED)
    inputs = [made.const(weights, np.int8), made.const(1.0, np.float64), made.const(1.0, np.float64)]
    made.output(made.op("MatMul", [x, made.op("Weight", inputs, domain="ai.snnc")], name="product"))
    signs = np.sign(weights).T
    analysis, held = observed(made, {"x": (1e3 * np.concatenate([signs, -signs])).astype(np.float32)})
    kind = analysis.kind(
        next(v for node in analysis.model.graph for v in node.outputs if v.name == "product")
    )
    assert isinstance(kind, Membrane)
    assert kind.high.reshape(-1).tolist() == held["product"].integers.max(axis=0).tolist() == [135, 180]
    assert kind.low.reshape(-1).tolist() == held["product"].integers.min(axis=0).tolist() == [-135, -180]


def test_taps_outputs_and_frees(net: Any) -> None:
    made = net()
    first = made.quantise(made.input(["N", 4]), 0.25, SIGNED, name="first")
    made.output(made.matmul(first, (4, 2)), first)
    feeds = made.feeds(batch=2)
    model = convert(made.model()).quantised
    outputs, codes = QuantisedOracle(model).run_batch(feeds, ["first"])
    assert codes["first"].dtype == np.int32 and outputs["first"].dtype == np.float32
    assert np.array_equal(outputs["first"], codes["first"] * np.float32(0.25))
    assert QuantisedOracle(model).run_batch(feeds)[1] == {}


def test_readout_rounds_each_step_to_float32(net: Any) -> None:
    """float32(v) · scale, then plus bias, each rounded: not one rounding at the end."""
    made = net()
    x = made.quantise(made.input(["N", 40]), 0.1, CodeBook(8, 8, signed=True))
    product = made.matmul(x, (40, 6))
    made.output(made.op("Add", [product, made.const(made.normal(6) * 100)], name="y"))
    feeds = made.feeds(batch=50, spread=3.0)
    analysis, held = observed(made, feeds)
    item = held["y"]
    scale, bias = (np.asarray(part.astype(np.float64), np.float32) for part in (item.scale, item.bias))
    found = QuantisedOracle(analysis.model).run_batch(feeds)[0]["y"]
    assert np.array_equal(found, item.integers.astype(np.float32) * scale + bias)
    once = (item.integers * scale.astype(np.float64) + bias).astype(np.float32)
    assert not np.array_equal(found, once)


def test_an_operator_without_a_rule_is_refused(net: Any) -> None:
    made = net()
    x = made.quantise(made.input(["N", 4]), 0.25)
    model = made.output(made.op("Sin", [x], name="wave")).model()
    with pytest.raises(UnsupportedError, match="wave"):
        QuantisedOracle(model).run_batch(made.feeds())


def test_the_oracle_knows_nothing_of_thresholds(net: Any) -> None:
    """It reads the quantised graph: no table of the emitted file reaches it."""
    made = net()
    made.output(made.quantise(made.matmul(made.quantise(made.input(["N", 4])), (4, 3)), 0.25))
    conversion = convert(made.model())
    for node in conversion.model.graph:
        for value in node.inputs:
            if value is not None and value.name and "thresholds" in value.name:
                assert constant(value) is not None
                value.const_value = None
    feeds = made.feeds()
    before = QuantisedOracle(quantise(made.model())).run_batch(feeds)[0]
    after = QuantisedOracle(conversion.quantised).run_batch(feeds)[0]
    assert all(np.array_equal(before[name], after[name]) for name in before)


def test_the_shape_of_a_value_is_no_value(net: Any) -> None:
    made = net(0)
    x = made.quantise(made.input(["N", 3, 2]), np.array([0.25, 0.5, 0.125], np.float32).reshape(3, 1), SIGNED)
    size = made.op("Shape", [x])
    first = made.op("Gather", [size, made.const([0], np.int64)], axis=0)
    made.output(made.op("Concat", [first, made.const([7, 8], np.int64)], axis=0))
    outputs, _ = QuantisedOracle(made.model()).run_batch({"x": np.ones((5, 3, 2), np.float32)})
    (found,) = outputs.values()
    assert found.tolist() == [5, 7, 8]


def weights(net: Any, shape: tuple[int, ...], step: Any = 1.0) -> str:
    held = [net.const(np.ones(shape), np.int8), net.const(np.asarray(step, np.float64), np.float64)]
    ones = net.const(np.ones((1,) * len(shape)), np.float64)
    return str(net.op("Weight", [*held, ones], domain="ai.snnc"))


def own(net: Any, op: str, inputs: list[str], **attrs: Any) -> str:
    return str(net.op(op, inputs, name="guilty", domain="ai.snnc", **attrs))


def unlike(net: Any, x: str, rank: int = 2, axis: int = 1, size: int = 4) -> str:
    """A code whose step differs along one axis."""
    shape = [1] * rank
    shape[axis] = size
    return str(net.quantise(x, (0.25 * np.arange(1, size + 1)).reshape(shape).astype(np.float32)))


def biased(net: Any, x: str) -> str:
    return str(net.op("Add", [net.quantise(x), net.const(0.125)]))


ROWS, IMAGE = ["N", 4], ["N", 4, 2, 3]
GUILTY: dict[str, Any] = {
    "convolved bias": (
        IMAGE,
        lambda n, x: n.op("Conv", [biased(n, x), weights(n, (2, 4, 1, 1))], name="guilty"),
        "a biased membrane is convolved",
    ),
    "convolved steps": (
        IMAGE,
        lambda n, x: n.op("Conv", [unlike(n, x, 4), weights(n, (2, 4, 1, 1))], name="guilty"),
        "input channels of different steps are summed",
    ),
    "multiplied bias": (
        ROWS,
        lambda n, x: n.op("MatMul", [biased(n, x), weights(n, (4, 2))], name="guilty"),
        "a biased membrane is multiplied",
    ),
    "multiplied steps": (
        ROWS,
        lambda n, x: n.op("MatMul", [unlike(n, x), weights(n, (4, 2))], name="guilty"),
        "summed elements have different steps",
    ),
    "product of sums": (
        ROWS,
        lambda n, x: n.op("Mul", [biased(n, x), n.quantise(x)], name="guilty"),
        "a product of other than codes",
    ),
    "quotient of codes": (
        ROWS,
        lambda n, x: n.op("Div", [n.quantise(x), n.quantise(x)], name="guilty"),
        "a product of other than codes",
    ),
    "sum of steps": (
        ROWS,
        lambda n, x: n.op("Add", [n.quantise(x, 0.25), n.quantise(x, 0.5)], name="guilty"),
        "summands have different steps",
    ),
    "rounded finer": (
        ROWS,
        lambda n, x: own(n, "RoundMembrane", [n.quantise(x, 0.25), n.const(0.1, np.float64)]),
        "a rounding that is no division of integers",
    ),
    "divided bias": (
        ROWS,
        lambda n, x: own(n, "FloorQuotient", [biased(n, x), n.quantise(x)], fraction_bits=4),
        "a biased membrane is divided",
    ),
    "normalised steps": (
        ROWS,
        lambda n, x: own(
            n,
            "Normalise",
            [unlike(n, x), n.const(np.ones(4))],
            axes=[1],
            epsilon=0,
            fraction_bits=4,
            centred=1,
        ),
        "a membrane that is not on one grid is normalised",
    ),
    "largest of steps": (
        ROWS,
        lambda n, x: n.op("ReduceMax", [unlike(n, x)], axes=[1], name="guilty"),
        "a maximum over different steps",
    ),
    "mask across steps": (
        ROWS,
        lambda n, x: own(n, "MaskRow", [unlike(n, x), n.const(np.ones((1, 4)), bool)], axis=1),
        "a mask over different steps",
    ),
    "mask on a bias": (
        ROWS,
        lambda n, x: own(n, "Gate", [biased(n, x), n.const(np.ones((1, 4)), bool)]),
        "a mask on a biased value",
    ),
    "mean of steps": (
        ROWS,
        lambda n, x: n.op("ReduceMean", [unlike(n, x)], axes=[1], name="guilty"),
        "summed elements have different steps",
    ),
}


@pytest.mark.parametrize("case", GUILTY.values(), ids=GUILTY)
def test_what_is_not_on_one_grid_is_refused(net: Any, case: Any) -> None:
    """The oracle proves nothing; it does not go on where the integers would not be the value."""
    shape, build, message = case
    made = net()
    build(made, made.input(shape))
    made.output("guilty")
    with pytest.raises(UnsupportedError) as caught:
        QuantisedOracle(made.model()).run_batch(made.feeds())
    assert (caught.value.code, caught.value.where.node) == ("SNN448", "guilty")
    assert message in caught.value.message
