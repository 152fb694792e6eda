"""Memory planning: live ranges, offsets by size, peak and lower bound."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from snnc.passes.lower.kernels import Buffer
from snnc.passes.lower.tile import Macro

__all__ = ["Plan", "Span", "live_ranges", "plan"]

_ALIGN = 16
_BUCKET = 256


@dataclass(frozen=True)
class Span:
    """The life of a buffer: indices of the first and the last instruction that use it."""

    buffer: Buffer
    first: int
    last: int


@dataclass(frozen=True)
class Plan:
    """Offsets in one memory.

    Attributes:
        offsets: First byte of each buffer, by identity.
        peak: Bytes used.
        bound: Most bytes that are alive at once: no plan can use fewer.
        crowded: When that is.
    """

    offsets: dict[int, int]
    peak: int
    bound: int
    crowded: int


def _room(buffer: Buffer) -> int:
    return -(-buffer.size // _ALIGN) * _ALIGN


def live_ranges(order: Sequence[Macro]) -> list[Span]:
    """Return the life of every buffer, in order of first use."""
    first: dict[int, int] = {}
    last: dict[int, int] = {}
    buffers: dict[int, Buffer] = {}
    for index, macro in enumerate(order):
        for ref in macro.lowered.refs.values():
            key = id(ref.buffer)
            buffers[key] = ref.buffer
            first.setdefault(key, index)
            last[key] = index
    return [Span(buffers[key], first[key], last[key]) for key in first]


def plan(spans: Sequence[Span]) -> Plan:
    """Place buffers one after the other, each at the lowest offset where it meets nobody alive.

    The largest go first; where that needs more than is alive at once, other orders are tried as well.

    Args:
        spans: Buffers of one memory with their lives.
    """
    bound, crowded = _bound(spans)
    best: tuple[dict[int, int], int] | None = None
    for key in _ORDERS:
        offsets, peak = _place(sorted(spans, key=key))
        if best is None or peak < best[1]:
            best = (offsets, peak)
        if peak <= bound:
            break
    assert best is not None
    return Plan(*best, bound, crowded)


#: Largest first; those that live longest; those that take most room for the longest time; oldest first.
_ORDERS: tuple[Callable[[Span], tuple[int, int]], ...] = (
    lambda span: (-_room(span.buffer), span.first),
    lambda span: (span.first - span.last, -_room(span.buffer)),
    lambda span: ((span.first - span.last - 1) * _room(span.buffer), span.first),
    lambda span: (span.first, -_room(span.buffer)),
)


def _place(ordered: Sequence[Span]) -> tuple[dict[int, int], int]:
    placed: dict[int, list[tuple[int, int, Span]]] = {}
    offsets: dict[int, int] = {}
    peak = 0
    for span in ordered:
        need = _room(span.buffer)
        buckets = range(span.first // _BUCKET, span.last // _BUCKET + 1)
        rivals = {
            (low, high)
            for bucket in buckets
            for low, high, other in placed.get(bucket, ())
            if other.first <= span.last and span.first <= other.last
        }
        offset = 0
        for low, high in sorted(rivals):
            if low - offset >= need:
                break
            offset = max(offset, high)
        offsets[id(span.buffer)] = offset
        peak = max(peak, offset + need)
        for bucket in buckets:
            placed.setdefault(bucket, []).append((offset, offset + need, span))
    return offsets, peak


def _bound(spans: Sequence[Span]) -> tuple[int, int]:
    events = sorted(
        [(span.first, 1, _room(span.buffer)) for span in spans]
        + [(span.last + 1, 0, -_room(span.buffer)) for span in spans]
    )
    alive, most, when = 0, 0, 0
    for time, _, change in events:
        alive += change
        if alive > most:
            most, when = alive, time
    return most, when
