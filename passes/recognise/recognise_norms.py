"""Pass ``recognise-norms``: layer normalisation written as arithmetic becomes LayerNormalization."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from snnc.ir import AI_SNNC, Model, Node, Value, constant
from snnc.passes.canonical.chain import Chain, leave
from snnc.passes.editing import Editor, is_standard, only_consumer
from snnc.passes.recognise.cosine import cosine_of, write_cosine
from snnc.passes.recognise.norm_forms import (
    all_static,
    centred_of,
    extent_of,
    length_of,
    root_of,
    skip_of,
    variance_of,
)
from snnc.pipeline.contract import PassResult, Semantics

__all__ = ["RecogniseNorms"]

#: LayerNormalization is an op from this opset on; a model of the ones before needs no other change.
_SINCE, _EARLIEST = 17, 13
#: Rule that makes an op which models before that opset do not have.
LAYER_NORM = "layer-normalisation"
_OF_LENGTHS = ("ReduceL2", "ReduceSum", "Clip", "Max", "Expand")
_VIEWS = ("Reshape", "Unsqueeze")


@dataclass(frozen=True)
class RecogniseNorms:
    """Recognise ``(x - mean x) / sqrt(mean (x - mean x)^2 + eps) * scale + offset`` over any axes.

    The same without the mean is RMSNorm, which stands in the quantised network as ``ai.snnc::RMSNorm``; so
    is division by the length of a vector, ``x / max(|x|, eps)``, also of both vectors of a cosine. The
    variance may be that of a sample (N / (N - 1)), and eps may stand behind the root: its square is added
    under it.

    Matches:
        ReduceMean, Sub, Pow or Mul, ReduceMean, Add, Sqrt and Div (or Reciprocal and Mul), with the constant
        scale and offset behind them, as exporters before opset 17 write it, over the last axis or others,
        which are brought there; powers of 1/2 and -1/2 for roots; casts between float types in between;
        ReduceL2 or the root of a sum of squares for lengths.
    Leaves alone:
        "the deviation is of another value than what it divides"; "the model is of an opset before 13"; "it
        normalises the batch"; "its sizes are not static" (several axes).
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
            cosine = cosine_of(node)
            if cosine is not None:
                write_cosine(editor, node, cosine)
        for node in list(model.graph):
            if node.graph is not None and is_standard(node, "Div", "Mul"):
                _recognise(editor, node)
        if any(rewrite.rule == LAYER_NORM for rewrite in editor.rewrites):
            model.graph.opset_imports[""] = max(_SINCE, model.graph.opset_imports.get("", _SINCE))
        return editor.result()


def _recognise(editor: Editor, node: Node) -> None:
    length = length_of(node)
    if length is not None:
        source, epsilon, axes = length
        # |x| is the root mean square times the root of the channels.
        channels = extent_of(source, axes)
        if channels is not None and 0 not in axes:
            found = _Norm(source, axes, channels, epsilon / channels, centred=False, factor=channels**-0.5)
            _write(editor, node, found)
        return
    parts = root_of(node)
    variance = variance_of(parts[1]) if parts is not None else None
    if parts is None or variance is None:
        return
    of, enlarged, epsilon, axes = variance
    divided, squared = skip_of(parts[0]), skip_of(of)
    assert divided is not None and squared is not None
    epsilon = (epsilon + parts[2]) / enlarged
    deviation = _deviation(divided, None, squared, axes) or _deviation(*_unscaled(parts[0]), squared, axes)
    if deviation is None:
        editor.fail("the deviation is of another value than what it divides", node)
        return
    origin, same, before = deviation
    channels = extent_of(origin, axes)
    if 0 in axes:
        leave(editor, node, "it normalises the batch")
        return
    if channels is None:
        return
    if same and editor.graph.opset_imports.get("", _SINCE) < _EARLIEST:
        editor.fail("the model is of an opset before 13", node)
        return
    if before is not None and (axes != (len(origin.shape or ()) - 1,) or before.size not in (1, channels)):
        editor.fail("it is scaled before it is divided, not along its channels", node)
        return
    # Var with a correction is the mean of squares times N / (N - 1).
    _write(editor, node, _Norm(origin, axes, channels, epsilon, same, enlarged**-0.5, before))


def _deviation(
    value: Value, before: npt.NDArray[Any] | None, squared: Value, axes: tuple[int, ...]
) -> tuple[Value, bool, npt.NDArray[Any] | None] | None:
    """Return what is normalised, whether its mean is taken off, and what scales it before the division.

    Args:
        value: What is divided, but for its scale.
        before: Its scale.
        squared: What the deviation is of.
        axes: The axes of that.
    """
    centred = centred_of(value)
    if centred is not None and centred[1] == axes and centred_of(squared) == centred:
        return centred[0], True, before
    return (value, False, before) if squared is value else None


def _unscaled(value: Value) -> tuple[Value, npt.NDArray[Any] | None]:
    """Return a deviation and the constant it is multiplied by before the division, if it is."""
    node = value.producer()
    if node is not None and is_standard(node, "Mul"):
        for place in (0, 1):
            held, other = constant(node.inputs[place]), skip_of(node.inputs[1 - place])
            if held is not None and held.size == (held.shape[-1] if held.ndim else 1) and other is not None:
                return other, held.reshape(-1)
    return value, None


@dataclass(frozen=True)
class _Norm:
    """A normalisation that was found.

    Attributes:
        source: What is normalised.
        axes: Over which axes.
        channels: Elements of these axes.
        epsilon: What the variance is enlarged by.
        centred: The mean is taken off first.
        factor: What the result is multiplied by.
        scale: What its channels are multiplied by besides.
    """

    source: Value
    axes: tuple[int, ...]
    channels: int
    epsilon: float
    centred: bool
    factor: float = 1.0
    scale: npt.NDArray[Any] | None = None


def _write(editor: Editor, node: Node, norm: _Norm) -> None:
    """Replace a normalisation by one op over the last axis, to which other axes are brought."""
    source, rank = norm.source, len(norm.source.shape or ())
    last = norm.axes == (rank - 1,)
    if len(norm.axes) > 1 and not all_static(list(source.shape or ())[1:]):
        leave(editor, node, "its sizes are not static")
        return
    behind = rank - norm.axes[0] if len(norm.axes) == 1 else None
    scale, end = _tail(node, "Mul", norm.channels, behind)
    weight = np.ones(norm.channels, np.float32) if scale is None else scale
    if norm.scale is not None:
        weight = weight * norm.scale
    offset, end = _tail(end, "Add", norm.channels, behind) if norm.centred else (None, end)
    out = end.outputs[0]
    name = editor.take_name(end) if last else end.name or end.op_type
    inputs = [editor.constant(f"{name}.scale", (weight * norm.factor).astype(np.float32))]
    if norm.centred and offset is not None:
        inputs.append(editor.constant(f"{name}.offset", offset))
    attrs: dict[str, Any] = {"axis": -1, "epsilon": norm.epsilon} if norm.centred else {}
    if not norm.centred:
        inputs.append(editor.constant(f"{name}.epsilon", np.asarray(norm.epsilon, dtype=np.float32)))
    op, domain = ("LayerNormalization", "") if norm.centred else ("RMSNorm", AI_SNNC)
    dead = _chain(end, source)
    if last:
        same: dict[str, Any] = {"dtype": out.dtype, "shape": out.shape}
        made = editor.add(end, op, [source, *inputs], attrs, domain=domain, name=name, **same)
    else:
        chain = Chain(editor, end, source)
        undo = chain.to_last(norm.axes)
        chain = chain.append_own(op, inputs) if domain else chain.append(op, inputs, **attrs)
        made = chain.back(*undo).value
    editor.replace(LAYER_NORM if norm.centred else "root mean square", out, made, removed=dead)


def _tail(
    node: Node, op: str, channels: int, behind: int | None
) -> tuple[npt.NDArray[np.float32] | None, Node]:
    """Return the constant per channel that alone follows a node, with the node that applies it.

    Args:
        node: The node.
        op: Add or Mul.
        channels: Extent of the axis of channels.
        behind: Axes from that of the channels on to the last; None if there is no single axis of channels.
    """
    reader = only_consumer(node.outputs[0])
    if reader is None or behind is None or not is_standard(reader, op):
        return None, node
    for value in reader.inputs:
        held = constant(value)
        if held is None or held.ndim > len(node.outputs[0].shape or ()):
            continue
        along = held.shape[-behind] if held.ndim >= behind else 1
        if held.size == along and along in (1, channels):
            flat = np.broadcast_to(held.astype(np.float32).reshape(-1), (channels,))
            return np.ascontiguousarray(flat), reader
    return None, node


def _chain(last: Node, source: Value | None = None) -> list[Node]:
    """Return the nodes of a normalisation: those from its result back to its input."""
    found: dict[int, Node] = {}
    queue = [last]
    kinds = (
        "Add",
        "Mul",
        "Div",
        "Sqrt",
        "Reciprocal",
        "ReduceMean",
        "Pow",
        "Sub",
        "Cast",
        *_OF_LENGTHS,
        *_VIEWS,
    )
    while queue:
        node = queue.pop(0)
        if id(node) in found or not is_standard(node, *kinds):
            continue
        found[id(node)] = node
        makers = [
            value.producer() if value is not None and value is not source else None for value in node.inputs
        ]
        queue += [maker for maker in makers if maker is not None]
    return list(found.values())
