"""Which tokens attend to which: dilated groups, windows, neighbours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["Index", "Pairs", "beside", "dilated", "neighbours", "of_groups", "windowed"]

Index = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Pairs:
    """Groups of tokens that attend to groups of tokens, in some heads.

    Attributes:
        heads: Heads, ``(heads,)``, in a row.
        queries: Tokens that attend, ``(groups, n)``.
        keys: Tokens they attend to, ``(groups, m)``.
    """

    heads: Index
    queries: Index
    keys: Index

    @property
    def count(self) -> int:
        """Number of pairs, of all heads."""
        return len(self.heads) * int(self.queries.size) * int(self.keys.shape[1])


def dilated(sides: tuple[int, int], stride: int) -> Index:
    """Return the tokens of each dilated group of a grid: ``(groups, tokens)``, numbered by row."""
    grid = np.arange(sides[0] * sides[1]).reshape(sides)
    return np.stack([grid[i::stride, j::stride].ravel() for i in range(stride) for j in range(stride)])


def windowed(sides: tuple[int, int], window: tuple[int, int]) -> Index:
    """Return the tokens of each window of a grid: ``(groups, tokens)``, numbered by row."""
    (height, width), (rows, columns) = sides, window
    grid = np.arange(height * width).reshape(height // rows, rows, width // columns, columns)
    return grid.transpose(0, 2, 1, 3).reshape(-1, rows * columns)


def beside(area: int, extra: int, behind: int) -> Index:
    """Return the tokens that stand in front of a grid of ``area`` tokens, and behind it."""
    return np.concatenate([np.arange(extra), np.arange(behind) + extra + area]).astype(np.int64)


def of_groups(heads: Index, groups: Index, extra: int, behind: int = 0) -> list[Pairs]:
    """Return pairs of a grid's groups; all attend to the class tokens too.

    Args:
        heads: Heads.
        groups: Tokens of each group, numbered from the first of the grid.
        extra: Class tokens in front of the grid.
        behind: Class tokens behind it.
    """
    tokens = groups + extra
    return [Pairs(heads, tokens, _with(tokens, beside(groups.size, extra, behind)))]


def neighbours(heads: Index, sides: tuple[int, int], window: int, extra: int, behind: int = 0) -> list[Pairs]:
    """Return pairs of patches at most ``window // 2`` rows and columns apart (semantics note 5.1).

    Patches at a border have fewer neighbours: those with equally many are one part, so that no pair has to
    be masked.

    Args:
        heads: Heads.
        sides: Height and width of the grid.
        window: Side of the neighbourhood, odd.
        extra: Class tokens in front of the grid.
        behind: Class tokens behind it.
    """
    others = beside(sides[0] * sides[1], extra, behind)
    reach = window // 2
    grid = np.arange(sides[0] * sides[1]).reshape(sides)
    by_count: dict[int, list[tuple[int, Index]]] = {}
    for row in range(sides[0]):
        for column in range(sides[1]):
            near = grid[max(0, row - reach) : row + reach + 1, max(0, column - reach) : column + reach + 1]
            by_count.setdefault(near.size, []).append((int(grid[row, column]), near.ravel()))
    parts = []
    for _, entries in sorted(by_count.items()):
        queries = np.array([[token] for token, _ in entries], np.int64) + extra
        keys = _stack([near for _, near in entries]) + extra
        if len(entries) == 1 or (keys == keys[0]).all():
            # All of them see the same: one group.
            queries, keys = queries.reshape(1, -1), keys[:1]
        parts.append(Pairs(heads, queries, _with(keys, others)))
    return parts


def _stack(rows: Sequence[Index]) -> Index:
    return np.stack(rows).astype(np.int64)


def _with(keys: Index, others: Index) -> Index:
    return np.concatenate([np.tile(others, (len(keys), 1)), keys], 1) if others.size else keys
