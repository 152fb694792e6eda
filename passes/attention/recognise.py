"""Attention as exported networks have it: two products with softmax and other steps between."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

from snnc.ir import AI_SNNC, Model, Node, Value, attributes, constant, consumers_of, shapes_of_batches
from snnc.passes.analysis.hosted import host_nodes
from snnc.passes.attention.grid import Grid, grid_of
from snnc.passes.attention.origin import Axis, kinds, origins
from snnc.passes.attention.pairs import Index, beside
from snnc.passes.attention.scores import Operand, Step, operand_of, view_of
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
#: What talking heads are written with: products with constants.
_MIXES = ("Conv", "MatMul", "Transpose")
#: So many nodes are followed at most to tell scores from their biases.
_MOST_STEPS = 64
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
        behind: Such tokens behind the grid.
        extents: Heads and the two last extents of queries, keys and values.
        apart: Whether queries, keys and values have axes for samples and heads, and no other in front.
        turned: Whether the second product has the values on its left: ``MatMul(v^T, p^T)``.
        form: Extents of the result behind the first.
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
    behind: int
    extents: tuple[tuple[int, int, int], ...]
    apart: bool
    turned: bool
    form: tuple[int, ...]

    @property
    def size(self) -> int:
        """Size of a head of the values."""
        return self.extents[2][2]

    @property
    def values(self) -> Value | None:
        """The values, as the second product reads them."""
        return self.second.inputs[1 - self.turned]

    @property
    def biases(self) -> list[Step]:
        """The steps that differ from pair to pair."""
        return [step for step in self.steps if any(entry and entry.is_bias for entry in step.operands)]

    @property
    def others(self) -> Index:
        """The tokens beside the grid."""
        return beside(self.tokens - self.extra - self.behind, self.extra, self.behind)

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
        second, turned, below = down
        found = self._operands(first, second, turned)
        if isinstance(found, str):
            return found
        extents, apart = found
        heads, tokens, _ = extents[0]
        rank = len(self._shapes[softmax.outputs[0].name or ""])
        if int(attributes(softmax).get("axis", -1)) % rank != rank - 1:
            return "its softmax is not over the keys"
        steps, later = self._steps(above[::-1], heads, tokens), self._steps(below, heads, tokens)
        if isinstance(steps, str) or isinstance(later, str):
            return steps if isinstance(steps, str) else str(later)
        placed = self._grid(first, tokens)
        if grid and isinstance(placed, str):
            return placed
        sides, extra, behind = ((0, 0), 0, 0) if isinstance(placed, str) else placed
        guards = [step.guard for step in later if step.guard is not None]
        between = [node for node, _ in (*below[::-1], *above)]
        removed = (second, *between[: len(below)], *guards, softmax, *between[len(below) :], first)
        form = self._shapes[second.outputs[0].name or ""][1:]
        return Attention(
            first, steps, softmax, later, second, removed, self._dim,
            heads, tokens, sides, extra, behind, extents, apart, turned, form,
        )  # fmt: skip

    def _up(self, softmax: Node) -> tuple[Node, _Way] | str:
        """Return the product of queries and keys, and what follows it, last first, with the scores' place."""
        way: _Way = []
        value = softmax.inputs[0]
        while value is not None:
            node = value.producer()
            if node is None or not self._is_score(value, _MIXES):
                what = "an input" if node is None else f"{node.name} ({node.op_type})"
                return f"its scores are no product of queries and keys: {what}"
            if only_consumer(value) is None:
                return f"its scores are read elsewhere too, behind {node.name} ({node.op_type})"
            if is_standard(node, "MatMul"):
                if all(constant(entry) is None for entry in node.inputs):
                    return node, way
                if any(self._is_score(entry, _MIXES) for entry in node.inputs):
                    return f"its heads are mixed in front of its softmax ({node.name})"
                return f"its scores are a product with weights, there are no queries ({node.name})"
            place = self._place(node)
            if isinstance(place, str):
                return place
            way.append((node, place))
            value = node.inputs[place]
        return "its scores are no product of queries and keys"

    def _place(self, node: Node) -> int | str:
        """Return which input of a node in front of a softmax the scores are."""
        if is_standard(node, *_LAYOUTS):
            return 0
        if _is_quantiser(node):
            return 0 if _is_single(node.inputs[1]) else f"{node.name} quantises its scores in several steps"
        if not is_standard(node, *_ON_SCORES):
            mixed = is_standard(node, "Transpose") and not self._is_score(node.inputs[0], ("Transpose",))
            if mixed or is_standard(node, "Conv"):
                return f"its heads are mixed in front of its softmax ({node.name})"
            return f"its scores go through {node.name} ({node.op_type})"
        run = [
            place
            for place, entry in enumerate(node.inputs)
            if entry is not None and constant(entry) is None and id(entry) not in self._hosted
        ]
        if len(run) > 1:
            run = [place for place in run if self._is_score(node.inputs[place])]
        if len(run) != 1 or (node.op_type, run[0]) in (("Div", 1), ("Where", 0)):
            return f"the network computes a mask or bias on its scores ({node.name})"
        return run[0]

    def _is_score(self, value: Value | None, more: tuple[str, ...] = ()) -> bool:
        """Whether a value comes of a product of two values that are computed, as many numbers as that has.

        Args:
            value: The value.
            more: Operators, besides those on scores and those of one input, that may stand in between.
        """
        waiting, count = [value], prod(self._shape(value))
        for _ in range(_MOST_STEPS):
            if not waiting:
                return False
            entry = waiting.pop()
            node = entry.producer() if entry is not None and id(entry) not in self._hosted else None
            if node is None or constant(entry) is not None or prod(self._shape(entry)) != count:
                continue
            if is_standard(node, "MatMul") and all(constant(each) is None for each in node.inputs):
                return True
            alone = bool(more) and len(node.inputs) == 1
            if alone or _is_quantiser(node) or is_standard(node, *_LAYOUTS, *_ON_SCORES, *more):
                waiting += list(node.inputs)
        return False

    def _shape(self, value: Value | None) -> tuple[int, ...]:
        return self._shapes.get(value.name or "", ()) if value is not None else ()

    def _down(self, softmax: Node) -> tuple[Node, bool, _Way] | str:
        """Return the product with the values, whether they stand on its left, and the nodes in between."""
        way: _Way = []
        value, turned = softmax.outputs[0], False
        while True:
            node = only_consumer(value) or _guard(value)
            if node is None:
                break
            if is_standard(node, "MatMul") and constant(node.inputs[1 - turned]) is None:
                if node.inputs[turned] is value and node.inputs[1 - turned] is not value:
                    return node, turned, way
                break
            guarded = is_standard(node, "Where") and node.inputs[2] is value and _guard(value) is node
            if node.inputs[0] is not value and not guarded:
                break
            quantiser = _is_quantiser(node) and _is_single(node.inputs[1])
            turns = self._turns(node)
            if not (guarded or quantiser or turns or is_standard(node, *_LAYOUTS, *_ON_WEIGHTS)):
                break
            turned ^= turns
            if turned and not turns:
                # What stands behind the turn would have to be turned too.
                break
            way.append((node, 2 if guarded else 0))
            value = node.outputs[0]
        what = "several nodes" if node is None else f"{node.name} ({node.op_type})"
        return f"no product with values alone reads its softmax, but {what}"

    def _turns(self, node: Node) -> bool:
        """Whether a node exchanges the two last axes of its input."""
        if not is_standard(node, "Transpose"):
            return False
        rank = len(self._shapes.get(node.outputs[0].name or "", ()))
        order = list(range(rank))
        perm = attributes(node).get("perm") or order[::-1]
        return list(perm) == [*order[:-2], *order[-2:][::-1]]

    def _steps(self, way: _Way, heads: int, tokens: int) -> tuple[Step, ...] | str:
        """Return nodes between the two products as steps; what only moves heads is none."""
        steps: list[Step] = []
        for node, place in way:
            view = view_of(self._shapes.get(node.outputs[0].name or "", ()), tokens)
            if view is None or prod(view.lead) != self._batch * heads:
                return f"{node.name} ({node.op_type}) rearranges or repeats its scores"
            if is_standard(node, *_LAYOUTS, "Transpose"):
                continue
            rank = len(self._shapes[node.outputs[0].name or ""])
            guard = _question(node) if place and is_standard(node, "Where") else None
            operands: list[Operand | None] = []
            for number, entry in enumerate(node.inputs):
                if number == place or entry is None or (guard is not None and number == 0):
                    operands.append(None)
                    continue
                shape = self._shapes.get(entry.name or "", ())
                if len(shape) > rank:
                    return f"{node.name} ({node.op_type}) repeats its scores"
                operand = operand_of(entry, shape, view, heads, self._batch, id(entry) in self._hosted)
                if isinstance(operand, str):
                    return f"{operand} ({node.name})"
                operands.append(operand)
            steps.append(Step(node, place, tuple(operands), guard))
        return tuple(steps)

    def _operands(
        self, first: Node, second: Node, turned: bool
    ) -> tuple[tuple[tuple[int, int, int], ...], bool] | str:
        """Return heads and last extents of queries, keys and values, and whether heads have their axis."""
        values = (*first.inputs[:2], second.inputs[1 - turned])
        names = [value.name or "" for value in values if value is not None]
        shapes = [self._shapes.get(name, ()) for name in names]
        others = [self._others.get(name, ()) for name in names]
        if any(len(a) < 2 or a[1:] != b[1:] for a, b in zip(shapes, others, strict=True)):
            return "the shapes of its queries, keys and values are not known"
        if turned:
            shapes[2] = (*shapes[2][:-2], shapes[2][-1], shapes[2][-2])
        q, k, v = shapes
        if not q[-2] == k[-1] == v[-2]:
            return f"its queries and keys differ in number: {q[-2]} and {k[-1]}"
        if q[-2] == 1:
            return "it has one token"
        heads = [self._heads(shape) for shape in shapes]
        wrong = next((entry for entry in heads if isinstance(entry, str)), None)
        if wrong is not None:
            return wrong
        apart = all(len(shape) == _RANK and shape[0] == self._batch for shape in shapes)
        count = heads[0]
        if any(entry not in (1, count) for entry in heads) or (not apart and len(set(heads)) > 1):
            return "its queries and keys differ in heads"
        value = values[0]
        assert value is not None and isinstance(count, int)
        if count > 1:
            reason = self._windows(value, q, count)
            if reason:
                return reason
        extents = tuple(
            (int(number), shape[-2], shape[-1]) for number, shape in zip(heads, shapes, strict=True)
        )
        return extents, apart

    def _heads(self, shape: tuple[int, ...]) -> int | str:
        """Return the number of heads of queries, keys or values."""
        lead = shape[:-2]
        heads, rest = divmod(prod(lead), self._batch)
        wide = [size for size in lead[1:] if size > 1]
        if not lead or rest or lead[0] % self._batch or (wide and lead[0] != self._batch):
            windows = bool(lead) and not rest and (len(wide) > 0)
            return _WINDOWS if windows else "its heads are no axis of their own"
        return heads if len(wide) < 2 else _WINDOWS

    def _windows(self, value: Value, shape: tuple[int, ...], heads: int) -> str | None:
        """Return why an axis in front of the tokens is none of heads, None if it is."""
        if shape[0] == self._batch:
            axis = next(n for n, size in enumerate(shape) if n and size == heads)
            return _WINDOWS if self._is_of_a_map(Axis(value, axis, 1, heads)) else None
        lead = [
            entry for entry in origins(Axis(value, 0, 1, shape[0]), self._shapes) if entry.kind == "merged"
        ]
        for entry in lead:
            if tuple(part.size for part in entry.parts) != (self._batch, heads):
                windows = any(self._is_of_a_map(part) for part in entry.parts)
                return _WINDOWS if windows else "its heads are merged with the batch, and not behind it"
        return _WINDOWS if self._is_of_a_map(Axis(value, 0, 1, heads)) else None

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


def _guard(value: Value) -> Node | None:
    """Return the ``Where(IsNaN(p), 0, p)`` that alone reads the result of a softmax."""
    readers = consumers_of(value)
    mended = [node for node in readers if is_standard(node, "Where") and _question(node) is not None]
    if len(mended) != 1 or value.is_graph_output():
        return None
    node = mended[0]
    held = constant(node.inputs[1])
    others = [reader for reader in readers if reader is not node and reader is not _question(node)]
    return node if node.inputs[2] is value and not others and held is not None and not held.any() else None


def _question(node: Node) -> Node | None:
    """Return the IsNaN that decides a Where about its own last input, and nothing else."""
    condition = node.inputs[0]
    asked = condition.producer() if condition is not None else None
    if asked is None or not is_standard(asked, "IsNaN") or only_consumer(asked.outputs[0]) is not node:
        return None
    return asked if asked.inputs[0] is node.inputs[2] else None


def _is_quantiser(node: Node) -> bool:
    return node.domain == AI_SNNC and node.op_type == "Quantise"


def _is_single(value: Value | None) -> bool:
    held = constant(value)
    return held is not None and held.size == 1
