"""Where cores stand on the mesh: along a snake, then swapped while that shortens the way of the messages."""

from __future__ import annotations

from collections.abc import Mapping
from math import isqrt
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["sites"]

_SWEEPS = 8


def sites(cores: int, traffic: Mapping[tuple[int, int], int]) -> tuple[tuple[int, int], ...]:
    """Place cores on a mesh as square as possible.

    Args:
        cores: Number of cores.
        traffic: Bytes from one core to another.

    Returns:
        Column and row of each core.
    """
    width = isqrt(cores - 1) + 1
    snake = [
        (at if row % 2 == 0 else width - 1 - at, row)
        for row in range(-(-cores // width))
        for at in range(width)
    ][:cores]
    place = np.array(snake, np.int64)
    weight = np.zeros((cores, cores), np.int64)
    for (first, second), size in traffic.items():
        weight[first, second] += size
        weight[second, first] += size
    for _ in range(_SWEEPS):
        if not _sweep(place, weight):
            break
    return tuple((int(column), int(row)) for column, row in place)


def _sweep(place: npt.NDArray[Any], weight: npt.NDArray[Any]) -> bool:
    """Swap every pair of cores that is better off swapped; return whether any was."""
    swapped = False
    for first in range(len(place)):
        for second in range(first + 1, len(place)):
            before = _ways(place, weight, first) + _ways(place, weight, second)
            place[[first, second]] = place[[second, first]]
            if _ways(place, weight, first) + _ways(place, weight, second) < before:
                swapped = True
            else:
                place[[first, second]] = place[[second, first]]
    return swapped


def _ways(place: npt.NDArray[Any], weight: npt.NDArray[Any], core: int) -> int:
    return int((np.abs(place - place[core]).sum(axis=1) * weight[core]).sum())
