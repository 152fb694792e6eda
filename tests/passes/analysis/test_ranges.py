"""Ranges of membranes: int64 to whoever reads them, however they are kept."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from snnc.passes.analysis.exact import exact
from snnc.passes.analysis.kinds import Membrane

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
