"""Type analysis of single nodes: what is no integer says why; a mean of codes keeps their range."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from snnc.coding import CodeBook
from snnc.errors import InternalError
from snnc.passes.analysis import FloatValue, Quotient, analyse

ROWS, IMAGE = ["N", 4], ["N", 4, 2, 3]


def own(net: Any, op: str, inputs: list[str], **attrs: Any) -> Any:
    return net.op(op, inputs, domain="ai.snnc", **attrs)


def kind_of(made: Any, name: str) -> Any:
    model = made.output(name).model()
    return analyse(model).kind(model.graph.outputs[0])


def quotient(net: Any, x: str) -> Any:
    return own(net, "FloorQuotient", [net.quantise(x), net.quantise(x)], fraction_bits=4)


def mask(net: Any) -> str:
    return str(net.const(np.ones((1, 4)), bool))


REFUSED: dict[str, Any] = {
    "layout of a float": (
        ROWS,
        lambda n, x: n.op("Transpose", [n.op("Sin", [n.quantise(x)])]),
        "of a value without a code",
    ),
    "moved quotient": (
        ROWS,
        lambda n, x: n.op("Identity", [quotient(n, x)]),
        "that is moved before a neuron reads it",
    ),
    "rows of a code": (
        ROWS,
        lambda n, x: n.op(
            "Gather",
            [n.quantise(x), n.op("Cast", [n.op("ReduceMax", [x], axes=[0, 1], keepdims=0)], to=7)],
            axis=1,
        ),
        "what it reads is no table",
    ),
    "computed step": (
        ROWS,
        lambda n, x: own(
            n,
            "Quantise",
            [x, n.op("Exp", [n.const(0.1)])],
            timesteps=2,
            groups=2,
            partition="interleaved",
            signed=0,
            smallest=0,
            largest=3,
            ties="up",
            codes=[0, 1, 2, 3],
            twice_midpoints=[1, 3, 5],
            closed=[1, 1, 1],
        ),
        "the step of its quantiser is not constant",
    ),
    "computed weight": (
        ROWS,
        lambda n, x: own(
            n, "Weight", [n.op("Cast", [x], to=3), n.const(1.0, np.float64), n.const(1.0, np.float64)]
        ),
        "a weight that is not constant",
    ),
    "negated float": (
        ROWS,
        lambda n, x: n.op("Neg", [n.op("Sin", [n.quantise(x)])]),
        "a negated value without a code",
    ),
    "computed slope": (
        ROWS,
        lambda n, x: n.op("PRelu", [n.quantise(x), n.op("Neg", [n.quantise(x)])]),
        "whose parameters are not",
    ),
    "mean of samples": (
        ROWS,
        lambda n, x: n.op("ReduceMean", [n.quantise(x)], axes=[0]),
        "a mean over the batch",
    ),
    "samples side by side": (
        ROWS,
        lambda n, x: n.op("Concat", [n.quantise(x), n.quantise(x)], axis=0),
        "a concatenation along the batch",
    ),
    "padded with ones": (
        ROWS,
        lambda n, x: n.op("Pad", [n.quantise(x), n.const([0, 1, 0, 0], np.int64), n.const(1.0)]),
        "other than the constant 0",
    ),
    "reflected": (
        ROWS,
        lambda n, x: n.op("Pad", [n.quantise(x), n.const([0, 1, 0, 0], np.int64)], mode="reflect"),
        "other than the constant 0",
    ),
    "mask of codes": (
        ROWS,
        lambda n, x: own(n, "MaskRow", [n.quantise(x), n.op("Cast", [n.quantise(x)], to=9)], axis=1),
        "a mask that is neither constant nor computed from the network input alone",
    ),
    "gate of codes": (
        ROWS,
        lambda n, x: own(n, "Gate", [n.quantise(x), n.op("Cast", [n.quantise(x)], to=9)]),
        "a mask that is neither constant nor computed from the network input alone",
    ),
    "gate of a float": (
        ROWS,
        lambda n, x: own(n, "Gate", [n.op("Sin", [n.quantise(x)]), mask(n)]),
        "a mask on a value without a code",
    ),
    "gate of a code without zero": (
        ROWS,
        lambda n, x: own(n, "Gate", [n.quantise(x, book=CodeBook.uniform(1, 4)), mask(n)]),
        "with a code that has no zero",
    ),
    "rescaled float": (
        ROWS,
        lambda n, x: own(
            n, "Rescale", [n.op("Sin", [n.quantise(x)]), *(n.const(1.0, np.float64) for _ in range(3))]
        ),
        "a rescaled value without a code",
    ),
    "computed grid": (
        ROWS,
        lambda n, x: own(n, "RoundMembrane", [n.quantise(x), n.op("Exp", [n.const(0.1, np.float64)])]),
        "its rounding step is not constant",
    ),
}


@pytest.mark.parametrize("case", REFUSED.values(), ids=REFUSED)
def test_what_is_no_integer_says_why(net: Any, case: Any) -> None:
    shape, build, reason = case
    made = net()
    kind = kind_of(made, build(made, made.input(shape)))
    assert isinstance(kind, FloatValue)
    assert reason in kind.reason


def test_a_rescaled_membrane_whose_step_is_another_is_our_bug(net: Any) -> None:
    made = net()
    numbers = [made.const(number, np.float64) for number in (2.0, 0.5, 0.3)]
    made.output(own(made, "Rescale", [made.quantise(made.input(ROWS), 0.25), *numbers]))
    with pytest.raises(InternalError, match="the step of a rescaled membrane changed") as caught:
        analyse(made.model())
    assert caught.value.code == "SNN150"


@pytest.mark.parametrize(
    ("axis", "place", "whole"), [(2, 0, True), (-1, 0, True), (1, 0, False), (1, 1, True), (2, 1, False)]
)
def test_a_mean_of_codes_stays_within_them(net: Any, axis: int, place: int, whole: bool) -> None:
    """Σ a·v / Σ a lies among the codes v only if both sums run over the same axis."""
    made = net()
    x = made.input(["N", 3, 3])
    book = CodeBook(2, 2)
    weight, held = made.quantise(x, 0.25, book), made.quantise(x, 0.5, book)
    product = made.op("MatMul", [weight, held] if place == 0 else [held, weight])
    total = made.op("ReduceSum", [weight, made.const([axis], np.int64)])
    kind = kind_of(made, own(made, "FloorQuotient", [product, total], fraction_bits=4))
    assert isinstance(kind, Quotient)
    assert kind.membrane.high.item() == (3 if whole else 3 * 3 * 3) << 4
