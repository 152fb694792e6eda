"""What the weights of products multiply: means and second moments of their inputs on calibration data."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from snnc.calibration.observe import Calibration
from snnc.coding import CodeBook
from snnc.ir import AI_SNNC, Model, Node, Value, attributes, clone, constant, initializer, make_node
from snnc.passes.analysis.layout import LAYOUT_OPS
from snnc.passes.quantise.reconstruct import Inputs

__all__ = ["observe_inputs"]

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]

#: Rows of inputs taken of one batch for one product.
_ROWS = 2048


def observe_inputs(
    calibration: Calibration, model: Model, products: Sequence[str], moments: bool
) -> Mapping[str, Inputs]:
    """Run a model on the calibration data and sum up what its products read.

    Args:
        calibration: The data.
        model: A model in the quant dialect, its products still with float weights; not changed.
        products: Names of Conv and MatMul nodes whose second operand is constant.
        moments: Whether second moments are wanted: they take rows² numbers each.

    Returns:
        For each product, what it reads: decoded codes, and the values before they were coded.
    """
    copy = clone(model)
    wanted = {node.name: node for node in copy.graph if node.name in set(products)}
    sums = {name: _Sums(wanted[name], moments) for name in products}
    readers: dict[str, list[tuple[_Sums, bool]]] = {}
    for name in products:
        value = wanted[name].inputs[0]
        assert value is not None and value.name is not None
        before = _before_the_code(copy, value)
        readers.setdefault(value.name, []).append((sums[name], True))
        if before is not None and before.name is not None:
            readers.setdefault(before.name, []).append((sums[name], False))

    def take(name: str, array: Array) -> None:
        for entry, coded in readers[name]:
            entry.add(array, coded=coded)

    calibration.each_batch(copy, list(readers), take)
    return {name: entry.inputs() for name, entry in sums.items()}


def _before_the_code(model: Model, value: Value) -> Value | None:
    """Return what a value would be had its source not been coded, made beside it; None if it has no code."""
    moves: list[Node] = []
    current = value
    while (node := current.producer()) is not None:
        if node.op_type == "Quantise" and node.domain == AI_SNNC:
            break
        movable = node.op_type in LAYOUT_OPS and not node.domain and len(node.outputs) == 1
        if not movable or node.inputs[0] is None:
            return None
        moves.append(node)
        current = node.inputs[0]
    if node is None:
        return None
    result = _within_range(model, node)
    for move in reversed(moves):
        made = make_node(
            model.graph,
            move.op_type,
            [result, *move.inputs[1:]],
            attributes(move),
            name=f"{move.name}_before",
            dtype=move.outputs[0].dtype,
            shape=move.outputs[0].shape,
        )
        model.graph.insert_after(move, made)
        result = made.outputs[0]
    return result


def _within_range(model: Model, node: Node) -> Value:
    """Return what a quantiser reads, clipped to its range: a Relu or a Clip in front may be part of it."""
    source, step = node.inputs[0], constant(node.inputs[1])
    assert source is not None and step is not None
    book = CodeBook.from_attributes(attributes(node))
    result = source
    for kind, end in (("Max", book.smallest), ("Min", book.largest)):
        limit = initializer(model.graph, f"{node.name}_{kind}", (step * end).astype(np.float32))
        made = make_node(
            model.graph,
            kind,
            [result, limit],
            name=f"{node.name}_{kind}",
            dtype=node.outputs[0].dtype,
            shape=node.outputs[0].shape,
        )
        model.graph.insert_before(node, made)
        result = made.outputs[0]
    return result


class _Sums:
    """Sums over the inputs of one product."""

    def __init__(self, node: Node, moments: bool) -> None:
        weights = _weights_of(node)
        self._convolution = node.op_type == "Conv"
        self._attributes = attributes(node)
        self._kernel = weights[2:]
        self._groups = int(self._attributes.get("group", 1)) if self._convolution else 1
        rows = math.prod(weights[1:]) if self._convolution else weights[0]
        self._sums = {coded: np.zeros((self._groups, rows)) for coded in (False, True)}
        self._counts = {False: 0, True: 0}
        self._moments: Floats | None = np.zeros((self._groups, rows, rows)) if moments else None

    def add(self, array: Array, *, coded: bool) -> None:
        """Take up one batch of what the product reads."""
        table = self._unfolded(array) if self._convolution else array.reshape(1, -1, array.shape[-1])
        table = table.astype(np.float64)
        self._sums[coded] += table.sum(axis=1)
        self._counts[coded] += table.shape[1]
        if coded and self._moments is not None:
            thinned = table[:, :: max(1, table.shape[1] // _ROWS)]
            self._moments += np.swapaxes(thinned, 1, 2) @ thinned * (table.shape[1] / thinned.shape[1])

    def inputs(self) -> Inputs:
        """Return the means."""
        coded = self._sums[True] / max(1, self._counts[True])
        mean = self._sums[False] / self._counts[False] if self._counts[False] else coded
        moments = self._moments / max(1, self._counts[True]) if self._moments is not None else None
        return Inputs(mean, coded, moments)

    def _unfolded(self, array: Array) -> Array:
        """Return the windows of a convolution, some of them, as (groups, windows, rows)."""
        rank = len(self._kernel)
        pads = self._attributes.get("pads") or [0] * (2 * rank)
        widths = [(0, 0), (0, 0), *zip(pads[:rank], pads[rank:], strict=True)]
        padded = np.pad(array, widths)
        dilations = self._attributes.get("dilations") or [1] * rank
        strides = self._attributes.get("strides") or [1] * rank
        spans = [(size - 1) * dilation + 1 for size, dilation in zip(self._kernel, dilations, strict=True)]
        axes = tuple(range(2, 2 + rank))
        windows = np.lib.stride_tricks.sliding_window_view(padded, spans, axis=axes)
        places = math.prod(
            -(-size // stride) for size, stride in zip(windows.shape[2:], strides, strict=False)
        )
        # An even thinning of the places, the same along each axis.
        thin = max(1, math.ceil((len(array) * places / _ROWS) ** (1 / rank)))
        chosen = tuple(slice(None, None, stride * thin) for stride in strides)
        inner = tuple(slice(None, None, dilation) for dilation in dilations)
        windows = windows[(slice(None), slice(None), *chosen, *inner)]
        count, channels = windows.shape[:2]
        split = windows.reshape(count, self._groups, channels // self._groups, *windows.shape[2:])
        order = [1, 0, *range(3, 3 + rank), 2, *range(3 + rank, 3 + 2 * rank)]
        return np.transpose(split, order).reshape(self._groups, -1, self._sums[True].shape[1])


def _weights_of(node: Node) -> tuple[int, ...]:
    weights = constant(node.inputs[1])
    assert weights is not None
    return weights.shape
