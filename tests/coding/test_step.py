"""The optimal step against the printed signal-to-noise ratios (semantics note 1.8)."""

from __future__ import annotations

import math

import numpy as np
import pytest

from snnc.coding import CodeBook, optimal_step
from snnc.errors import UsageError


def statistics(book: CodeBook, step: float) -> tuple[float, float]:
    """SQNR in dB and mean spikes for |x|, x standard normal, by the closed form with erf."""

    def cumulative(x: float) -> float:
        return math.erf(x / math.sqrt(2))

    def density(x: float) -> float:
        return 0.0 if math.isinf(x) else x * math.exp(-x * x / 2) * math.sqrt(2 / math.pi)

    def slope(x: float) -> float:
        return math.exp(-x * x / 2) * math.sqrt(2 / math.pi)

    edges = [0.0, *(book.twice_midpoints * step / 2).tolist(), math.inf]
    error = spikes = 0.0
    for code, count, low, high in zip(
        book.codes.tolist(), book.spikes.tolist(), edges, edges[1:], strict=False
    ):
        level = code * step
        mass = cumulative(high) - cumulative(low)
        error += (
            (1 + level**2) * mass - (density(high) - density(low)) + 2 * level * (slope(high) - slope(low))
        )
        spikes += count * mass
    return -10 * math.log10(error), spikes


@pytest.mark.parametrize(
    ("book", "sqnr", "spikes"),
    [
        (CodeBook(4, 1), 13.99, 0.89),
        (CodeBook(4, 2), 19.89, 1.25),
        (CodeBook(4, 2, "contiguous"), 18.67, 1.12),
        (CodeBook(4, 3), 22.89, 1.41),
        (CodeBook(4, 4), 24.33, 1.49),
        (CodeBook(6, 2), 22.21, 1.56),
        (CodeBook(6, 3), 27.78, 1.90),
        (CodeBook(8, 1), 14.23, 0.99),
        (CodeBook(8, 2), 22.40, 1.68),
        (CodeBook(8, 4), 34.90, 2.58),
        (CodeBook(8, 8), 46.02, 3.11),
        (CodeBook(3, 3, largest=4), 15.13, None),
        (CodeBook(4, 4, largest=8), 19.83, None),
        (CodeBook(5, 5, largest=16), 24.80, None),
    ],
)
def test_printed_table(book: CodeBook, sqnr: float, spikes: float | None) -> None:
    step = optimal_step(book)
    measured, mean_spikes = statistics(book, step)
    assert measured == pytest.approx(sqnr, abs=0.02)
    if spikes is not None:
        assert mean_spikes == pytest.approx(spikes, abs=0.02)
    for factor in (0.5, 0.8, 0.99, 1.01, 1.25, 2.0):
        assert statistics(book, step * factor)[0] < measured


def centroid_step(book: CodeBook, step: float) -> float:
    """The best step for the cells that a step makes: sum(code · E[x in cell]) / sum(code² · P(cell))."""
    edges = [-math.inf if book.signed else 0.0, *(book.twice_midpoints * step / 2).tolist(), math.inf]
    above = below = 0.0
    for code, low, high in zip(book.codes.tolist(), edges, edges[1:], strict=False):
        mass = (math.erf(high / math.sqrt(2)) - math.erf(low / math.sqrt(2))) / 2
        first = (math.exp(-low * low / 2) - math.exp(-high * high / 2)) / math.sqrt(2 * math.pi)
        above, below = above + code * first, below + code**2 * mass
    return above / below


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize(
    ("timesteps", "groups"), [(1, 1), (3, 1), (4, 1), (4, 2), (5, 3), (6, 6), (7, 5), (8, 2)]
)
def test_the_step_is_the_best_for_its_own_cells(timesteps: int, groups: int, signed: bool) -> None:
    """Lloyd's condition holds where the error is least; the error of six digits is 5e-6."""
    for book in (
        CodeBook(timesteps, groups, signed=signed),
        CodeBook(timesteps, groups, "contiguous", signed),
        CodeBook(timesteps, groups, signed=signed).restricted(0, 5),
    ):
        step = optimal_step(book)
        assert step == pytest.approx(centroid_step(book, step), rel=6e-6)
        assert step == float(f"{step:.6g}")
        if not signed:
            # The deepest of several dips, in the whole range that a step may have.
            found = statistics(book, step)[0]
            assert all(
                statistics(book, reach / book.max_abs)[0] < found for reach in np.geomspace(0.21, 9, 40)
            )


def test_printed_clipping_points() -> None:
    for book, reach in ((CodeBook(4, 1), 2.32), (CodeBook(4, 2), 2.73), (CodeBook(4, 2, "contiguous"), 2.47)):
        assert optimal_step(book) * book.magnitude == pytest.approx(reach, abs=0.02)


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_signed_book_has_the_step_of_its_positive_half(groups: int) -> None:
    """Printed as 'the same numbers' for normal and half-normal input."""
    assert optimal_step(CodeBook(4, groups, signed=True)) == pytest.approx(
        optimal_step(CodeBook(4, groups)), rel=1e-5
    )


def test_step_of_an_asymmetric_book_beats_its_neighbours_on_samples() -> None:
    book = CodeBook.uniform(-8, 7)
    samples = np.random.default_rng(0).standard_normal(200_000)

    def error(step: float) -> float:
        return float(np.mean((samples - step * book.nearest(samples / step)) ** 2))

    step = optimal_step(book)
    assert error(step) < min(error(0.9 * step), error(1.1 * step))


def test_step_scales_with_the_deviation() -> None:
    for deviation in (3.0, 1e-3):
        assert optimal_step(CodeBook(4, 2), deviation) == deviation * optimal_step(CodeBook(4, 2))


def test_step_of_a_book_without_positive_codes() -> None:
    mirrored = optimal_step(CodeBook(2, 2, signed=True, largest=0))
    assert mirrored == pytest.approx(optimal_step(CodeBook(2, 2, signed=True, smallest=0)), rel=1e-5)


def test_a_single_level_takes_the_mean() -> None:
    """The best constant for |x| is its mean, sqrt(2 / pi)."""
    lone = CodeBook(2, 2, smallest=2, largest=2)
    assert 2 * optimal_step(lone) == pytest.approx(math.sqrt(2 / math.pi), rel=1e-5)


@pytest.mark.parametrize("deviation", [0.0, -1.0, math.inf, math.nan])
def test_wrong_deviation_is_refused(deviation: float) -> None:
    with pytest.raises(UsageError, match="deviation") as caught:
        optimal_step(CodeBook(4, 2), deviation)
    assert caught.value.code == "SNN207"


def test_a_book_of_zero_alone_is_refused() -> None:
    with pytest.raises(UsageError, match="SNN207"):
        optimal_step(CodeBook(1, 1, largest=0))
