"""What a step costs each channel: tables of squared errors for steps of a common geometric grid."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property, lru_cache

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
#: Octaves of steps whose tables are kept, each of some kilobytes.
_KEPT = 512


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
        low, high = (int(end) // PER_OCTAVE for end in (places.min(), places.max()))
        if self._held is None or low < self._held[1] or high >= self._held[1] + len(self._held[0]):
            if self._held is not None:
                low, high = min(low, self._held[1]), max(high, self._held[1] + len(self._held[0]) - 1)
            bounds, exponent = self._bounds
            found = [_octave(bounds, self.book, octave - exponent) for octave in range(low, high + 1)]
            self._held = np.ldexp(np.stack(found), 2 * exponent), low
        rows, octave = self._held
        return rows.reshape(-1, rows.shape[-1]), octave * PER_OCTAVE

    @cached_property
    def _bounds(self) -> tuple[bytes, int]:
        """The edges of the bins divided by a power of two, the same for most tensors, and its exponent."""
        bounds = self.seen.ordered_bounds
        exponent = int(np.frexp(bounds[-1])[1]) if bool(np.isfinite(bounds).all()) else 0
        return np.ldexp(bounds, -exponent).tobytes(), exponent

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

    def _beyond(self, places: npt.NDArray[np.int64]) -> Floats:
        """Return the share of the values of each bin that lie beyond the code, (bins, places)."""
        steps = _steps_at(places)
        bounds = self.seen.ordered_bounds[:, None]
        inside = np.clip(bounds, min(0, self.book.smallest) * steps, self.book.largest * steps)
        return np.asarray(1 - np.diff(inside, axis=0) / np.diff(bounds, axis=0))


@lru_cache(maxsize=_KEPT)
def _octave(bounds: bytes, book: CodeBook, octave: int) -> Floats:
    """Return the mean squared error of the values of each bin, (places, bins), for the steps of one octave.

    Tables of tensors whose bins and steps are a power of two apart are the same, times the square of that.
    """
    steps = _steps_at(np.arange(PER_OCTAVE) + octave * PER_OCTAVE)
    edges = np.frombuffer(bounds)[:, None]
    points = edges / steps
    codes, middles = book.codes.astype(np.float64), book.twice_midpoints / 2
    # The integral of (x - code)^2 is (x - code)^3 / 3 between two break points, and continuous.
    jumps = ((middles - codes[:-1]) ** 3 - (middles - codes[1:]) ** 3) / 3
    offset = np.concatenate([[0.0], np.cumsum(jumps)])
    cell = np.searchsorted(middles, points, side="right")
    integral = offset[cell] + (points - codes[cell]) ** 3 / 3
    rows = np.ascontiguousarray((np.diff(integral, axis=0) / np.diff(points, axis=0) * steps**2).T)
    rows.flags.writeable = False
    return rows


def _places(steps: Floats) -> npt.NDArray[np.int64]:
    """Return which step of the grid is nearest to each."""
    places: npt.NDArray[np.int64] = np.rint(np.log2(steps) * PER_OCTAVE).astype(np.int64)
    return places


def _steps_at(places: npt.NDArray[np.int64]) -> Floats:
    return np.asarray(2.0 ** (places / PER_OCTAVE))
