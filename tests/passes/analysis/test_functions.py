"""Activation functions as the compiler knows them: pieces, certified inverses, thresholds decided exactly."""

from __future__ import annotations

import math
import threading
from fractions import Fraction

import mpmath
import numpy as np
import pytest

from snnc.errors import InternalError
from snnc.passes.analysis import formulas
from snnc.passes.analysis.activations import activate, as_activated, scaled, shifted
from snnc.passes.analysis.exact import as_exact, exact
from snnc.passes.analysis.functions import IDENTITY, Activation, Edge, linear, shape_of
from snnc.passes.analysis.kinds import Activated, Constant, Fixed, FloatValue, Membrane
from snnc.passes.analysis.reals import Real, Root, compare, threshold
from snnc.passes.analysis.sums import add, concat, max_pool, ranked, reduce, scale

MP = mpmath.mp.clone()
MP.prec = 500
VALLEYS = {
    "Gelu": (formulas.gelu, formulas.gelu_slope),
    "GeluTanh": (formulas.gelu_tanh, formulas.gelu_tanh_slope),
    "Silu": (formulas.silu, formulas.silu_slope),
    "Mish": (formulas.mish, formulas.mish_slope),
}
#: Textbook forms, written here again.
VALUE = {
    "Gelu": lambda x: x / 2 * (1 + MP.erf(x / MP.sqrt(2))),
    "GeluTanh": lambda x: x / 2 * (1 + MP.tanh(MP.sqrt(2 / MP.pi) * (x + MP.mpf("0.044715") * x**3))),
    "Silu": lambda x: x / (1 + MP.exp(-x)),
    "Mish": lambda x: x * MP.tanh(MP.log(1 + MP.exp(x))),
    "Sigmoid": lambda x: 1 / (1 + MP.exp(-x)),
    "Tanh": MP.tanh,
    "Softplus": lambda x: MP.log(1 + MP.exp(x)),
    "Exp": MP.exp,
    "Erf": MP.erf,
}
RANGES = {"Sigmoid": (0, 1), "Tanh": (-1, 1), "Softplus": (0, 40), "Exp": (0, 1000), "Erf": (-1, 1)}


def mpf(number):
    return MP.mpf(number.numerator) / number.denominator


@pytest.mark.parametrize("name", sorted(VALLEYS))
def test_formulas_and_slopes(name):
    formula, slope = VALLEYS[name]
    for k in range(-60, 61):
        x = MP.mpf(k) / 7
        assert abs(formula(MP, x) - VALUE[name](x)) < MP.mpf(2) ** -400
        assert abs(slope(MP, x) - MP.diff(VALUE[name], x)) < MP.mpf(2) ** -100
        assert formula(math, k / 7) == pytest.approx(float(formula(MP, x)), rel=1e-12, abs=1e-300)


@pytest.mark.parametrize(
    ("name", "place", "value"),
    # To the digits printed by Wolfram's and other tables.
    [("Gelu", -0.7517915, -0.1699712), ("Silu", -1.2784645, -0.2784645), ("Mish", -1.1924314, -0.3088434)],
)
def test_turning_points(name, place, value):
    shape = shape_of(Activation(name))
    assert [piece.direction for piece in shape.pieces] == [-1, 1]
    least = shape.pieces[0].last.value
    assert float(least) == pytest.approx(value, abs=1e-7)
    low, high = least.enclose(300)
    steps = [VALUE[name](mpf(Fraction(place)) + MP.mpf(k) / 10**8) for k in range(-30, 31)]
    assert mpf(low) < min(steps) and high - low < Fraction(1, 2**290)
    # From both sides the root of the least value is the turning point.
    above = Fraction(low) + Fraction(1, 10**12)
    left, right = (piece.inverse(above) for piece in shape.pieces)
    assert place - 1e-4 < float(left) < float(right) < place + 1e-4


@pytest.mark.parametrize("name", sorted(VALUE))
def test_inverses_are_certified(name):
    """The enclosure holds the root: the function lies on both sides of the target at its ends."""
    for piece in shape_of(Activation(name)).pieces:
        bottom = float(piece.last.value) if name in VALLEYS and piece.direction < 0 else 0.0
        targets = (
            [Fraction(bottom) * Fraction(k, 23) for k in range(1, 23)]
            if bottom
            else [
                Fraction(RANGES.get(name, (0, 9))[0]) + Fraction(k, 24) * Fraction(*_width(name))
                for k in range(1, 24)
            ]
        )
        for target in targets:
            point = piece.inverse(target)
            if isinstance(point, Fraction):
                assert VALUE[name](mpf(point)) == mpf(target)
                continue
            for bits in (72, 144):
                low, high = point.enclose(bits)
                ends = [VALUE[name](mpf(end)) > mpf(target) for end in (low, high)]
                assert ends == ([False, True] if piece.direction > 0 else [True, False]), (target, bits)
                assert high - low <= 4 * max(1, abs(low)) / 2**bits
            assert abs(Fraction(float(point)) - low) <= max(1, abs(low)) * Fraction(1, 2**43)


def _width(name):
    low, high = RANGES.get(name, (0, 9))
    return high - low, 1


@pytest.mark.parametrize(
    ("name", "target", "place"),
    [
        ("Gelu", -Fraction(1, 10**30), -11.674879664020045),
        ("Silu", -Fraction(1, 10**30), -73.37311031382298),
        ("Sigmoid", 1 - Fraction(1, 10**25), 57.564627324851145),
        ("Erf", 1 - Fraction(1, 10**25), 7.414842042645937),
        ("Erf", Fraction(1, 10**25) - 1, -7.414842042645937),
        ("Softplus", Fraction(1, 10**20), -46.05170185988091),
        ("Tanh", Fraction(1, 10**18), 1e-18),
    ],
)
def test_far_out_and_near_zero(name, target, place):
    point = shape_of(Activation(name)).pieces[0].inverse(target)
    assert float(point) == pytest.approx(place, rel=1e-4 if abs(place) < 1e-9 else 1e-14)
    low, high = point.enclose(200)
    assert (VALUE[name](mpf(low)) - mpf(target)) * (VALUE[name](mpf(high)) - mpf(target)) < 0


def test_rational_roots_are_exact():
    hard_swish = shape_of(Activation("HardSwish")).pieces
    assert hard_swish[0].inverse(Fraction(-1, 3)) == -2 and hard_swish[1].inverse(Fraction(-1, 3)) == -1
    assert isinstance(hard_swish[1].inverse(Fraction(1, 3)), Real)
    assert float(hard_swish[1].inverse(Fraction(1, 3))) == pytest.approx((math.sqrt(17) - 3) / 2)
    assert shape_of(Activation("Softsign")).pieces[0].inverse(Fraction(-1, 3)) == Fraction(-1, 2)
    for name, value in (("Sigmoid", Fraction(1, 2)), ("Tanh", Fraction(0)), ("Exp", Fraction(1))):
        assert shape_of(Activation(name)).pieces[0].inverse(value) == 0
    assert shape_of(Activation("Gelu")).pieces[1].inverse(Fraction(0)) == 0


def test_pieces_of_piecewise_linear_functions():
    absolute = shape_of(linear(Fraction(-1), Fraction(1), (Fraction(0), Fraction(0))))
    assert [piece.direction for piece in absolute.pieces] == [-1, 1]
    assert [piece.inverse(Fraction(3, 7)) for piece in absolute.pieces] == [Fraction(-3, 7), Fraction(3, 7)]
    jump = shape_of(linear(Fraction(0), Fraction(1), (Fraction(2), Fraction(0)), (Fraction(2), Fraction(2))))
    assert [piece.jump for piece in jump.pieces] == [True, False]
    assert jump.pieces[0].last == Edge(Fraction(2), 1)
    down = shape_of(
        linear(Fraction(0), Fraction(0), (Fraction(-1), Fraction(1)), (Fraction(1), Fraction(-1)))
    )
    assert [piece.direction for piece in down.pieces] == [-1] and down.first == Edge(Fraction(1))
    assert IDENTITY.monotone and not Activation("Gelu").monotone and Activation("Erf").monotone


@pytest.mark.parametrize(
    ("edge", "closed", "open_", "falling_closed", "falling_open"),
    [
        (Edge(Fraction(1)), True, False, True, False),
        (Edge(Fraction(1), 1), True, True, False, False),
        (Edge(Fraction(1), -1), False, False, True, True),
        (Edge(math.inf), True, True, False, False),
        (Edge(-math.inf), False, False, True, True),
    ],
)
def test_edges_at_the_target(edge, closed, open_, falling_closed, falling_open):
    one = Fraction(1)
    assert edge.reaches(one, closed=True) is closed
    assert edge.reaches(one, closed=False) is open_
    assert edge.reaches(one, closed=True, falling=True) is falling_closed
    assert edge.reaches(one, closed=False, falling=True) is falling_open


def test_precision_is_raised_until_an_integer_is_decided():
    """An affine map that puts the root within 2^-400 of an integer, on either side."""
    root = shape_of(Activation("Tanh")).pieces[0].inverse(Fraction(1, 3))
    low, high = root.enclose(500)
    for end, expected in ((low - Fraction(1, 2**400), 8), (high + Fraction(1, 2**400), 7)):
        step = end / 7
        assert threshold(root, step, Fraction(0), closed=True) == expected
        assert threshold(root, step, Fraction(0), closed=False) == expected
    assert compare(root, low - Fraction(1, 2**400)) == 1 and compare(root, high + Fraction(1, 2**400)) == -1


def test_what_cannot_be_decided_is_an_error():
    """A rational that claims to be irrational is never told apart from itself."""
    half = Real(lambda context, bits: context.mpf(0.5))
    with pytest.raises(InternalError, match="SNN157"):
        compare(half, Fraction(1, 2))
    with pytest.raises(InternalError, match="SNN157"):
        threshold(half, Fraction(1, 2), Fraction(0), closed=True)


def test_a_wrong_direction_is_caught_by_the_certificate():
    """Where the function rises there is no falling root, however near the search comes to a root."""
    with pytest.raises(InternalError, match="SNN157"):
        Root(formulas.gelu, Fraction(1, 10), False, 0.0, 1).enclose(72)
    with pytest.raises(InternalError, match="SNN157"):
        Root(formulas.gelu, Fraction(1, 10), False, 0.0, -1).enclose(72)


def test_exact_thresholds():
    assert threshold(Fraction(3), Fraction(1, 2), Fraction(1), closed=True) == 4
    assert threshold(Fraction(3), Fraction(1, 2), Fraction(1), closed=False) == 5
    assert threshold(Fraction(-7, 2), Fraction(1), Fraction(0), closed=True) == -3


def test_threads_do_not_share_precision():
    results = {}

    def work(name):
        root = shape_of(Activation(name)).pieces[1].inverse(Fraction(5, 7))
        results[name] = root.enclose(1000)

    threads = [threading.Thread(target=work, args=(name,)) for name in VALLEYS]
    before = mpmath.mp.prec
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert mpmath.mp.prec == before
    assert all(high - low <= Fraction(8, 2**1000) for low, high in results.values())


def membrane(step=Fraction(1, 4), bias=Fraction(0), host=False):
    ends = np.full((1, 1, 1, 1), -9), np.full((1, 1, 1, 1), 9)
    return Membrane(exact(step, 4), exact(bias, 4), *ends, host)


def test_factors_go_into_step_and_gain():
    silu = activate("Silu", membrane(), {}, [np.float32(1.5)], 4)
    assert silu.function.item() == Activation("Silu")
    assert silu.membrane.step.item() == Fraction(3, 8) and silu.gain.item() == Fraction(2, 3)
    selu = activate("Selu", membrane(), {}, [], 4)
    assert selu.gain.item() == Fraction(1.05070102214813232421875)
    celu = activate("Celu", membrane(), {"alpha": 0.5}, [], 4)
    assert celu.membrane.step.item() == Fraction(1, 2) and celu.gain.item() == Fraction(1, 2)


def test_affine_operations_behind_a_function():
    kind = activate("Tanh", membrane(), {}, [], 4)
    gain = Constant(np.array([[[2.0]], [[-0.5]]], dtype=np.float32))
    moved = add(ranked(gain, 4), scale(kind, gain, divide=False), -1)
    assert moved.gain.reshape(-1).tolist() == [-2, Fraction(1, 2)]
    assert moved.offset.reshape(-1).tolist() == [2, Fraction(-1, 2)]
    back = add(moved, ranked(gain, 4), -1)
    assert back.offset.reshape(-1).tolist() == [0]
    assert scaled(kind, as_exact(np.float32(4))).gain.item() == 4
    assert shifted(kind, gain).offset.reshape(-1).tolist() == [2, Fraction(-1, 2)]


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        (lambda kind: activate("Relu", kind, {}, [], 4), "activation function of another one"),
        (lambda kind: activate("Relu", membrane(host=True), {}, [], 4), "accumulator of the host"),
        (lambda kind: activate("Relu", FloatValue("x"), {}, [], 4), "without a code"),
        (lambda kind: activate("Relu", Fixed(exact(1, 4), 9), {}, [], 4), "without a code"),
        (lambda kind: activate("Celu", membrane(), {"alpha": -1.0}, [], 4), "alpha is not positive"),
        (lambda kind: activate("Silu", membrane(), {}, [np.float32(0)], 4), "alpha is not positive"),
        (lambda kind: activate("Silu", membrane(), {}, [np.ones(2)], 4), "not one constant number"),
        (lambda kind: activate("PRelu", membrane(), {}, [], 4), "slope is not constant"),
        (lambda kind: add(kind, kind, 1), "a sum with an activation function"),
        (lambda kind: add(membrane(), kind, 1), "a sum with an activation function"),
        (lambda kind: reduce(kind, (1, 2, 3, 3), [2, 3], True, mean=True), "mean of an activation function"),
        (max_pool, "a maximum of a function that falls"),
    ],
)
def test_reasons(made, reason):
    result = made(activate("Gelu", membrane(), {}, [], 4))
    assert isinstance(result, FloatValue) and reason in result.reason


def test_maxima_and_concatenations():
    tanh = activate("Tanh", membrane(), {}, [], 4)
    pooled = max_pool(tanh)
    assert isinstance(pooled, Activated) and pooled.membrane is tanh.membrane
    assert isinstance(max_pool(scaled(tanh, exact(-1, 4))), FloatValue)
    joined = concat([tanh, membrane(Fraction(1, 8))], [(1, 1, 2, 2), (1, 2, 2, 2)], 1)
    assert isinstance(joined, Activated)
    assert [item.name for item in joined.function.reshape(-1)] == [
        "Tanh",
        "PiecewiseLinear",
        "PiecewiseLinear",
    ]
    assert joined.membrane.step.reshape(-1).tolist() == [Fraction(1, 4), Fraction(1, 8), Fraction(1, 8)]
    assert as_activated(membrane()).function.item() == IDENTITY
