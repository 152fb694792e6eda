"""What a step costs each channel: tables of squared errors for steps of a common geometric grid."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt

from snnc.coding import CodeBook
from snnc.passes.quantise.histogram import Distribution

__all__ = ["ErrorTable", "on_grid"]

Floats = npt.NDArray[np.float64]

#: Steps an octave: few enough for channels to share them, since each distinct step of a transcendental
#: function costs a table of certified roots. At most 4.5 % off its best, a step loses less than 0.1 dB.
PER_OCTAVE = 8
_BLOCK = 2048
#: Places on either side of those asked for that are worked out with them.
_MARGIN = 2


def on_grid(steps: Floats) -> Floats:
    """Return the nearest steps of the grid, by ratio."""
    return _steps_at(_places(steps))


@dataclass(eq=False)
class ErrorTable:
    """Squared errors of nearest-level coding, for channels of one distribution and steps on a grid.

    An error depends on a bin and a step alone, so that the errors of all channels and steps are one product
    of the counts with a table of bins and steps.

    Attributes:
        seen: What calibration saw; values that the code takes for zero count as zeros already.
        book: The code.
    """

    seen: Distribution
    book: CodeBook
    _held: tuple[Floats, int] | None = field(default=None, init=False, repr=False)

    def best(self, upper: Floats, lower: Floats) -> Floats:
        """Return the step of least error for each channel.

        Args:
            upper: Largest step that each channel may have, positive.
            lower: Smallest one.
        """
        high, low = _places(upper), _places(lower)
        place = np.arange(low.min(), high.max() + 1)
        rows, first = self._rows(place)
        table = np.ascontiguousarray(rows[place - first].T)
        best = np.empty(len(upper), dtype=np.int64)
        for part in self._parts:
            errors = self._counts(part) @ table
            allowed = (place >= low[part, None]) & (place <= high[part, None])
            best[part] = np.where(allowed, errors, np.inf).argmin(axis=1) + place[0]
        return _steps_at(best)

    def errors(self, steps: Floats) -> Floats:
        """Return the sum of squared errors of each channel at its step, which lies on the grid."""
        places = _places(steps)
        rows, first = self._rows(places)
        return self._sums(rows, places - first)

    def beyond(self, steps: Floats) -> Floats:
        """Return the number of values of each channel beyond the code at its step, which lies on the grid."""
        wanted, place = np.unique(_places(steps), return_inverse=True)
        return self._sums(np.ascontiguousarray(self._beyond(wanted).T), place)

    def _sums(self, rows: Floats, place: npt.NDArray[np.int64]) -> Floats:
        """Sum up the counts of each channel times the row of its step, which has a number for each bin."""
        found = np.empty(len(place))
        for part in self._parts:
            found[part] = np.einsum("cb,cb->c", self._counts(part), rows[place[part]])
        return found

    def _rows(self, places: npt.NDArray[np.int64]) -> tuple[Floats, int]:
        """Return rows of a range of places that holds those wanted, and the first place of the range.

        The rows are kept: a search asks for the same few steps again and again.
        """
        low, high = int(places.min()), int(places.max())
        if self._held is None or low < self._held[1] or high >= self._held[1] + len(self._held[0]):
            if self._held is not None:
                low, high = min(low, self._held[1]), max(high, self._held[1] + len(self._held[0]) - 1)
            low, high = low - _MARGIN, high + _MARGIN
            self._held = np.ascontiguousarray(self._table(np.arange(low, high + 1)).T), low
        return self._held

    @property
    def _parts(self) -> list[slice]:
        return [slice(start, start + _BLOCK) for start in range(0, self.seen.channels, _BLOCK)]

    def _counts(self, part: slice) -> Floats:
        return (
            self._all_counts if self.seen.channels <= _BLOCK else self.seen.ordered(part).astype(np.float64)
        )

    @cached_property
    def _all_counts(self) -> Floats:
        return self.seen.ordered().astype(np.float64)

    def _table(self, places: npt.NDArray[np.int64]) -> Floats:
        """Return the mean squared error of the values of each bin, (bins, places)."""
        steps = _steps_at(places)
        points = self.seen.ordered_bounds[:, None] / steps
        codes, middles = self.book.codes.astype(np.float64), self.book.twice_midpoints / 2
        # The integral of (x - code)^2 is (x - code)^3 / 3 between two break points, and continuous.
        jumps = ((middles - codes[:-1]) ** 3 - (middles - codes[1:]) ** 3) / 3
        offset = np.concatenate([[0.0], np.cumsum(jumps)])
        cell = np.searchsorted(middles, points, side="right")
        integral = offset[cell] + (points - codes[cell]) ** 3 / 3
        return np.asarray(np.diff(integral, axis=0) / np.diff(points, axis=0) * steps**2)

    def _beyond(self, places: npt.NDArray[np.int64]) -> Floats:
        """Return the share of the values of each bin that lie beyond the code, (bins, places)."""
        steps = _steps_at(places)
        bounds = self.seen.ordered_bounds[:, None]
        inside = np.clip(bounds, min(0, self.book.smallest) * steps, self.book.largest * steps)
        return np.asarray(1 - np.diff(inside, axis=0) / np.diff(bounds, axis=0))


def _places(steps: Floats) -> npt.NDArray[np.int64]:
    """Return which step of the grid is nearest to each."""
    places: npt.NDArray[np.int64] = np.rint(np.log2(steps) * PER_OCTAVE).astype(np.int64)
    return places


def _steps_at(places: npt.NDArray[np.int64]) -> Floats:
    return np.asarray(2.0 ** (places / PER_OCTAVE))
