"""Collecting garbage seldom while passes make exact numbers by the million, none of them in a circle."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["seldom_collected"]

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
