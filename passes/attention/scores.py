"""What the scores of an attention go through: factors, biases and masks, at the pairs that are left."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from snnc.ir import Node, Value, constant
from snnc.passes.attention.pairs import Index, Pairs
from snnc.passes.recognise.masks import CLOSED

__all__ = [
    "Operand",
    "Step",
    "View",
    "at_pairs",
    "closed_places",
    "has_bias",
    "operand_of",
    "pairs_of",
    "shuts_out",
    "view_of",
]

Array = npt.NDArray[Any]
#: Ends of keys and queries, and that of the shape.
_OF_PAIRS = 3
_FIRST: Index = np.zeros(1, np.int64)


@dataclass(frozen=True)
class View:
    """How scores of some rank are cut into samples and heads, queries, keys.

    Attributes:
        lead: Extents in front: samples and heads, or both as one.
        queries: Extents whose product is the number of queries.
        keys: Extents whose product is the number of keys.
    """

    lead: tuple[int, ...]
    queries: tuple[int, ...]
    keys: tuple[int, ...]


def view_of(shape: tuple[int, ...], tokens: int) -> View | None:
    """Return how a shape holds scores of ``tokens`` by ``tokens``, None if it does not.

    Scores may be seen as ``(..., height, width, height, width)``, where biases of rows and columns are added.
    """
    ends, product = [len(shape)], 1
    for axis in reversed(range(len(shape))):
        product *= shape[axis]
        if product == tokens and len(ends) < _OF_PAIRS:
            ends.append(axis)
            product = 1
    if len(ends) < _OF_PAIRS:
        return None
    keys, queries = ends[1], ends[2]
    return View(shape[:queries], shape[queries:keys], shape[keys:])


@dataclass(frozen=True, eq=False)
class Operand:
    """What a step combines the scores with.

    Attributes:
        value: The value, as the network has it.
        array: Its content by head, query and key, the extents of ``shape`` behind the first, or a single
            number; None if it is computed.
        shape: Extents ``(batch, heads, queries, keys)``, each whole or 1; or less than whole where it is the
            same for several queries, or keys.
        rows: Place among its queries, by query; None where it is the same for all.
        columns: Place among its keys, by key.
        of_host: Whether the host computes it.
    """

    value: Value
    array: Array | None
    shape: tuple[int, ...]
    rows: Index | None = None
    columns: Index | None = None
    of_host: bool = False

    @property
    def is_bias(self) -> bool:
        """Whether it differs from pair to pair, or is computed."""
        return self.array is None or self.array.size > 1

    @property
    def whole(self) -> Array | None:
        """Its content by head, query and key, each extent whole or 1."""
        if self.array is None or not self.array.ndim:
            return self.array
        rows, columns = (entry if entry is not None else _FIRST for entry in (self.rows, self.columns))
        taken: Array = self.array[:, rows[:, None], columns[None]]
        return taken

    def places(self, part: Pairs) -> tuple[Index, Index]:
        """Return the rows ``(groups, n or 1, 1)`` and columns ``(groups, 1, m or 1)`` of a part's pairs."""
        none = np.zeros((1, 1, 1), np.int64)
        rows = none if self.rows is None else self.rows[part.queries][:, :, None]
        return rows, none if self.columns is None else self.columns[part.keys][:, None, :]


@dataclass(frozen=True, eq=False)
class Step:
    """A node that the scores, or their softmax, go through.

    Attributes:
        node: The node.
        place: Which input of it they are.
        operands: Its other inputs by place; None at that place, and where an input is left out.
        guard: The IsNaN of the same scores that is its first input, if it is what mends rows without a pair.
    """

    node: Node
    place: int
    operands: tuple[Operand | None, ...]
    guard: Node | None = None


def operand_of(
    value: Value, shape: tuple[int, ...], view: View, heads: int, batch: int, of_host: bool = False
) -> Operand | str:
    """Return an input of a step as an operand, or why it is none.

    Args:
        value: The input.
        shape: Its shape at one batch size.
        view: The scores at the step.
        heads: Heads.
        batch: That batch size.
        of_host: Whether the host computes it.
    """
    held = constant(value)
    if held is not None and held.size == 1:
        return Operand(value, held.reshape(()), (1, 1, 1, 1))
    rank = len(view.lead) + len(view.queries) + len(view.keys)
    full = (1,) * (rank - len(shape)) + shape
    lead = full[: len(view.lead)]
    queries, keys = full[len(lead) : rank - len(view.keys)], full[rank - len(view.keys) :]
    samples, own = 1, 1
    for axis, (size, whole) in enumerate(zip(lead, view.lead, strict=True)):
        if size == 1:
            continue
        if axis == 0 and size == heads * batch and whole == size:
            samples, own = batch, heads
        elif axis == 0 and size == batch:
            samples = batch
        else:
            own *= size
    if held is not None and samples != 1:
        return "a constant for each sample on its scores"
    extents = (samples, own, prod(queries), prod(keys))
    array = None if held is None else held.reshape(extents[1:])
    return Operand(
        value, array, extents, _along(queries, view.queries), _along(keys, view.keys), of_host=of_host
    )


def _along(own: tuple[int, ...], whole: tuple[int, ...]) -> Index | None:
    """Return the place among an operand's queries, or keys, of each query, or key, of the scores."""
    count = prod(own)
    if count == 1:
        return None
    return np.ascontiguousarray(np.broadcast_to(np.arange(count).reshape(own), whole).ravel())


def at_pairs(operand: Operand, part: Pairs) -> Array:
    """Return a constant of the scores at the pairs of one part.

    Args:
        operand: The constant, with an extent of heads.
        part: The pairs.

    Returns:
        ``(heads, groups, n, m)``, each whole or 1, without the axis of groups where there is one group.
    """
    array = operand.array
    assert array is not None
    if array.shape[0] > 1:
        array = array[part.heads]
    rows, columns = operand.places(part)
    taken: Array = array[:, rows, columns]
    return taken[:, 0] if len(part.queries) == 1 else taken


def pairs_of(array: Array, part: Pairs) -> Array:
    """Return ``(heads, groups, n, m)`` of ``(heads, tokens, tokens)``, without groups where there is one."""
    held = array[part.heads] if array.shape[0] > 1 else array
    taken: Array = held[:, part.queries[:, :, None], part.keys[:, None, :]]
    return taken[:, 0] if len(part.queries) == 1 else taken


def closed_places(steps: Iterable[Step], heads: int, tokens: int) -> npt.NDArray[np.bool_]:
    """Return the pairs that constant masks close: bool ``(heads, tokens, tokens)``."""
    closed = np.zeros((heads, tokens, tokens), bool)
    for step in steps:
        others = [entry.whole if entry is not None else None for entry in step.operands]
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
    whole = np.broadcast_to(closed.all(-1, keepdims=True), closed.shape)
    return any(
        bool((pairs_of(closed, part).all(-1) & ~pairs_of(whole, part)[..., 0]).any()) for part in parts
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
