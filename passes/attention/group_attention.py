"""Pass ``group-attention``: global attention on a grid of tokens becomes attention in groups (GW-SSA)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from snnc.ir import Model, Node, Shape, Value, attributes, constant
from snnc.passes.editing import Editor, is_standard, only_consumer
from snnc.pipeline.contract import PassResult, Semantics

__all__ = ["GroupAttention", "dilated", "windowed"]

Index = npt.NDArray[np.int64]
_SCALES = frozenset({"Mul", "Div"})
_RANK = 4


def dilated(side: int, stride: int) -> Index:
    """Return the tokens of each dilated group of a square grid: ``(groups, tokens)``, numbered by row."""
    grid = np.arange(side * side).reshape(side, side)
    return np.stack([grid[i::stride, j::stride].ravel() for i in range(stride) for j in range(stride)])


def windowed(side: int, window: int) -> Index:
    """Return the tokens of each window of a square grid: ``(groups, tokens)``, numbered by row."""
    grid = np.arange(side * side).reshape(side // window, window, side // window, window)
    return grid.transpose(0, 2, 1, 3).reshape(-1, window * window)


@dataclass(frozen=True)
class _Attention:
    """One recognised attention: ``MatMul(Softmax(scale(MatMul(q, k))), v)``."""

    first: Node
    scales: tuple[Node, ...]
    softmax: Node
    second: Node
    heads: int
    tokens: int
    side: int
    extra: int


@dataclass(frozen=True)
class GroupAttention:
    """Let each token of a grid attend to some: half of the heads in dilated groups, half in windows.

    A dilated group holds the tokens ``stride`` apart, along rows and columns; a window holds ``window`` x
    ``window`` neighbours. A class token in front of the grid is kept apart: it attends to all tokens, and is
    a member of every group. The groups are real: products of other pairs are gone, not masked. What the
    network computes changes; fine-tune it in this form before export to recover what that costs.

    Matches:
        A product of two values of shape (batch, heads, tokens, size), constant factors, Softmax over the last
        axis, and a product with a third such value, where tokens, or all but the first, are a square grid.
    Leaves alone:
        "its heads are no axis of their own", "its tokens are no square grid", "stride ... or window ... does
        not divide the grid", "a mask or bias on its scores", "its queries and keys differ in number".
    Keeps:
        The name of the result.

    Attributes:
        stride: Distance of neighbours in a dilated group.
        window: Side of a window; 0: the side of the grid divided by ``stride``, groups of equal size.

    Source:
        Ge2mS-T (arXiv 2604.08894), GW-SSA; semantics notes 3.1 and 6.2.
    """

    stride: int = 2
    window: int = 0

    name: ClassVar[str] = "group-attention"
    requires: ClassVar[frozenset[str]] = frozenset({"constants-folded", "unique-names"})
    establishes: ClassVar[frozenset[str]] = frozenset()
    invalidates: ClassVar[frozenset[str]] = frozenset({"no-dead-code", "sorted"})
    semantics: ClassVar[Semantics] = "approximate"

    def run(self, model: Model) -> PassResult:
        """Rewrite; see the class."""
        editor = Editor(model)
        for node in [entry for entry in model.graph if is_standard(entry, "Softmax")]:
            found = _recognise(node)
            if isinstance(found, str):
                editor.fail(found, node)
                continue
            window = self.window or found.side // max(1, self.stride)
            if found.side % self.stride or not window or found.side % window:
                editor.fail(
                    f"stride {self.stride} or window {window} does not divide the grid of {found.side} x "
                    f"{found.side} tokens",
                    node,
                )
                continue
            self._group(editor, found, window)
        return editor.result()

    def _group(self, editor: Editor, found: _Attention, window: int) -> None:
        half = (found.heads + 1) // 2
        parts = [(np.arange(half), dilated(found.side, self.stride))]
        if half < found.heads:
            parts.append((np.arange(half, found.heads), windowed(found.side, window)))
        out, writer = found.second.outputs[0], _Writer(editor, found)
        results = [writer.groups(heads, groups + found.extra) for heads, groups in parts]
        result = results[0]
        if len(results) > 1:
            result = writer.add("Concat", results, "heads", [found.heads, found.side**2], {"axis": 1})
        if found.extra:
            token = writer.attend([], np.arange(found.heads), np.zeros((1, 1), np.int64), None)
            result = writer.add("Concat", [token, result], "tokens", [found.heads, found.tokens], {"axis": 2})
        pairs = sum(len(heads) * groups.size * (groups.shape[1] + found.extra) for heads, groups in parts)
        pairs += found.extra * found.heads * found.tokens
        share = pairs / (found.heads * found.tokens**2)
        editor.replace(
            self.name, out, result, removed=[found.second, found.softmax, *found.scales[::-1], found.first]
        )
        editor.notes.append(
            f"{found.softmax.name}: {half} heads in groups of stride {self.stride}, {found.heads - half} in "
            f"windows of {window} x {window}{', class token with all' if found.extra else ''}: "
            f"{100 * share:.1f} % of the pairs are left"
        )


def _recognise(softmax: Node) -> _Attention | str:
    axis = int(attributes(softmax).get("axis", -1))
    second = only_consumer(softmax.outputs[0])
    if second is None or not is_standard(second, "MatMul") or second.inputs[0] is not softmax.outputs[0]:
        return "no product with values alone reads it"
    scales: list[Node] = []
    value = softmax.inputs[0]
    while value is not None and is_standard(value.producer(), *_SCALES) and only_consumer(value):
        node = value.producer()
        assert node is not None
        held = [constant(part) for part in node.inputs]
        place = 0 if held[0] is None else 1
        factor = held[1 - place]
        if factor is None or factor.size != 1 or (node.op_type == "Div" and place == 1):
            return "a mask or bias on its scores"
        scales.append(node)
        value = node.inputs[place]
    first = value.producer() if value is not None else None
    if first is None or value is None or not is_standard(first, "MatMul") or only_consumer(value) is None:
        return "a mask or bias on its scores"
    shapes = [_static(part) for part in (first.inputs[0], first.inputs[1], second.inputs[1])]
    if any(shape is None for shape in shapes) or axis not in (-1, _RANK - 1):
        return "its heads are no axis of their own"
    q, k, v = (shape for shape in shapes if shape is not None)
    if not q[0] == k[0] == v[0] or not q[1] == k[2] == v[1]:
        return "its queries and keys differ in number"
    tokens = q[1]
    for extra in (0, 1):
        side = math.isqrt(tokens - extra)
        if side > 1 and side * side == tokens - extra:
            return _Attention(first, tuple(scales[::-1]), softmax, second, q[0], tokens, side, extra)
    return "its tokens are no square grid"


def _static(value: Value | None) -> tuple[int, int, int] | None:
    """Return heads and the two last dimensions of a value of rank 4."""
    if value is None or value.shape is None or len(value.shape) != _RANK or constant(value) is not None:
        return None
    dims = list(value.shape)[1:]
    return (dims[0], dims[1], dims[2]) if all(isinstance(dim, int) for dim in dims) else None  # type: ignore[return-value]


class _Writer:
    """Writes the nodes of one attention, in front of its second product."""

    def __init__(self, editor: Editor, found: _Attention) -> None:
        self._editor, self._found, self._anchor = editor, found, found.second
        out = found.second.outputs[0]
        dims = list(out.shape or ())
        self._type, self._size, self._batch = out.dtype, dims[-1], dims[0]
        self._stem = out.name or "attention"

    def add(
        self, op: str, inputs: Sequence[Value | None], name: str, dims: list[Any], attrs: dict[str, Any]
    ) -> Value:
        """Add a node whose result has the batch, these dimensions, and the size of a head."""
        return self._node(op, inputs, name, [*dims, self._size], attrs)

    def _node(
        self, op: str, inputs: Sequence[Value | None], name: str, dims: list[Any], attrs: dict[str, Any]
    ) -> Value:
        shape = Shape([self._batch, *dims])
        label = f"{self._stem}.{name}"
        return self._editor.add(self._anchor, op, inputs, attrs, name=label, dtype=self._type, shape=shape)

    def groups(self, heads: Index, groups: Index) -> Value:
        """Attend within groups and put the tokens back in their order."""
        tokens = groups - self._found.extra
        return self.attend([len(groups)], heads, groups, np.argsort(tokens.ravel()))

    def attend(self, dims: list[int], heads: Index, groups: Index, order: Index | None) -> Value:
        """Attend from the tokens of each group to them and to the class token; from one token to all."""
        found, name = self._found, f"heads{heads[0]}" if dims else "token"
        keys = groups
        if dims and found.extra:
            keys = np.concatenate([np.zeros((len(groups), 1), np.int64), groups], 1)
        elif not dims:
            keys = np.arange(found.tokens)[None]
        q = self._pick(found.first.inputs[0], heads, groups, 2, dims, f"{name}.q")
        k = self._pick(found.first.inputs[1], heads, keys, 3, dims, f"{name}.k")
        v = self._pick(found.second.inputs[1], heads, keys, 2, dims, f"{name}.v")
        square = [len(heads), *dims, groups.shape[1], keys.shape[1]]
        scores = self._node("MatMul", [q, k], f"{name}.scores", square, {})
        for number, scale in enumerate(found.scales):
            inputs = [scores if constant(part) is None else part for part in scale.inputs]
            scores = self._node(scale.op_type, inputs, f"{name}.scale{number}", square, {})
        weights = self._node("Softmax", [scores], f"{name}.softmax", square, {"axis": -1})
        mixed = self.add("MatMul", [weights, v], f"{name}.mixed", square[:-1], {})
        if order is None:
            return mixed
        flat = [len(heads), groups.size]
        mixed = self._reshape(mixed, [*flat, self._size], f"{name}.flat")
        places = self._editor.constant(f"{self._stem}.{name}.order", order.astype(np.int64))
        return self.add("Gather", [mixed, places], f"{name}.ordered", flat, {"axis": 2})

    def _pick(
        self, value: Value | None, heads: Index, tokens: Index, axis: int, dims: list[int], name: str
    ) -> Value:
        """Take the heads and the tokens of each group; the groups become an axis behind the heads."""
        assert value is not None and value.shape is not None
        extents = list(value.shape)[1:]
        if len(heads) != extents[0]:
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
