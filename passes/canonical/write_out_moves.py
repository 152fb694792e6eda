"""Pass ``write-out-moves``: Resize, Tile, Pad, ScatterND, GatherND … become Gather, or a product."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import floor
from typing import Any, ClassVar

import numpy as np

from snnc.ir import Model, Node, attributes, constant
from snnc.ir.rewrite import set_attribute
from snnc.passes.analysis.hosted import made_of_integers
from snnc.passes.canonical.chain import Chain, leave, static_rest
from snnc.passes.canonical.fourier import write_transform
from snnc.passes.canonical.resampling import resampling_matrix
from snnc.passes.canonical.scattered import take_places
from snnc.passes.canonical.taken_elements import take_elements
from snnc.passes.editing import Editor, is_standard, only_consumer
from snnc.pipeline.contract import PassResult, Semantics

__all__ = ["WriteOutMoves"]

#: Fill in front of a MaxPool that stands for "nothing there".
_NOTHING = -1e30


@dataclass(frozen=True)
class WriteOutMoves:
    """Write ops that repeat or interpolate elements with ops that have a form with spikes.

    Resize by nearest, Tile, and Pad that reflects, repeats or wraps take elements by constant places: Gather.
    ScatterND, as which an assignment to a slice is exported, takes elements of the data and of the updates.
    Resize by lines or cubics is a product with a constant matrix along each axis. Pad with a number is Pad
    with zeros and the addition of that number; with a very negative number in front of a MaxPool it is
    that pool's own padding. A running sum is a product with a constant triangle of ones, a Fourier transform
    one with cosines and sines.

    Matches:
        Resize, Tile, Pad, CumSum, DFT, and GatherElements, GatherND and ScatterND by places that are the same
        for all samples, whose sizes are static behind the batch.
    Leaves alone:
        "its sizes are not static"; "it changes the batch"; "it filters before it shrinks (antialias)"; "its
        coordinate_transformation_mode ... cuts a region out"; "its ... are not constant"; a
        running sum of what is made of integer inputs.
    Keeps:
        The name of the result.
    """

    name: ClassVar[str] = "write-out-moves"
    requires: ClassVar[frozenset[str]] = frozenset({"constants-folded", "unique-names"})
    establishes: ClassVar[frozenset[str]] = frozenset()
    invalidates: ClassVar[frozenset[str]] = frozenset({"no-dead-code"})
    semantics: ClassVar[Semantics] = "approximate"

    def run(self, model: Model) -> PassResult:
        """Rewrite; see the class."""
        editor = Editor(model)
        for node in list(model.graph):
            rule = _RULES.get(node.op_type) if is_standard(node, node.op_type) else None
            if rule is None or node.inputs[0] is None or constant(node.inputs[0]) is not None:
                continue
            if static_rest(node.inputs[0]) is None and rule is not take_places:
                leave(editor, node, "its sizes are not static")
                continue
            reason = rule(editor, node)
            if reason is not None:
                leave(editor, node, reason)
        return editor.result()


def _input(node: Node, place: int) -> Any:
    """Return a constant input; None if it is absent; raises ValueError if it is not constant."""
    value = node.inputs[place] if place < len(node.inputs) else None
    held = constant(value)
    if value is not None and held is None:
        raise ValueError
    # Old exporters leave an input out by an empty list.
    return held if held is not None and held.size else None


def _resize(editor: Editor, node: Node) -> str | None:
    source, attrs = node.inputs[0], attributes(node)
    assert source is not None
    exact = attrs.get("mode", "nearest") == "nearest"
    if not exact and source.dtype is not None and not source.dtype.is_floating_point():
        return "it interpolates integers, each of them rounded"
    rest = static_rest(source) or []
    try:
        scales, sizes = _input(node, 2), _input(node, 3)
    except ValueError:
        # Computed from the shape of a value with a free batch: the shape that was inferred tells them.
        scales, sizes = None, _sizes(node)
        if sizes is None or len(sizes) != len(rest) + 1:
            return "its scales or sizes are not constant"
    if scales is None and sizes is None:
        return "it has neither scales nor sizes"
    axes = [axis % (len(rest) + 1) for axis in attrs.get("axes", range(len(rest) + 1))]
    if attrs.get("keep_aspect_ratio_policy", "stretch") != "stretch":
        return "it keeps the aspect ratio"
    chain = Chain(editor, node, source)
    kinds = []
    for place, axis in enumerate(axes):
        if axis == 0:
            same = float(scales[place]) == 1.0 if scales is not None else sizes[place] == chain.dims[0]
            if not same:
                return "it changes the batch"
            continue
        old = rest[axis - 1]
        factor = float(scales[place]) if scales is not None else None
        new = floor(old * factor) if factor is not None else int(sizes[place])
        if new == old and factor in (None, 1.0):
            continue
        matrix = resampling_matrix(old, new, factor, attrs)
        if isinstance(matrix, str):
            return matrix
        kinds.append((axis, matrix))
    for axis, matrix in kinds:
        chosen = matrix.argmax(axis=1)
        if bool(np.all((matrix == 0) | (matrix == 1))):
            chain.gather(axis, chosen.tolist())
            continue
        perm = list(range(len(rest) + 1))
        perm[axis], perm[-1] = perm[-1], perm[axis]
        chain.transpose(perm)
        weights = matrix.T.astype(np.float32)
        chain.append("MatMul", [weights], [*chain.dims[:-1], weights.shape[1]]).transpose(perm)
    chain.finish("resize")
    return None


def _sizes(node: Node) -> list[Any] | None:
    """Return the sizes of the result as they were inferred; None unless all but the batch are static."""
    rest, out = static_rest(node.outputs[0]), node.outputs[0].shape
    # With scales that are not constant the places would depend on them.
    by_sizes = len(node.inputs) > 3 and node.inputs[3] is not None
    return [out[0], *rest] if rest is not None and out is not None and by_sizes else None


def _tile(editor: Editor, node: Node) -> str | None:
    repeats = constant(node.inputs[1])
    if repeats is None or node.inputs[0] is None:
        return "its repeats are not constant"
    if int(repeats[0]) != 1:
        return "it changes the batch"
    chain = Chain(editor, node, node.inputs[0])
    for axis, count in enumerate(repeats.tolist()):
        if axis:
            chain.gather(axis, np.tile(np.arange(chain.dims[axis]), count).tolist())
    chain.finish("tile")
    return None


def _running_sum(editor: Editor, node: Node) -> str | None:
    """CumSum is a product with a constant matrix of ones and zeros."""
    source, held, attrs = node.inputs[0], constant(node.inputs[1]), attributes(node)
    if source is None or source.dtype is None or not source.dtype.is_floating_point():
        return None
    if held is None:
        return "its axis is not constant"
    rank = len(source.shape or ())
    axis = int(held.reshape(-1)[0]) % rank
    if axis == 0:
        return "it changes the batch"
    if made_of_integers(source):
        return "it is made of the integers of the input: masks and positions are no spikes"
    chain = Chain(editor, node, source)
    perm = list(range(rank))
    perm[axis], perm[-1] = perm[-1], perm[axis]
    size = chain.dims[axis]
    # Element j of the sums takes element i where i comes before it, or is it.
    weights = np.triu(np.ones((size, size), np.float32), int(attrs.get("exclusive", 0)))
    if int(attrs.get("reverse", 0)):
        weights = weights.T
    chain.transpose(perm).append("MatMul", [weights]).transpose(perm).finish("running sum")
    return None


def _pad(editor: Editor, node: Node) -> str | None:
    source, attrs = node.inputs[0], attributes(node)
    assert source is not None
    rank = len(source.shape or ())
    try:
        widths, fill, listed = _input(node, 1), _input(node, 2), _input(node, 3)
    except ValueError:
        return "its widths are not constant"
    if widths is None:
        return "its widths are not constant"
    axes = [int(axis) % rank for axis in (listed if listed is not None else range(rank))]
    begins, ends = [0] * rank, [0] * rank
    for place, axis in enumerate(axes):
        begins[axis], ends[axis] = int(widths[place]), int(widths[place + len(axes)])
    if begins[0] or ends[0]:
        return "it changes the batch"
    mode = str(attrs.get("mode", "constant"))
    chain = Chain(editor, node, source)
    if mode == "constant":
        number = float(np.asarray(fill).reshape(-1)[0]) if fill is not None else 0.0
        if number == 0.0:
            return None
        if number <= _NOTHING:
            return _into_pool(editor, node, begins, ends)
        outside = np.ones([1] * rank, dtype=np.float32)
        for axis in range(1, rank):
            if begins[axis] > 0 or ends[axis] > 0:
                shape = [1] * rank
                shape[axis] = -1
                inner = np.zeros(chain.dims[axis] + min(0, begins[axis]) + min(0, ends[axis]))
                edge = np.pad(inner, (max(0, begins[axis]), max(0, ends[axis])), constant_values=1)
                outside = outside * (1 - edge).reshape(shape)
        chain.pad(begins, ends).shift((1 - outside) * np.float32(number)).finish("pad with a number")
        return None
    if mode not in ("reflect", "edge", "wrap"):
        return f"its mode {mode} is not known"
    for axis in range(1, rank):
        places = np.arange(chain.dims[axis])
        places = places[max(0, -begins[axis]) : len(places) + min(0, ends[axis])]
        margins = (max(0, begins[axis]), max(0, ends[axis]))
        if max(margins) and not len(places):
            return "nothing is left to repeat"
        if max(margins):
            places = np.pad(places, margins, mode=mode)  # type: ignore[call-overload]
        chain.gather(axis, places.tolist())
    chain.finish(f"pad, {mode}")
    return None


def _into_pool(editor: Editor, node: Node, begins: list[int], ends: list[int]) -> str | None:
    """Give the padding to the MaxPool that alone reads it: its own padding never wins."""
    pool = only_consumer(node.outputs[0])
    source = node.inputs[0]
    if pool is None or source is None or not is_standard(pool, "MaxPool") or min(*begins, *ends) < 0:
        return "it pads with a number that no step can hold"
    given = attributes(pool)
    spatial = len(begins) - 2
    if any([*begins[:2], *ends[:2]]) or given.get("auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
        return "it pads with a number that no step can hold"
    old = given.get("pads", [0] * (2 * spatial))
    new = [a + b for a, b in zip(old, [*begins[2:], *ends[2:]], strict=True)]
    # Runtimes take no padding as wide as the window.
    if any(width >= given["kernel_shape"][place % spatial] for place, width in enumerate(new)):
        return "it pads with a number that no step can hold"
    pool.attributes.pop("auto_pad", None)
    set_attribute(pool, "pads", new)
    editor.replace("padding of a MaxPool", node.outputs[0], source)
    return None


_RULES: dict[str, Callable[[Editor, Node], str | None]] = {
    "CumSum": _running_sum,
    "DFT": write_transform,
    "GatherElements": take_elements,
    "GatherND": take_places,
    "Pad": _pad,
    "Resize": _resize,
    "ScatterND": take_places,
    "Tile": _tile,
}
