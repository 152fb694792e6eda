"""Attention as exported networks have it: two products with softmax and other steps between."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from snnc.ir import AI_SNNC, Model, Node, Value, attributes, constant, shapes_of_batches
from snnc.passes.analysis.hosted import host_nodes
from snnc.passes.attention.grid import Grid, grid_of
from snnc.passes.attention.origin import Axis, kinds, origins
from snnc.passes.attention.scores import Operand, Step, operand_of
from snnc.passes.editing import batch_name, is_standard, only_consumer

__all__ = ["Attention", "Recogniser"]

#: Operators that give each score a value from that score and constants alone.
_ON_SCORES = frozenset(
    {"Add", "Cast", "Clip", "Div", "Identity", "Max", "Min", "Mul", "Sub", "Tanh", "Where"}
)
#: Operators between softmax and the product with values.
_ON_WEIGHTS = frozenset({"Cast", "Dropout", "Identity"})
_LAYOUTS = frozenset({"Reshape", "Squeeze", "Unsqueeze", "Flatten"})
#: A prime, so that a size that is a multiple of it is one of the batch.
_BATCH, _OTHER_BATCH = 7, 11
_RANK = 4
_Way = list[tuple[Node, int]]
_WINDOWS = "it attends within windows or groups already, several in a sample"


@dataclass(frozen=True)
class Attention:
    """One recognised attention: ``MatMul(steps(Softmax(steps(MatMul(q, k)))), v)``.

    Attributes:
        first: Product of queries and keys, ``(batch, heads, tokens, tokens)``, or with merged heads.
        steps: What the scores go through, first to last: factors, biases, masks, quantisers.
        softmax: Softmax over the keys.
        later: What the softmax goes through.
        second: Product with the values.
        removed: All its nodes, last to first.
        batch: Size of the batch, for shapes.
        heads: Heads.
        tokens: Tokens, a class token included.
        sides: Height and width of the grid of tokens, 0 where they are none.
        extra: Class tokens (and registers) in front of the grid.
        extents: Heads and the two last extents of queries, keys and values.
        merged: Whether the heads are merged with the batch.
    """

    first: Node
    steps: tuple[Step, ...]
    softmax: Node
    later: tuple[Step, ...]
    second: Node
    removed: tuple[Node, ...]
    batch: Any
    heads: int
    tokens: int
    sides: tuple[int, int]
    extra: int
    extents: tuple[tuple[int, int, int], ...]
    merged: bool

    @property
    def size(self) -> int:
        """Size of a head of the values."""
        return self.extents[2][2]

    @property
    def biases(self) -> list[Step]:
        """The steps that differ from pair to pair."""
        return [step for step in self.steps if any(entry and entry.is_bias for entry in step.operands)]

    @property
    def grid(self) -> str:
        """The grid, for messages."""
        return f"{self.sides[0]} x {self.sides[1]}"


class Recogniser:
    """Finds the attentions of one model.

    Args:
        model: The model.
        stated: Height and width of the grid of tokens whose map is not seen.
    """

    def __init__(self, model: Model, stated: tuple[int, int] | None = None) -> None:
        self._stated = stated
        self._hosted = {id(value) for value in model.graph.inputs}
        for node in host_nodes(model).values():
            self._hosted |= {id(value) for value in node.outputs}
        self._shapes, self._others = shapes_of_batches(model, _BATCH, _OTHER_BATCH)
        first = model.graph.inputs[0].name if model.graph.inputs else None
        given = self._shapes.get(first or "") or (_BATCH,)
        self._batch = given[0]
        open_batch = self._others.get(first or "", given)[0] != self._batch
        self._dim: Any = batch_name(model) if open_batch else self._batch

    def recognise(self, softmax: Node, *, grid: bool = True) -> Attention | str:
        """Recognise the attention around a softmax.

        Args:
            softmax: A Softmax node.
            grid: Whether the tokens must be a grid, with or without class tokens in front.

        Returns:
            The attention, or why it is none.
        """
        up = self._up(softmax)
        if isinstance(up, str):
            return up
        first, above = up
        down = self._down(softmax)
        if isinstance(down, str):
            return down
        second, below = down
        found = self._operands(first, second)
        if isinstance(found, str):
            return found
        heads, tokens, merged = found
        rank = len(self._shapes[softmax.outputs[0].name or ""])
        if int(attributes(softmax).get("axis", -1)) % rank != rank - 1:
            return "its softmax is not over the keys"
        steps, later = self._steps(above[::-1], heads), self._steps(below, heads)
        if isinstance(steps, str) or isinstance(later, str):
            return steps if isinstance(steps, str) else str(later)
        placed = self._grid(first, tokens)
        if grid and isinstance(placed, str):
            return placed
        sides, extra = ((0, 0), 0) if isinstance(placed, str) else placed
        between = [node for node, _ in (*below[::-1], *above)]
        removed = (second, *between[: len(below)], softmax, *between[len(below) :], first)
        values = (*first.inputs[:2], second.inputs[1])
        last = [self._shapes[value.name or ""][-2:] for value in values if value is not None]
        extents, dim = tuple((heads, rows, columns) for rows, columns in last), self._dim
        return Attention(
            first, steps, softmax, later, second, removed, dim, heads, tokens, sides, extra, extents, merged
        )

    def _up(self, softmax: Node) -> tuple[Node, _Way] | str:
        """Return the product of queries and keys, and what follows it, last first, with the scores' place."""
        way: _Way = []
        value = softmax.inputs[0]
        while value is not None:
            node = value.producer()
            if node is None or only_consumer(value) is None:
                return "its scores are read elsewhere too, or are no product"
            if is_standard(node, "MatMul"):
                if all(constant(entry) is None for entry in node.inputs):
                    return node, way
                return "its scores are a product with weights: heads are mixed, or there are no queries"
            place = self._place(node)
            if isinstance(place, str):
                return place
            way.append((node, place))
            value = node.inputs[place]
        return "its scores are no product of queries and keys"

    def _place(self, node: Node) -> int | str:
        """Return which input of a node in front of a softmax the scores are."""
        if is_standard(node, *_LAYOUTS):
            return 0 if self._keeps_tokens(node) else f"{node.name} ({node.op_type}) rearranges its scores"
        if _is_quantiser(node):
            return 0 if _is_single(node.inputs[1]) else f"{node.name} quantises its scores in several steps"
        if not is_standard(node, *_ON_SCORES):
            return f"its scores go through {node.name} ({node.op_type})"
        run = [
            place
            for place, entry in enumerate(node.inputs)
            if entry is not None and constant(entry) is None and id(entry) not in self._hosted
        ]
        if len(run) != 1 or (node.op_type, run[0]) in (("Div", 1), ("Where", 0)):
            return f"the network computes a mask or bias on its scores ({node.name})"
        return run[0]

    def _down(self, softmax: Node) -> tuple[Node, _Way] | str:
        """Return the product with the values, and the nodes in front of it, first first."""
        way: _Way = []
        value = softmax.outputs[0]
        while True:
            node = only_consumer(value)
            if node is None or node.inputs[0] is not value:
                break
            if is_standard(node, "MatMul") and constant(node.inputs[1]) is None:
                return node, way
            layout = is_standard(node, *_LAYOUTS) and self._keeps_tokens(node)
            quantiser = _is_quantiser(node) and _is_single(node.inputs[1])
            if not (layout or quantiser or is_standard(node, *_ON_WEIGHTS)):
                break
            way.append((node, 0))
            value = node.outputs[0]
        what = "several nodes" if node is None else f"{node.name} ({node.op_type})"
        return f"no product with values alone reads its softmax, but {what}"

    def _steps(self, way: _Way, heads: int) -> tuple[Step, ...] | str:
        """Return nodes between the two products as steps; what only moves heads is none."""
        steps: list[Step] = []
        for node, place in way:
            if is_standard(node, *_LAYOUTS):
                continue
            rank = len(self._shapes.get(node.outputs[0].name or "", ()))
            operands: list[Operand | None] = []
            for number, entry in enumerate(node.inputs):
                if number == place or entry is None:
                    operands.append(None)
                    continue
                shape = self._shapes.get(entry.name or "", ())
                if len(shape) > rank:
                    return f"{node.name} ({node.op_type}) repeats its scores"
                operand = operand_of(entry, shape, rank, heads, self._batch)
                if isinstance(operand, str):
                    return f"{operand} ({node.name})"
                operands.append(operand)
            steps.append(Step(node, place, tuple(operands)))
        return tuple(steps)

    def _keeps_tokens(self, node: Node) -> bool:
        """Whether a node leaves the two last axes of its input as they are."""
        before, after = (
            self._shapes.get(value.name or "", ()) if value is not None else ()
            for value in (node.inputs[0], node.outputs[0])
        )
        return len(before) > 2 and len(after) > 2 and before[-2:] == after[-2:]

    def _operands(self, first: Node, second: Node) -> tuple[int, int, bool] | str:
        """Return heads, tokens, and whether the heads are merged with the batch."""
        values = (first.inputs[0], first.inputs[1], second.inputs[1])
        names = [value.name or "" for value in values if value is not None]
        shapes = [self._shapes.get(name, ()) for name in names]
        others = [self._others.get(name, ()) for name in names]
        ranks = {len(shape) for shape in shapes}
        if len(ranks) != 1 or any(a[1:] != b[1:] for a, b in zip(shapes, others, strict=True)):
            return "the shapes of its queries, keys and values are not known"
        (rank,), (q, k, v) = ranks, shapes
        if rank > _RANK:
            return _WINDOWS
        if rank < _RANK - 1:
            return "its heads are no axis of their own"
        if not q[-2] == k[-1] == v[-2]:
            return f"its queries and keys differ in number: {q[-2]} and {k[-1]}"
        value = first.inputs[0]
        assert value is not None
        if rank == _RANK:
            if not q[1] == k[1] == v[1]:
                return "its queries and keys differ in heads"
            windows = q[1] > 1 and self._is_of_a_map(Axis(value, 1, 1, q[1]))
            return _WINDOWS if q[0] != self._batch or windows else (q[1], q[2], False)
        heads, rest = divmod(q[0], self._batch)
        if rest or not q[0] == k[0] == v[0]:
            return "its heads are no axis of their own"
        if heads == 1:
            return 1, q[1], True
        lead = [entry for entry in origins(Axis(value, 0, 1, q[0]), self._shapes) if entry.kind == "merged"]
        if any(tuple(part.size for part in entry.parts) != (self._batch, heads) for entry in lead):
            return "its heads are merged with the batch, and not behind it"
        if self._is_of_a_map(Axis(value, 0, 1, heads)):
            return _WINDOWS
        return heads, q[1], True

    def _is_of_a_map(self, axis: Axis) -> bool:
        """Whether an axis counts windows or groups of a map; heads come from channels."""
        found = kinds(axis, self._shapes)
        return "channels" not in found and bool({"row", "merged"} & found)

    def _grid(self, first: Node, tokens: int) -> Grid | str:
        """Return the grid that queries and keys share."""
        values = [value for value in first.inputs if value is not None]
        rank = len(self._shapes[values[0].name or ""])
        axes = [Axis(values[0], rank - 2, 1, tokens), Axis(values[1], rank - 1, 1, tokens)]
        grids = [grid_of(axis, self._shapes, self._stated) for axis in axes]
        wrong = next((grid for grid in grids if isinstance(grid, str)), None)
        if wrong is not None:
            return wrong
        return grids[0] if grids[0] == grids[1] else "its queries and its keys are of different grids"


def _is_quantiser(node: Node) -> bool:
    return node.domain == AI_SNNC and node.op_type == "Quantise"


def _is_single(value: Value | None) -> bool:
    held = constant(value)
    return held is not None and held.size == 1
