"""Histograms of a tensor's values, with bins of constant relative width: what calibration keeps of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Distribution", "Histogram", "Moments"]

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[np.signedinteger[Any]]

_MANTISSA = 23
#: Bins an octave are 2^bits: many for a tensor, fewer where each channel has a histogram of its own.
_BITS_OF_TENSOR = 7
_BITS_OF_CHANNEL = 3
_OCTAVES_OF_TENSOR = 24
_OCTAVES_OF_CHANNEL = 16
#: Values counted of one batch at most: many at first, fewer once many have been seen, each standing for
#: those left out. Smallest, largest and peaks come from all of them.
_VALUES_PER_BATCH = 1 << 19
_VALUES_AT_FIRST = 1 << 20
_VALUES_LATER = 1 << 16
_BLOCK = 256
#: Types of counts, from the narrowest on: the counts of a large layer are megabytes that are read and written
#: with every batch, a few bins in each cache line.
_COUNTS = (np.int16, np.int32, np.int64)


class Histogram:
    """Counts values of one tensor, for each channel or in all.

    The bin of a value is read off its float32 bits: sign, exponent and the first bits of the mantissa. The
    window of exponents moves up when larger values arrive, so that nothing about the range need be known.

    Args:
        axes: Axes of the tensor along which channels are told apart; empty for one histogram in all.

    Attributes:
        low: Smallest value seen.
        high: Largest value seen.
        shape: Size of each of the axes.
    """

    def __init__(self, axes: tuple[int, ...] = ()) -> None:
        self.axes = axes
        self.low, self.high = np.inf, -np.inf
        self.shape: tuple[int, ...] = ()
        self._bits = _BITS_OF_CHANNEL if axes else _BITS_OF_TENSOR
        self._bins = (_OCTAVES_OF_CHANNEL if axes else _OCTAVES_OF_TENSOR) << self._bits
        self._first: int | None = None
        self._taken = 0
        self._each = 0
        self._counts: Counts = np.zeros((1, 2 * self._bins), dtype=_COUNTS[0])
        self._other: Counts | None = None
        self._batches = 0
        self._peaks: Floats = np.zeros(1)

    def add(self, batch: Array) -> None:
        """Take up one batch of the tensor, samples on axis 0."""
        if batch.size == 0:
            return
        # Of the first batch each half of its samples goes to a half of the data, of later ones every second.
        if self.axes and self._batches == 0 and len(batch) > 1:
            self._batches = 2
            self._add(batch[: len(batch) // 2], other=False)
            self._add(batch[len(batch) // 2 :], other=True)
        else:
            self._add(batch, other=bool(self.axes) and self._batches % 2 == 1)
            self._batches += 1

    def _add(self, batch: Array, *, other: bool) -> None:
        rows, stride = self._rows(np.asarray(batch, dtype=np.float32))
        kept = tuple(axis for axis in range(batch.ndim) if axis not in self.axes)
        top, bottom = batch.max(axis=kept), batch.min(axis=kept)
        peaks = np.maximum(np.abs(top), np.abs(bottom)).reshape(-1)
        self.low, self.high = min(self.low, float(bottom.min())), max(self.high, float(top.max()))
        if not self.shape and self.axes:
            self.shape = tuple(batch.shape[axis] for axis in self.axes)
            self._counts = np.zeros((len(rows), 2 * self._bins), dtype=_COUNTS[0])
            self._other = np.zeros_like(self._counts)
            self._peaks = np.zeros(len(rows))
        self._peaks = np.maximum(self._peaks, peaks)
        self._make_room(float(peaks.max()))
        self._count(rows, stride, other)
        self._taken += rows.size

    def distribution(self) -> Distribution:
        """Return what was counted."""
        first = self._first if self._first is not None else 0
        raw = (np.arange(self._bins + 1, dtype=np.int64) + first) << (_MANTISSA - self._bits)
        # Behind the largest float the bits mean NaN; such intervals are empty.
        with np.errstate(invalid="ignore"):
            edges = raw.astype(np.uint32).view(np.float32).astype(np.float64)
        edges[0] = 0.0
        shape = self.shape if self.axes else ()
        return Distribution(
            edges,
            self._counts,
            self._peaks,
            self.low,
            self.high,
            self.axes,
            shape,
            first,
            self._bits,
            self._other,
        )

    def _rows(self, batch: Array) -> tuple[Array, int]:
        """Return some of the values, evenly spread, of shape (channels, values): one out of so many.

        Channel by channel, since the bins of one channel then stay in the cache while they are counted.
        """
        early = self._taken < _VALUES_AT_FIRST
        budget, least = (_VALUES_PER_BATCH, 64) if early else (_VALUES_LATER, 32)
        if not self.axes:
            table = batch.reshape(-1, 1)
        else:
            moved = np.moveaxis(batch, self.axes, range(-len(self.axes), 0))
            table = moved.reshape(-1, int(np.prod(moved.shape[moved.ndim - len(self.axes) :])))
        stride = _stride(len(table), max(least, budget // table.shape[1]))
        return np.ascontiguousarray(table[::stride].T), stride

    def _make_room(self, peak: float) -> None:
        if peak == 0.0:
            return
        last = int(np.float32(peak).view(np.uint32)) >> (_MANTISSA - self._bits)
        if self._first is not None and last < self._first + self._bins:
            return
        # One octave more than was seen, so that the window seldom moves.
        first = max(0, last + 1 + (1 << self._bits) - self._bins)
        if self._first is not None:
            self._counts = self._shifted(self._counts, first - self._first)
            if self._other is not None:
                self._other = self._shifted(self._other, first - self._first)
        self._first = first

    def _shifted(self, counts: Counts, shift: int) -> Counts:
        moved = np.zeros_like(counts)
        for start in (0, self._bins):
            half = counts[:, start : start + self._bins]
            kept = max(0, self._bins - shift)
            moved[:, start : start + kept] = half[:, shift:] if shift < self._bins else 0
            moved[:, start] += half[:, : min(shift, self._bins)].sum(axis=1)
        return moved

    def _count(self, rows: Array, each: int, other: bool) -> None:
        """Add values, each of which stands for so many; those of the other half are told apart."""
        raw = rows.view(np.uint32)
        place = (raw & np.uint32(0x7FFFFFFF)).view(np.int32)
        place >>= _MANTISSA - self._bits
        place -= self._first if self._first is not None else 0
        np.clip(place, 0, self._bins - 1, out=place)
        # All bits of a negative number's sign, shifted in, or none: the bins of negative numbers come second.
        place += (rows.view(np.int32) >> 31) & np.int32(self._bins)
        place += np.arange(len(rows), dtype=np.int32)[:, None] * (2 * self._bins)
        self._widen(rows.shape[1] * each)
        counts = [self._counts] if self._other is None or not other else [self._counts, self._other]
        size = self._counts.size
        if place.size < size:
            for held in counts:
                np.add.at(held.reshape(-1), place.reshape(-1), held.dtype.type(each))
        else:
            more = (np.bincount(place.reshape(-1), minlength=size) * each).astype(self._counts.dtype)
            for held in counts:
                np.add(held, more.reshape(held.shape), out=held)

    def _widen(self, more: int) -> None:
        """Take a type of counts in which so many more values of a channel fit, whatever their bins."""
        self._each += more
        fitting = next(kind for kind in _COUNTS if self._each <= np.iinfo(kind).max)
        kind = np.promote_types(fitting, self._counts.dtype)
        self._counts = self._counts.astype(kind, copy=False)
        if self._other is not None:
            self._other = self._other.astype(kind, copy=False)


def _stride(have: int, wanted: int) -> int:
    """Return a step that leaves about as many as wanted, odd, so that it does not stay in one column."""
    stride = max(1, have // max(1, wanted))
    return stride + 1 - stride % 2 if stride > 1 else 1


def _folded(counts: Counts, bins: int) -> Counts:
    """Return counts with those of negative values among the zeros."""
    folded = counts.copy()
    folded[:, 0] += folded[:, bins:].sum(axis=1)
    folded[:, bins:] = 0
    return folded


@dataclass(frozen=True, eq=False)
class Distribution:
    """How the values of a tensor are spread, as a density that is constant within each bin.

    Attributes:
        edges: Edges of the bins of magnitudes, float64 (bins + 1,), ascending from 0.
        counts: Values in each bin, integers (channels, 2 · bins): first those that are not negative, then the
            negative ones, both by magnitude. The sum over a channel fits their type.
        peaks: Largest magnitude of each channel, float64 (channels,).
        low: Smallest value.
        high: Largest value.
        axes: Axes of the tensor that the channels lie along; empty for one channel in all.
        shape: Sizes of these axes.
        first: Number of the first bin, counted from the smallest float32, or None where bins are no longer
            those of a float32's bits.
        bits: Bins an octave are 2^bits.
        other: Those of the counts that come from one half of the samples; None where none is told apart.
    """

    edges: Floats
    counts: Counts
    peaks: Floats
    low: float
    high: float
    axes: tuple[int, ...] = ()
    shape: tuple[int, ...] = ()
    first: int | None = None
    bits: int = _BITS_OF_TENSOR
    other: Counts | None = None

    @property
    def halves(self) -> tuple[Distribution, ...]:
        """The distributions of both halves of the samples; empty where they are not known or hold nothing."""
        if self.other is None or not self.other.any() or np.array_equal(self.counts, self.other):
            return ()
        return self._part(self.counts - self.other), self._part(self.other)

    def _part(self, counts: Counts) -> Distribution:
        bins = len(self.edges) - 1
        filled = counts[:, :bins] + counts[:, bins:] > 0
        filled[:, 0] = False
        last = np.where(filled.any(axis=1), bins - filled[:, ::-1].argmax(axis=1), 0)
        return replace(self, counts=counts, peaks=np.minimum(self.edges[last], self.peaks), other=None)

    @property
    def channels(self) -> int:
        """Number of channels."""
        return len(self.counts)

    @property
    def total(self) -> int:
        """Number of values counted."""
        return int(self.counts.sum())

    @property
    def bounds(self) -> Floats:
        """Edges of all bins, negative ones included, ascending."""
        return np.concatenate([-self.edges[:0:-1], self.edges])

    def pooled(self) -> Distribution:
        """Return the distribution of all channels together."""
        counts = self.counts.sum(axis=0, keepdims=True)
        peaks = self.peaks.max(keepdims=True)
        return replace(self, counts=counts, peaks=peaks, axes=(), shape=(), other=None)

    def alike(self, size: Floats) -> Distribution:
        """Return the distribution of all values, each divided by the size of its channel, to the nearest bin.

        Args:
            size: Size of each channel, positive.
        """
        bins = len(self.edges) - 1
        shift = np.rint(np.log2(size.max() / size) * 2**self.bits).astype(np.int64)
        place = np.minimum(np.arange(bins)[None, :] + shift[:, None], bins - 1)
        place[:, 0] = 0
        halves = [
            np.bincount(place.reshape(-1), weights=half.reshape(-1).astype(np.float64), minlength=bins)
            for half in (self.counts[:, :bins], self.counts[:, bins:])
        ]
        counts = np.concatenate(halves)[None].astype(np.int64)
        largest = float(size.max())
        peaks = (self.peaks / size).max(keepdims=True)
        return Distribution(self.edges / largest, counts, peaks, self.low / largest, float(peaks[0]))

    def clamped(self) -> Distribution:
        """Return the distribution with negative values counted as zeros."""
        bins = len(self.edges) - 1
        if not self.counts[:, bins:].any():
            return self
        other = self.other if self.other is None else _folded(self.other, bins)
        return replace(self, counts=_folded(self.counts, bins), low=max(self.low, 0.0), other=other)

    @cached_property
    def squares(self) -> Floats:
        """Sum of squares of each channel."""
        bins = len(self.edges) - 1
        folded = self.counts[:, :bins] + self.counts[:, bins:]
        return np.asarray(folded @ (np.diff(self.edges**3) / (3 * np.diff(self.edges))))

    @cached_property
    def numbers(self) -> Floats:
        """Number of values of each channel."""
        return np.asarray(self.counts.sum(axis=1), dtype=np.float64)

    def ordered(self, part: slice = slice(None)) -> npt.NDArray[np.signedinteger[Any]]:
        """Return the values in each bin in ascending order, (channels, bins), for some of the channels.

        Where no value is negative, the bins are those from zero on.
        """
        bins, counts = len(self.edges) - 1, self.counts[part]
        if not self._negative:
            return counts[:, :bins]
        return np.concatenate([counts[:, : bins - 1 : -1], counts[:, :bins]], axis=1)

    @property
    def ordered_bounds(self) -> Floats:
        """Edges of the bins that `ordered` counts."""
        return self.bounds if self._negative else self.edges

    @cached_property
    def _negative(self) -> bool:
        return bool(self.counts[:, len(self.edges) - 1 :].any())

    @property
    def blocks(self) -> Iterator[tuple[slice, Moments]]:
        """Channels and their cumulative moments, some at a time, so that searches work on little memory."""
        for start in range(0, self.channels, _BLOCK):
            part = slice(start, start + _BLOCK)
            yield part, Moments.of(self.ordered(part), self.ordered_bounds, self.first, self.bits)


@dataclass(frozen=True, eq=False)
class Moments:
    """Number and sum of all values below a point, for some channels.

    Attributes:
        bounds: Edges of the bins, ascending.
        density: Values in each bin by its width, (channels, bins).
        number: Values below each edge, (channels, bins + 1).
        total: Their sum.
        first: See `Distribution`.
        bits: See `Distribution`.
    """

    bounds: Floats
    density: Floats
    number: Floats
    total: Floats
    first: int | None
    bits: int

    @classmethod
    def of(
        cls, counts: npt.NDArray[np.signedinteger[Any]], bounds: Floats, first: int | None, bits: int
    ) -> Moments:
        """Sum up counts of bins, (channels, bins), whose edges are given, ascending."""
        density = counts / np.diff(bounds)
        centre = (bounds[:-1] + bounds[1:]) / 2
        number = np.zeros((len(counts), len(bounds)))
        total = np.zeros((len(counts), len(bounds)))
        np.cumsum(counts, axis=1, out=number[:, 1:])
        np.cumsum(counts * centre, axis=1, out=total[:, 1:])
        return cls(bounds, density, number, total, first, bits)

    def below(self, points: Floats) -> tuple[Floats, Floats]:
        """Return number and sum of the values below each point, of shape (channels, points)."""
        place = self._bins_of(points)
        inside = np.clip(points, self.bounds[0], self.bounds[-1])
        start = self.bounds[place]
        bins = self.density.shape[1]
        row = np.arange(len(points))[:, None]
        density = self.density.reshape(-1)[place + row * bins]
        place += row * (bins + 1)
        gained = density * (inside - start)
        number = self.number.reshape(-1)[place] + gained
        total = self.total.reshape(-1)[place] + gained * ((inside + start) / 2)
        return number, total

    def _bins_of(self, points: Floats) -> npt.NDArray[np.int64]:
        """Return the bin of each point, by the bits of a float32 where the bins are made from these."""
        last = self.density.shape[1] - 1
        if self.first is None:
            return np.clip(np.searchsorted(self.bounds, points, side="right") - 1, 0, last)
        raw = points.astype(np.float32).view(np.uint32)
        place = ((raw & np.uint32(0x7FFFFFFF)) >> np.uint32(_MANTISSA - self.bits)).astype(np.int64)
        place -= self.first
        if self.bounds[0] < 0:
            half = (last + 1) // 2
            np.clip(place, 0, half - 1, out=place)
            return np.asarray(np.where(points < 0, half - 1 - place, half + place))
        return np.clip(place, 0, last, out=place)
