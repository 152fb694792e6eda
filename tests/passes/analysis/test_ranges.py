"""Ranges of membranes: int64 to whoever reads them, however they are kept."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from snnc.passes.analysis.exact import as_exact, exact
from snnc.passes.analysis.kinds import Membrane
from snnc.passes.analysis.sums import add

LIMITS = np.iinfo(np.int32)


@pytest.mark.parametrize("size", [1, 4095, 4096, 10_000])
@pytest.mark.parametrize(
    ("low", "high"),
    [(-5, 7), (LIMITS.min, LIMITS.max), (LIMITS.min - 1, 0), (0, LIMITS.max + 1), (-(2**60), 2**60)],
)
def test_ranges_are_kept_exactly(size: int, low: int, high: int) -> None:
    lows, highs = np.zeros((1, size), np.int64), np.zeros((1, size), np.int64)
    lows[0, -1], highs[0, -1] = low, high
    kind = replace(Membrane(exact(1, 2), exact(0, 2), lows, highs), host=True)
    for found, expected in ((kind.low, lows), (kind.high, highs)):
        assert found.dtype == np.int64
        np.testing.assert_array_equal(found, expected)
    assert kind.bound == max(-low, high, 0)
    # Products with what fits 32 bits do not wrap around.
    assert int((kind.high * 3).max()) == 3 * max(high, 0)


def test_large_ranges_take_half_the_room() -> None:
    wide = np.arange(10_000).reshape(1, -1)
    kind = Membrane(exact(1, 2), exact(0, 2), wide, wide)
    kept = sum(array.nbytes for name, array in vars(kind).items() if name in ("low", "high"))
    assert kept == wide.nbytes


def test_a_range_of_one_number_stays_one() -> None:
    one = np.broadcast_to(np.int64(3), (100, 1000))
    kind = Membrane(exact(1, 2), exact(0, 2), one, one)
    assert vars(kind)["low"].base is not None and np.array_equal(kind.low, one)


@pytest.mark.parametrize(("largest", "together"), [(100, True), (10**6, False)])
def test_small_constants_of_positions_leave_one_range_for_all(largest: int, together: bool) -> None:
    """A mask is larger than what it is added to and keeps its places apart; an embedding is not."""
    draw = np.random.default_rng(3)
    step = as_exact(draw.integers(1, 9, (1, 1, 64)))
    low, high = -draw.integers(5_000, 9_000, (1, 1, 64)), draw.integers(5_000, 9_000, (1, 1, 64))
    wide = Membrane(step, exact(0, 3), np.repeat(low, 80, axis=1), np.repeat(high, 80, axis=1))
    rows = draw.integers(-largest, largest, (1, 80, 64))
    held = Membrane(step, exact(0, 3), rows, rows, content=rows)
    for sign, found in ((1, add(wide, held, 1)), (1, add(held, wide, 1)), (-1, add(wide, held, -1))):
        assert isinstance(found, Membrane)
        assert found.low.shape == ((1, 1, 64) if together else (1, 80, 64))
        assert (found.low <= low + sign * rows).all() and (found.high >= high + sign * rows).all()
        # No wider than the positions together.
        np.testing.assert_array_equal(found.low.min(axis=1), (low + sign * rows).min(axis=1))
        np.testing.assert_array_equal(found.high.max(axis=1), (high + sign * rows).max(axis=1))
