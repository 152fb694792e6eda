"""The processor's cores: how many there are to use, and work on arrays shared out among them."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from functools import cache
from typing import TypeVar

__all__ = ["cores", "meanwhile", "over_cores"]

_Part = TypeVar("_Part")
_Made = TypeVar("_Made")
_SHARED_OUT = threading.local()


def cores() -> int:
    """Return how many cores this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity is not None else os.cpu_count() or 1


def over_cores(work: Callable[[_Part], _Made], parts: Sequence[_Part]) -> list[_Made]:
    """Do independent work on parts, one stretch of them on each core.

    Pays where the work is numpy's, on arrays of thousands of elements: these let other threads run. Work that
    shares out parts of its own does these one after the other.

    Args:
        work: Called once with each part; may be called by several threads at once.
        parts: Parts of the work, of about the same size.

    Returns:
        What the work returned, in the order of the parts, whatever the number of cores.
    """
    workers = min(cores(), len(parts))
    if workers < 2 or getattr(_SHARED_OUT, "inside", False):
        return [work(part) for part in parts]

    def stretch(worker: int) -> list[_Made]:
        first, last = len(parts) * worker // workers, len(parts) * (worker + 1) // workers
        _SHARED_OUT.inside = True
        try:
            return [work(part) for part in parts[first:last]]
        finally:
            _SHARED_OUT.inside = False

    rest = [_pool().submit(stretch, worker) for worker in range(1, workers)]
    try:
        made = stretch(0)
    finally:
        wait(rest)  # nothing goes on writing behind an error, or an interruption
    return [*made, *(result for future in rest for result in future.result())]


def meanwhile(work: Callable[[], _Made]) -> Callable[[], _Made]:
    """Start work beside what follows, if there is a core for it.

    Args:
        work: Lets other threads run most of the time, as hashing and numpy's loops do.

    Returns:
        What waits for the end of the work and returns, or raises, what it gave.
    """
    if cores() < 2:
        made = work()
        return lambda: made
    pool = ThreadPoolExecutor(1, thread_name_prefix="snnc-meanwhile")
    future = pool.submit(work)
    pool.shutdown(wait=False)
    return future.result


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max(1, cores() - 1), thread_name_prefix="snnc")
