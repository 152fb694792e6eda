"""Put float weights on integer grids."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from snnc.errors import InputError, Where
from snnc.ir import (
    AI_SNNC,
    DataType,
    Graph,
    Model,
    Node,
    attributes,
    constant,
    consumers_of,
    drop_if_unused,
    initializer,
    insert_node,
    make_node,
    replace_with,
    unique_name,
)
from snnc.passes.analysis import (
    Coded,
    Constant,
    Fixed,
    IntegerWeight,
    Membrane,
    Merged,
    TypeAnalysis,
    integer_range,
)
from snnc.passes.layers import Chooser
from snnc.passes.quantise.grids import WeightFormat, integer_grid, smallest_integer_type
from snnc.passes.quantise.streams import reaches_join
from snnc.pipeline.contract import NoMatch, PassResult, Rewrite, Semantics

__all__ = ["IntegerWeights"]

# A plane of eight bits of the fixed-point input: the exact float32 sums of the host layer run over it.
_PLANE_BOUND = 255
_HOST_MEMBRANE_BITS = 26


@dataclass(frozen=True)
class IntegerWeights:
    """Replace the float weights of every product by ``ai.snnc::Weight`` (semantics 1.7, 6.2).

    Each output channel gets its own step, chosen from its largest weight. The step of the input code is
    folded in before rounding, per input channel where it differs. Layers that write to a residual stream
    take powers of two as membrane steps, so that the join is a shift. The first layer (fixed-point input)
    takes the finest grid on which its sums stay exact, unless a rule says another, and its accumulator is
    rounded to 32 bits.

    Matches: Conv and MatMul with a coded or fixed-point data input and constant float weights.
    Leaves alone: products whose weights are integers already, products of two codes.
    Keeps: names, shapes, code books.

    Attributes:
        weights: ``int2`` … ``int16``, or ``wide``.
        layers: Rules for single layers; see `snnc.settings.LayerRule`.
    """

    weights: str = "int8"
    layers: tuple[str, ...] = ()

    name: ClassVar[str] = "integer-weights"
    requires: ClassVar[frozenset[str]] = frozenset()
    establishes: ClassVar[frozenset[str]] = frozenset()
    invalidates: ClassVar[frozenset[str]] = frozenset()
    semantics: ClassVar[Semantics] = "approximate"

    def run(self, model: Model) -> PassResult:
        """Quantise the weights; the result notes the signal-to-noise ratio of every layer."""
        form = WeightFormat(self.weights)
        chooser = Chooser(model, self.layers)
        analysis = TypeAnalysis(model)
        result = PassResult()
        for node in list(model.graph):
            if node.op_type in ("Conv", "MatMul") and node.domain == "":
                asked = chooser.weights(node).get("weights")
                wanted = WeightFormat(asked) if asked is not None else None
                self._convert(model.graph, node, analysis, form, wanted, result)
            analysis.visit(node)
            _round_host(model.graph, node, analysis, result)
        return result

    def _convert(
        self,
        graph: Graph,
        node: Node,
        analysis: TypeAnalysis,
        form: WeightFormat,
        asked: WeightFormat | None,
        result: PassResult,
    ) -> None:
        data, weight = analysis.kind(node.inputs[0]), analysis.kind(node.inputs[1])
        name = node.name or ""
        if isinstance(weight, IntegerWeight):
            result.not_matched.append(NoMatch("its weights are integers already", name))
            return
        if not isinstance(weight, Constant) or not isinstance(data, Coded | Merged | Fixed):
            result.not_matched.append(
                NoMatch("its weights are not constant, or its input carries no code", name)
            )
            return
        convolution = node.op_type == "Conv"
        array = weight.array.astype(np.float64)
        if not np.isfinite(array).all():
            raise InputError("SNN323", "has weights that are not finite", where=Where(node=name))
        divisor = _input_steps(node, data, array.shape)
        summed = tuple(range(1, array.ndim)) if convolution else (array.ndim - 2,)
        host = isinstance(data, Fixed)
        bound = _PLANE_BOUND if host else max(map(abs, integer_range(data)))
        integers, step = integer_grid(
            array * divisor,
            summed,
            asked or (WeightFormat("wide") if host else form),
            bound,
            powers_of_two=reaches_join(node.outputs[0]),
        )
        stem = f"{node.inputs[1].name if node.inputs[1] else name}"
        inputs = [
            initializer(graph, f"{stem}_integers", integers.astype(smallest_integer_type(integers))),
            initializer(graph, f"{stem}_numerator", step),
            initializer(graph, f"{stem}_denominator", divisor),
        ]
        made = make_node(
            graph,
            "Weight",
            inputs,
            domain=AI_SNNC,
            name=f"{stem}_quantised",
            dtype=DataType.FLOAT,
            shape=node.inputs[1].shape if node.inputs[1] else None,
            source=node,
        )
        replaced = node.inputs[1]
        node.replace_input_with(1, insert_node(graph, node, made))
        drop_if_unused(graph, replaced)
        analysis.adopt(made, array.shape)
        error = integers * step / divisor - array
        result.rewrites.append(Rewrite("integer weights", (), (made.name or "",)))
        result.notes.append(f"{name}: {_width(integers)} weights, {_decibel(array, error)}")


def _input_steps(node: Node, data: Coded | Merged | Fixed, shape: tuple[int, ...]) -> npt.NDArray[np.float64]:
    """Step of the input code that each weight reads, float64, broadcastable to the weight."""
    step = data.step.astype(np.float64)
    if step.size == 1:
        return step.reshape((1,) * len(shape))
    if node.op_type != "Conv":
        return step.reshape(-1, 1) if step.size == step.shape[-1] else np.full((1, 1), step.max())
    groups = int(attributes(node).get("group", 1))
    if any(size != 1 for axis, size in enumerate(step.shape) if axis != 1):
        return np.full((1,) * len(shape), step.max())
    if groups == 1:
        return np.ascontiguousarray(
            np.broadcast_to(step.reshape(-1), (shape[1],)).reshape((1, shape[1]) + (1,) * (len(shape) - 2))
        )
    per_group = np.broadcast_to(step.reshape(groups, 1, shape[1]), (groups, shape[0] // groups, shape[1]))
    return np.ascontiguousarray(per_group.reshape(shape[:2] + (1,) * (len(shape) - 2)))


def _round_host(graph: Graph, node: Node, analysis: TypeAnalysis, result: PassResult) -> None:
    """Round the 64-bit accumulator of a first layer, its bias moved behind the rounding."""
    if node.op_type not in ("Conv", "MatMul") or node.domain != "":
        return
    output = node.outputs[0]
    kind = analysis.kind(output)
    if not isinstance(kind, Membrane) or not kind.host:
        return
    if any(reader.op_type == "RoundMembrane" for reader in consumers_of(output)):
        return
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    if bias is not None:
        node.replace_input_with(2, None)
        node.resize_inputs(2)
        analysis.visit(node)
        kind = analysis.kind(output)
        if not isinstance(kind, Membrane):
            return
    shape = analysis.shape(output)
    shift = max(0, kind.bound.bit_length() - _HOST_MEMBRANE_BITS)
    step = initializer(graph, f"{node.name}_rounding_step", kind.step.astype(np.float64) * 2.0**shift)
    rounded = make_node(
        graph,
        "RoundMembrane",
        [output, step],
        domain=AI_SNNC,
        name=f"{node.name}_rounded",
        dtype=DataType.FLOAT,
        shape=output.shape,
        source=node,
    )
    added = [rounded]
    array = constant(bias)
    if array is not None:
        form = (1, -1) + (1,) * (kind.step.ndim - 2)
        moved = initializer(graph, f"{node.name}_bias", array.reshape(form))
        added.append(
            make_node(
                graph,
                "Add",
                [rounded.outputs[0], moved],
                name=f"{node.name}_biased",
                dtype=DataType.FLOAT,
                shape=output.shape,
                source=node,
            )
        )
    replace_with(graph, output, added[-1].outputs[0])
    output.name = unique_name(graph, f"{node.name}_accumulator")
    rounded.replace_input_with(0, output)
    graph.insert_after(node, added)
    for item in (node, *added):
        analysis.adopt(item, shape)
    drop_if_unused(graph, bias)
    result.rewrites.append(
        Rewrite("round the first layer's accumulator", (), tuple(n.name or "" for n in added))
    )


def _width(integers: npt.NDArray[np.int64]) -> str:
    """Width of signed integers that hold these values, as text."""
    largest = int(np.abs(integers).max(initial=0))
    return f"{largest.bit_length() + 1}-bit"


def _decibel(signal: npt.NDArray[np.float64], error: npt.NDArray[np.float64]) -> str:
    """Signal-to-quantisation-noise ratio, as text."""
    noise, power = float((error**2).sum()), float((signal**2).sum())
    if noise == 0.0:
        return "no error"
    return f"signal to noise {10 * np.log10(power / noise):.1f} dB" if power > 0 else "all zero"
