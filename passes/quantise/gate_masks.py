"""Pass ``gate-masks``: a mask that multiplies becomes a gate, and a count of its open places a gain."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from snnc.coding import CodeBook
from snnc.ir import AI_SNNC, DataType, Model, Node, Shape, Value, attributes, constant
from snnc.passes.analysis.hosted import host_nodes
from snnc.passes.editing import Editor, is_standard, rank_of
from snnc.passes.recognise.masks import Masks
from snnc.passes.recognise.uniform import quantise_attributes
from snnc.pipeline.contract import PassResult, Semantics

__all__ = ["GateMasks"]

_MOVES = frozenset({"Cast", "Expand", "Identity", "Reshape", "Squeeze", "Unsqueeze"})
#: A count of places is 1 or more, or what it divides is zero; so much may be added to it, or be its least.
_LEAST = 1.0
_ADDED = 1e-5
_ONE_SPIKE = CodeBook(1, 1)


@dataclass(frozen=True)
class GateMasks:
    """Let spikes through where a mask is open, and divide by the spikes of a mask where the host counted it.

    The mean over the tokens of a sentence is a sum of what is open, divided by how many are open. Both come
    from a mask of zeros and ones that the host computes from an integer input. The mask becomes one spike
    for each open place, whose sum divides as the sum of a softmax's numerators does: as a gain.

    Matches:
        Mul of a value and a mask, Where between a value and zeros: a ``Gate``. Div by ReduceSum of a mask,
        perhaps with a lower bound of at most 1 or a summand of at most 1e-5: by the sum of its spikes.
    Leaves alone:
        Masks that are no smaller than the value; values that are the host's themselves; numbers that are not
        zeros and ones alone, or that come from an input of floats and may be any: "a factor that is computed
        from the input, and no mask".
    Keeps:
        Names and shapes.
    """

    name: ClassVar[str] = "gate-masks"
    requires: ClassVar[frozenset[str]] = frozenset({"constants-folded", "unique-names", "sorted"})
    establishes: ClassVar[frozenset[str]] = frozenset()
    invalidates: ClassVar[frozenset[str]] = frozenset({"no-dead-code"})
    semantics: ClassVar[Semantics] = "approximate"

    def run(self, model: Model) -> PassResult:
        """Rewrite; see the class."""
        editor = Editor(model)
        masks = Masks(editor)
        hosted = set(host_nodes(model))
        for node in list(model.graph):
            if id(node) in hosted or node.graph is None:
                continue
            if is_standard(node, "Mul"):
                _product(editor, masks, hosted, node)
            elif is_standard(node, "Where"):
                _choice(editor, masks, hosted, node)
            elif is_standard(node, "Div"):
                _quotient(editor, masks, node)
        return editor.result()


def _is_ours(value: Value | None, hosted: set[int]) -> bool:
    """Whether a value is the network's: neither constant nor computed by the host."""
    producer = value.producer() if value is not None else None
    return producer is not None and id(producer) not in hosted and constant(value) is None


def _product(editor: Editor, masks: Masks, hosted: set[int], node: Node) -> None:
    for place in (1, 0):
        mask, value = node.inputs[place], node.inputs[1 - place]
        if mask is None or not masks.is_hosted(mask) or not _is_ours(value, hosted):
            continue
        if not masks.is_truth(mask):
            editor.fail("a factor that is computed from the input, and no mask", node)
            return
        _gate(editor, masks, node, value, _truth(editor, node, mask))
        return


def _choice(editor: Editor, masks: Masks, hosted: set[int], node: Node) -> None:
    condition = node.inputs[0]
    if condition is None or not masks.is_hosted(condition):
        return
    for place in (1, 2):
        value, other = node.inputs[place], constant(node.inputs[3 - place])
        if other is None or np.any(other != 0) or not _is_ours(value, hosted):
            continue
        gate = condition
        if place == 2:
            stem = f"{node.name}.open"
            gate = editor.add(node, "Not", [condition], name=stem, dtype=DataType.BOOL, shape=condition.shape)
        _gate(editor, masks, node, value, gate)
        return


def _gate(editor: Editor, masks: Masks, node: Node, value: Value | None, gate: Value) -> None:
    out = node.outputs[0]
    if value is None or not masks.same_shape(value, out):
        editor.fail("a mask that is larger than what it masks", node)
        return
    name = editor.take_name(node)
    new = editor.add(node, "Gate", [value, gate], domain=AI_SNNC, name=name, dtype=out.dtype, shape=out.shape)
    editor.replace("gate", out, new, removed=[node])


def _truth(editor: Editor, anchor: Node, mask: Value) -> Value:
    """Return a mask of zeros and ones as truth values."""
    if mask.dtype == DataType.BOOL:
        return mask
    producer = mask.producer()
    if producer is not None and is_standard(producer, "Cast") and producer.inputs[0] is not None:
        return _truth(editor, anchor, producer.inputs[0])
    attrs = {"to": int(DataType.BOOL)}
    stem = f"{anchor.name}.open"
    return editor.add(anchor, "Cast", [mask], attrs, name=stem, dtype=DataType.BOOL, shape=mask.shape)


def _quotient(editor: Editor, masks: Masks, node: Node) -> None:
    moves: list[Node] = []
    value = node.inputs[1]
    while (step := value.producer() if value is not None else None) is not None:
        if is_standard(step, "ReduceSum"):
            break
        if step.domain or not (step.op_type in _MOVES or _is_harmless(step)):
            return
        if step.op_type in _MOVES - {"Cast", "Identity"}:
            moves.append(step)
        held = [place for place, entry in enumerate(step.inputs) if constant(entry) is None]
        place = held[0] if step.op_type in ("Add", "Max") and held else 0
        value = step.inputs[place]
    if step is None:
        return
    mask = step.inputs[0]
    axes = constant(step.inputs[1]) if len(step.inputs) > 1 else None
    if mask is None or axes is None or not masks.is_hosted(mask):
        return
    if not masks.is_truth(mask):
        editor.fail("it divides by a sum of numbers that are computed from the input, and no mask", node)
        return
    stem = f"{node.name}.count"
    mask = _narrow(mask, axes, moves)
    if mask.dtype != DataType.FLOAT:
        attrs = {"to": int(DataType.FLOAT)}
        mask = editor.add(node, "Cast", [mask], attrs, name=f"{stem}.float", shape=mask.shape)
    one = editor.constant(f"{stem}.one", np.asarray(1.0, dtype=np.float32))
    spikes = editor.add(
        node,
        "Quantise",
        [mask, one],
        quantise_attributes(_ONE_SPIKE, "away"),
        domain=AI_SNNC,
        name=f"{stem}.spikes",
        shape=mask.shape,
    )
    keep = int(attributes(step).get("keepdims", 1))
    dims = _reduced(mask, axes, keep=bool(keep))
    total = editor.add(node, "ReduceSum", [spikes, step.inputs[1]], {"keepdims": keep}, name=stem, shape=dims)
    for move in reversed(moves):
        inputs = [total, *move.inputs[1:]]
        shape = move.outputs[0].shape
        total = editor.add(node, move.op_type, inputs, attributes(move), name=f"{stem}.moved", shape=shape)
    node.replace_input_with(1, total)
    editor.record("count of a mask", [*moves, step])


def _is_harmless(node: Node) -> bool:
    """Whether a node only keeps a count from being zero."""
    rest = [constant(entry) for entry in node.inputs[1:] if entry is not None]
    if node.op_type == "Clip":
        return len(rest) >= 1 and rest[0] is not None and bool(np.all(rest[0] <= _LEAST)) and len(rest) == 1
    if node.op_type not in ("Add", "Max"):
        return False
    held = [array for array in map(constant, node.inputs) if array is not None]
    least = _ADDED if node.op_type == "Add" else _LEAST
    return len(node.inputs) == 2 and len(held) == 1 and bool(np.all((held[0] >= 0) & (held[0] <= least)))


def _narrow(mask: Value, axes: np.ndarray, moves: list[Node]) -> Value:
    """Return a mask before it was repeated along axes that are not summed; a quotient repeats it again."""
    producer = mask.producer()
    if producer is None or not is_standard(producer, "Expand", "Cast") or producer.inputs[0] is None:
        return mask
    source = producer.inputs[0]
    if producer.op_type == "Cast":
        narrow = _narrow(source, axes, moves)
        return narrow if narrow is not source else mask
    before, after = source.shape, mask.shape
    if (
        before is None
        or after is None
        or len(before) != len(after)
        or any(m.op_type == "Reshape" for m in moves)
    ):
        return mask
    summed = {int(axis) % len(after) for axis in axes.reshape(-1)}
    return mask if any(str(before[axis]) != str(after[axis]) for axis in summed) else source


def _reduced(value: Value, axes: np.ndarray, *, keep: bool) -> Shape | None:
    rank = rank_of(value)
    if rank is None or value.shape is None:
        return None
    summed = {int(axis) % rank for axis in axes.reshape(-1)}
    dims = [1 if axis in summed else dim for axis, dim in enumerate(value.shape)]
    return Shape(dims if keep else [dim for axis, dim in enumerate(dims) if axis not in summed])
