"""Pass ``unstack-time``: stacks of time-steps along the first axis that are taken apart again are undone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from snnc.ir import Model, Node, Value, attributes, constant
from snnc.passes.canonical.time_steps import HANDLED, Steps, axes_of
from snnc.passes.editing import Editor, is_standard
from snnc.pipeline.contract import PassResult, Semantics

__all__ = ["UnstackTime"]

_SUMS = ("ReduceSum", "ReduceMean")


@dataclass(frozen=True)
class UnstackTime:
    """Undo stacks of time-steps along the first axis, where the batch belongs.

    Libraries for spiking networks stack the outputs of an unrolled loop along a new first axis and sum over
    it, or repeat the input along it and hand each step to a stateful neuron. Elementwise operators and
    products with constant matrices in between are written once for each step.

    Matches:
        A step taken (Slice or Split and Squeeze, or Gather with one place), or a sum or mean taken, along the
        first axis of a Concat of unsqueezed values, or of an unsqueezed value repeated by Expand or Tile;
        also where time is folded into the batch in between, and layers that compute each row for itself read
        it.
    Leaves alone:
        Everything else; "its time-steps are not told apart" where another operator lies in between.
    Keeps:
        The names of what is taken.
    """

    name: ClassVar[str] = "unstack-time"
    requires: ClassVar[frozenset[str]] = frozenset({"constants-folded", "unique-names"})
    establishes: ClassVar[frozenset[str]] = frozenset()
    invalidates: ClassVar[frozenset[str]] = frozenset({"no-dead-code"})
    semantics: ClassVar[Semantics] = "exact"

    def run(self, model: Model) -> PassResult:
        """Rewrite; see the class."""
        editor = Editor(model)
        steps = Steps(editor)
        for node in list(model.graph):
            if node.graph is None:
                continue
            if is_standard(node, *_SUMS):
                self._sum(editor, steps, node)
            elif (taken := _taken(node)) is not None and steps.count(taken[0]):
                value, place = taken
                step = steps.take(value, place, node)
                editor.replace(self.name, node.outputs[0], step, removed=_above(node))
        return editor.result()

    def _sum(self, editor: Editor, steps: Steps, node: Node) -> None:
        value = node.inputs[0]
        axes = constant(node.inputs[1]) if len(node.inputs) > 1 else attributes(node).get("axes")
        if value is None or axes is None or np.asarray(axes).reshape(-1).tolist() != [0]:
            return
        count = steps.count(value)
        if not count or int(attributes(node).get("keepdims", 1)):
            return
        out = node.outputs[0]
        total = steps.take(value, 0, node)
        for place in range(1, count):
            step = steps.take(value, place, node)
            total = editor.add(
                node, "Add", [total, step], name=f"{out.name}.sum{place}", dtype=out.dtype, shape=out.shape
            )
        if node.op_type == "ReduceMean":
            share = editor.constant(f"{out.name}.share", np.asarray(1 / count, np.float32))
            total = editor.add(
                node, "Mul", [total, share], name=f"{out.name}.mean", dtype=out.dtype, shape=out.shape
            )
        editor.replace(self.name, out, total, removed=_above(node))


def _above(node: Node) -> list[Node]:
    """Return what may have become unused: the nodes above, as far as stacks reach."""
    found: dict[int, Node] = {}
    pending = [node]
    while pending:
        current = pending.pop()
        for value in current.inputs:
            maker = value.producer() if value is not None else None
            if maker is None or id(maker) in found or maker.graph is None:
                continue
            if not is_standard(maker, *HANDLED):
                continue
            found[id(maker)] = maker
            pending.append(maker)
    return list(found.values())


def _taken(node: Node) -> tuple[Value, int] | None:
    """Return the stack that a node takes one step of, and which."""
    if is_standard(node, "Gather") and int(attributes(node).get("axis", 0)) == 0:
        place = constant(node.inputs[1])
        value = node.inputs[0]
        return None if place is None or place.ndim or value is None else (value, int(place))
    source = (
        node.inputs[0].producer() if is_standard(node, "Squeeze") and node.inputs[0] is not None else None
    )
    if source is None or axes_of(node) != [0]:
        return None
    if is_standard(source, "Split") and int(attributes(source).get("axis", 0)) == 0:
        # A Squeeze of a piece says that each holds one step.
        piece = next(number for number, out in enumerate(source.outputs) if out is node.inputs[0])
        sizes = constant(source.inputs[1]) if len(source.inputs) > 1 else None
        even = sizes is None or set(np.asarray(sizes).reshape(-1).tolist()) == {1}
        return (source.inputs[0], piece) if even and source.inputs[0] is not None else None
    if not is_standard(source, "Slice"):
        return None
    held = [constant(value) for value in source.inputs[1:]]
    if len(held) < 3 or any(entry is None for entry in held):
        return None
    numbers = [np.asarray(entry).reshape(-1).tolist() for entry in held]
    start, end, axes = numbers[:3]
    whole = len(start) == 1 and axes == [0] and end[0] == start[0] + 1 and numbers[3:] in ([], [[1]])
    value = source.inputs[0]
    return (value, int(start[0])) if whole and start[0] >= 0 and value is not None else None
