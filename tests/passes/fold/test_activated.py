"""Tables of neurons that hold an activation function, against the function at every reachable potential."""

from __future__ import annotations

from fractions import Fraction

import mpmath
import numpy as np
import pytest

from snnc.coding import CodeBook
from snnc.passes.analysis.activations import ACTIVATION_OPS, activate, scaled, shifted
from snnc.passes.analysis.exact import as_exact, exact
from snnc.passes.analysis.kinds import Activated, Constant, Membrane
from snnc.passes.fold.activated import fold_activated

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
}
CONSTANTS = {
    "Clip": [np.float32(-0.5), np.float32(0.75)],
    "PRelu": [np.float32(0.25)],
}
CASES = [
    *((name, {}) for name in sorted(REFERENCE)),
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


def level(value, points):
    """Number of break points (times the step) that a value has reached; equal within 2^-300 is equal."""
    count = 0
    for point, closed in points:
        difference = value - point
        count += abs(difference) < EQUAL if closed and abs(difference) < EQUAL else difference >= EQUAL
    return count


def expected(function, book, ties, step, bias, gain, offset, output, low, high):
    points = [(number(point.twice_midpoint * output / 2), point.closed) for point in book.break_points(ties)]
    codes = []
    for v in range(low, high + 1):
        value = number(gain) * function(number(step * v + bias)) + number(offset)
        codes.append(int(book.codes[level(value, points)]))
    return codes


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


@pytest.mark.parametrize(("book", "ties"), BOOKS, ids=lambda item: str(item)[:60])
@pytest.mark.parametrize(("name", "attrs"), CASES, ids=lambda item: str(item))
def test_table_is_the_function(name, attrs, book, ties):
    low, high = -150, 170
    # Steps and biases that are powers of two make ties; the others make none.
    channels = [
        (Fraction(1, 32), Fraction(0)),
        (Fraction(1, 64), Fraction(-3, 8)),
        (Fraction(1, 37), Fraction(1, 7)),
    ]
    output = Fraction(1, 16)
    kind = kind_of(name, attrs, membrane([c[0] for c in channels], [c[1] for c in channels], low, high))
    table = fold_activated(kind, book, exact(output, 2), ties)
    assert table.thresholds.shape[1] == 2**table.depth - 1 >= len(table.codes) - 1
    v = np.arange(low, high + 1)
    for channel, (step, bias) in enumerate(channels):
        row = np.broadcast_to(table.rows, (1, 3))[0, channel]
        wanted = expected(
            lambda x: REFERENCE[name](x, **attrs), book, ties, step, bias, 1, 0, output, low, high
        )
        assert look_up(table, row, v) == wanted, (step, bias)
