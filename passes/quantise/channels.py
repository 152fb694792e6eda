"""Along which axes of a value the steps of a code may differ: where the weights behind it make up for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from snnc.ir import Model, Node, constant, shapes_of_batches
from snnc.passes.analysis.layout import LAYOUT_OPS, layout_functions
from snnc.passes.quantise.sites import Site
from snnc.passes.quantise.streams import reaches_join

__all__ = ["Channels", "Rows", "channels_of"]

Labels = npt.NDArray[Any]
Shapes = Mapping[str, tuple[int, ...]]
#: Output channels of a layer that stand for all of them when steps are compared.
_COLUMNS = 64


@dataclass(frozen=True, eq=False)
class Rows:
    """Weights that multiply a code, as a matrix.

    Attributes:
        weights: float64 (rows, columns): some of the output channels, each a column.
        labels: Channel of the code that each row multiplies, int (rows,).
        shared: Whether the rows of a column share its grid, so that their steps must suit each other.
        powers_of_two: Whether the steps of these grids will be powers of two.
    """

    weights: npt.NDArray[np.float64]
    labels: Labels
    shared: bool = True
    powers_of_two: bool = False


@dataclass(frozen=True, eq=False)
class Channels:
    """Along which axes of a value the steps of its code may differ, and what multiplies the code.

    Attributes:
        axes: The axes; empty for one step in all.
        rows: The weights behind the code, where there are axes.
        places: The one place read along other axes, such as the class token: what stands elsewhere makes no
            difference to the step.
    """

    axes: tuple[int, ...] = ()
    rows: tuple[Rows, ...] = ()
    places: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True)
class _Pair:
    """Shapes of all values at batch 1 and at batch 2."""

    one: Shapes
    two: Shapes

    def grown(self, name: str) -> set[int]:
        """Return the axes of a value that grow with the batch."""
        first, second = self.one.get(name, ()), self.two.get(name, ())
        if len(first) != len(second):
            return set(range(len(first)))
        return {axis for axis, (a, b) in enumerate(zip(first, second, strict=True)) if a != b}


def channels_of(model: Model, sites: list[Site]) -> list[Channels]:
    """Return, for each site, the axes along which its steps may differ; none means one step in all.

    Every product that reads the code must be able to absorb the steps: a product with constant weights takes
    them into its rows of weights (RepQ-ViT's reparametrisation), the second operand of a product of two codes
    hands those of its columns on to the result. Between the code and the product there may be operations
    that only move elements.

    Args:
        model: The model of the sites.
        sites: Values that get a quantiser.
    """
    one, two = shapes_of_batches(model, 1, 2)
    return [_channels(site, _Pair(one, two)) for site in sites]


def _channels(site: Site, shapes: _Pair) -> Channels:
    if site.output:
        return Channels()
    name = site.value.name or ""
    shape, other = shapes.one.get(name), shapes.two.get(name)
    if shape is None or other is None or len(shape) != len(other):
        return Channels()
    fixed = [axis for axis, (a, b) in enumerate(zip(shape, other, strict=True)) if a == b and a > 1 and axis]
    kept = tuple(axis for axis in fixed if _rows(site, shape, (axis,), shapes) is not None)
    rows = _rows(site, shape, kept, shapes) if kept else None
    places: tuple[tuple[int, int], ...] = ()
    if rows and len(kept) > 1:
        # Where one token is read, a step for each of the others would be a table for nothing.
        places = _single_places(kept, shape, rows)
        if places:
            kept = tuple(axis for axis in kept if axis not in dict(places))
            rows = _rows(site, shape, kept, shapes)
    return Channels(kept, tuple(rows), places) if rows is not None else Channels()


def _single_places(
    axes: tuple[int, ...], shape: tuple[int, ...], rows: list[Rows]
) -> tuple[tuple[int, int], ...]:
    """Return the axes along which the products behind read one place alone, and that place."""
    labels = np.unique(np.concatenate([entry.labels.reshape(-1) for entry in rows]))
    places = np.unravel_index(labels, [shape[axis] for axis in axes])
    return tuple(
        (axis, int(place[0])) for axis, place in zip(axes, places, strict=True) if len(np.unique(place)) == 1
    )


def _rows(site: Site, shape: tuple[int, ...], axes: tuple[int, ...], shapes: _Pair) -> list[Rows] | None:
    """Return the weights behind a site, or None if they cannot absorb steps that differ along some axes."""
    sizes = [size if axis in axes else 1 for axis, size in enumerate(shape)]
    labels = np.broadcast_to(np.arange(np.prod(sizes)).reshape(sizes), shape)
    found: list[Rows] = []
    return found if all(_absorbed(*use, labels, shapes, found) for use in site.uses) else None


def _absorbed(node: Node, position: int, labels: Labels, shapes: _Pair, found: list[Rows]) -> bool:
    if node.domain not in ("", "ai.onnx"):
        return False
    varies = _varies(labels)
    if node.op_type == "Conv":
        weights = constant(node.inputs[1])
        if position or weights is None or not varies <= {1}:
            return False
        found.append(_of_convolution(node, weights, labels[0].reshape(labels.shape[1], -1)[:, 0]))
        return True
    if node.op_type == "MatMul":
        last = labels.ndim - 1
        if position == 1:
            stays = constant(node.inputs[0]) is None and labels.ndim >= 2 and last - 1 not in varies
            return stays and _columns_stay(node)
        weights = constant(node.inputs[1])
        # A sum over codes of different steps needs weights of its own for each; a row cannot have its own.
        if weights is None or not varies <= {last} or weights.ndim != 2:
            return False
        joined = reaches_join(node.outputs[0])
        row = labels.reshape(-1, labels.shape[-1])[0]
        found.append(Rows(_some_columns(weights), row, powers_of_two=joined))
        return True
    moved = _moved(node, position, labels, shapes)
    if moved is None or node.outputs[0].is_graph_output():
        return False
    readers = list(node.outputs[0].uses())
    return bool(readers) and all(_absorbed(*use, moved, shapes, found) for use in readers)


def _of_convolution(node: Node, weights: npt.NDArray[Any], labels: Labels) -> Rows:
    outputs, inputs = weights.shape[:2]
    groups = len(labels) // inputs
    if groups == 1:
        matrix = np.moveaxis(weights, 0, -1).reshape(-1, outputs)
        repeated = np.repeat(labels, matrix.shape[0] // inputs)
        return Rows(_some_columns(matrix), repeated, powers_of_two=reaches_join(node.outputs[0]))
    apart = weights.reshape(groups, outputs // groups, inputs, -1)
    return Rows(_some_columns(np.moveaxis(apart, 2, 1).reshape(len(labels), -1)), labels, shared=False)


def _some_columns(matrix: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    return matrix[:, :: max(1, matrix.shape[1] // _COLUMNS)].astype(np.float64)


def _columns_stay(node: Node) -> bool:
    """Whether nothing compares or adds the columns of a product before they become codes again."""
    for reader, position in node.outputs[0].uses():
        if reader.op_type in ("Div", "Mul", "Transpose", "Reshape") and position == 0:
            if not _columns_stay(reader):
                return False
        elif reader.op_type not in ("MatMul", "Conv", "Quantise"):
            return False
    return True


def _moved(node: Node, position: int, labels: Labels, shapes: _Pair) -> Labels | None:
    """Carry labels through a layout or a scaling by one number; None where it is neither, or a batch."""
    if node.op_type in ("Mul", "Div"):
        factor = constant(node.inputs[1 - position])
        return labels if factor is not None and factor.size == 1 else None
    if node.op_type not in LAYOUT_OPS or position != 0 or len(node.outputs) != 1:
        return None
    name = node.outputs[0].name or ""
    target = shapes.one.get(name)
    if target is None or int(np.prod(target)) > labels.size:
        return None
    functions = layout_functions(node, labels.shape, [target])
    if isinstance(functions, str):
        return None
    moved = functions[0](labels)
    # An axis that is merged with the batch, as heads are, is none of the network's any more.
    return None if _varies(moved) & shapes.grown(name) else moved


def _varies(labels: Labels) -> set[int]:
    """Return the axes along which labels differ."""
    found = set()
    for axis in range(labels.ndim):
        # Along an axis of stride 0 a view repeats itself.
        if labels.shape[axis] > 1 and labels.strides[axis]:
            first, last = (labels.take([place], axis=axis) for place in (0, -1))
            # Two entries tell most labels that vary.
            if bool((first != last).any()) or bool((labels != first).any()):
                found.add(axis)
    return found
