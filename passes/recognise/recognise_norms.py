"""Pass ``recognise-norms``: layer normalisation written as arithmetic becomes LayerNormalization."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from snnc.ir import Model, Node, Value, attributes, constant, static_shape
from snnc.passes.editing import Editor, is_standard, only_consumer, rank_of
from snnc.pipeline.contract import PassResult, Semantics

__all__ = ["RecogniseNorms"]

#: LayerNormalization is an op from this opset on; a model of the ones before needs no other change.
_SINCE, _EARLIEST = 17, 13


@dataclass(frozen=True)
class RecogniseNorms:
    """Recognise ``(x - mean x) / sqrt(mean (x - mean x)^2 + eps) * scale + offset`` over the last axis.

    Matches:
        ReduceMean, Sub, Pow or Mul, ReduceMean, Add, Sqrt and Div (or Reciprocal and Mul), with the constant
        scale and offset behind them, as exporters before opset 17 write it.
    Leaves alone:
        "the deviation is of another value than what it divides"; "the model is of an opset before 13"; means
        over other axes than the last.
    Keeps:
        The name of the result. A model of opset 13 to 16 becomes one of opset 17.
    """

    name: ClassVar[str] = "recognise-norms"
    requires: ClassVar[frozenset[str]] = frozenset({"constants-folded", "unique-names"})
    establishes: ClassVar[frozenset[str]] = frozenset()
    invalidates: ClassVar[frozenset[str]] = frozenset()
    semantics: ClassVar[Semantics] = "approximate"

    def run(self, model: Model) -> PassResult:
        """Recognise; see the class."""
        editor = Editor(model)
        for node in list(model.graph):
            if node.graph is not None and is_standard(node, "Div", "Mul"):
                _recognise(editor, node)
        if editor.rewrites:
            model.graph.opset_imports[""] = max(_SINCE, model.graph.opset_imports.get("", _SINCE))
        return editor.result()


def _recognise(editor: Editor, node: Node) -> None:
    parts = _root(node)
    if parts is None:
        return
    centred, radicand = parts
    source = _centred(centred)
    found = _variance(radicand)
    if source is None or found is None or _centred(found[0]) is not source:
        if found is not None:
            editor.fail("the deviation is of another value than what it divides", node)
        return
    shape = static_shape(source, 1)
    channels = shape[-1] if shape else None
    if channels is None:
        return
    if editor.graph.opset_imports.get("", _SINCE) < _EARLIEST:
        editor.fail("the model is of an opset before 13", node)
        return
    scale, end = _tail(node, "Mul", channels)
    offset, end = _tail(end, "Add", channels)
    out = end.outputs[0]
    name = editor.take_name(end)
    weight = editor.constant(f"{name}.scale", np.ones(channels, np.float32) if scale is None else scale)
    inputs = [source, weight]
    if offset is not None:
        inputs.append(editor.constant(f"{name}.offset", offset))
    attrs = {"axis": -1, "epsilon": found[1]}
    made = editor.add(end, "LayerNormalization", inputs, attrs, name=name, dtype=out.dtype, shape=out.shape)
    editor.replace("layer-normalisation", out, made, removed=_chain(end))


def _root(node: Node) -> tuple[Value, Value] | None:
    """Return x and y of x / sqrt(y), or None."""
    left, right = node.inputs[0], node.inputs[1]
    if left is None or right is None:
        return None
    if node.op_type == "Div":
        root = right.producer()
        inner = root.inputs[0] if root is not None and is_standard(root, "Sqrt") else None
        return (left, inner) if inner is not None else None
    for value, other in ((left, right), (right, left)):
        inverse = other.producer()
        held = inverse.inputs[0] if inverse is not None and is_standard(inverse, "Reciprocal") else None
        root = held.producer() if held is not None else None
        inner = root.inputs[0] if root is not None and is_standard(root, "Sqrt") else None
        if inner is not None:
            return value, inner
    return None


def _mean_of(value: Value | None) -> Value | None:
    """Return what a value is the mean of over the last axis, which it keeps; None if it is no such mean."""
    node = value.producer() if value is not None else None
    if node is None or not is_standard(node, "ReduceMean"):
        return None
    attrs = attributes(node)
    given = constant(node.inputs[1]) if len(node.inputs) > 1 else None
    axes = given.tolist() if given is not None else attrs.get("axes")
    rank = rank_of(node.inputs[0])
    last = axes is not None and list(axes) in ([-1], [(rank or 0) - 1])
    return node.inputs[0] if last and int(attrs.get("keepdims", 1)) else None


def _centred(value: Value | None) -> Value | None:
    """Return x where a value is x - mean x."""
    node = value.producer() if value is not None else None
    if node is None or not is_standard(node, "Sub"):
        return None
    return node.inputs[0] if _mean_of(node.inputs[1]) is node.inputs[0] else None


def _variance(value: Value) -> tuple[Value, float] | None:
    """Return d and eps where a value is the mean of d^2, plus eps."""
    node = value.producer()
    if node is None or not is_standard(node, "Add"):
        return None
    for place in (0, 1):
        held = constant(node.inputs[1 - place])
        square = _mean_of(node.inputs[place])
        power = square.producer() if square is not None else None
        if held is None or held.size != 1 or power is None:
            continue
        base, other = power.inputs[0], power.inputs[1] if len(power.inputs) > 1 else None
        exponent = constant(other)
        twice = is_standard(power, "Pow") and exponent is not None and bool(np.all(exponent == 2))
        if base is not None and (twice or (is_standard(power, "Mul") and base is other)):
            return base, float(held.reshape(-1)[0])
    return None


def _tail(node: Node, op: str, channels: int) -> tuple[npt.NDArray[np.float32] | None, Node]:
    """Return the constant per channel that alone follows a node, with the node that applies it."""
    reader = only_consumer(node.outputs[0])
    if reader is None or not is_standard(reader, op):
        return None, node
    for value in reader.inputs:
        held = constant(value)
        if held is not None and held.size in (1, channels) and (held.size == 1 or held.shape[-1] == channels):
            flat = np.broadcast_to(held.astype(np.float32).reshape(-1), (channels,))
            return np.ascontiguousarray(flat), reader
    return None, node


def _chain(last: Node) -> list[Node]:
    """Return the nodes of a normalisation: those from its result back to its input."""
    found: dict[int, Node] = {}
    queue = [last]
    kinds = ("Add", "Mul", "Div", "Sqrt", "Reciprocal", "ReduceMean", "Pow", "Sub")
    while queue:
        node = queue.pop(0)
        if id(node) in found or not is_standard(node, *kinds):
            continue
        found[id(node)] = node
        makers = [value.producer() if value is not None else None for value in node.inputs]
        if node.op_type != "Sub":
            queue += [maker for maker in makers if maker is not None]
        elif makers[1] is not None:
            # In front of the mean lies what is normalised.
            found[id(makers[1])] = makers[1]
    return list(found.values())
