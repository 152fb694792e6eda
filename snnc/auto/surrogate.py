"""A float network in which codes and weights can be coarsened one by one: what candidates are judged on.

It is the network as it is just before quantisers are inserted. A code becomes five standard operators and a
table, which onnxruntime runs at about the speed of the float network; spikes are never simulated.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from snnc.coding import CodeBook
from snnc.ir import (
    AI_SNNC,
    DataType,
    Model,
    Node,
    Value,
    attributes,
    clone,
    constant,
    initializer,
    make_node,
    remove_node,
    replace_with,
)
from snnc.ops import attach_functions
from snnc.passes.quantise.channels import channels_of
from snnc.passes.quantise.grids import WeightFormat
from snnc.passes.quantise.sites import quantiser_sites
from snnc.runtimes import OnnxRuntime

__all__ = ["Coding", "Surrogate", "rounded_weights"]

Array = npt.NDArray[Any]
_BATCH = 16


@dataclass(frozen=True, eq=False)
class Coding:
    """A code for one tensor.

    Attributes:
        book: The code book.
        step: Its step, float32, of shape () or (channels,).
    """

    book: CodeBook
    step: Array


class Surrogate:
    """Runs a network with chosen codes and weight formats, everything else in float.

    Args:
        stage: The network before quantisers are inserted; not changed.
    """

    def __init__(self, stage: Model) -> None:
        self._stage = stage
        sites = quantiser_sites(stage)
        #: Tensors that will carry a code, and whether with one step for each place of their last axis.
        self.inserted = {
            site.value.name or "": _along_last(site.value, entry.axes)
            for site, entry in zip(sites, channels_of(stage, sites), strict=True)
        }
        #: Quantisers that are there already: numerators of softmax, or the model's own.
        self.present = {node.outputs[0].name or "": node for node in stage.graph if _is_quantiser(node)}
        self.products = {
            node.name or "": node
            for node in stage.graph
            if node.op_type in ("Conv", "MatMul")
            and node.domain == ""
            and constant(node.inputs[1]) is not None
        }

    def tapped(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Return what every code of the float network would code, by name of the code."""
        model = self._built({}, {})
        # What a quantiser coded has the name of the code where the quantiser is gone.
        names = [*self.inserted, *self.present]
        runtime = OnnxRuntime(model, "sound", batch_size=_BATCH)
        found = runtime.run(inputs, names)
        return {name: found[name] for name in names}

    def run(
        self, inputs: Mapping[str, Array], codes: Mapping[str, Coding], weights: Mapping[str, Array]
    ) -> Array:
        """Return the first output.

        Args:
            inputs: Samples by input name.
            codes: Codes by name; tensors without one stay in float.
            weights: Replaced weights by the name of their product.
        """
        runtime = OnnxRuntime(self._built(codes, weights), "all", batch_size=_BATCH)
        return runtime.run(inputs)[runtime.outputs[0]]

    def _built(self, codes: Mapping[str, Coding], weights: Mapping[str, Array]) -> Model:
        model = clone(self._stage)
        sites = quantiser_sites(model)
        graph = model.graph
        for node in list(graph):
            if _is_quantiser(node):
                name, source = node.outputs[0].name or "", node.inputs[0]
                assert source is not None
                coded = _coded(model, node, source, codes[name]) if name in codes else source
                replace_with(graph, node.outputs[0], coded)
                remove_node(graph, node)
            elif node.name is not None and node.name in weights and node.domain == "":
                node.replace_input_with(1, initializer(graph, f"{node.name}.rounded", weights[node.name]))
        for site in sites:
            name = site.value.name or ""
            if name not in codes:
                continue
            producer = site.value.producer()
            anchor = next(iter(graph)) if producer is None else None
            coded = _coded(model, anchor, site.value, codes[name], behind=producer)
            for reader, position in site.uses:
                reader.replace_input_with(position, coded)
        attach_functions(model)
        return model


def rounded_weights(node: Node, form: WeightFormat) -> Array:
    """Return the weights of a product rounded to a format, one step per output channel.

    Args:
        node: Conv or MatMul with constant weights.
        form: The format; ``wide`` changes nothing.
    """
    array = constant(node.inputs[1])
    assert array is not None
    if form.largest is None:
        return np.asarray(array)
    wide = array.astype(np.float64)
    axes = tuple(range(1, wide.ndim)) if node.op_type == "Conv" else (wide.ndim - 2,)
    step = np.abs(wide).max(axis=axes, keepdims=True) / form.largest
    step = np.where(step > 0, step, 1.0)
    return np.asarray((np.rint(wide / step) * step).astype(array.dtype))


def _coded(
    model: Model, before: Node | None, value: Value, coding: Coding, *, behind: Node | None = None
) -> Value:
    """Insert nearest-level coding of a value as standard operators; mid-points are half-integers."""
    graph, book = model.graph, coding.book
    stem = f"{value.name}.coarse"
    low, high = 2 * book.smallest - 1, 2 * book.largest + 1
    table = book.nearest(np.arange(low, high + 1) / 2 + 0.25).astype(np.float32)
    step = coding.step.astype(np.float32)
    steps: list[tuple[str, Sequence[npt.ArrayLike], dict[str, Any]]] = [
        ("Mul", [(2 / step).astype(np.float32)], {}),
        ("Floor", [], {}),
        ("Clip", [np.float32(low), np.float32(high)], {}),
        ("Sub", [np.float32(low)], {}),
        ("Cast", [], {"to": int(DataType.INT32)}),
        ("Gather", [table], {}),
        ("Mul", [step], {}),
    ]
    nodes: list[Node] = []
    current = value
    for index, (op, held, attrs) in enumerate(steps):
        constants = [
            initializer(graph, f"{stem}.{index}.{place}", np.asarray(array))
            for place, array in enumerate(held)
        ]
        inputs = [*constants, current] if op == "Gather" else [current, *constants]
        dtype = DataType.INT32 if op == "Cast" else DataType.FLOAT
        made = make_node(graph, op, inputs, attrs, name=f"{stem}.{index}", dtype=dtype, shape=value.shape)
        nodes.append(made)
        current = made.outputs[0]
    if behind is not None:
        graph.insert_after(behind, nodes)
    else:
        assert before is not None
        graph.insert_before(before, nodes)
    return current


def _along_last(value: Value, axes: tuple[int, ...]) -> bool:
    rank = None if value.shape is None else len(value.shape)
    return rank is not None and [axis % rank for axis in axes] == [rank - 1]


def _is_quantiser(node: Node) -> bool:
    return node.domain == AI_SNNC and node.op_type == "Quantise"


def book_of(node: Node) -> CodeBook:
    """Return the code book of a quantiser."""
    return CodeBook.from_attributes(attributes(node))
