"""The bit-serial neuron: T threshold comparisons that emit the spike pattern step by step."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from snnc.errors import UsageError

__all__ = ["Firing", "fire_serially"]


class Firing(NamedTuple):
    """What the neurons did in one window.

    Attributes:
        patterns: int8 ``(T, *shape)`` in {-1, 0, 1}.
        comparisons: uint8 ``(*shape)``, threshold comparisons that each neuron made, its sign test included.
    """

    patterns: npt.NDArray[np.int8]
    comparisons: npt.NDArray[np.uint8]


def fire_serially(
    codes: npt.NDArray[np.int32],
    timesteps: int,
    potential: npt.NDArray[Any],
    thresholds: npt.NDArray[Any],
) -> Firing:
    """Emit the spike pattern of each potential without a look-up table of patterns.

    Each neuron keeps an interval ``[low, high)`` of codes that are still possible. At each step the codes of
    the interval that spike lie at its far end from zero; if there are both kinds, one comparison with the
    threshold between them decides. A sign test comes first where both signs are admitted.

    Args:
        codes: Admitted codes, ascending, shape (levels,).
        timesteps: Number of time-steps T.
        potential: Membrane potentials, any shape, integer or float.
        thresholds: ``levels - 1`` ascending thresholds along axis 0; further axes broadcast against
            ``potential``. The k-th code is reached when ``potential >= thresholds[k - 1]``.

    Returns:
        Patterns and the number of comparisons made, at most T (plus one where both signs are admitted).

    Raises:
        UsageError: SNN209, if the thresholds are not ``levels - 1`` numbers or do not broadcast.

    Source:
        Semantics note 1.6.
    """
    levels = codes.size
    shape = potential.shape
    if thresholds.ndim == 0 or thresholds.shape[0] != levels - 1:
        raise UsageError(
            "SNN209", f"thresholds must number {levels - 1} along axis 0, not shape {thresholds.shape}"
        )
    if thresholds.dtype.kind not in "iuf":
        raise UsageError(
            "SNN209", f"thresholds must be numbers, or all of them break points, not {thresholds.dtype}"
        )
    if not _broadcasts(thresholds.shape[1:], shape):
        raise UsageError(
            "SNN209", f"thresholds of shape {thresholds.shape} do not broadcast to potentials {shape}"
        )
    table = thresholds
    if thresholds.ndim > 1:
        padding = (1,) * (len(shape) - thresholds.ndim + 1)
        aligned = thresholds.reshape(levels - 1, *padding, *thresholds.shape[1:])
        table = np.broadcast_to(aligned, (levels - 1, *shape))
    comparisons = np.zeros(shape, np.uint8)

    def reaches(row: npt.NDArray[np.int64], undecided: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
        """Whether the potential reaches code ``row``, asked only where both answers are possible."""
        nonlocal comparisons
        comparisons = comparisons + undecided
        if levels == 1:
            return np.zeros(shape, np.bool_)
        index = np.clip(row - 1, 0, levels - 2)
        limit = table[index] if table.ndim == 1 else np.take_along_axis(table, index[None], 0)[0]
        return undecided & (potential >= limit)

    first_positive = int(np.searchsorted(codes, 0))
    low = np.zeros(shape, np.int64)
    high = np.full(shape, levels, np.int64)
    both_signs = np.full(shape, 0 < first_positive < levels)
    positive = reaches(np.full(shape, first_positive), both_signs) | (first_positive == 0)
    low = np.where(positive, first_positive, low)
    high = np.where(positive, high, first_positive)

    patterns = np.zeros((timesteps, *shape), np.int8)
    for step in range(timesteps):
        spiking = (np.abs(codes.astype(np.int64)) >> (timesteps - 1 - step)) & 1
        before = np.concatenate([[0], np.cumsum(spiking)])
        count = before[high] - before[low]
        middle = np.where(positive, high - count, low + count)
        undecided = (low < middle) & (middle < high)
        upper = reaches(middle, undecided)
        spike = np.where(undecided, upper == positive, count > 0)
        patterns[step] = np.where(spike, np.where(positive, 1, -1), 0)
        low = np.where(undecided & upper, middle, low)
        high = np.where(undecided & ~upper, middle, high)
    return Firing(patterns, comparisons)


def _broadcasts(shape: tuple[int, ...], target: tuple[int, ...]) -> bool:
    """Whether numpy can stretch ``shape`` to ``target`` without stretching ``target``."""
    if len(shape) > len(target):
        return False
    ends = target[len(target) - len(shape) :]
    return all(size in (1, end) for size, end in zip(shape, ends, strict=True))
