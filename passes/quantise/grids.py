"""Integer grids for weights: eight bits or fewer, or as fine as float32 sums stay exact."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from snnc.cores import over_cores
from snnc.errors import UnsupportedError, UsageError

__all__ = ["EXACT_FLOAT32", "WeightFormat", "integer_grid", "rows_at_once", "smallest_integer_type"]

EXACT_FLOAT32 = 2**24
# A channel whose weights are tiny gets a step at most this much finer than the coarsest channel of its layer,
# so that aligning the two on one membrane costs few bits.
_FINEST_SHIFT = 6
# Weights worked on at a time.
_AT_ONCE = 1 << 16


@dataclass(frozen=True)
class WeightFormat:
    """How weights become integers.

    Attributes:
        text: ``int2`` … ``int16`` or ``wide``.
    """

    text: str

    def __post_init__(self) -> None:
        if self.text == "float":
            raise UnsupportedError(
                "SNN436",
                "float weights give no proof of equality and are not supported",
                hint="use --weights wide: 12 to 15 signed bits, lossless in practice, with the proof",
            )
        if self.text != "wide" and not (re.fullmatch(r"int\d+", self.text) and 2 <= int(self.text[3:]) <= 16):
            raise UsageError("SNN260", f"{self.text!r} is no weight format", hint="use int2 … int16, or wide")

    @property
    def largest(self) -> int | None:
        """Largest magnitude of a weight, or None where only the exactness of float32 sums limits it."""
        return None if self.text == "wide" else 2 ** (int(self.text[3:]) - 1) - 1


def integer_grid(
    charge: npt.NDArray[Any],
    axes: tuple[int, ...],
    form: WeightFormat,
    input_bound: int,
    *,
    powers_of_two: bool,
    times: npt.NDArray[np.float64] | None = None,
) -> tuple[npt.NDArray[Any], npt.NDArray[np.float64]]:
    """Put the membrane charge of every weight on an integer grid, one step per output channel.

    Args:
        charge: What one unit of the input code adds to the membrane through each weight, i.e. weight times
            input step; any floats.
        axes: Axes summed over for one output channel.
        form: Weight format.
        input_bound: Largest magnitude of the input integer, for the ``wide`` format.
        powers_of_two: Use powers of two as steps, so that membranes can be joined by shifts.
        times: What the charge is multiplied by first, of as many axes as it: the product, in float64, is made
            piece by piece and never kept. None: nothing.

    Returns:
        Integers (of the narrowest type that holds the format, shape of ``charge``) and steps (float64, size
        1 along ``axes``) with charge ≈ integers · step; the nearest integer is taken, ties to even.
    """
    if form.largest is None:
        count = int(np.prod([charge.shape[axis] for axis in axes]))
        room = EXACT_FLOAT32 - 1 - input_bound * ((count + 1) // 2)
        if room <= input_bound:
            raise UnsupportedError(
                "SNN437",
                f"{count} weights per output leave no room for exact float32 sums",
                hint="use --weights int8",
            )
        whole = charge.astype(np.float64) if times is None else charge * times
        step = np.abs(whole).sum(axis=axes, keepdims=True) * input_bound / room
    else:
        step = _peaks(charge, times, axes) / form.largest
    largest = float(step.max())
    if largest == 0.0:
        ones = np.ones(step.shape, dtype=np.float64)
        return _rounded(charge, times, ones, form.largest), ones
    step = np.maximum(step, largest * 2.0**-_FINEST_SHIFT)
    if powers_of_two:
        mantissa, exponent = np.frexp(step)
        step = np.ldexp(1.0, np.where(mantissa == 0.5, exponent - 1, exponent))
    return _rounded(charge, times, step, form.largest), step


def _peaks(
    charge: npt.NDArray[Any], times: npt.NDArray[np.float64] | None, axes: tuple[int, ...]
) -> npt.NDArray[np.float64]:
    """Return the largest magnitudes over axes, which are kept as size 1."""
    # A positive factor, the same for all, may be multiplied last: rounding keeps the order of what it rounds.
    shared = times is None or (times.size == 1 and float(times.reshape(-1)[0]) > 0)

    def peaks(part: slice) -> npt.NDArray[np.float64]:
        found = charge[part] if shared else _part(charge, times, part)
        ends = found.max(axis=axes, keepdims=True), found.min(axis=axes, keepdims=True)
        high, low = (_part(end, times, slice(None)) if shared else end for end in ends)
        return np.asarray(np.maximum(high, -low))

    found = over_cores(peaks, rows_at_once(charge))
    return np.asarray(np.maximum.reduce(found) if 0 in axes else np.concatenate(found))


def _rounded(
    charge: npt.NDArray[Any],
    times: npt.NDArray[np.float64] | None,
    step: npt.NDArray[np.float64],
    largest: int | None,
) -> npt.NDArray[Any]:
    """Return the nearest multiples, in the narrowest type that surely holds them."""
    dtype = np.int64 if largest is None else np.int8 if largest <= 127 else np.int16
    integers = np.empty(charge.shape, dtype=dtype)
    steps = np.broadcast_to(step, charge.shape)

    # A step is at least the largest magnitude over `largest`: nothing rounds beyond. Products of two float32
    # are no subnormal numbers of float64.
    def write(part: slice) -> None:
        near = _part(charge, times, part)
        # Without factors the part may be a view of the weights.
        near = np.divide(near, steps[part], out=None if times is None else near)
        np.rint(near, out=near)
        integers[part] = near

    over_cores(write, rows_at_once(charge))
    return integers


def _part(
    charge: npt.NDArray[Any], times: npt.NDArray[np.float64] | None, part: slice
) -> npt.NDArray[np.float64]:
    """Return some rows of a charge, in float64."""
    if times is None:
        return charge[part].astype(np.float64, copy=False)
    factors = times[part] if len(times) > 1 else times
    return np.asarray(np.multiply(charge[part], factors, dtype=np.float64))


def rows_at_once(array: npt.NDArray[Any]) -> list[slice]:
    """Return parts of the first axis of an array, each small enough to stay in the cache."""
    rows = max(1, _AT_ONCE // max(1, array[:1].size))
    return [slice(first, first + rows) for first in range(0, len(array), rows)]


def smallest_integer_type(integers: npt.NDArray[Any]) -> npt.DTypeLike:
    """Return the narrowest signed integer type that holds all values."""
    if integers.dtype == np.int8:
        return np.int8
    low, high = int(integers.min(initial=0)), int(integers.max(initial=0))
    for dtype in (np.int8, np.int16, np.int32):
        limits = np.iinfo(dtype)
        if limits.min <= low and high <= limits.max:
            return dtype
    return np.int64
