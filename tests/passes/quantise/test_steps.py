"""Steps from calibration: histograms that are exact enough, observers, and steps that differ by channel."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from snnc.calibration import Calibration
from snnc.coding import CodeBook
from snnc.compile import ConvertOptions, convert, quantise
from snnc.data import open_samples
from snnc.errors import UsageError
from snnc.ir import attributes, constant, infer_shapes
from snnc.passes.quantise.balance import balanced_steps
from snnc.passes.quantise.channels import Rows, channels_of
from snnc.passes.quantise.errors import ErrorTable, on_grid
from snnc.passes.quantise.grids import WeightFormat
from snnc.passes.quantise.histogram import Histogram
from snnc.passes.quantise.sites import quantiser_sites
from snnc.passes.quantise.steps import OBSERVERS, best_step, cost_of

Array = Any
BOOKS = [CodeBook(4, 4), CodeBook(4, 2), CodeBook(8, 4), CodeBook(8, 1, "contiguous")]


def draw(kind: str, shape: tuple[int, ...] = (8, 300, 16)) -> Array:
    random = np.random.default_rng(3)
    x = random.standard_normal(shape)
    if kind == "relu":
        x = np.maximum(x, 0)
    if kind == "laplace":
        x = random.laplace(size=shape)
    if kind == "outlier":
        x[..., 3] *= 50
    return x.astype(np.float32)


def seen(x: Array, axes: tuple[int, ...] = (), parts: int = 4) -> Any:
    histogram = Histogram(axes)
    for part in np.array_split(x, parts):
        histogram.add(part)
    return histogram.distribution()


def decibel(x: Array, step: Array, book: CodeBook) -> float:
    wide = x.astype(np.float64)
    coded = book.nearest(wide / step) * step
    return float(10 * np.log10((wide**2).sum() / ((wide - coded) ** 2).sum()))


@pytest.mark.parametrize("kind", ["gauss", "relu", "laplace", "outlier"])
@pytest.mark.parametrize("axes", [(), (2,)])
def test_what_a_step_is_said_to_cost_is_what_it_costs(kind: str, axes: tuple[int, ...]) -> None:
    x = draw(kind)
    for book in BOOKS:
        code = book if x.min() >= 0 else CodeBook(book.timesteps, book.groups, book.partition, signed=True)
        found = best_step(seen(x, axes), code)
        assert found.step.dtype == np.float32 and found.step.shape == ((16,) if axes else ())
        # A histogram takes the values of a bin, an eighth of an octave, for evenly spread.
        assert found.decibel == pytest.approx(decibel(x, found.step, code), abs=0.35)
        beyond = (x > code.largest * found.step) | (x < code.smallest * found.step)
        assert found.clipped == pytest.approx(beyond.mean(), abs=0.001)


def test_the_search_finds_the_best_step_of_the_codes_own_levels() -> None:
    """No step of a fine grid is better by more than a trifle, for uniform and for doubling levels."""
    x = draw("gauss", (4, 200, 10))
    for book in (CodeBook(4, 4, signed=True), CodeBook(6, 2, signed=True), CodeBook(4, 1, signed=True)):
        found = best_step(seen(x), book)
        peak = float(np.abs(x).max()) / book.max_abs
        best = max(decibel(x, np.float64(peak * ratio), book) for ratio in np.linspace(0.1, 1.1, 200))
        assert decibel(x, found.step, book) > best - 0.1


def test_the_window_of_a_histogram_moves_with_its_values() -> None:
    x = draw("gauss", (6, 500, 4)) * np.float32(1e-6)
    large = x * np.float32(1e5)
    histogram = Histogram((2,))
    histogram.add(np.zeros((2, 3, 4), np.float32))
    for part in (x, large, x):
        histogram.add(part)
    found = histogram.distribution()
    assert found.total == 24 + 3 * x.size
    assert (found.low, found.high) == (large.min(), large.max())
    np.testing.assert_array_equal(found.peaks, np.abs(large).max(axis=(0, 1)))
    number, total = (moments[:, -1] for _, table in found.blocks for moments in (table.number, table.total))
    square = found.squares
    both = np.concatenate([x, large, x])
    assert number.sum() == found.total
    scale = float(np.abs(both).sum())
    np.testing.assert_allclose(total, both.sum(axis=(0, 1)), atol=0.01 * scale)
    np.testing.assert_allclose(square, (both.astype(np.float64) ** 2).sum(axis=(0, 1)), rtol=0.02)


def test_observers_differ_as_their_names_say() -> None:
    x = draw("outlier")
    book = CodeBook(4, 4, signed=True)
    steps = {name: float(best_step(seen(x), book, name).step) for name in OBSERVERS}
    assert len(set(steps.values())) == 3
    reach = steps["percentile"] * book.largest
    assert np.mean(np.abs(x) <= reach) == pytest.approx(0.9999, abs=3e-4)
    best = decibel(x, np.float64(steps["mse"]), book)
    assert all(best >= decibel(x, np.float64(step), book) - 0.05 for step in steps.values())


def test_a_channel_never_seen_away_from_zero_gets_a_step_like_the_others() -> None:
    x = draw("gauss")
    x[..., 5] = 0
    steps = balanced_steps(seen(x, (2,)), CodeBook(4, 4, signed=True), "mse", (), WeightFormat("int8")).step
    assert np.all(steps > 0) and np.isfinite(steps).all()


def test_steps_of_channels_give_way_to_the_grid_of_the_weights() -> None:
    """With many levels and few weight bits, one channel's large step must not coarsen all weights."""
    x = draw("gauss", (64, 300, 16))
    x[..., 3] *= np.float32(50)
    weights = np.random.default_rng(0).standard_normal((16, 8))
    rows = (Rows(weights, np.arange(16)),)

    def spread(form: str, book: CodeBook) -> float:
        steps = balanced_steps(seen(x, (2,)), book, "mse", rows, WeightFormat(form)).step
        return float(steps[3] / np.median(steps))

    few, many = CodeBook(4, 4, signed=True), CodeBook(10, 10, signed=True)
    assert spread("int16", few) > 30
    assert spread("int3", many) < spread("int16", many)


def outliers(net: Any) -> tuple[Any, Array]:
    """LayerNorm with one scale fifty times the others, then two layers; and data for it."""
    made = net(seed=5)
    scale = np.ones(16, np.float32)
    scale[3] = 50
    x = made.op("MatMul", [made.input(["N", 6, 8]), made.const(made.random.standard_normal((8, 16)))])
    norm = made.op("LayerNormalization", [x, made.const(scale), made.const(np.zeros(16))], axis=-1)
    weights = made.random.standard_normal((16, 12))
    weights[3] /= 50
    hidden = made.op("Relu", [made.op("MatMul", [norm, made.const(weights)])])
    made.output(made.op("MatMul", [hidden, made.const(made.random.standard_normal((12, 5)))]))
    return made, made.random.standard_normal((64, 6, 8)).astype(np.float32)


def test_outlier_channels_are_folded_into_the_weights(net: Any) -> None:
    """Semantics 6.2: a step for each channel, folded into the rows of the weights before they are rounded."""
    made, data = outliers(net)
    options = ConvertOptions(timesteps=6, groups=6)
    conversion = convert(made.model(), options, calibration=data)
    (site,) = [
        node
        for node in conversion.quantised.graph
        if node.op_type == "Quantise" and (step := constant(node.inputs[1])) is not None and step.size == 16
    ]
    step = np.asarray(constant(site.inputs[1])).reshape(-1)
    assert step[3] > 20 * np.median(step)
    # The layer behind reads the steps as the denominators of its weights.
    denominators = [
        np.asarray(constant(node.inputs[2]))
        for node in conversion.quantised.graph
        if node.op_type == "Weight"
    ]
    assert any(item.size == 16 and np.allclose(item.reshape(-1), step) for item in denominators)
    assert conversion.calibration is not None and conversion.calibration.samples == 64
    measured = conversion.calibration.codes["layernormalization"]
    assert measured["sqnr_db"] > 30 and measured["clipped"] < 0.01
    from snnc.runtimes import OnnxRuntime, create

    wanted = OnnxRuntime(made.model(), optimisation="none").run({"x": data})
    found = create("numpy", conversion.model).run({"x": data})
    (name,) = wanted
    noise = ((found[name] - wanted[name]) ** 2).sum()
    assert 10 * np.log10((wanted[name] ** 2).sum() / noise) > 25


def test_channels_are_told_apart_only_where_every_reader_can_make_up_for_it(net: Any) -> None:
    made = net()
    x = made.op("MatMul", [made.input(["N", 4, 8]), made.const(made.random.standard_normal((8, 8)))])
    one = made.op("Relu", [x])
    moved = made.op("Reshape", [one, made.const([0, 4, 2, 4], np.int64)])
    moved = made.op("Transpose", [moved], perm=[0, 2, 1, 3])
    behind = made.op("MatMul", [moved, made.const(made.random.standard_normal((4, 3)))])
    made.output(behind)
    two = made.op("Relu", [made.op("MatMul", [one, made.const(made.random.standard_normal((8, 8)))])])
    made.output(made.op("MatMul", [two, made.const(made.random.standard_normal((8, 3)))]))
    model = made.model()
    sites = quantiser_sites(model)
    found = {
        site.value.name: entry.axes for site, entry in zip(sites, channels_of(model, sites), strict=True)
    }
    # Heads share the rows of one weight matrix, so their codes share a step; the last layer's need not.
    assert found == {"relu": (), "relu1": (2,)}


def test_recorded_quantisers_give_the_same_network_without_the_data(net: Any) -> None:
    from snnc.compile import choices_of_file
    from snnc.ir import to_bytes

    made, data = outliers(net)
    for observer in OBSERVERS:
        options = ConvertOptions(timesteps=4, groups=4, observer=observer)
        first = convert(made.model(), options, calibration=data)
        again = convert(made.model(), options, calibration=[data[:10], data[10:]])
        assert to_bytes(first.model) == to_bytes(again.model)
        remade = quantise(made.model(), options, choices_of_file(first.model))
        for one, other in zip(first.quantised.graph, remade.graph, strict=True):
            assert one.op_type == other.op_type
            if one.op_type == "Quantise":
                assert attributes(one) == attributes(other)
                np.testing.assert_array_equal(constant(one.inputs[1]), constant(other.inputs[1]))


def test_data_are_given_once(net: Any) -> None:
    made, data = outliers(net)
    with pytest.raises(UsageError, match="twice"):
        convert(made.model(), ConvertOptions(calibrate="random:4"), calibration=data)


def test_progress_is_told_and_memory_is_bounded(net: Any) -> None:
    made, data = outliers(net)
    told: list[tuple[int, int | None]] = []
    calibration = Calibration(open_samples(iter([data[:20], data[20:]])), lambda *each: told.append(each))
    calibration(made.model(), {"layernormalization": (2,)})
    assert told[0] == (8, None) and told[-1] == (64, 64)
    assert calibration.count == 64 and len(calibration.digest) == 64


@pytest.mark.parametrize("kind", ["gauss", "outlier"])
@pytest.mark.parametrize("signed", [True, False])
def test_few_steps_lose_next_to_nothing(kind: str, signed: bool) -> None:
    """Eight steps an octave, shared by channels of like size, against a fine search for each channel."""
    random = np.random.default_rng(4)
    x = draw(kind, (8, 300, 64)) * np.exp(random.normal(size=64) * 0.7).astype(np.float32)
    x = x if signed else np.abs(x)
    for book in (CodeBook(8, 4, signed=signed), CodeBook(4, 4, signed=signed)):
        few = balanced_steps(seen(x, (2,)), book, "mse", (), WeightFormat("int8"))
        octaves = np.log2(few.step.astype(np.float64)) * 8
        assert np.abs(octaves - np.rint(octaves)).max() < 1e-5
        assert len(np.unique(few.step)) < 40
        free = np.array([float(best_step(seen(x[..., [c]]), book).step) for c in range(64)], np.float32)
        assert few.decibel > cost_of(seen(x, (2,)), free, book).decibel - 0.1


@pytest.mark.parametrize("axes", [(), (1,)])
def test_what_was_never_active_gets_a_usual_step(axes: tuple[int, ...]) -> None:
    """Nothing but zeros says nothing of a step: one of the least float is too far from all others."""
    book, weights = CodeBook(8, 4), np.eye(4)
    found = seen(np.zeros((8, 4), np.float32), axes)
    rows = (Rows(weights, np.arange(4)),)
    choice = (
        balanced_steps(found, book, "mse", rows, WeightFormat("int8")) if axes else best_step(found, book)
    )
    assert (choice.step * book.max_abs > 1e-5).all() and (choice.step < 1).all()


def test_an_error_table_holds_what_was_asked_for_before() -> None:
    """Whatever the order of questions, a step costs the same."""
    found = seen(np.abs(draw("outlier", (4, 50, 24))), (2,))
    table = ErrorTable(found, CodeBook(4, 2))
    for factor in (1.0, 2.0**-9, 2.0**5, 2.0**-3):
        steps = on_grid(np.full(24, 0.1) * factor)
        assert (table.errors(steps) == ErrorTable(found, CodeBook(4, 2)).errors(steps)).all()


@pytest.mark.parametrize("signed", [False, True])
def test_tensors_a_power_of_two_apart_have_the_same_tables(signed: bool) -> None:
    x, book = draw("outlier", (4, 50, 24)), CodeBook(8, 4, signed=signed)
    for exponent in (-40, -1, 3, 50):
        scaled = seen(np.ldexp(x, exponent), (2,)) if signed else seen(np.ldexp(x, exponent), (2,)).clamped()
        plain = seen(x, (2,)) if signed else seen(x, (2,)).clamped()
        steps = on_grid(np.geomspace(1e-3, 0.3, 24))
        errors = ErrorTable(scaled, book).errors(np.ldexp(steps, exponent))
        assert (errors == np.ldexp(ErrorTable(plain, book).errors(steps), 2 * exponent)).all()


@pytest.mark.parametrize("book", [CodeBook(8, 4, signed=True), CodeBook(4, 2), CodeBook(3, 1, signed=True)])
def test_the_table_of_errors_and_the_cumulative_moments_agree(book: CodeBook) -> None:
    """Two ways to the squared error of the same histogram, clipped values and all."""
    x = draw("outlier", (4, 50, 24)) * np.exp2(np.arange(24) / 3).astype(np.float32)
    found = seen(x, (2,)) if book.smallest < 0 else seen(x, (2,)).clamped()
    steps = on_grid(found.peaks / np.linspace(0.5, 3 * book.max_abs, 24))
    table = ErrorTable(found, book).errors(steps)
    cost = cost_of(found, steps.astype(np.float32), book)
    assert 10 * np.log10(found.squares.sum() / table.sum()) == pytest.approx(cost.decibel, abs=1e-3)


def test_no_steps_for_tokens_that_nothing_reads(net: Any) -> None:
    """A classifier on the last token: steps differ by channel, not by token, and suit that token."""
    made = net()
    x = made.matmul(made.input(["N", 5, 6]), (6, 8))
    norm = made.op("LayerNormalization", [x, made.const(np.ones(8)), made.const(np.zeros(8))], axis=-1)
    last = made.op("Gather", [norm, made.const(4, np.int64)], axis=1)
    model = made.output(made.matmul(last, (8, 3))).model()
    infer_shapes(model)
    (entry,) = channels_of(model, quantiser_sites(model))
    assert (entry.axes, entry.places) == ((2,), ((1, 4),))


def test_one_place_alone_is_observed(net: Any) -> None:
    made = net()
    h = made.op("Identity", [made.input(["N", 5, 6])], name="h")
    model = made.output(made.matmul(h, (6, 3))).model()
    infer_shapes(model)
    x = np.random.default_rng(1).standard_normal((20, 5, 6)).astype(np.float32)
    x[:, 4] *= 0.01
    found = Calibration(open_samples({"x": x}))(model, {"h": (2,)}, {"h": ((1, 4),)})["h"]
    assert found.shape == (6,) and int(found.numbers.sum()) == 20 * 6
    assert found.high == x[:, 4].max() and found.low == x[:, 4].min()


def test_counts_take_wider_types_as_they_grow_and_stay_the_same() -> None:
    random = np.random.default_rng(0)
    batches = [random.normal(0, 1 + number, (500, 40, 6)).astype(np.float32) for number in range(8)]
    narrow, wide = Histogram((2,)), Histogram((2,))
    wide._counts = wide._counts.astype(np.int64)
    kinds = set()
    for batch in batches:
        narrow.add(batch)
        kinds.add(narrow._counts.dtype)
        wide.add(batch)
    assert kinds == {np.dtype(np.int16), np.dtype(np.int32)}
    found, wanted = narrow.distribution(), wide.distribution()
    assert np.array_equal(found.counts, wanted.counts) and found.total == 8 * batches[0].size


def test_channels_that_few_samples_reach_do_not_clip_the_others():
    """As units of a trained network that fire for some classes alone: most samples tell nothing of them."""
    random = np.random.default_rng(5)
    fires = random.random((232, 1, 128)) < 0.03
    x = np.minimum(np.maximum(random.standard_normal((232, 9, 128)) * fires * 4, 0), 6)
    book = CodeBook(8, 8)
    one = best_step(seen(x[:32]), book)
    each = balanced_steps(seen(x[:32], (2,)), book, "mse", (), WeightFormat("int8"))
    others = seen(x[32:], (2,))
    found, wanted = (cost_of(others, choice.step, book).decibel for choice in (each, one))
    assert found > wanted - 1


def test_halves_of_the_samples_are_told_apart():
    x = np.random.default_rng(6).standard_normal((24, 5, 7)).astype(np.float32)
    whole, first, second = (Histogram((2,)) for _ in range(3))
    for batch in np.split(x, 3):
        whole.add(batch)
    for batch in (x[:4], x[8:16]):
        first.add(batch)
    for batch in (x[4:8], x[16:]):
        second.add(batch)
    for half, alone in zip(whole.distribution().halves, (first, second), strict=True):
        np.testing.assert_array_equal(half.numbers, alone.distribution().numbers)
        # The faintest bins reach as far as the largest value of the whole lets them.
        np.testing.assert_allclose(half.squares, alone.distribution().squares, rtol=1e-6)
        # A bin is an eighth of an octave.
        assert (half.peaks >= alone.distribution().peaks).all()
        assert (half.peaks <= alone.distribution().peaks * 2 ** (1 / 4)).all()


@pytest.mark.parametrize("axes", [(), (2,)])
def test_a_batch_of_nothing_tells_nothing(axes: tuple[int, ...]) -> None:
    x = draw("gauss")
    histogram = Histogram(axes)
    for part in (x[:0], x[:4], x[:, :0], x[4:]):
        histogram.add(part)
    found, wanted = histogram.distribution(), seen(x, axes, 2)
    book = BOOKS[1]
    assert best_step(found, book).step.tolist() == best_step(wanted, book).step.tolist()
