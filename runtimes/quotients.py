"""Quotients of run-time integers for the oracle: divided as numbers, not compared as a neuron does."""

from __future__ import annotations

from collections.abc import Sequence
from math import isqrt, prod
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["floor_quotient", "normalised"]

Array = npt.NDArray[Any]


def floor_quotient(numerator: Array, gain: Array, bits: int) -> Array:
    """Return floor(2^bits * numerator / max(gain, 1)), int64."""
    divisor = np.maximum(gain.astype(np.int64), 1)
    return np.asarray((numerator.astype(np.int64) * 2**bits) // divisor)


def normalised(
    r: Array, sign: Array, axes: Sequence[int], *, centred: bool, epsilon: int, bits: int
) -> Array:
    """Return the integers of r, normalised to mean 0 (if centred) and deviation 2^bits, rounded down.

    Args:
        r: Integers on one grid; their number of normalised elements times their size is below 2^31.
        sign: 1 or -1, broadcastable to r: what is mirrored before it is rounded.
        axes: Normalised axes.
        centred: Whether the mean is subtracted.
        epsilon: Added to the radicand.
        bits: Bits behind the point.
    """
    over = tuple(axes)
    wide = r.astype(np.int64)
    count = prod(r.shape[axis] for axis in over)
    total = wide.sum(axis=over, keepdims=True) if centred else 0
    radicand = count * np.square(wide).sum(axis=over, keepdims=True) - total * total + epsilon
    roots = np.array([max(1, isqrt(number)) for number in radicand.reshape(-1).tolist()], dtype=np.int64)
    distance = (count * wide - total) * sign.astype(np.int64)
    return floor_quotient(distance, roots.reshape(radicand.shape), bits)
