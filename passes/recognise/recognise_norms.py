"""Pass ``recognise-norms``: layer normalisation written as arithmetic becomes LayerNormalization."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from snnc.ir import AI_SNNC, Model, Node, Value, constant
from snnc.passes.editing import Editor, is_standard, only_consumer
from snnc.passes.recognise.norm_forms import centred_of, channels_of, length_of, root_of, skip_of, variance_of
from snnc.pipeline.contract import PassResult, Semantics

__all__ = ["RecogniseNorms"]

#: LayerNormalization is an op from this opset on; a model of the ones before needs no other change.
_SINCE, _EARLIEST = 17, 13
_OF_LENGTHS = ("ReduceL2", "ReduceSum", "Clip", "Max", "Expand")


@dataclass(frozen=True)
class RecogniseNorms:
    """Recognise ``(x - mean x) / sqrt(mean (x - mean x)^2 + eps) * scale + offset`` over the last axis.

    The same without the mean is RMSNorm, which stands in the quantised network as ``ai.snnc::RMSNorm``; so
    is division by the length of a vector, ``x / max(|x|, eps)``.

    Matches:
        ReduceMean, Sub, Pow or Mul, ReduceMean, Add, Sqrt and Div (or Reciprocal and Mul), with the constant
        scale and offset behind them, as exporters before opset 17 write it; powers of 1/2 and -1/2 for roots;
        casts between float types in between; ReduceL2 or the root of a sum of squares for lengths.
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
        if any(rewrite.rule == "layer-normalisation" for rewrite in editor.rewrites):
            model.graph.opset_imports[""] = max(_SINCE, model.graph.opset_imports.get("", _SINCE))
        return editor.result()


def _recognise(editor: Editor, node: Node) -> None:
    length = length_of(node)
    if length is not None:
        _unitlength_of(editor, node, *length)
        return
    parts = root_of(node)
    if parts is None:
        return
    deviation, radicand = parts
    found = variance_of(radicand)
    if found is None:
        return
    squared = skip_of(found[0])
    source = centred_of(deviation)
    centred = source is not None and centred_of(squared) is source
    if not centred:
        source = deviation if squared is deviation else None
    if source is None:
        editor.fail("the deviation is of another value than what it divides", node)
        return
    channels = channels_of(source)
    if channels is None:
        return
    if centred and editor.graph.opset_imports.get("", _SINCE) < _EARLIEST:
        editor.fail("the model is of an opset before 13", node)
        return
    scale, end = _tail(node, "Mul", channels)
    weight = np.ones(channels, np.float32) if scale is None else scale
    if not centred:
        _root_mean_square(editor, end, source, weight, found[1])
        return
    offset, end = _tail(end, "Add", channels)
    out = end.outputs[0]
    name = editor.take_name(end)
    inputs = [source, editor.constant(f"{name}.scale", weight)]
    if offset is not None:
        inputs.append(editor.constant(f"{name}.offset", offset))
    attrs = {"axis": -1, "epsilon": found[1]}
    made = editor.add(end, "LayerNormalization", inputs, attrs, name=name, dtype=out.dtype, shape=out.shape)
    editor.replace("layer-normalisation", out, made, removed=_chain(end))


def _root_mean_square(
    editor: Editor, end: Node, source: Value, scale: npt.NDArray[np.float32], epsilon: float
) -> None:
    out = end.outputs[0]
    name = editor.take_name(end)
    weight = editor.constant(f"{name}.scale", scale)
    held = editor.constant(f"{name}.epsilon", np.asarray(epsilon, dtype=np.float32))
    same: dict[str, Any] = {"dtype": out.dtype, "shape": out.shape}
    made = editor.add(end, "RMSNorm", [source, weight, held], domain=AI_SNNC, name=name, **same)
    editor.replace("root mean square", out, made, removed=_chain(end, source))


def _unitlength_of(editor: Editor, node: Node, source: Value, epsilon: float) -> None:
    """Write x / max(|x|, eps) as a root mean square: |x| is that times the root of the channels."""
    channels = channels_of(source)
    if channels is None:
        return
    scale, end = _tail(node, "Mul", channels)
    weight = np.ones(channels, np.float32) if scale is None else scale
    _root_mean_square(
        editor, end, source, (weight / np.sqrt(channels)).astype(np.float32), epsilon / channels
    )


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


def _chain(last: Node, source: Value | None = None) -> list[Node]:
    """Return the nodes of a normalisation: those from its result back to its input."""
    found: dict[int, Node] = {}
    queue = [last]
    kinds = ("Add", "Mul", "Div", "Sqrt", "Reciprocal", "ReduceMean", "Pow", "Sub", "Cast", *_OF_LENGTHS)
    while queue:
        node = queue.pop(0)
        if id(node) in found or not is_standard(node, *kinds):
            continue
        found[id(node)] = node
        makers = [
            value.producer() if value is not None and value is not source else None for value in node.inputs
        ]
        if node.op_type != "Sub":
            queue += [maker for maker in makers if maker is not None]
        elif makers[1] is not None:
            # In front of the mean lies what is normalised.
            found[id(makers[1])] = makers[1]
    return list(found.values())
