"""ScatterND and GatherND whose places are the same for every sample: elements taken by constant places.

``y[:, 1:, :4] = x`` is exported as ScatterND by places computed from the shape of ``y``, the number of the
sample among them. Evaluated for two batch sizes they tell whether every sample is treated alike.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import prod

import numpy as np
import numpy.typing as npt

from snnc.ir import Model, Node, Value, attributes, constant, shapes_of_batches
from snnc.ir.evaluate import evaluate
from snnc.passes.canonical.chain import Chain, static_rest
from snnc.passes.canonical.repeated_fill import repeated_fill
from snnc.passes.editing import Array, Editor, is_standard

__all__ = ["take_places"]

#: Two batch sizes that no other dimension is likely to follow.
_BATCHES = (2, 3)
#: Elements of places that are worked on.
_MOST = 1 << 24
_NOT_ALIKE = "its places differ from sample to sample"
_RULE = "elements taken by constant places"


def take_places(editor: Editor, node: Node) -> str | None:
    """Write a ScatterND or GatherND as a Gather of the elements of one sample, updates behind the data.

    Args:
        editor: Editor of the model.
        node: The node.

    Returns:
        Why it stays, None if it was written out.
    """
    reason = _take(editor, node)
    if reason is not None and node.op_type == "GatherND" and _take_in_front(editor, node):
        return None
    return reason


def _take(editor: Editor, node: Node) -> str | None:
    attrs = attributes(node)
    if attrs.get("reduction", "none") not in ("", "none"):
        return "it adds to what lies there, or the like"
    sources = [node.inputs[0]] if node.op_type == "GatherND" else [node.inputs[0], node.inputs[2]]
    rests = [static_rest(source) for source in sources]
    if rests[0] is None:
        return "it changes the batch" if attrs.get("batch_dims", 0) else _take_rows(editor, node)
    if None in rests or static_rest(node.outputs[0]) is None:
        return "its sizes are not static"
    found = None
    for batch, shapes in zip(_BATCHES, _shapes(editor), strict=True):
        places = _places(node, shapes, editor.model, int(attrs.get("batch_dims", 0)))
        if isinstance(places, str):
            return places
        if len(places) != batch or bool((places != places[:1]).any()):
            return _NOT_ALIKE
        if found is not None and bool((found != places[0]).any()):
            return _NOT_ALIKE
        found = places[0]
    assert found is not None
    _write(editor, node, [s for s in sources if s is not None], [r for r in rests if r is not None], found)
    return None


def _shapes(editor: Editor) -> list[dict[str, tuple[int, ...]]]:
    return shapes_of_batches(editor.model, *_BATCHES)


def _places(
    node: Node, shapes: Mapping[str, tuple[int, ...]], model: Model, batch_dims: int
) -> npt.NDArray[np.int64] | str:
    """Return, for one batch size, which element of its own sample each element of the result is.

    Elements of the data are numbered first, those of the updates behind them.
    """
    inputs = [(value.name or "") if value is not None else "" for value in node.inputs]
    if any(name not in shapes for name in inputs):
        return "its sizes are not static"
    of_data = shapes[inputs[0]]
    if prod(of_data) > _MOST or batch_dims > 1:
        return "it has too many elements"
    index = _evaluated(node.inputs[1], shapes, model)
    if index is None:
        return "its places are not constant"
    samples = [shapes[name][0] for name in inputs[::2]]
    if len(set(samples)) != 1 or 0 in of_data:
        return _NOT_ALIKE
    each = prod(of_data) // samples[0]
    data = np.arange(prod(of_data), dtype=np.int64).reshape(of_data)
    sample, place = data // each, data % each
    where = tuple(np.moveaxis(index, -1, 0))
    if batch_dims:
        numbers = np.arange(index.shape[0]).reshape(-1, *[1] * (index.ndim - 2))
        where = (np.broadcast_to(numbers, index.shape[:-1]), *where)
    try:
        if node.op_type == "GatherND":
            sample, place = sample[where], place[where]
        else:
            given = np.arange(prod(shapes[inputs[2]]), dtype=np.int64).reshape(shapes[inputs[2]])
            behind = max(1, given.size // samples[0])
            sample[where], place[where] = given // behind, each + given % behind
    except (IndexError, ValueError):
        return "its places lie outside"
    own = np.arange(samples[0]).reshape(-1, *[1] * (sample.ndim - 1))
    if sample.ndim == 0 or len(sample) != samples[0] or bool((sample != own).any()):
        return _NOT_ALIKE
    return place


def _evaluated(value: Value | None, shapes: Mapping[str, tuple[int, ...]], model: Model) -> Array | None:
    """Return what a value computed from constants and shapes holds, None if it is computed from more."""
    results: dict[Value, Array] = {}
    opsets = dict(model.graph.opset_imports)
    pending = [value]
    while pending:
        current = pending[-1]
        if current is None:
            return None
        held = constant(current)
        node = current.producer()
        if current in results:
            pending.pop()
            continue
        if held is None and is_standard(node, "Shape") and node is not None:
            source = node.inputs[0]
            if source is None or source.name not in shapes:
                return None
            attrs = attributes(node)
            held = np.array(
                shapes[source.name or ""][attrs.get("start", 0) : attrs.get("end")], dtype=np.int64
            )
        if held is None:
            if node is None or node.domain not in ("", "ai.onnx") or len(node.outputs) != 1:
                return None
            missing = [entry for entry in node.inputs if entry is not None and entry not in results]
            if missing:
                pending.extend(missing)
                continue
            try:
                arrays = [results[entry] if entry is not None else None for entry in node.inputs]
                held = np.asarray(evaluate(node, arrays, opsets)[0])
            except Exception:  # noqa: BLE001 - a node that cannot be evaluated leaves the places unknown
                return None
            if held.size > _MOST:
                return None
        results[current] = held
        pending.pop()
    return results[value] if value is not None and results[value].dtype.kind in "iu" else None


def _write(
    editor: Editor, node: Node, sources: list[Value], rests: list[list[int]], places: npt.NDArray[np.int64]
) -> None:
    """Join sources along the axes in which the places differ, and take these."""
    out, data = places.shape, rests[0]
    alike = all(len(rest) == len(out) for rest in rests)
    grid = np.indices(out)
    kept = [
        alike
        and all(rest[axis] == out[axis] for rest in rests)
        and bool((_along(places, rests, axis) == grid[axis]).all())
        for axis in range(len(out))
    ]
    front = kept.index(False) if False in kept else max(0, len(out) - 1)
    back = kept[::-1].index(False) if False in kept else 0
    core = places[(0,) * front + (...,) + (0,) * back].reshape(-1)
    # Numbers of elements of whole samples become those of the joined axes alone.
    sizes = [prod(rest[front : len(rest) - back]) for rest in rests]
    trail = prod(data[len(data) - back :])
    behind = core >= prod(data)
    chosen = np.where(behind, core - prod(data), core) // trail + np.where(behind, sizes[0], 0)
    shapes = [[*out[:front], size, *data[len(data) - back :]] for size in sizes]
    parts = [
        _Part(Chain(editor, node, source), _is_zero(source), size, form=shape)
        for source, size, shape in zip(sources, sizes, shapes, strict=True)
    ]
    _taken(parts, front + 1, chosen).reshape(list(out)).finish(_RULE)


@dataclass(frozen=True)
class _Part:
    """One of the values that elements are taken of.

    Attributes:
        chain: The value.
        zero: Whether it holds zeros.
        size: Number of its elements along the axis.
        form: Sizes behind the batch that it is given first.
        order: Order of axes that it is given instead.
    """

    chain: Chain
    zero: bool
    size: int
    form: Sequence[int] = ()
    order: Sequence[int] = ()

    def made(self) -> Chain:
        """Return the value in its form, or its order."""
        return self.chain.transpose(self.order) if self.order else self.chain.reshape(self.form)


def _taken(parts: list[_Part], axis: int, chosen: npt.NDArray[np.int64]) -> Chain:
    """Take places of parts that are joined along an axis."""
    ends = np.cumsum([0, *(part.size for part in parts)])
    read = [bool(((chosen >= low) & (chosen < high)).any()) for low, high in pairwise(ends)]
    if len(parts) > 1 and read.count(True) == 1:
        # All is overwritten, or nothing.
        number = read.index(True)
        parts, chosen = [parts[number]], chosen - ends[number]
    held = [part.made() for part in parts if not part.zero]
    if not held:
        return parts[0].made().gather(axis, [0] * len(chosen))
    first = held[0]
    if len(held) == len(parts):
        if len(held) > 1:
            dims = [*first.dims[:axis], int(ends[-1]), *first.dims[axis + 1 :]]
            first.append("Concat", [part.value for part in held[1:]], dims, axis=axis)
        return first.gather(axis, chosen.tolist())
    # What is taken of zeros is one zero, put behind the rest.
    start = 0 if not parts[0].zero else parts[0].size
    used = first.dims[axis]
    inside = (chosen >= start) & (chosen < start + used)
    first.pad([0] * len(first.dims), [int(number == axis) for number in range(len(first.dims))])
    return first.gather(axis, np.where(inside, chosen - start, used).tolist())


def _take_rows(editor: Editor, node: Node) -> str | None:
    """Write out a node that takes, or writes, whole rows of a value whose first axis was brought there."""
    data = node.inputs[0]
    # Zeros are made in any order of their axes.
    turned = [value.producer() for value in node.inputs[::2] if value is not None]
    turn = next((made for made in turned if is_standard(made, "Transpose")), None)
    if data is None or data.shape is None or turn is None or not (turn is turned[0] or _is_zero(data)):
        return "its sizes are not static"
    perm = list(attributes(turn).get("perm", range(len(data.shape))[::-1]))
    found = [_evaluated(node.inputs[1], shapes, editor.model) for shapes in _shapes(editor)]
    index = found[0]
    if index is None or any(other is None or not np.array_equal(other, index) for other in found):
        return "its places are not constant"
    size, source = data.shape[0], turn.inputs[0]
    if index.ndim != 2 or index.shape[1] != 1 or not isinstance(size, int) or perm[0] == 0 or source is None:
        return _NOT_ALIKE
    rows = index[:, 0]
    if bool(((rows < -size) | (rows >= size)).any()):
        return "its places lie outside"
    chosen, back = rows % size, [perm.index(axis) for axis in range(len(perm))]
    zero, whole = _is_zero(data), range(len(perm))
    first = (data, back) if zero else (source, whole)
    parts = [_Part(Chain(editor, node, first[0]), zero, size, order=first[1])]
    if node.op_type == "ScatterND":
        updates = node.inputs[2]
        if updates is None or updates.shape is None:
            return "its sizes are not static"
        chosen = np.arange(size)
        chosen[rows] = size + np.arange(len(rows))
        parts.append(_Part(Chain(editor, node, updates), _is_zero(updates), len(rows), order=back))
    if all(part.zero for part in parts):
        return "it is made of constants"
    taken = _taken(parts, perm[0], chosen)
    taken.transpose(perm).finish(_RULE)
    return None


def _take_in_front(editor: Editor, node: Node) -> bool:
    """Write out a GatherND by constant places along axes in front of the batch: ``y[:, i, j]``, exported."""
    data, shapes = node.inputs[0], _shapes(editor)
    found = [_evaluated(node.inputs[1], entry, editor.model) for entry in shapes]
    index = found[0]
    if data is None or index is None:
        return False
    if any(entry is None or not np.array_equal(entry, index) for entry in found[1:]):
        return False
    one, two = (entry.get(data.name or "") for entry in shapes)
    if one is None or two is None or attributes(node).get("batch_dims", 0) or index.ndim < 1:
        return False
    depth, rank = index.shape[-1], len(one)
    batch = [axis for axis in range(rank) if one[axis] != two[axis]] or _was_first(data)
    if len(batch) != 1 or batch[0] < depth or data.shape is None:
        return False
    sizes = np.asarray(one[:depth])
    index = np.where(index < 0, index + sizes, index)
    if bool(((index < 0) | (index >= sizes)).any()):
        return False
    flat = np.ravel_multi_index(tuple(np.moveaxis(index, -1, 0)), tuple(sizes.tolist()))
    rest = [*batch, *(axis for axis in range(depth, rank) if axis not in batch)]
    kept = [one[axis] for axis in rest[1:]]
    chain = Chain(editor, node, data).transpose([*rest, *range(depth)]).reshape([*kept, prod(sizes.tolist())])
    chain.gather(len(rest), flat.reshape(-1).tolist()).reshape([*kept, *flat.shape])
    # Places come first in the result, then what lay behind them, in its order.
    order = [rest.index(axis) for axis in range(depth, rank)]
    chain.transpose([*range(len(rest), len(rest) + flat.ndim), *order]).finish(_RULE)
    return True


def _was_first(value: Value) -> list[int]:
    """Return where the first axis went by the Transpose that gives a value, perhaps quantised since."""
    node = value.producer()
    while node is not None and node.op_type in ("QuantizeLinear", "DequantizeLinear"):
        node = node.inputs[0].producer() if node.inputs[0] is not None else None
    perm = attributes(node).get("perm") if node is not None and is_standard(node, "Transpose") else None
    return [list(perm).index(0)] if perm is not None else []


def _is_zero(value: Value) -> bool:
    """Whether a value holds zeros, however many."""
    node = value.producer()
    if is_standard(node, "Transpose", "Unsqueeze") and node is not None and node.inputs[0] is not None:
        return _is_zero(node.inputs[0])
    fill = repeated_fill(value)
    return fill is not None and not fill.any()


def _along(places: npt.NDArray[np.int64], rests: list[list[int]], axis: int) -> npt.NDArray[np.int64]:
    """Return the number along an axis of the element that stands at each place."""
    split = prod(rests[0])
    found = (places // prod(rests[0][axis + 1 :])) % rests[0][axis]
    if len(rests) > 1:
        other = ((places - split) // prod(rests[1][axis + 1 :])) % max(1, rests[1][axis])
        found = np.where(places >= split, other, found)
    return found
