"""Put float weights on integer grids."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from snnc.cores import over_cores
from snnc.errors import InputError, UsageError, Where
from snnc.ir import (
    AI_SNNC,
    DataType,
    Graph,
    Model,
    Node,
    attributes,
    drop_if_unused,
    initializer,
    insert_node,
    make_node,
)
from snnc.passes.analysis import (
    Coded,
    Constant,
    Fixed,
    IntegerWeight,
    Merged,
    TypeAnalysis,
    analyse,
    integer_range,
)
from snnc.passes.layers import Chooser
from snnc.passes.quantise.biases import add_bias, round_host
from snnc.passes.quantise.grids import WeightFormat, integer_grid, rows_at_once, smallest_integer_type
from snnc.passes.quantise.reconstruct import (
    InputObserver,
    Inputs,
    Reconstruction,
    Repair,
    repaired,
    write_repairs,
)
from snnc.passes.quantise.streams import merges_with_batch, reaches_join
from snnc.pipeline.contract import NoMatch, PassResult, Rewrite, Semantics

__all__ = ["REPAIRS", "IntegerWeights"]

#: Metadata of the model that record what calibration changed of weights and biases.
REPAIRS = "snnc.repairs"

# A plane of eight bits of the fixed-point input: the exact float32 sums of the host layer run over it.
_PLANE_BOUND = 255
# Noise beside the power of weights, and either of them, of which float32 gives the size.
_NOISY = 1e-9
_FAINT, _LOUD = 1e-25, 1e12


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
        reconstruct: ``none``; ``biases`` corrects the mean of each output channel; ``weights`` rounds for
            the least error of the sums, too. See `snnc.passes.quantise.reconstruct`.
        observer: What runs the model on calibration data, for ``reconstruct``.
        repairs: What was changed before, by product, used instead of observing.
    """

    weights: str = "int8"
    layers: tuple[str, ...] = ()
    reconstruct: Reconstruction = "none"
    observer: InputObserver | None = field(default=None, compare=False, repr=False)
    repairs: Mapping[str, Repair] | None = field(default=None, compare=False, repr=False)

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
        inputs = self._inputs(model)
        repairs: dict[str, Repair] = {}
        for node in list(model.graph):
            if node.op_type in ("Conv", "MatMul") and node.domain == "":
                asked = chooser.weights(node).get("weights")
                wanted = WeightFormat(asked) if asked is not None else form
                given = inputs.get(node.name or "")
                repair = self._convert(model.graph, node, analysis, wanted, asked is not None, given, result)
                if repair is not None:
                    repairs[node.name or ""] = repair
            analysis.visit(node)
            round_host(model.graph, node, analysis, result)
            if (node.name or "") in repairs:
                add_bias(model.graph, node, repairs[node.name or ""].bias, analysis, result)
        if self.reconstruct != "none":
            model.metadata_props[REPAIRS] = write_repairs(repairs)
        return result

    def _inputs(self, model: Model) -> Mapping[str, Inputs | Repair]:
        """Return what calibration saw of the products, or what was made of it before."""
        if self.reconstruct == "none":
            return {}
        if self.repairs is not None:
            return self.repairs
        if self.observer is None:
            raise UsageError(
                "SNN263",
                f"--reconstruct {self.reconstruct} needs calibration data",
                hint="snnc convert MODEL.onnx --calibrate x.npz",
            )
        kinds = analyse(model)
        names = [node.name or "" for node in model.graph if _may_be_repaired(node, kinds)]
        return self.observer(model, names, self.reconstruct == "weights") if names else {}

    def _convert(
        self,
        graph: Graph,
        node: Node,
        analysis: TypeAnalysis,
        wanted: WeightFormat,
        asked: bool,
        given: Inputs | Repair | None,
        result: PassResult,
    ) -> Repair | None:
        data, weight = analysis.kind(node.inputs[0]), analysis.kind(node.inputs[1])
        name = node.name or ""
        if isinstance(weight, IntegerWeight):
            result.not_matched.append(NoMatch("its weights are integers already", name))
            return None
        if not isinstance(weight, Constant) or not isinstance(data, Coded | Merged | Fixed):
            result.not_matched.append(
                NoMatch("its weights are not constant, or its input carries no code", name)
            )
            return None
        convolution = node.op_type == "Conv"
        array = weight.array
        if not np.isfinite(array).all():
            raise InputError("SNN323", "has weights that are not finite", where=Where(node=name))
        divisor = _input_steps(node, data, array.shape)
        summed = tuple(range(1, array.ndim)) if convolution else (array.ndim - 2,)
        if len(summed) < array.ndim - 1 and merges_with_batch(node.outputs[0]):
            summed = tuple(range(array.ndim - 1))
        host = isinstance(data, Fixed)
        bound = _PLANE_BOUND if host else max(map(abs, integer_range(data)))
        form = WeightFormat("wide") if host and not asked else wanted
        integers, step = integer_grid(
            array,
            summed,
            form,
            bound,
            powers_of_two=reaches_join(node.outputs[0]),
            times=divisor,
        )
        repair = given if isinstance(given, Repair) else None
        if isinstance(given, Inputs):
            nearest = integers.astype(np.int64)
            repair = repaired(
                array.astype(np.float64), divisor, nearest, step, given, form.largest, convolution=convolution
            )
        if repair is not None and repair.moved is not None:
            integers = integers.astype(np.int64) + repair.moved
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
        result.rewrites.append(Rewrite("integer weights", (), (made.name or "",)))
        result.notes.append(
            f"{name}: {_width(integers)} weights, {_fidelity(array, integers, step, divisor)}"
        )
        return repair


def _may_be_repaired(node: Node, kinds: TypeAnalysis) -> bool:
    """Whether a product reads a code, has float weights of its own, and one bias for each output channel."""
    if node.op_type not in ("Conv", "MatMul") or node.domain:
        return False
    data, weight = kinds.kind(node.inputs[0]), kinds.kind(node.inputs[1])
    if not isinstance(weight, Constant) or not isinstance(data, Coded):
        return False
    return node.op_type == "Conv" or (weight.array.ndim == 2 and len(kinds.shape(node.inputs[0])) > 1)  # type: ignore[arg-type]


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


def _width(integers: npt.NDArray[Any]) -> str:
    """Width of signed integers that hold these values, as text."""
    largest = max(int(integers.max(initial=0)), -int(integers.min(initial=0)))
    return f"{largest.bit_length() + 1}-bit"


def _fidelity(
    weights: npt.NDArray[Any], integers: npt.NDArray[Any], step: npt.NDArray[Any], divisor: npt.NDArray[Any]
) -> str:
    """Signal-to-quantisation-noise ratio of integers times steps, as text."""
    # Steps of both inputs and outputs are a number for each weight: first one, then the other.
    steps = [step / divisor] if 1 in (step.size, divisor.size) else [step, 1 / divisor]
    noise, power = _noise(weights, integers, steps, np.float32)
    if not max(_FAINT, power * _NOISY) < noise < _LOUD or power > _LOUD:
        # Too little, or too much, for float32.
        noise, power = _noise(weights, integers, steps, np.float64)
    if noise == 0.0:
        return "no error"
    return f"signal to noise {10 * np.log10(power / noise):.1f} dB" if power > 0 else "all zero"


def _noise(
    weights: npt.NDArray[Any],
    integers: npt.NDArray[Any],
    steps: list[npt.NDArray[Any]],
    dtype: npt.DTypeLike,
) -> tuple[float, float]:
    """Return the sums of squares of what integers times steps miss weights by, and of these."""
    with np.errstate(over="ignore", under="ignore"):
        factors = [np.broadcast_to(step.astype(dtype), weights.shape) for step in steps]

    # Each thread has a state of its own for what goes beyond the type, which is worked out in a wider one.
    @np.errstate(over="ignore", under="ignore", invalid="ignore")
    def sums(part: slice) -> tuple[float, float]:
        # Converted first: numpy multiplies numbers of two types at half the speed.
        error = integers[part].astype(dtype)
        for factor in factors:
            error *= factor[part]
        exactly = weights[part].astype(dtype, copy=False)
        error -= exactly
        # No product of BLAS: its last bits depend on the number of threads, which wait for one another.
        return float(np.square(error, out=error).sum()), float(np.square(exactly).sum())

    found = over_cores(sums, rows_at_once(weights))
    noise, power = (sum(column) for column in zip(*found, strict=True)) if found else (0.0, 0.0)
    return noise, power
