"""Appending ops to a value, with the batch left free, for passes that write one op as several."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from snnc.ir import AI_SNNC, Node, Shape, Value
from snnc.passes.editing import Editor

__all__ = ["WHY", "Chain", "leave", "same_batch", "static_rest"]

#: Key of the notes beside a graph: why a node of this name stays as it is.
WHY = "snnc.why"


def static_rest(value: Value | None) -> list[int] | None:
    """Return the sizes of a value behind its first axis, None if one of them is not static."""
    if value is None or value.shape is None or len(value.shape) == 0:
        return None
    rest = list(value.shape)[1:]
    return [size for size in rest if isinstance(size, int)] if all(isinstance(s, int) for s in rest) else None


def same_batch(left: Any, right: Any) -> bool:
    """Return whether two first dimensions may be taken as equal: both are one number, or both are free."""
    return left == right if isinstance(left, int) or isinstance(right, int) else True


def leave(editor: Editor, node: Node, reason: str) -> None:
    """Record why a node stays, for the record of the pass and for whoever refuses the node later."""
    editor.graph.meta.setdefault(WHY, {})[node.name] = reason
    editor.fail(reason, node)


class Chain:
    """A value, and what is done to it in front of a node that it will replace.

    Args:
        editor: Editor of the model.
        node: The node; new nodes stand in front of it and inherit its provenance.
        value: First value, of known rank, static behind its first axis.

    Attributes:
        value: The last value.
        dims: Its shape.
        dead: Nodes that may have become unused.
    """

    def __init__(self, editor: Editor, node: Node, value: Value) -> None:
        self._editor, self._node = editor, node
        self.value = value
        self.dims: list[Any] = list(value.shape) if value.shape is not None else []
        self.dead: list[Node] = []

    @property
    def stem(self) -> str:
        """Stem of the names of new values."""
        return self._node.name or self._node.op_type.lower()

    def append(
        self,
        op_type: str,
        others: Sequence[Value | npt.NDArray[Any] | None] = (),
        dims: Sequence[Any] | None = None,
        **attrs: Any,
    ) -> Chain:
        """Append a node that reads the value first, then others; the shape stays unless one is given."""
        return self._append("", op_type, others, dims, attrs)

    def append_own(self, op_type: str, others: Sequence[Value | npt.NDArray[Any] | None] = ()) -> Chain:
        """Append a node of the domain ``ai.snnc`` that keeps the shape."""
        return self._append(AI_SNNC, op_type, others, None, {})

    def _append(
        self,
        domain: str,
        op_type: str,
        others: Sequence[Value | npt.NDArray[Any] | None],
        dims: Sequence[Any] | None,
        attrs: dict[str, Any],
    ) -> Chain:
        held = [
            self._editor.constant(f"{self.stem}.{op_type.lower()}", other)
            if isinstance(other, np.ndarray)
            else other
            for other in others
        ]
        self.dims = list(dims) if dims is not None else self.dims
        out = self._node.outputs[0]
        self.value = self._editor.add(
            self._node,
            op_type,
            [self.value, *held],
            attrs,
            name=f"{self.stem}.{op_type.lower()}",
            domain=domain,
            dtype=self.value.dtype or out.dtype,
            shape=Shape(self.dims),
        )
        return self

    def reshape(self, rest: Sequence[int]) -> Chain:
        """Reshape what lies behind the first axis, which stays."""
        if list(rest) == self.dims[1:]:
            return self
        target = np.array([0, *rest], dtype=np.int64)
        return self.append("Reshape", [target], [self.dims[0], *rest])

    def transpose(self, perm: Sequence[int]) -> Chain:
        """Permute axes."""
        if list(perm) == list(range(len(self.dims))):
            return self
        return self.append("Transpose", (), [self.dims[axis] for axis in perm], perm=list(perm))

    def gather(self, axis: int, indices: Sequence[int]) -> Chain:
        """Take elements along an axis."""
        if list(indices) == list(range(self.dims[axis])):
            return self
        dims = [*self.dims[:axis], len(indices), *self.dims[axis + 1 :]]
        return self.append("Gather", [np.array(indices, dtype=np.int64)], dims, axis=axis)

    def pad(self, begins: Sequence[int], ends: Sequence[int]) -> Chain:
        """Put zeros around every axis; negative widths crop."""
        if not any(begins) and not any(ends):
            return self
        widths = zip(begins, self.dims, ends, strict=True)
        dims = [size if not b and not e else size + b + e for b, size, e in widths]
        return self.append("Pad", [np.array([*begins, *ends], dtype=np.int64)], dims)

    def scale(self, factor: npt.NDArray[Any]) -> Chain:
        """Multiply by a constant that broadcasts; one that is 1 everywhere is left out."""
        if bool(np.all(factor == 1)):
            return self
        return self.append("Mul", [np.asarray(factor, dtype=np.float32)])

    def shift(self, offset: npt.NDArray[Any]) -> Chain:
        """Add a constant that broadcasts; one that is 0 everywhere is left out."""
        if not bool(np.any(offset)):
            return self
        return self.append("Add", [np.asarray(offset, dtype=np.float32)])

    def to_last(self, axes: Sequence[int]) -> tuple[list[int], list[Any]]:
        """Bring axes to the end and join them; returns what `back` needs to undo that."""
        kept = [axis for axis in range(len(self.dims)) if axis not in axes]
        perm = [*kept, *axes]
        self.transpose(perm)
        apart = list(self.dims[1:])
        if len(axes) > 1:
            self.reshape([*self.dims[1 : len(kept)], prod(self.dims[len(kept) :])])
        return perm, apart

    def back(self, perm: Sequence[int], apart: Sequence[Any]) -> Chain:
        """Undo `to_last`."""
        if len(apart) + 1 != len(self.dims):
            self.reshape(apart)
        return self.transpose([perm.index(axis) for axis in range(len(perm))])

    def finish(self, rule: str, note: str = "") -> None:
        """Let the last value replace the node's result."""
        self._editor.replace(rule, self._node.outputs[0], self.value, removed=self.dead, note=note)
