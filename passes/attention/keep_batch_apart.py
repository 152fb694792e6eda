"""Pass ``keep-batch-apart``: an axis merged with the batch and taken apart again is never merged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, ClassVar

import numpy as np

from snnc.ir import Model, Node, Shape, Value, attributes, constant, shapes_of_batches
from snnc.passes.editing import Editor, is_standard, only_consumer
from snnc.pipeline.contract import PassResult, Semantics

__all__ = ["KeepBatchApart"]

#: Primes: a size that is one of them at its batch is the batch.
_BATCHES = (7, 11)
_OF_NUMBERS = ("Add", "Div", "Mul", "Sub")


@dataclass(frozen=True)
class KeepBatchApart:
    """Write Reshape, Transpose and Reshape without the axis that heads and batch share in between.

    Exporters fold heads into the batch and take them out again. Between the two, steps of single channels
    would lie on the axis of the batch, and no code could be inserted.

    Matches:
        A Reshape that merges the batch with another axis, a Transpose that may follow, and a Reshape that
        has the batch on an axis of its own again; between them products and sums with single numbers, and
        axes of one that come or go.
    Leaves alone:
        Everything else.
    Keeps:
        The name of the result.
    """

    name: ClassVar[str] = "keep-batch-apart"
    requires: ClassVar[frozenset[str]] = frozenset({"constants-folded", "unique-names"})
    establishes: ClassVar[frozenset[str]] = frozenset()
    invalidates: ClassVar[frozenset[str]] = frozenset({"no-dead-code"})
    semantics: ClassVar[Semantics] = "exact"

    def run(self, model: Model) -> PassResult:
        """Rewrite; see the class."""
        editor = Editor(model)
        shapes = shapes_of_batches(model, *_BATCHES)
        for node in list(model.graph):
            if is_standard(node, "Reshape"):
                _rewrite(editor, node, shapes)
        return editor.result()


def _rewrite(editor: Editor, node: Node, shapes: Sequence[dict[str, tuple[int, ...]]]) -> None:
    merged, late = _before_numbers(node.inputs[0])
    perm, middle = None, merged.producer() if merged is not None else None
    if middle is not None and is_standard(middle, "Transpose"):
        merged, early = _before_numbers(middle.inputs[0])
        perm, late = attributes(middle).get("perm"), [*late, *early]
    else:
        middle = None
    first = merged.producer() if merged is not None else None
    squeezes = []
    while is_standard(first, "Squeeze", "Unsqueeze"):
        assert first is not None
        squeezes.append(first)
        first = first.inputs[0].producer() if first.inputs[0] is not None else None
    if first is None or merged is None or not is_standard(first, "Reshape"):
        return
    source, out = first.inputs[0], node.outputs[0]
    if source is None or source.shape is None:
        return
    names = [value.name or "" for value in (source, merged, out)]
    if any(name not in found for found in shapes for name in names):
        return
    before, between, after = ([found[name] for found in shapes] for name in names)
    axes = [_batch_axis(each) for each in (before, between, after)]
    if axes[0] is None or axes[1] is not None or axes[2] is None:
        return
    one, two = (_pieces(old, new) for old, new in zip(before, between, strict=True))
    if one is None or two is None or len(one) != len(two):
        return
    order = list(perm) if perm is not None else list(range(len(between[0])))
    if middle is not None and perm is None:
        order.reverse()
    moved = sorted(range(len(one)), key=lambda place: (order.index(one[place][0]), place))
    sizes = [size for _, size in one]
    batch = next((n for n, (left, right) in enumerate(zip(one, two, strict=True)) if left != right), None)
    if batch is None or sizes[batch] != _BATCHES[0]:
        return
    place = moved.index(batch)
    if prod(sizes[n] for n in moved[:place]) != prod(after[0][: axes[2]]):
        return
    _write(editor, node, source, axes[0], sizes, batch, moved, [*after[0]], axes[2], late)
    left = (middle, *squeezes, first)
    editor.prune([entry for entry in left if entry is not None and entry.graph is not None])


def _write(
    editor: Editor,
    node: Node,
    source: Value,
    axis: int,
    sizes: list[int],
    batch: int,
    moved: list[int],
    after: list[int],
    last: int,
    numbers: Sequence[Node],
) -> None:
    symbol: Any = list(source.shape or ())[axis]
    out = node.outputs[0]

    def reshaped(value: Value, dims: list[int], at: int, name: str) -> Value:
        target = np.array([-1 if n == at else size for n, size in enumerate(dims)], np.int64)
        shape = Shape([symbol if n == at else size for n, size in enumerate(dims)])
        held = editor.constant(f"{out.name}.{name}.shape", target)
        return editor.add(
            node, "Reshape", [value, held], name=f"{out.name}.{name}", dtype=out.dtype, shape=shape
        )

    value = reshaped(source, sizes, batch, "apart")
    dims = [sizes[n] for n in moved]
    at = moved.index(batch)
    if moved != sorted(moved):
        shape = Shape([symbol if n == at else size for n, size in enumerate(dims)])
        value = editor.add(
            node,
            "Transpose",
            [value],
            {"perm": moved},
            name=f"{out.name}.turned",
            dtype=out.dtype,
            shape=shape,
        )
    if dims != after:
        value = reshaped(value, after, last, "whole")
    for step in reversed(numbers):
        name = f"{out.name}.{step.op_type.lower()}"
        # Without axes of its own: the result may have fewer than what was merged.
        inputs = [
            value
            if (held := constant(entry)) is None
            else editor.constant(f"{name}.number", held.reshape(()))
            for entry in step.inputs
        ]
        value = editor.add(node, step.op_type, inputs, name=name, dtype=out.dtype, shape=out.shape)
    above = [entry.producer() for entry in node.inputs[:1] if entry is not None]
    removed = [*numbers, *(entry for entry in above if entry is not None)]
    editor.replace("keep-batch-apart", out, value, removed=removed)


def _before_numbers(value: Value | None) -> tuple[Value | None, list[Node]]:
    """Return the value in front of products and sums with single numbers, and those, last first."""
    numbers: list[Node] = []
    while value is not None and is_standard(value.producer(), *_OF_NUMBERS) and only_consumer(value):
        node = value.producer()
        assert node is not None
        run = [entry for entry in node.inputs if constant(entry) is None]
        held = [array for array in map(constant, node.inputs) if array is not None]
        if len(run) != 1 or held[0].size != 1 or held[0].ndim > len(run[0].shape or () if run[0] else ()):
            break
        numbers.append(node)
        value = run[0]
    return value, numbers


def _batch_axis(shapes: Sequence[tuple[int, ...]]) -> int | None:
    """Return the one axis that is the batch, None if there is none or another one varies with it."""
    varies = [n for n, sizes in enumerate(zip(*shapes, strict=True)) if len(set(sizes)) > 1]
    if len(varies) != 1 or any(shape[varies[0]] != n for shape, n in zip(shapes, _BATCHES, strict=True)):
        return None
    return varies[0]


def _pieces(before: tuple[int, ...], after: tuple[int, ...]) -> list[tuple[int, int]] | None:
    """Return the finest axes that both shapes are made of: the axis of the second, and the size."""
    old = [size for size in before if size != 1]
    new = [(n, size) for n, size in enumerate(after) if size != 1]
    found: list[tuple[int, int]] = []
    while old and new:
        left, (axis, right) = old[0], new[0]
        size = min(left, right)
        if max(left, right) % size:
            return None
        found.append((axis, size))
        old = old[1:] if left == size else [left // size, *old[1:]]
        new = new[1:] if right == size else [(axis, right // size), *new[1:]]
    return found if not old and not new else None
