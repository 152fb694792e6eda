"""Searching the step of a code that loses least of what calibration saw."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from snnc.coding import CodeBook
from snnc.passes.quantise.errors import ErrorTable
from snnc.passes.quantise.histogram import Distribution, Moments

__all__ = [
    "OBSERVERS",
    "ObserverName",
    "StepChoice",
    "best_step",
    "choice_of",
    "cost_of",
    "per_axis",
    "steps_of",
]

Floats = npt.NDArray[np.float64]
ObserverName = Literal["mse", "percentile", "entropy"]

OBSERVERS: tuple[ObserverName, ...] = ("mse", "percentile", "entropy")
#: Largest code over largest magnitude: from no clipping at all down to heavy clipping of outliers.
_RATIOS = np.concatenate([np.linspace(1.05, 0.4, 14), np.geomspace(0.35, 0.02, 14)])
_LEAST_OF_CHANNEL = 0.34
_FINER = 3
_LEAST_OF_ENTROPY = 0.5
#: Share of the magnitudes that the largest code reaches, for ``percentile``.
_SHARE = 0.9999
#: A channel that calibration hardly saw away from zero gets a step this much finer than is usual at most.
_FAINTEST = 2.0**-10


@dataclass(frozen=True, eq=False)
class StepChoice:
    """A step and what it costs on the calibration data.

    Attributes:
        step: float32 and positive, of shape () or (channels,).
        decibel: Signal-to-noise ratio in dB; infinite where nothing is lost.
        clipped: Share of the values beyond the largest or smallest code.
    """

    step: npt.NDArray[np.float32]
    decibel: float
    clipped: float


def best_step(seen: Distribution, book: CodeBook, observer: ObserverName = "mse") -> StepChoice:
    """Choose a step for each channel of a distribution.

    Args:
        seen: What calibration saw; one channel for one step in all.
        book: The code; its own levels are what errors are computed with, whatever their spacing.
        observer: ``mse`` minimises the mean squared error of nearest-level coding; ``percentile`` lets the
            largest code reach 99.99 % of the magnitudes; ``entropy`` minimises the Kullback-Leibler
            divergence between the values and their codes, each spread over its interval.

    Returns:
        The steps, with what they cost.
    """
    step = steps_of(seen, book, observer)
    return cost_of(seen, step if seen.axes else step.reshape(()), book)


def steps_of(
    seen: Distribution, book: CodeBook, observer: ObserverName, table: ErrorTable | None = None
) -> npt.NDArray[np.float32]:
    """Return the step of each channel; see `best_step`.

    Args:
        seen: What calibration saw.
        book: The code.
        observer: How steps are chosen.
        table: Errors of this code, where the caller has a table of what was seen.
    """
    known = seen.clamped() if book.smallest >= 0 else seen
    base = _largest_steps(known, book)
    if observer == "percentile":
        step = np.minimum(_percentiles(known) / book.max_abs, base)
    elif observer == "mse" and known.channels > 1:
        step = (table or ErrorTable(known, book)).best(base, base * _LEAST_OF_CHANNEL)
    else:
        step, grid = np.empty(known.channels), _RATIOS
        measure = _squared_error if observer == "mse" else _divergence
        if observer == "entropy":
            # Values piled up near zero would otherwise have most of the others clipped.
            grid = grid[grid >= _LEAST_OF_ENTROPY]
        for part, moments in known.blocks:
            together = observer == "mse" and known.channels == 1
            step[part] = _search(partial(measure, moments, book=book), base[part], grid, together=together)
    return np.asarray(np.maximum(step, np.finfo(np.float32).tiny).astype(np.float32))


def _largest_steps(seen: Distribution, book: CodeBook) -> Floats:
    """Return the steps at which nothing is clipped."""
    reach = float(book.max_abs)
    alone = book.smallest >= 0 and seen.channels == 1
    peaks: Floats = np.array([max(seen.high, 0.0)]) if alone else seen.peaks
    alive = peaks[peaks > 0]
    typical = float(np.median(alive)) if alive.size else 1.0
    return np.asarray(np.maximum(peaks, typical * _FAINTEST) / reach)


def _search(
    measure: Callable[[Floats], Floats], base: Floats, ratios: Floats, *, together: bool = False
) -> Floats:
    """Return the best multiple of each base: coarse first, then finer around the best one.

    Args:
        measure: Errors of some steps, one for each channel.
        base: Step of each channel.
        ratios: What it is multiplied by, descending.
        together: There is one channel, and many steps of it are measured in one go.
    """
    if together:
        errors = measure(base * ratios)[:, None]
    else:
        errors = np.stack([measure(base * ratio) for ratio in ratios])
    best = errors.argmin(axis=0)
    ratio, least = ratios[best], errors.min(axis=0)
    upper = ratios[np.maximum(best - 1, 0)]
    lower = ratios[np.minimum(best + 1, len(ratios) - 1)]
    shares = np.linspace(0, 1, _FINER + 2)[1:-1]
    candidates = [lower + (upper - lower) * share for share in shares]
    if together:
        errors = measure(base * np.concatenate(candidates))[:, None]
    else:
        errors = np.stack([measure(base * candidate) for candidate in candidates])
    for candidate, error in zip(candidates, errors, strict=True):
        better = error < least
        ratio, least = np.where(better, candidate, ratio), np.where(better, error, least)
    return np.asarray(base * ratio)


def _squared_error(moments: Moments, step: Floats, book: CodeBook) -> Floats:
    """Return the sum of squared errors of nearest-level coding, less the sum of squares, for each channel.

    Of one channel the step may be several, each measured alone.
    """
    points = step[:, None] * (book.twice_midpoints / 2)
    found = moments.below(points.reshape(len(moments.number), -1))
    number, total = (sums.reshape(points.shape) for sums in found)
    levels = step[:, None] * book.codes
    # Values below a break point have the level below it or a lower one: sums by parts, without differences.
    rise = np.diff(levels, axis=1)
    top = levels[:, -1]
    all_number, all_total = moments.number[:, -1], moments.total[:, -1]
    squares = top**2 * all_number - (rise * (levels[:, 1:] + levels[:, :-1]) * number).sum(axis=1)
    products = top * all_total - (rise * total).sum(axis=1)
    return np.asarray(squares - 2 * products)


def _divergence(moments: Moments, step: Floats, book: CodeBook) -> Floats:
    """Return the Kullback-Leibler divergence of the codes, each spread over its interval, from the values.

    Values beyond the book are put at its ends, and zeros, which any step codes exactly, are left out.
    """
    width = np.diff(moments.bounds)
    centre = moments.bounds[:-1] + width / 2
    mass = moments.density * width
    channels, bins = mass.shape
    mass[:, bins // 2 - 1 : bins // 2 + 1] = 0
    inside = np.abs(centre)[None, :] <= step[:, None] * (book.max_abs + 0.5)
    held = mass * inside
    first = inside.argmax(axis=1)[:, None]
    last = first + inside.sum(axis=1, keepdims=True) - 1
    beyond = mass - held
    true = held.copy()
    for place, side in ((last, centre > 0), (first, centre < 0)):
        more = np.take_along_axis(true, place, axis=1) + (beyond * side).sum(axis=1, keepdims=True)
        np.put_along_axis(true, place, more, axis=1)
    cell = np.searchsorted(book.twice_midpoints / 2, centre[None, :] / step[:, None], side="right")
    key = (np.arange(channels)[:, None] * book.levels + cell).reshape(-1)

    def per_cell(numbers: Floats) -> Floats:
        sums = np.bincount(key, weights=numbers.reshape(-1), minlength=channels * book.levels)
        return np.asarray(sums[key].reshape(channels, bins))

    spread = width * (true > 0)
    room = per_cell(spread)
    coded = np.where(room > 0, per_cell(held) * spread / np.where(room > 0, room, 1), 0)
    share = true / np.maximum(true.sum(axis=1, keepdims=True), 1e-300)
    guess = coded / np.maximum(coded.sum(axis=1, keepdims=True), 1e-300)
    # A bin that only clipped values fill has no share in the codes; a small one stands for it.
    guess = np.maximum(guess, 1e-9)
    with np.errstate(divide="ignore"):
        terms = np.where(share > 0, share * np.log(np.where(share > 0, share, 1) / guess), 0.0)
    return np.asarray(terms.sum(axis=1))


def _percentiles(seen: Distribution) -> Floats:
    """Return the magnitude below which `_SHARE` of the values lie, for each channel."""
    bins = len(seen.edges) - 1
    folded = seen.counts[:, :bins] + seen.counts[:, bins:]
    cumulative = np.cumsum(folded, axis=1)
    wanted = _SHARE * cumulative[:, -1:]
    place = np.minimum((cumulative < wanted).sum(axis=1), bins - 1)
    return np.asarray(np.minimum(seen.edges[place + 1], np.maximum(seen.peaks, seen.edges[1])))


def cost_of(seen: Distribution, step: npt.NDArray[np.float32], book: CodeBook) -> StepChoice:
    """Return steps with what they cost on the calibration data.

    Args:
        seen: What calibration saw.
        step: Steps of its channels, or one.
        book: The code.
    """
    known = seen.clamped() if book.smallest >= 0 else seen
    steps = np.broadcast_to(step.astype(np.float64).reshape(-1), (known.channels,))
    noise = beyond = 0.0
    for part, moments in known.blocks:
        noise += float((known.squares[part] + _squared_error(moments, steps[part], book)).sum())
        ends = steps[part, None] * np.array([[float(book.smallest), float(book.largest)]])
        below, _ = moments.below(ends)
        if book.smallest < 0:
            beyond += float(below[:, 0].sum())
        beyond += float((moments.number[:, -1] - below[:, 1]).sum())
    return choice_of(known, step, noise, beyond)


def choice_of(seen: Distribution, step: npt.NDArray[np.float32], noise: float, beyond: float) -> StepChoice:
    """Return steps with what they cost.

    Args:
        seen: What calibration saw; values that the code takes for zero count as zeros already.
        step: Steps of its channels, or one.
        noise: Sum of squared errors.
        beyond: Number of values beyond the code.
    """
    signal = float(seen.squares.sum())
    decibel = float("inf") if noise <= 0 or signal <= 0 else float(10 * np.log10(signal / noise))
    return StepChoice(step, decibel, max(0.0, beyond) / max(1, seen.total))


def per_axis(step: npt.NDArray[np.float32], seen: Distribution, rank: int) -> npt.NDArray[Any]:
    """Return the steps of channels in a shape that broadcasts to the tensor, size 1 along all other axes."""
    sizes = dict(zip(seen.axes, seen.shape, strict=True))
    return step.reshape([sizes.get(axis, 1) for axis in range(rank)])
