"""What the scores of an attention go through: factors, biases and masks, at the pairs that are left."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from snnc.ir import Node, Value, constant
from snnc.passes.attention.pairs import Index, Pairs
from snnc.passes.recognise.masks import CLOSED

__all__ = ["Operand", "Step", "at_pairs", "closed_places", "has_bias", "operand_of", "places_of", "shuts_out"]

Array = npt.NDArray[Any]
_ANY_RANK = 4


@dataclass(frozen=True, eq=False)
class Operand:
    """What a step combines the scores with.

    Attributes:
        value: The value, as the network has it.
        array: Its content by head, query and key, each extent whole or 1, or a single number; None if the
            host computes it.
        shape: Extents ``(batch, heads, queries, keys)``, each whole or 1.
    """

    value: Value
    array: Array | None
    shape: tuple[int, ...]

    @property
    def is_bias(self) -> bool:
        """Whether it differs from pair to pair, or is computed."""
        return self.array is None or self.array.size > 1


@dataclass(frozen=True, eq=False)
class Step:
    """A node that the scores, or their softmax, go through.

    Attributes:
        node: The node.
        place: Which input of it they are.
        operands: Its other inputs by place; None at that place, and where an input is left out.
    """

    node: Node
    place: int
    operands: tuple[Operand | None, ...]


def operand_of(value: Value, shape: tuple[int, ...], rank: int, heads: int, batch: int) -> Operand | str:
    """Return an input of a step as an operand, or why it is none.

    Args:
        value: The input.
        shape: Its shape at one batch size.
        rank: Rank of the scores at the step; 3 if heads are merged with the batch.
        heads: Heads.
        batch: That batch size.
    """
    held = constant(value)
    if held is not None and held.size == 1:
        return Operand(value, held.reshape(()), (1,) * _ANY_RANK)
    full = (1,) * (rank - len(shape)) + shape
    if rank < _ANY_RANK:
        lead = full[0]
        if lead == 1:
            full = (1, *full)
        elif lead == heads * batch and (held is None or batch == 1):
            full = (batch, heads, *full[1:])
        else:
            return "a constant for each sample on its scores"
    if held is None:
        return Operand(value, None, full)
    if full[0] != 1:
        return "a constant for each sample on its scores"
    return Operand(value, held.reshape(full[1:]), full)


def at_pairs(array: Array, part: Pairs) -> Array:
    """Return a constant of the scores at the pairs of one part.

    Args:
        array: ``(heads, queries, keys)``, each extent whole or 1.
        part: The pairs.

    Returns:
        ``(heads, groups, n, m)``, without the axis of groups where there is one group.
    """
    if array.shape[0] > 1:
        array = array[part.heads]
    rows = part.queries[:, :, None] if array.shape[1] > 1 else np.zeros((1, 1, 1), np.int64)
    columns = part.keys[:, None, :] if array.shape[2] > 1 else np.zeros((1, 1, 1), np.int64)
    taken: Array = array[:, rows, columns]
    return taken[:, 0] if len(part.queries) == 1 else taken


def places_of(shape: tuple[int, ...], part: Pairs) -> Index:
    """Return the places ``(groups, n, m)`` of a part's pairs in flattened scores ``(..., queries, keys)``."""
    rows = part.queries[:, :, None] if shape[-2] > 1 else np.zeros((1, 1, 1), np.int64)
    columns = part.keys[:, None, :] if shape[-1] > 1 else np.zeros((1, 1, 1), np.int64)
    return np.asarray(rows * shape[-1] + columns, np.int64)


def closed_places(steps: Iterable[Step], heads: int, tokens: int) -> npt.NDArray[np.bool_]:
    """Return the pairs that constant masks close: bool ``(heads, tokens, tokens)``."""
    closed = np.zeros((heads, tokens, tokens), bool)
    for step in steps:
        others = [entry.array if entry is not None else None for entry in step.operands]
        op = step.node.op_type
        if op in ("Add", "Sub"):
            summand = others[1 - step.place]
            if summand is not None:
                closed |= (-summand if op == "Sub" and step.place == 0 else summand) <= CLOSED
        elif op == "Where":
            condition, other = others[0], others[3 - step.place]
            if condition is not None and other is not None:
                closed |= (condition.astype(bool) == (step.place == 2)) & (other <= CLOSED)
    return closed


def shuts_out(closed: npt.NDArray[np.bool_], parts: Iterable[Pairs]) -> bool:
    """Whether in some group a token is left without an open pair, though it has one among all tokens."""
    whole = np.asarray(closed.all(-1, keepdims=True))
    return any(
        bool((at_pairs(closed, part).all(-1) & ~at_pairs(whole, part)[..., 0]).any()) for part in parts
    )


def has_bias(steps: Iterable[Step]) -> bool:
    """Whether something other than a mask is added to the scores."""
    summands = [
        entry.array
        for step in steps
        if step.node.op_type in ("Add", "Sub")
        for entry in step.operands
        if entry is not None and entry.array is not None
    ]
    return any(bool(((np.abs(array) < -CLOSED) & (array != 0)).any()) for array in summands)
