"""Tables of neurons that hold an activation function, against the function at every reachable potential."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from functools import lru_cache

import mpmath
import numpy as np
import pytest

from snnc.coding import CodeBook
from snnc.errors import InternalError, UnsupportedError
from snnc.passes.analysis.activations import ACTIVATION_OPS, activate, scaled
from snnc.passes.analysis.exact import as_exact, exact
from snnc.passes.analysis.functions import Activation, shape_of
from snnc.passes.analysis.kinds import Activated, Membrane
from snnc.passes.analysis.reals import Real
from snnc.passes.fold import activated
from snnc.passes.fold.activated import fold_activated
from snnc.passes.fold.thresholds import check_size, table_size

MP = mpmath.mp.clone()
MP.prec = 400
EQUAL = MP.mpf(2) ** -300


def number(x):
    return MP.mpf(x.numerator) / x.denominator if isinstance(x, Fraction) else MP.mpf(x)


def elu(x, alpha):
    return x if x >= 0 else alpha * MP.expm1(x)


def clip(x, low, high):
    return min(max(x, low), high)


SELU = (1.67326319217681884765625, 1.05070102214813232421875)
#: Written from the standard's definitions, not from the compiler's.
REFERENCE = {
    "Relu": lambda x: max(x, 0),
    "LeakyRelu": lambda x, alpha=0.01: x if x >= 0 else number(Fraction(float(np.float32(alpha)))) * x,
    "ThresholdedRelu": lambda x, alpha=1.0: x if x > alpha else MP.mpf(0),
    "Abs": abs,
    "HardSigmoid": lambda x, alpha=0.2, beta=0.5: clip(
        number(Fraction(float(np.float32(alpha)))) * x + number(Fraction(float(np.float32(beta)))), 0, 1
    ),
    "HardSwish": lambda x: x * clip(x / 6 + MP.mpf(1) / 2, 0, 1),
    "Elu": lambda x, alpha=1.0: elu(x, alpha),
    "Selu": lambda x: SELU[1] * elu(x, SELU[0]),
    "Celu": lambda x, alpha=1.0: max(x, 0) + min(0, alpha * MP.expm1(x / alpha)),
    "Sigmoid": lambda x: 1 / (1 + MP.exp(-x)),
    "Tanh": MP.tanh,
    "Softplus": lambda x: MP.log1p(MP.exp(x)),
    "Softsign": lambda x: x / (1 + abs(x)),
    "Erf": MP.erf,
    "Exp": MP.exp,
    "Gelu": lambda x, approximate="none": (
        x * (1 + MP.erf(x / MP.sqrt(2))) / 2
        if approximate == "none"
        else x * (1 + MP.tanh(MP.sqrt(2 / MP.pi) * (x + MP.mpf("0.044715") * x**3))) / 2
    ),
    "Silu": lambda x, alpha=1.0: x / (1 + MP.exp(-alpha * x)),
    "Swish": lambda x, alpha=1.0: x / (1 + MP.exp(-alpha * x)),
    "Mish": lambda x: x * MP.tanh(MP.log1p(MP.exp(x))),
    "Clip": lambda x, low=-0.5, high=0.75: clip(x, low, high),
    "PRelu": lambda x, slope=0.25: x if x >= 0 else slope * x,
    "Bipolar": lambda x: MP.mpf(1) if x >= 0 else MP.mpf(-1),
    "Table": lambda x, smallest=-9: MP.mpf(
        TABLE[min(max(int(MP.ceil(x / 0.125 - 0.5)) - smallest, 0), len(TABLE) - 1)]
    ),
}
#: Rises, falls, jumps, and stays.
TABLE = [0.0, 0.5, 0.5, -0.25, -0.25, -1.0, 0.75, 0.125, 0.0, 0.0625, 2.0, 1.0, 1.0, -2.0, 0.3125, 0.25]
CONSTANTS = {
    "Table": [np.float32(0.125), np.array(TABLE, dtype=np.float32)],
    "Clip": [np.float32(-0.5), np.float32(0.75)],
    "PRelu": [np.float32(0.25)],
}
CASES = [
    *((name, {}) for name in sorted(REFERENCE) if name != "Table"),
    ("Table", {"smallest": -9}),
    ("LeakyRelu", {"alpha": -0.5}),
    ("LeakyRelu", {"alpha": 0.25}),
    ("ThresholdedRelu", {"alpha": -0.375}),
    ("HardSigmoid", {"alpha": 0.25, "beta": 0.25}),
    ("HardSigmoid", {"alpha": -0.5, "beta": 0.5}),
    ("HardSigmoid", {"alpha": 0.0, "beta": 0.3}),
    ("Elu", {"alpha": -0.5}),
    ("Elu", {"alpha": 0.0}),
    ("Celu", {"alpha": 0.5}),
    ("Gelu", {"approximate": "tanh"}),
    ("Silu", {"alpha": float(np.float32(1.702))}),
]
BOOKS = [
    (CodeBook(4, 2), "away"),
    (CodeBook(4, 2, signed=True), "away"),
    (CodeBook(5, 5, signed=True, smallest=-20), "even"),
    (CodeBook(4, 1, "contiguous", signed=True, smallest=-2), "up"),
]


@lru_cache(maxsize=512)
def values(name, attrs, step, bias, low, high):
    """The function at every potential, to 400 bits."""
    return [REFERENCE[name](number(step * v + bias), **dict(attrs)) for v in range(low, high + 1)]


def level(value, points):
    """Number of break points that a value has reached; what agrees to 2^-300 is equal."""
    low, high = 0, len(points)
    while low < high:
        middle = (low + high) // 2
        point, closed = points[middle]
        difference = value - point
        reached = closed if abs(difference) < EQUAL else difference > 0
        low, high = (middle + 1, high) if reached else (low, middle)
    return low


def expected(name, attrs, book, ties, step, bias, gain, offset, output, low, high):
    points = [(number(point.twice_midpoint * output / 2), point.closed) for point in book.break_points(ties)]
    found = values(name, tuple(sorted(attrs.items())), step, bias, low, high)
    return [int(book.codes[level(number(gain) * value + number(offset), points)]) for value in found]


def membrane(steps, biases, low, high):
    return Membrane(
        as_exact(np.array(steps, dtype=object).reshape(1, -1)),
        as_exact(np.array(biases, dtype=object).reshape(1, -1)),
        np.full((1, 1), low),
        np.full((1, 1), high),
    )


def look_up(table, row, v):
    reached = np.searchsorted(table.thresholds[row], v, side="right")
    return [table.codes[k] for k in reached]


def kind_of(name, attrs, base):
    constants = CONSTANTS.get(name, [])
    kind = activate(name, base, attrs, [np.asarray(c) for c in constants], 2)
    assert isinstance(kind, Activated), kind
    return kind


def test_every_function_has_a_reference():
    assert set(REFERENCE) == ACTIVATION_OPS


# Steps and biases that are powers of two make ties; the others make none.
CHANNELS = [(Fraction(1, 32), Fraction(-3, 8)), (Fraction(1, 37), Fraction(1, 7))]
LOW, HIGH = -110, 130


@pytest.mark.parametrize(("book", "ties"), BOOKS, ids=lambda item: str(item)[:60])
@pytest.mark.parametrize(("name", "attrs"), CASES, ids=str)
def test_table_is_the_function(name, attrs, book, ties):
    output = Fraction(1, 16)
    kind = kind_of(name, attrs, membrane(*zip(*CHANNELS, strict=True), LOW, HIGH))
    table = fold_activated(kind, book, exact(output, 2), ties)
    assert table.thresholds.shape[1] == 2**table.depth - 1 >= len(table.codes) - 1
    assert set(table.codes) <= set(book.codes.tolist())
    v = np.arange(LOW, HIGH + 1)
    for channel, (step, bias) in enumerate(CHANNELS):
        row = np.broadcast_to(table.rows, (1, 2))[0, channel]
        wanted = expected(name, attrs, book, ties, step, bias, 1, 0, output, LOW, HIGH)
        assert look_up(table, row, v) == wanted, (step, bias)


@pytest.mark.parametrize(("book", "ties"), BOOKS, ids=lambda item: str(item)[:60])
@pytest.mark.parametrize("name", ["Gelu", "HardSwish", "Tanh", "Abs", "ThresholdedRelu", "Elu"])
def test_gain_and_offset_of_each_channel(name, book, ties):
    """Factors of both signs and zero: the rows walk through different levels in one table."""
    gains = [Fraction(1), Fraction(-1), Fraction(1, 3), Fraction(-5, 2), Fraction(0), Fraction(2)]
    offsets = [Fraction(0), Fraction(0), Fraction(-1, 4), Fraction(1, 5), Fraction(1, 8), Fraction(3, 16)]
    step, bias = CHANNELS[0]
    output = Fraction(1, 16)
    kind = kind_of(name, {}, membrane([step] * 6, [bias] * 6, LOW, HIGH))
    kind = scaled(kind, as_exact(np.array(gains, dtype=object).reshape(1, -1)))
    offset = as_exact(np.array(offsets, dtype=object).reshape(1, -1))
    kind = Activated(kind.membrane, kind.function, kind.gain, offset)
    table = fold_activated(kind, book, exact(output, 2), ties)
    v = np.arange(LOW, HIGH + 1)
    for channel, (gain, shift) in enumerate(zip(gains, offsets, strict=True)):
        wanted = expected(name, {}, book, ties, step, bias, gain, shift, output, LOW, HIGH)
        assert look_up(table, table.rows[0, channel], v) == wanted, (gain, shift)


def test_functions_of_each_channel():
    """PRelu with slopes of both signs: rising, flat and falling below zero in one table."""
    slopes = np.array([[0.25, -0.5, 0.0, 1.0, -1.0]], dtype=np.float32)
    step, bias = CHANNELS[0]
    book, output = CodeBook(4, 3, signed=True), Fraction(1, 8)
    kind = activate("PRelu", membrane([step] * 5, [bias] * 5, LOW, HIGH), {}, [slopes], 2)
    table = fold_activated(kind, book, exact(output, 2), "away")
    v = np.arange(LOW, HIGH + 1)
    for channel, slope in enumerate(slopes[0].tolist()):
        attrs = {"slope": slope}
        wanted = expected("PRelu", attrs, book, "away", step, bias, 1, 0, output, LOW, HIGH)
        assert look_up(table, table.rows[0, channel], v) == wanted, slope


def test_steps_of_each_channel_and_of_nothing():
    """Output steps differ between channels; a channel whose weights are all zero has step 0."""
    steps = [Fraction(1, 32), Fraction(0), Fraction(1, 50)]
    biases = [Fraction(0), Fraction(-3, 4), Fraction(1, 3)]
    outputs = [Fraction(1, 16), Fraction(1, 10), Fraction(1, 64)]
    kind = kind_of("Gelu", {}, membrane(steps, biases, LOW, HIGH))
    book = CodeBook(4, 4, signed=True)
    table = fold_activated(kind, book, as_exact(np.array(outputs, dtype=object).reshape(1, -1)), "away")
    v = np.arange(LOW, HIGH + 1)
    for channel, numbers in enumerate(zip(steps, biases, outputs, strict=True)):
        step, bias, output = numbers
        wanted = expected("Gelu", {}, book, "away", step, bias, 1, 0, output, LOW, HIGH)
        assert look_up(table, table.rows[0, channel], v) == wanted, numbers


def test_codes_that_no_row_reaches_are_left_out():
    """A sigmoid under a signed book: 0 to its largest value only, however many codes the book has."""
    kind = kind_of("Sigmoid", {}, membrane([Fraction(1, 8)], [Fraction(0)], LOW, HIGH))
    table = fold_activated(kind, CodeBook(8, 8, signed=True), exact(Fraction(1, 20), 2), "away")
    assert table.codes == tuple(range(21)) and table.depth == 5
    narrow = kind_of("Sigmoid", {}, membrane([Fraction(1, 8)], [Fraction(0)], -1, 1))
    table = fold_activated(narrow, CodeBook(4, 4), exact(Fraction(1, 20), 2), "away")
    assert table.codes == (9, 10, 11)
    nothing = kind_of("Exp", {}, membrane([Fraction(1, 8)], [Fraction(0)], -1, 1))
    table = fold_activated(nothing, CodeBook(4, 4), exact(Fraction(100), 2), "away")
    assert table.codes == (0,) and table.thresholds.shape == (1, 1)


@pytest.mark.parametrize("low", [-3, 0, 1, 3])
def test_codes_at_both_ends_of_what_a_membrane_reaches(low):
    """A code that only the largest potential emits is in the table, and one that it just misses is not."""
    for high in range(low, 7):
        kind = kind_of("Relu", {}, membrane([Fraction(1)], [Fraction(0)], low, high))
        table = fold_activated(kind, CodeBook(3, 3, largest=5), exact(Fraction(1), 2), "away")
        v = np.arange(low, high + 1)
        assert look_up(table, 0, v) == np.clip(v, 0, 5).tolist()
        assert set(table.codes) == set(np.clip(v, 0, 5).tolist())


def test_doubtful_thresholds_are_decided():
    """A bias that puts a break point of tanh 2^-200 before or behind an integer, where float64 sees a tie."""
    book, output = CodeBook(1, 1), Fraction(2, 3)
    low, high = shape_of(Activation("Tanh")).pieces[0].inverse(Fraction(1, 3)).enclose(300)
    for end, first in ((low - Fraction(1, 2**200), 6), (high + Fraction(1, 2**200), 5)):
        kind = kind_of("Tanh", {}, membrane([Fraction(1, 4)], [end - Fraction(5, 4)], LOW, HIGH))
        assert fold_activated(kind, book, exact(output, 2), "away").thresholds[0, 0] == first


@pytest.mark.parametrize("at", [Fraction(1, 8), Fraction(1001)])
@pytest.mark.parametrize("side", [1, -1])
def test_points_as_wrong_in_float64_as_they_may_be(at, side, monkeypatch):
    """A `Real` on one side of an integer potential, whose float64 is as far on the other as `Real` allows."""

    class Worst(Real):
        def __float__(self):
            return float(at) + side * 0.99 * 2.0**-43 * max(1.0, float(at))

    near = number(at - side * Fraction(1, 2**300))
    shape = shape_of(Activation("Tanh"))
    (piece,) = shape.pieces
    wrong = replace(piece, inverse=lambda target: Worst(lambda context, bits: context.mpf(near)))
    activated._path.cache_clear()
    monkeypatch.setattr(activated, "shape_of", lambda function: replace(shape, pieces=(wrong,)))
    kind = kind_of("Tanh", {}, membrane([Fraction(1, 8)], [Fraction(0)], -9, 9000))
    table = fold_activated(kind, CodeBook(1, 1), exact(Fraction(1), 2), "away")
    activated._path.cache_clear()
    assert table.thresholds[0, 0] == 8 * at + (side < 0)


@pytest.mark.parametrize(("name", "attrs", "gain"), [("HardSigmoid", {"alpha": 0.0}, 1), ("Gelu", {}, 0)])
def test_neurons_that_always_emit_the_same_code(name, attrs, gain):
    """A constant function, and a gain of zero: each row stays at a level of its own in one table."""
    offsets = [Fraction(number, 16) for number in (-3, -2, 0, 1, 5)]
    step, bias = CHANNELS[0]
    book, output = CodeBook(4, 4, signed=True), Fraction(1, 16)
    kind = kind_of(name, attrs, membrane([step] * 5, [bias] * 5, LOW, HIGH))
    offset = as_exact(np.array(offsets, dtype=object).reshape(1, -1))
    kind = Activated(kind.membrane, kind.function, exact(gain, 2), offset)
    table = fold_activated(kind, book, exact(output, 2), "away")
    v = np.arange(LOW, HIGH + 1)
    for channel, shift in enumerate(offsets):
        wanted = expected(name, attrs, book, "away", step, bias, gain, shift, output, LOW, HIGH)
        assert len(set(wanted)) == 1
        assert look_up(table, table.rows[0, channel], v) == wanted, shift


@pytest.mark.parametrize("others", [[], [Fraction(1, 8)]], ids=["alone", "beside another"])
def test_a_falling_membrane_is_refused(others):
    steps = [*others, Fraction(-1, 8)]
    kind = kind_of("Gelu", {}, membrane(steps, [Fraction(0)] * len(steps), LOW, HIGH))
    with pytest.raises(InternalError, match="SNN153"):
        fold_activated(kind, CodeBook(4, 4), exact(Fraction(1, 8), 2), "away")


def test_tables_have_a_largest_size():
    steps = [Fraction(1, n) for n in range(2, 2002)]
    kind = kind_of("Tanh", {}, membrane(steps, [Fraction(0)] * 2000, LOW, HIGH))
    with pytest.raises(UnsupportedError, match="SNN439"):
        fold_activated(kind, CodeBook(16, 16), exact(Fraction(1, 2**16), 2), "away")


def test_more_rows_than_are_folded_together():
    """Every row of the second and third block is that of a neuron folded alone."""
    biases = [Fraction(number, 97) for number in range(1100)]
    base = membrane([Fraction(1, 32)] * 1100, biases, LOW, HIGH)
    book, output = CodeBook(4, 2, signed=True), exact(Fraction(1, 4), 2)
    table = fold_activated(kind_of("Tanh", {}, base), book, output, "away")
    assert len(table.thresholds) == 1100
    v = np.arange(LOW, HIGH + 1)
    for channel in (0, 1, 510, 511, 512, 513, 1022, 1023, 1024, 1025, 1099):
        alone = kind_of("Tanh", {}, membrane([Fraction(1, 32)], [biases[channel]], LOW, HIGH))
        wanted = look_up(fold_activated(alone, book, output, "away"), 0, v)
        assert look_up(table, table.rows[0, channel], v) == wanted, channel


def test_a_table_of_the_largest_size_is_kept():
    """2^24 thresholds are the most; one row of padding has at least one."""
    check_size(2**8, 2**16)
    with pytest.raises(UnsupportedError, match="SNN439"):
        check_size(2**8 + 1, 2**16)
    assert [table_size(levels) for levels in (1, 2, 3, 4, 5, 16, 17)] == [
        (1, 1), (1, 1), (3, 2), (3, 2), (7, 3), (15, 4), (31, 5),
    ]  # fmt: skip


def test_a_shape_that_contradicts_its_function_is_a_bug_of_ours(monkeypatch):
    """Canaries of the two checks: a piece said to fall, and an inverse that descends."""
    kind = kind_of("Tanh", {}, membrane([Fraction(1, 32)], [Fraction(0)], LOW, HIGH))
    shape = shape_of(Activation("Tanh"))
    (piece,) = shape.pieces
    for wrong in (replace(piece, direction=-1), replace(piece, inverse=lambda target: -target)):
        activated._path.cache_clear()
        monkeypatch.setattr(
            activated, "shape_of", lambda function, wrong=wrong: replace(shape, pieces=(wrong,))
        )
        with pytest.raises(InternalError, match="SNN158"):
            fold_activated(kind, CodeBook(4, 4), exact(Fraction(1, 16), 2), "away")
    activated._path.cache_clear()
