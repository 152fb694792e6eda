"""Sharing work out over the cores of the machine, by threads: numpy and hashlib let go of Python's lock."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

__all__ = ["cores", "each_in_order"]

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def cores() -> int:
    """Return how many cores this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity is not None else os.cpu_count() or 1


def each_in_order(
    function: Callable[[_Item], _Result], items: Iterable[_Item], most: int = 8
) -> Iterator[_Result]:
    """Call a function on items, several at once, and give the results in the order of the items.

    Args:
        function: Called by several threads; must change nothing that another call reads.
        items: What it is called on.
        most: Threads at most: each holds what its call takes.

    Yields:
        The results. The first error ends the work, and is raised where its result would stand.
    """
    waiting = list(items)
    workers = min(cores(), most, len(waiting))
    if workers < 2:
        yield from map(function, waiting)
        return
    pool = ThreadPoolExecutor(workers)
    try:
        yield from pool.map(function, waiting)
    finally:
        pool.shutdown(cancel_futures=True)
