"""Memory between passes: garbage is collected seldom, and what is free goes back to the system."""

from __future__ import annotations

import ctypes
import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from snnc.spool import let_go

__all__ = ["give_back", "seldom_collected"]

#: Objects made, less those let go, before the youngest are looked at; rounds of that before older ones are.
_THRESHOLDS = (100_000, 50, 100)


@contextmanager
def seldom_collected() -> Iterator[None]:
    """Within this block, circles of objects are looked for less often, unless they are not at all.

    Python looks through all objects again and again as their number grows: a tenth of the time of a
    conversion. Graphs that are done with are circles, but share their weights with those that go on.
    """
    before = gc.get_threshold()
    if not before[0]:
        yield
        return
    gc.set_threshold(*(max(pair) for pair in zip(before, _THRESHOLDS, strict=True)))
    try:
        yield
    finally:
        gc.set_threshold(*before)


def give_back() -> None:
    """Give memory that is free back to the system, and what lies in files, which it can fetch again.

    Arrays of a few megabytes come and go between numbers that stay, and half a gigabyte of gaps is left
    behind them in a large network by the C library glibc. Others have no such function.
    """
    let_go()
    trim = _trim()
    if trim is not None:
        trim(0)


@cache
def _trim() -> Any:
    return getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
