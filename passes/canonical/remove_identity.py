"""Pass ``remove-identity``: nodes that return their input unchanged go."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from snnc.errors import UnsupportedError, Where
from snnc.ir import DataType, Model, Node, Value, attributes, constant
from snnc.passes.editing import Editor, is_standard, rank_of
from snnc.pipeline.contract import PassResult, Semantics

__all__ = ["RULES", "RemoveIdentity"]


def _input(node: Node, index: int) -> Value | None:
    return node.inputs[index] if index < len(node.inputs) else None


def _always(_: Node) -> bool:
    return True


def _dropout(node: Node) -> bool:
    """Dropout does nothing outside of training; its mask output must not be read."""
    if len(node.outputs) > 1 and (node.outputs[1].uses() or node.outputs[1].is_graph_output()):
        return False
    training = _input(node, 2)
    if training is None:
        return True
    held = constant(training)
    return held is not None and not bool(held.reshape(-1)[0])


def _cast(node: Node) -> bool:
    return _same_type(node) or _widened(node) is not None


def _same_type_like(node: Node) -> bool:
    like = _input(node, 1)
    source = node.inputs[0]
    return source is not None and like is not None and source.dtype is not None and source.dtype == like.dtype


def _same_type(node: Node) -> bool:
    dtype = node.inputs[0].dtype if node.inputs[0] is not None else None
    return dtype is not None and int(attributes(node)["to"]) == int(dtype)


def _widened(node: Node) -> Value | None:
    """Return the float32 value that a Cast to float32 gives back after a Cast to float64."""
    value = node.inputs[0]
    wide = value.producer() if value is not None else None
    if value is None or wide is None or not is_standard(wide, "Cast") or wide.inputs[0] is None:
        return None
    back = int(attributes(node)["to"]) == int(DataType.FLOAT) == int(wide.inputs[0].dtype or 0)
    return wide.inputs[0] if back and value.dtype == DataType.DOUBLE else None


def _same_shape(node: Node) -> bool:
    """The shape does not change; symbolic dimensions must have the same name, and at most one be open."""
    source, out = node.inputs[0], node.outputs[0]
    if source is None or source.shape is None or out.shape is None or len(source.shape) != len(out.shape):
        return False
    open_dims = 0
    for before, after in zip(source.shape, out.shape, strict=True):
        if isinstance(before, int) or isinstance(after, int):
            if not isinstance(before, int) or before != after:
                return False
        elif before.value is None or before.value != after.value:
            open_dims += 1
    # All dimensions but one equal, and as many elements: the open one is equal too (if none of them is 0).
    return open_dims == 0 or (open_dims == 1 and node.op_type in ("Reshape", "Flatten"))


def _transpose(node: Node) -> bool:
    rank = rank_of(node.inputs[0])
    perm = attributes(node).get("perm")
    if perm is None:
        return rank is not None and rank < 2
    return list(perm) == list(range(len(perm)))


def _pad(node: Node) -> bool:
    listed = np.asarray(attributes(node).get("pads", [1]))
    pads = constant(_input(node, 1)) if len(node.inputs) > 1 else listed
    return pads is not None and not np.any(pads)


def _full_slice(node: Node) -> bool:
    starts, ends, steps = (constant(_input(node, index)) for index in (1, 2, 4))
    if starts is None or ends is None or np.any(starts != 0) or (steps is not None and np.any(steps != 1)):
        return False
    return bool(np.all(ends >= np.iinfo(np.int32).max)) or _static_same(node)


def _static_same(node: Node) -> bool:
    source, out = node.inputs[0], node.outputs[0]
    if source is None or source.shape is None or out.shape is None:
        return False
    static = all(isinstance(dim, int) for dim in [*source.shape, *out.shape])
    return static and list(source.shape) == list(out.shape)


def _single(node: Node) -> bool:
    return len([value for value in node.inputs if value is not None]) == 1


def _unbounded(node: Node) -> bool:
    if "min" in node.attributes or "max" in node.attributes:
        return False
    return all(value is None for value in list(node.inputs)[1:])


def _neutral(number: float, *, second: bool) -> Callable[[Node], bool]:
    """The op with this constant as its second (or either) operand does nothing, if it does not broadcast."""

    def rule(node: Node) -> bool:
        return _kept_operand(node, number, second=second) is not None

    return rule


def _kept_operand(node: Node, number: float, *, second: bool) -> Value | None:
    left, right = node.inputs[0], node.inputs[1]
    pairs = [(left, right)] if second else [(left, right), (right, left)]
    for kept, other in pairs:
        held = constant(other)
        if kept is None or held is None or constant(kept) is not None or not np.all(held == number):
            continue
        rank = rank_of(kept)
        if held.size == 1 and rank is not None and held.ndim <= rank:
            return kept
    return None


#: Op types and the condition under which a node returns its first input (or its only variable operand).
RULES: dict[str, Callable[[Node], bool]] = {
    "Identity": _always,
    "CastLike": _same_type_like,
    "Dropout": _dropout,
    "Cast": _cast,
    "Reshape": _same_shape,
    "Flatten": _same_shape,
    "Expand": _static_same,
    "Tile": _static_same,
    "Transpose": _transpose,
    "Pad": _pad,
    "Slice": _full_slice,
    "Concat": _single,
    "Sum": _single,
    "Max": _single,
    "Min": _single,
    "Clip": _unbounded,
    "Mul": _neutral(1.0, second=False),
    "Div": _neutral(1.0, second=True),
    "Add": _neutral(0.0, second=False),
    "Sub": _neutral(0.0, second=True),
}


@dataclass(frozen=True)
class RemoveIdentity:
    """Remove Identity, Dropout and every other node that returns its input unchanged.

    Adding 0 may turn -0 into 0; the two compare equal everywhere downstream.

    Matches:
        The ops of `RULES`, under their conditions: Cast to the same type, Reshape to the same shape, Pad by
        nothing, Transpose in the same order, Mul and Div by 1, Add and Sub of 0, and so on.
    Leaves alone:
        "passes an input of the graph, a weight or another output on to an output": the name must survive.
    Keeps:
        Names of graph inputs and outputs.

    Raises:
        UnsupportedError: SNN460, an Identity or Dropout joins an output to an input, a weight or an output.
    """

    name: ClassVar[str] = "remove-identity"
    requires: ClassVar[frozenset[str]] = frozenset({"constants-folded", "unique-names"})
    establishes: ClassVar[frozenset[str]] = frozenset({"no-identity"})
    invalidates: ClassVar[frozenset[str]] = frozenset()
    semantics: ClassVar[Semantics] = "exact"

    def run(self, model: Model) -> PassResult:
        """Remove; see the class."""
        editor = Editor(model)
        for node in list(model.graph):
            rule = RULES.get(node.op_type) if is_standard(node, node.op_type) else None
            if rule is None or not node.inputs or not rule(node):
                continue
            source = node.inputs[0]
            if node.op_type == "Cast" and not _same_type(node):
                source = _widened(node)
            if node.op_type in ("Mul", "Add"):
                source = _kept_operand(node, 1.0 if node.op_type == "Mul" else 0.0, second=False)
            if source is None:
                continue
            made = node.inputs[0].producer() if node.inputs[0] is not None else None
            unused = [made] if node.op_type == "Cast" and made is not None else []
            if editor.replace(f"remove {node.op_type}", node.outputs[0], source, removed=unused):
                continue
            if node.op_type in ("Identity", "Dropout"):
                raise UnsupportedError(
                    "SNN460",
                    "passes an input of the graph, a weight or another output on to an output unchanged",
                    where=Where(node=node.name, tensor=node.outputs[0].name, pass_name=self.name),
                    hint="remove this output from the model",
                )
            editor.fail("passes an input of the graph, a weight or another output on to an output", node)
        return editor.result()
