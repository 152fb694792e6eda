"""Finding the code of a potential: counting thresholds (packed), or bit by bit (time-stepped)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from snnc.coding import CodeBook
from snnc.ops.types import numpy_dtype

__all__ = ["SEARCH_BODY", "code_table", "count_reached", "fire", "floor_quotient"]

Array = npt.NDArray[Any]

_FEW_THRESHOLDS = 31  # up to here one vectorised comparison per threshold beats a binary search over gathers
_BLOCK = 1 << 16  # elements per block of the binary search, so that its temporaries stay in cache

# Shared by ExpGIF (v, thresholds int32) and Encode (x, thresholds float32); the input is called v in both.
# A Loop, because the number of rounds is an attribute; branch-free, so that every element does the same.
# On flat tensors, because onnxruntime's GatherElements takes 1.5 ns an element where its Gather takes 11.
SEARCH_BODY = """\
  codes64 = Constant<value_ints: ints = @codes>()
  table = Cast<to: int = @code_type>(codes64)
  trips = Constant<value_int: int = @depth>()
  trips_u = Cast<to = 13>(trips)
  one_u = Constant<value = uint64 {1}>()
  size_u = BitShift<direction = "LEFT">(one_u, trips_u)
  size = Cast<to = 6>(size_u)
  one = Constant<value = int32 {1}>()
  two = Constant<value = int32 {2}>()
  width = Sub(size, one)
  half0 = Div(size, two)
  minus = Constant<value_ints: ints = [-1]>()
  flat = Reshape(thresholds, minus)
  first = Mul(rows, width)
  ahead = Sub(first, one)
  shape = Shape(v)
  spread = Expand(ahead, shape)
  begin = Reshape(spread, minus)
  potential = Reshape(v, minus)
  yes = Constant<value = bool {1}>()
  place, half_last = Loop(trips, yes, begin, half0) <body = round
      (int64 i, bool go, int32[] p, int32 half) => (bool go_on, int32[] p_next, int32 half_next) {
      go_on = Identity(go)
      two_i = Constant<value = int32 {2}>()
      index = Add(p, half)
      threshold = GatherElements<axis = 0>(flat, index)
      reached = GreaterOrEqual(potential, threshold)
      p_next = Where(reached, index, p)
      half_next = Div(half, two_i)
  }>
  k = Sub(place, begin)
  chosen = GatherElements<axis = 0>(table, k)
  code = Reshape(chosen, shape)"""


def floor_quotient(value: str, divisor: str, result: str) -> str:
    """Return lines of a function body: result = floor(value / divisor), int64, for a positive divisor.

    Div truncates, so one is taken off where the remainder is negative. Mod would give the remainder as well,
    but onnxruntime takes ten times as long for it as for a Div.

    Args:
        value: Name of the dividend, int64, |value| < 2^62.
        divisor: Name of the divisor, int64, broadcastable to ``value``.
        result: Name of the quotient.
    """
    return f"""\
  {result}_truncated = Div({value}, {divisor})
  {result}_product = Mul({result}_truncated, {divisor})
  {result}_rest = Sub({value}, {result}_product)
  {result}_zero = Constant<value = int64 {{0}}>()
  {result}_below = Less({result}_rest, {result}_zero)
  {result}_borrow = Cast<to = 7>({result}_below)
  {result} = Sub({result}_truncated, {result}_borrow)
"""


@lru_cache(maxsize=64)
def code_table(codes: tuple[int, ...], code_type: int) -> Array:
    """Return the code of each k as an array of an ONNX element type, read-only."""
    table = np.asarray(codes).astype(numpy_dtype(code_type))
    table.setflags(write=False)
    return table


def count_reached(values: Array, thresholds: Array, rows: Array) -> npt.NDArray[np.int32]:
    """Count the thresholds that each value has reached.

    Args:
        values: Potentials, any shape.
        thresholds: Ascending along the last axis, shape (R, K), same element type as ``values``.
        rows: Row of each value, int32, broadcastable to ``values``.

    Returns:
        k = #{j : value >= thresholds[row, j]}, int32, shape of ``values``.
    """
    count = thresholds.shape[1]
    if count == 0:
        return np.zeros(values.shape, dtype=np.int32)
    if count <= _FEW_THRESHOLDS:
        return _compare_with_each(values, thresholds, rows)
    return _binary_search(values, thresholds, rows)


def _compare_with_each(values: Array, thresholds: Array, rows: Array) -> npt.NDArray[np.int32]:
    potential = np.atleast_1d(values)
    counts = np.empty(potential.shape, dtype=np.int32)
    columns = [column[rows] for column in thresholds.T]
    # Where rows do not depend on the sample, samples go in blocks that stay in cache.
    same_rows = rows.ndim < potential.ndim or rows.shape[0] == 1
    size = max(1, _BLOCK * len(potential) // max(1, potential.size)) if same_rows else len(potential)
    for start in range(0, len(potential), max(1, size)):
        part = potential[start : start + size]
        small = np.zeros(part.shape, dtype=np.uint8)
        reached = np.empty(part.shape, dtype=np.bool_)
        for column in columns:
            np.greater_equal(part, column, out=reached)
            small += reached
        counts[start : start + size] = small
    return counts.reshape(values.shape)


def _binary_search(values: Array, thresholds: Array, rows: Array) -> npt.NDArray[np.int32]:
    count = thresholds.shape[1]
    depth = count.bit_length()
    width = (1 << depth) - 1
    if width != count:
        last = np.repeat(_unreachable(thresholds.dtype), width - count)
        thresholds = np.concatenate([thresholds, np.broadcast_to(last, (len(thresholds), width - count))], 1)
    flat = np.ascontiguousarray(thresholds).reshape(-1)
    potential = np.ascontiguousarray(values).reshape(-1)
    shared = len(thresholds) == 1
    first = None if shared else np.broadcast_to(rows.astype(np.intp) * width, values.shape).reshape(-1)
    result = np.empty(potential.shape, dtype=np.int32)
    for start in range(0, potential.size, _BLOCK):
        part = potential[start : start + _BLOCK]
        begin = np.zeros(part.shape, dtype=np.intp) if first is None else first[start : start + _BLOCK]
        place = begin.copy()
        half = 1 << depth >> 1
        while half:
            place += (part >= flat.take(place + (half - 1))) * np.intp(half)
            half >>= 1
        result[start : start + _BLOCK] = place - begin
    return result.reshape(values.shape)


def _unreachable(dtype: np.dtype[Any]) -> Array:
    top = np.inf if dtype.kind == "f" else np.iinfo(dtype).max
    return np.asarray([top], dtype=dtype)


@lru_cache(maxsize=64)
def _tree(book: CodeBook, codes: tuple[int, ...]) -> tuple[Array, list[Array]]:
    """Prepare the bit-serial search over ascending codes.

    Before each step the codes that are still possible form an interval of indices, known by its first one.

    Returns:
        Patterns, int8 (T, levels), and for the sign test and then each step, by first index of the interval,
        the index at which the decision changes; 0 where there is nothing to decide.
    """
    patterns = book.encode(np.asarray(codes, dtype=np.int32))
    index = np.arange(len(codes), dtype=np.intp)
    start = np.zeros_like(index)  # first index of the interval that each code is in
    changes: list[Array] = []
    for decisive in (np.asarray(codes) >= 0, *(patterns != 0)):
        # Inside an interval the spike changes once at most: below zero codes ascend while their magnitudes
        # descend, so those that spike come first; above zero they come last.
        edge = np.flatnonzero((start[1:] == start[:-1]) & (decisive[1:] != decisive[:-1])) + 1
        change = np.zeros(len(codes), dtype=np.intp)
        change[start[edge]] = edge
        middle = change[start]
        start = np.where((middle > 0) & (index >= middle), middle, start)
        changes.append(change)
    return patterns, changes


def fire(
    values: Array,
    thresholds: Array,
    rows: Array,
    codes: Sequence[int],
    book: CodeBook,
    gain: Array | None = None,
) -> npt.NDArray[np.int8]:
    """Fire bit by bit: at most one comparison per time-step, plus one for the sign (semantics 1.6).

    Args:
        values: Potentials, any shape.
        thresholds: Ascending, shape (R, K), same element type as ``values``; threshold j is where code index
            j + 1 begins, and those beyond the last code are padding.
        rows: Row of each value, int32, broadcastable to ``values``.
        codes: Ascending codes of the book, at most K + 1.
        book: Gives their patterns.
        gain: Positive integers, int64, shape of ``values``, that multiply every threshold; None for 1.

    Returns:
        Spikes, int8, shape (T, *values.shape).
    """
    patterns, changes = _tree(book, tuple(codes))
    levels = len(codes)
    # Column i is where code index i begins; nothing reaches column 0, which stands for "nothing to decide".
    never = np.full((len(thresholds), 1), _unreachable(thresholds.dtype)[0])
    limits = np.concatenate([never, thresholds[:, : levels - 1]], axis=1).reshape(-1)
    potential = np.ascontiguousarray(values).reshape(-1)
    shared = len(thresholds) == 1
    first = None if shared else np.broadcast_to(rows.astype(np.intp) * levels, values.shape).reshape(-1)
    adaptive = None if gain is None else np.ascontiguousarray(gain).reshape(-1)
    spikes = np.empty((book.timesteps, potential.size), dtype=np.int8)
    for start in range(0, potential.size, _BLOCK):
        block = slice(start, start + _BLOCK)
        part = potential[block]
        low = np.zeros(part.shape, dtype=np.intp)
        for step, change in enumerate(changes):
            middle = change.take(low)
            column = middle if first is None else middle + first[block]
            limit = limits.take(column)
            if adaptive is not None:
                limit = limit * adaptive[block]
            low = np.where(part >= limit, middle, low)
            if step:
                spikes[step - 1, block] = patterns[step - 1].take(low)
    return spikes.reshape(book.timesteps, *values.shape)
