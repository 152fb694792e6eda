"""How far the steps of channels may differ: finer codes for faint channels against coarser weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from snnc.coding import CodeBook
from snnc.passes.quantise.channels import Rows
from snnc.passes.quantise.errors import ErrorTable, on_grid
from snnc.passes.quantise.grids import WeightFormat, integer_grid
from snnc.passes.quantise.histogram import Distribution
from snnc.passes.quantise.steps import ObserverName, StepChoice, choice_of, steps_of

__all__ = ["balanced_steps"]

Floats = npt.NDArray[np.float64]

#: Exponents between one step for all channels (0) and the best step of each (1).
_EXPONENTS = (0.0, 0.4, 0.7, 1.0)
#: A channel seen this many times counts half for itself and half as one of its kind.
_FEW = 1024


def balanced_steps(
    seen: Distribution,
    book: CodeBook,
    method: ObserverName,
    rows: tuple[Rows, ...],
    form: WeightFormat,
) -> StepChoice:
    """Choose a step for each channel so that the layers behind lose least, by code and by weights together.

    A step of its own suits each channel best, but the weights behind are multiplied by the steps before they
    become integers, so that a channel of large steps makes the grid of all its neighbours coarse. Between one
    step for all and the best one for each, the choice is the one with the least error of the layers' sums.
    What a code loses is judged on samples that its steps were not chosen on, one half of them by the other:
    a channel that few samples reach would get a step by these, and clip others. Steps are those of `on_grid`,
    so that many channels share one.

    Args:
        seen: What calibration saw, by channel.
        book: The code.
        method: See `best_step`.
        rows: Weights behind the code; none if it is held (semantics 3.4).
        form: How they become integers.
    """
    # Once for all that follows: what is summed up for the search stays with the distribution.
    seen = seen.clamped() if book.smallest >= 0 else seen
    table = ErrorTable(seen, book)
    own = _own_steps(table, method)
    common = float(steps_of(seen.pooled(), book, method)[0])
    judged = _judges(seen, book, method)
    norms = [np.einsum("ij,ij->i", entry.weights, entry.weights) for entry in rows]
    best: tuple[float, Floats] | None = None
    for exponent in _EXPONENTS:
        steps = _between(common, own, exponent)
        lost = _lost(seen, steps, judged(exponent) if judged else table.errors(steps), rows, norms, form)
        if best is None or lost < best[0]:
            best = lost, steps
    assert best is not None
    steps = best[1]
    return choice_of(seen, steps.astype(np.float32), table.errors(steps).sum(), table.beyond(steps).sum())


def _between(common: float, own: Floats, exponent: float) -> Floats:
    return on_grid(common ** (1 - exponent) * own**exponent)


def _judges(seen: Distribution, book: CodeBook, method: ObserverName) -> Callable[[float], Floats] | None:
    """Return what gives the errors of each half of the samples at steps chosen on the other half."""
    halves = seen.halves
    if not halves:
        return None
    tables = [ErrorTable(half, book) for half in halves]
    chosen = [
        (float(steps_of(table.seen.pooled(), book, method)[0]), _own_steps(table, method)) for table in tables
    ]

    def errors(exponent: float) -> Floats:
        one, two = (
            table.errors(_between(*steps, exponent))
            for table, steps in zip(tables, chosen[::-1], strict=True)
        )
        return one + two

    return errors


def _own_steps(table: ErrorTable, method: ObserverName) -> Floats:
    """Return the best step of each channel; one of which little was seen goes by its size and its kind."""
    seen, book = table.seen, table.book
    own = steps_of(seen, book, method, table).astype(np.float64)
    number = seen.numbers
    if bool((number >= 64 * _FEW).all()) or not seen.peaks.any():
        return own
    squares = seen.squares / np.maximum(number, 1)
    size = np.sqrt(np.maximum(squares, squares.max() * 2.0**-20))
    if not bool((size > 0).all()):
        return own
    alike = size * float(steps_of(seen.alike(size), book, method)[0])
    weight = number / (number + _FEW)
    return np.asarray(own**weight * alike ** (1 - weight))


def _lost(
    seen: Distribution,
    steps: Floats,
    wrong_codes: Floats,
    rows: tuple[Rows, ...],
    norms: list[Floats],
    form: WeightFormat,
) -> float:
    """Return the squared error that code and weights leave in the sums behind, in parts of their squares.

    Args:
        seen: What calibration saw.
        steps: Step of each channel.
        wrong_codes: Sum of the squared errors of the code, for each channel.
        rows: Weights behind the code.
        norms: For each of these, the sum of squares of every row.
        form: How they become integers.
    """
    number = np.maximum(seen.numbers, 1)
    errors, squares = wrong_codes / number, seen.squares / number
    if not rows:
        return float(errors.sum())
    total = 0.0
    for entry, norm in zip(rows, norms, strict=True):
        label, weights = entry.labels, entry.weights
        lost = float(errors[label] @ norm)
        if entry.shared and form.largest is not None:
            scale = steps[label, None]
            wrong: npt.NDArray[Any]
            powers = entry.powers_of_two
            wrong, step = integer_grid(weights, (0,), form, 1, powers_of_two=powers, times=scale)
            wrong = wrong * step
            wrong /= scale
            wrong -= weights
            lost += float(squares[label] @ np.einsum("ij,ij->i", wrong, wrong))
        signal = float(squares[label] @ norm)
        total += lost / signal if signal > 0 else 0.0
    return total
