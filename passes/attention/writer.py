"""Writes attention from some tokens to some: the products of the pairs that are left, and no others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from snnc.ir import DataType, Shape, Value, attributes
from snnc.passes.attention.pairs import Index, Pairs
from snnc.passes.attention.recognise import Attention
from snnc.passes.attention.scores import Operand, Step, at_pairs, closed_places, pairs_of
from snnc.passes.editing import Editor

__all__ = ["Writer"]

_VALUES = 2


class Writer:
    """Writes the nodes of one attention, in front of its second product.

    Args:
        editor: Editor of the model.
        found: The attention.
        operands: Queries, keys and values in place of its own.
        normalise: Whether scores are scaled and normalised by softmax; otherwise they are the weights.
    """

    def __init__(
        self,
        editor: Editor,
        found: Attention,
        operands: Sequence[Value | None] | None = None,
        *,
        normalise: bool = True,
    ) -> None:
        self._editor, self._found, self._anchor = editor, found, found.second
        self._normalise = normalise
        out = found.second.outputs[0]
        self._type, self._size, self._batch = out.dtype, found.size, found.batch
        self._stem = out.name or "attention"
        given = operands or (*found.first.inputs, found.values)
        self._operands = [self._apart(value, place) for place, value in enumerate(given)]
        self._closed = None if normalise else closed_places(found.steps, found.heads, found.tokens)

    def write(self, parts: Sequence[Pairs]) -> Value:
        """Attend in several parts and put heads and tokens back in their order; a class token sees all.

        Args:
            parts: Parts whose queries are all tokens of the grid, once for each head; parts of the same heads
                are joined along tokens, the others along heads.

        Returns:
            The result ``(batch, heads, tokens, size)``.
        """
        found = self._found
        by_heads: dict[tuple[int, ...], list[Pairs]] = {}
        for part in parts:
            by_heads.setdefault(tuple(part.heads.tolist()), []).append(part)
        joined = [self._of_heads(group) for group in by_heads.values()]
        result = joined[0]
        if len(joined) > 1:
            result = self._add(
                "Concat", joined, "heads", [found.heads, found.tokens - found.others.size], {"axis": 1}
            )
        if found.others.size:
            token = self._attend(self._class_token, "token")
            result = self._add("Concat", [token, result], "tokens", [found.heads, found.tokens], {"axis": 2})
        if found.behind:
            front, area = found.extra, found.tokens - found.others.size
            moved = np.concatenate([found.others, np.arange(front, front + area)])
            places = self._editor.constant(f"{self._stem}.tokens.order", np.argsort(moved).astype(np.int64))
            extents = [found.heads, found.tokens]
            result = self._add("Gather", [result, places], "tokens.ordered", extents, {"axis": 2})
        return result

    def merged(self, value: Value) -> Value:
        """Return ``(batch, heads, tokens, size)`` in the form of the attention's own result."""
        found = self._found
        if found.turned:
            extents = [found.heads, self._size, found.tokens]
            value = self._node("Transpose", [value], "turned", extents, {"perm": [0, 1, 3, 2]})
        if found.apart:
            return value
        target = self._editor.constant(f"{self._stem}.merged.shape", np.array([-1, *found.form], np.int64))
        shape = self._found.second.outputs[0].shape
        name = f"{self._stem}.merged"
        return self._editor.add(
            self._anchor, "Reshape", [value, target], name=name, dtype=self._type, shape=shape
        )

    def share(self, parts: Sequence[Pairs]) -> float:
        """Return which part of all pairs is left, those of a class token included."""
        found = self._found
        pairs = sum(part.count for part in parts) + (self._class_token.count if found.others.size else 0)
        return pairs / (found.heads * found.tokens**2)

    @property
    def _class_token(self) -> Pairs:
        everything = np.arange(self._found.tokens)[None]
        return Pairs(np.arange(self._found.heads), self._found.others[None], everything)

    def _of_heads(self, parts: Sequence[Pairs]) -> Value:
        heads, name = parts[0].heads, f"heads{parts[0].heads[0]}"
        flat = []
        for number, part in enumerate(parts):
            label = name if len(parts) == 1 else f"{name}.part{number}"
            mixed = self._attend(part, label)
            if len(part.queries) > 1:
                mixed = self._reshape(mixed, [len(heads), part.queries.size, self._size], f"{label}.flat")
            flat.append(mixed)
        tokens = np.concatenate([part.queries.ravel() for part in parts]) - self._found.extra
        extents = [len(heads), tokens.size]
        result = flat[0] if len(flat) == 1 else self._add("Concat", flat, f"{name}.all", extents, {"axis": 2})
        if (np.diff(tokens) == 1).all():
            return result
        places = self._editor.constant(f"{self._stem}.{name}.order", np.argsort(tokens).astype(np.int64))
        return self._add("Gather", [result, places], f"{name}.ordered", extents, {"axis": 2})

    def _attend(self, part: Pairs, name: str) -> Value:
        """Attend within groups; the result has an axis of groups behind the heads where there are several."""
        dims = [len(part.queries)] if len(part.queries) > 1 else []
        q = self._pick(0, part.heads, part.queries, dims, f"{name}.q")
        k = self._pick(1, part.heads, part.keys, dims, f"{name}.k")
        v = self._pick(2, part.heads, part.keys, dims, f"{name}.v")
        square = [len(part.heads), *dims, part.queries.shape[1], part.keys.shape[1]]
        weights = self._node("MatMul", [q, k], f"{name}.scores", square, {})
        if self._normalise:
            weights = self._through(self._found.steps, weights, part, square, f"{name}.step")
            weights = self._node("Softmax", [weights], f"{name}.softmax", square, {"axis": -1})
            weights = self._through(self._found.later, weights, part, square, f"{name}.later")
        elif self._closed is not None and (shut := pairs_of(self._closed, part)).any():
            kept = self._editor.constant(f"{self._stem}.{name}.open", (~shut).astype(np.float32))
            weights = self._node("Mul", [weights, kept], f"{name}.masked", square, {})
        return self._add("MatMul", [weights, v], f"{name}.mixed", square[:-1], {})

    def _through(self, steps: Sequence[Step], value: Value, part: Pairs, dims: list[Any], name: str) -> Value:
        """Let scores, or weights, go through the steps of the attention, each at the pairs of the part."""
        for number, step in enumerate(steps):
            label = f"{name}{number}"
            inputs = [self._operand(entry, part, f"{label}.{n}") for n, entry in enumerate(step.operands)]
            inputs[step.place] = value
            if step.guard is not None:
                inputs[0] = self._node("IsNaN", [value], f"{label}.isnan", dims, {}, dtype=DataType.BOOL)
            value = self._node(
                step.node.op_type, inputs, label, dims, attributes(step.node), domain=step.node.domain
            )
        return value

    def _operand(self, operand: Operand | None, part: Pairs, name: str) -> Value | None:
        """Return an operand of a step at the pairs of a part."""
        if operand is None or not operand.is_bias:
            return operand.value if operand is not None else None
        if operand.array is not None:
            return self._editor.constant(f"{self._stem}.{name}", at_pairs(operand, part))
        value, (batch, heads, queries, keys) = operand.value, operand.shape
        label, dtype = f"{self._stem}.{name}", operand.value.dtype
        rows, columns = operand.places(part)
        places = np.asarray(rows * keys + columns, np.int64)

        def node(op: str, held: np.ndarray, dims: list[Any], what: str, attrs: dict[str, Any]) -> Value:
            constant = self._editor.constant(f"{label}.{what}.places", held.astype(np.int64))
            shape = Shape([self._batch if batch > 1 else 1, *dims])
            return self._editor.add(
                self._anchor, op, [value, constant], attrs, name=f"{label}.{what}", dtype=dtype, shape=shape
            )

        lead = -1 if batch > 1 else 1
        value = node("Reshape", np.array([lead, heads, queries * keys]), [heads, queries * keys], "flat", {})
        if heads > 1 and len(part.heads) != heads:
            heads = len(part.heads)
            value = node("Gather", part.heads, [heads, queries * keys], "of_heads", {"axis": 1})
        value = node("Gather", places.ravel(), [heads, places.size], "of_pairs", {"axis": 2})
        dims = [heads, *(places.shape if len(part.queries) > 1 else places.shape[1:])]
        return node("Reshape", np.array([lead, *dims]), dims, "cut", {})

    def _add(
        self, op: str, inputs: Sequence[Value | None], name: str, dims: list[Any], attrs: dict[str, Any]
    ) -> Value:
        """Add a node whose result has the batch, these dimensions, and the size of a head."""
        return self._node(op, inputs, name, [*dims, self._size], attrs)

    def _node(
        self,
        op: str,
        inputs: Sequence[Value | None],
        name: str,
        dims: list[Any],
        attrs: dict[str, Any],
        domain: str = "",
        dtype: DataType | None = None,
    ) -> Value:
        shape = Shape([self._batch, *dims])
        label = f"{self._stem}.{name}"
        kind = dtype or self._type
        return self._editor.add(
            self._anchor, op, inputs, attrs, name=label, domain=domain, dtype=kind, shape=shape
        )

    def _apart(self, value: Value | None, which: int) -> Value | None:
        """Give samples and heads an axis each; turn values that stand on the left of their product."""
        found, name = self._found, "qkv"[which]
        if value is None:
            return None
        heads, rows, columns = found.extents[which]
        turned = found.turned and which == _VALUES
        if not found.apart:
            held = [heads, columns, rows] if turned else [heads, rows, columns]
            target = self._editor.constant(f"{self._stem}.{name}.shape", np.array([-1, *held], np.int64))
            value = self._node("Reshape", [value, target], f"{name}.apart", held, {})
        if turned:
            extents = [heads, rows, columns]
            value = self._node("Transpose", [value], f"{name}.turned", extents, {"perm": [0, 1, 3, 2]})
        return value

    def _pick(self, which: int, heads: Index, tokens: Index, dims: list[int], name: str) -> Value:
        """Take an operand's heads and tokens of each group; the groups become an axis behind the heads."""
        value, extents, axis = self._operands[which], list(self._found.extents[which]), 3 if which == 1 else 2
        assert value is not None
        if extents[0] > 1 and len(heads) != extents[0]:
            extents[0] = len(heads)
            places = self._editor.constant(f"{self._stem}.{name}.heads", heads.astype(np.int64))
            value = self._node("Gather", [value, places], f"{name}.of_heads", extents, {"axis": 1})
        if tokens.size != extents[axis - 1] or (np.diff(tokens.ravel()) != 1).any():
            extents[axis - 1] = tokens.size
            places = self._editor.constant(f"{self._stem}.{name}.places", tokens.ravel().astype(np.int64))
            value = self._node("Gather", [value, places], f"{name}.of_tokens", extents, {"axis": axis})
        if not dims:
            return value
        cut = list(extents)
        cut[axis - 1 : axis] = [len(tokens), tokens.shape[1]]
        value = self._reshape(value, cut, f"{name}.cut")
        if axis == 2:
            return value
        # (heads, size, groups, tokens) to (heads, groups, size, tokens)
        swapped = [cut[0], cut[2], cut[1], cut[3]]
        return self._node("Transpose", [value], f"{name}.groups", swapped, {"perm": [0, 1, 3, 2, 4]})

    def _reshape(self, value: Value, dims: list[Any], name: str) -> Value:
        target = self._editor.constant(f"{self._stem}.{name}.shape", np.array([0, *dims], np.int64))
        return self._node("Reshape", [value, target], name, dims, {})
