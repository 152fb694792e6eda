"""How far a quantised network may be from what it means, computed and not fitted.

A converted network and its source compute the same real numbers, but for two things: float32 rounds, and
joins whose steps are no multiples of each other are aligned, which the conversion notes join by join. Both
are followed through the network in float64, element by element, from one quantiser to the next: behind a
quantiser all is equal again, unless a value lay so close to the edge between two codes that the deviation
reaches it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

Array = npt.NDArray[Any]
#: One rounding of float32, twice.
ONCE = 2.0**-23
#: Notes give two digits of an error.
_DIGITS = 1.06
#: The largest slope of an activation, and what float32 functions are off by in absolute terms.
_SLOPES = {"Relu": 1.0, "LeakyRelu": 1.0, "Tanh": 1.0, "Sigmoid": 0.25, "HardSigmoid": 0.2, "HardSwish": 1.5,
           "Erf": 1.1284, "Clip": 1.0}  # fmt: skip
_FUNCTION = 2.0**-21
_SAME = {"MaxPool", "Flatten", "Reshape", "Transpose"}
_MEANS = {"AveragePool", "GlobalAveragePool", "ReduceMean"}
#: What products of roundings add to their sum, for sums of fewer than 10,000 terms.
_HIGHER = 2.0**-10
#: Multiples of this below 2**11 are added in float32 without rounding, in any order.
_LATTICE = 2.0**-12


@dataclass(frozen=True)
class Claim:
    """What a conversion says of one side of a join.

    Attributes:
        join: Which of the network's joins, in its order.
        side: Operand, None for both.
        relative: Error of its scale.
        absolute: Error from rounding it.
    """

    join: int
    side: int | None
    relative: float = 0.0
    absolute: float = 0.0


def joins(proto: onnx.ModelProto) -> list[onnx.NodeProto]:
    """Return the additions of two computed values, in order."""
    fixed = {tensor.name for tensor in proto.graph.initializer}
    return [node for node in proto.graph.node if node.op_type == "Add" and not fixed.intersection(node.input)]


def claims(proto: onnx.ModelProto, notes: Iterable[str]) -> list[Claim]:
    """Read what the passes noted about the joins of a source."""
    places = {node.name: (place, list(node.input)) for place, node in enumerate(joins(proto))}
    found = []
    for note in notes:
        match = re.match(
            r"(\S+): (?:(\S+) is (?:the sum of (\d+) shifted copies, )?scaled by 1 ± ([\d.e+-]+)"
            r"(?:, each rounded to multiples of ([\d.e+-]+))?"
            r"|its (first|second) operand is rounded to multiples of ([\d.e+-]+))",
            note,
        )
        if match is None:
            continue
        name, source, copies, scaled, grid, which, multiples = match.groups()
        assert name in places, f"a claim about {name}, which is no join: {note}"
        place, inputs = places[name]
        if which is not None:
            found.append(Claim(place, ("first", "second").index(which), 0.0, float(multiples) / 2 * _DIGITS))
            continue
        side = inputs.index(source) if source in inputs else None
        rounded = (int(copies) + 1) * float(grid) / 2 if copies else 0.0
        found.append(Claim(place, side, float(scaled) * _DIGITS, rounded * _DIGITS))
    return found


@dataclass
class Deviations:
    """Values of a network of standard operators in float64, and how far another evaluation may be.

    Attributes:
        proto: The network, its constants in float64.
        claims: What the conversion says of the joins.
        sums: Whether the other evaluation adds in float32; otherwise its sums are exact, and float32 are only
            the constants.
        values: Values by name.
        sizes: Sums of the absolute terms of each value since the last quantiser.
        errors: How far each value may be off, if all codes before it are right.
    """

    proto: onnx.ModelProto
    claims: Sequence[Claim] = ()
    sums: bool = True
    values: dict[str, Array] = field(default_factory=dict)
    sizes: dict[str, Array] = field(default_factory=dict)
    errors: dict[str, Array] = field(default_factory=dict)
    _summed: set[str] = field(default_factory=set)

    def run(self, feeds: Mapping[str, Array], known: Deviations | None = None) -> Deviations:
        """Evaluate on some samples; values that are known already are taken over."""
        graph = self.proto.graph
        fixed = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
        places = {node.output[0]: place for place, node in enumerate(joins(self.proto))}
        if known is None:
            wide = onnx.ModelProto()
            wide.CopyFrom(self.proto)
            names = [node.output[0] for node in graph.node]
            del wide.graph.output[:]
            wide.graph.output.extend([onnx.ValueInfoProto(name=name) for name in names])
            computed = ReferenceEvaluator(wide).run(None, dict(feeds))
            self.values.update({**fixed, **feeds, **dict(zip(names, map(np.asarray, computed), strict=True))})
        else:
            self.values = known.values
        for name, array in (*fixed.items(), *feeds.items()):
            self.sizes[name] = np.abs(np.asarray(array, dtype=np.float64))
            self.errors[name] = np.zeros_like(self.sizes[name])
        self._summed = {node.output[0] for node in graph.node if node.op_type in ("MatMul", "Conv")}
        for node in graph.node:
            size, error = self._follow(node, fixed)
            if node.output[0] in places:
                for claim in self.claims:
                    if claim.join == places[node.output[0]]:
                        sides = [claim.side] if claim.side is not None else [0, 1]
                        error = error + claim.relative * sum(self.sizes[node.input[s]] for s in sides)
                        error = error + claim.absolute
            self.sizes[node.output[0]], self.errors[node.output[0]] = size, error
        return self

    def _follow(self, node: onnx.NodeProto, fixed: Mapping[str, Array]) -> tuple[Array, Array]:
        """Return size and error of what a node gives."""
        kind, value = node.op_type, np.abs(self.values[node.output[0]])
        first = node.input[0]
        size, error = self.sizes[first], self.errors[first]
        if kind in ("Round", "Floor"):
            return value, np.zeros_like(value)
        if kind in _SAME:
            return self._apply(node, size), self._apply(node, error)
        if kind in _MEANS:
            sizes, errors = self._apply(node, size), self._apply(node, error)
            if self._exact(node):
                return sizes, errors
            terms = self._apply(node, np.abs(self.values[first]) + error)
            return sizes, errors + self._sum(self._terms(node), terms, value + errors)
        if kind in _SLOPES:
            # Values of a clip are no function's, and are not rounded.
            slope, off = _SLOPES[kind], 0.0 if kind in ("Clip", "Relu") else _FUNCTION
            return np.maximum(slope * size, value), slope * error + off * np.maximum(1.0, value)
        if kind in ("Conv", "BatchNormalization"):
            return self._linear(node, fixed, size, error)
        second = node.input[1]
        if kind == "Add":
            total = size + self.sizes[second]
            both = error + self.errors[second]
            # A constant is rounded too.
            held = sum(np.abs(fixed[name]) for name in node.input if name in fixed)
            # The bias of an exact sum is the last step of its readout: one rounding of each.
            once = ONCE if self.sums or second not in fixed or first not in self._summed else ONCE / 2
            return total, both + (0 if self._exact(node) else once) * (value + both + held)
        if kind == "MatMul":
            other, wrong = self.sizes[second], self.errors[second]
            total = size @ other
            linear = error @ other + size @ wrong + error @ wrong
            if self._exact(node):
                return total, linear
            terms = (np.abs(self.values[first]) + error) @ (np.abs(self.values[second]) + wrong)
            return total, linear + self._sum(size.shape[-1], terms, value + linear)
        assert kind in ("Mul", "Div"), kind
        if kind == "Div" or second in fixed or first in fixed:
            constant, varying = (second, first) if second in fixed else (first, second)
            factor = np.abs(self.values[constant].astype(np.float64))
            factor = 1 / factor if kind == "Div" else factor
            total = self.sizes[varying] * factor
            linear = self.errors[varying] * factor
            # Where sums are exact, so are the products that they add: a rounded constant is all.
            ends = self.sums or node.output[0] in {each.name for each in self.proto.graph.output}
            rounded = ONCE if ends else ONCE / 2
            if bool(np.all(np.frexp(factor)[0] == 0.5)):
                rounded = 0.0
            return total, linear + rounded * (value + linear)
        left, right = np.abs(self.values[first]), np.abs(self.values[second])
        other = self.errors[second]
        return size * right, error * right + left * other + error * other + ONCE * left * right

    def _exact(self, node: onnx.NodeProto) -> bool:
        """Whether float32 computes a sum of exact numbers without rounding."""
        held = [name for name in node.input if self.values[name].dtype == np.float64]
        # Products of numbers on a coarser lattice are on this one.
        unit = _LATTICE**0.5 if node.op_type == "MatMul" else _LATTICE
        return (
            not any(self.errors[name].any() for name in held)
            and all(_on_lattice(self.values[name], unit) for name in held)
            and _on_lattice(self.values[node.output[0]], _LATTICE)
        )

    def _linear(
        self, node: onnx.NodeProto, fixed: Mapping[str, Array], size: Array, error: Array
    ) -> tuple[Array, Array]:
        if node.op_type == "Conv":
            weight = np.abs(fixed[node.input[1]])
            bias = [np.abs(fixed[name]) for name in node.input[2:]]
            total = self._apply(node, size, weight, *bias)
            linear = self._apply(node, error, weight, *(0 * each for each in bias))
            terms = self._apply(node, np.abs(self.values[node.input[0]]) + error, weight, *bias)
            value = np.abs(self.values[node.output[0]]) + linear
            own = bias[0].reshape(-1, *[1] * (value.ndim - 2)) if bias else 0.0
            return total, linear + self._sum(
                self._terms(node) + len(bias), terms, value + own, biased=bool(bias)
            )
        scale, shift, mean, variance = (fixed[name].reshape(-1, 1, 1) for name in node.input[1:])
        factor = np.abs(scale) / np.sqrt(variance + 1e-5)
        total = factor * (size + np.abs(mean)) + np.abs(shift)
        return total, factor * error + self._sum(2, total, total, biased=True)

    def _sum(self, count: int, terms: Array, value: Array, *, biased: bool = False) -> Array:
        """Return the error of a sum of products added in any order.

        An addition is off by half a unit of what has been added so far, and no partial sum is larger than
        all terms of one sign together; constants and products are off by half a unit of each term. Where sums
        are exact, their scale is a rounded constant, and what is read out is rounded thrice, by a number, a
        product and a bias if there is one: that is what either is compared with.

        Args:
            count: Number of terms.
            terms: Sum of the absolute terms.
            value: Magnitude of the sum, of its bias added to it.
            biased: Whether the sum has a bias of its own.
        """
        exact = 2 * ONCE * value
        if not self.sums:
            return exact if biased else exact * 3 / 4
        largest = (terms + value) / 2
        return exact + (1 + _HIGHER) * 2.0**-24 * ((count - 1) * largest + 2 * terms)

    def _terms(self, node: onnx.NodeProto) -> int:
        """Return how many numbers a convolution or a mean adds."""
        shape = self.values[node.input[0]].shape
        if node.op_type == "Conv":
            return int(self.values[node.input[1]][0].size)
        if node.op_type == "AveragePool":
            return int(np.prod(helper.get_node_attr_value(node, "kernel_shape")))
        return int(np.prod(shape[2:])) if node.op_type == "GlobalAveragePool" else shape[1]

    def _apply(self, node: onnx.NodeProto, *arrays: Array) -> Array:
        """Run one node on other arrays; those not given are as they are."""
        held = [self.values[name] for name in node.input]
        held[: len(arrays)] = arrays
        return run_node(node, held, self.proto)[0]


def run_node(node: onnx.NodeProto, arrays: Sequence[Array], proto: onnx.ModelProto) -> list[Array]:
    """Evaluate one node of a model with ONNX's own reference."""
    kinds = [helper.np_dtype_to_tensor_dtype(array.dtype) for array in arrays]
    inputs = {name: (kind, array) for name, kind, array in zip(node.input, kinds, arrays, strict=True)}
    graph = helper.make_graph(
        [node],
        "one",
        [helper.make_tensor_value_info(name, kind, None) for name, (kind, _) in inputs.items()],
        [onnx.ValueInfoProto(name=name) for name in node.output],
    )
    model = helper.make_model(graph, opset_imports=proto.opset_import, ir_version=10)
    feeds = {name: array for name, (_, array) in inputs.items()}
    return [np.asarray(each) for each in ReferenceEvaluator(model).run(None, feeds)]


def _on_lattice(array: Array, unit: float) -> bool:
    """Whether float32 adds some of these numbers without rounding."""
    units = array / unit
    return bool(np.all(units == np.rint(units)) and np.all(np.abs(array) < 2.0**11))


def on_edges(
    found: Deviations, rounded: Iterable[tuple[str, int, int]], shift: float, count: int
) -> npt.NDArray[np.bool_]:
    """Tell which samples have a value so near the edge between two codes that it may fall either way.

    Args:
        found: The network.
        rounded: Inputs of all roundings, and the lowest and highest code.
        shift: What brings edges to whole numbers.
        count: Samples.
    """
    reached = np.zeros(count, bool)
    for name, low, high in rounded:
        shifted = found.values[name] + shift
        edge = np.rint(shifted)
        # Edges beyond the lowest and the highest code are none.
        real = (edge > low) & (edge <= high)
        # A value that is exact falls as the source says, on an edge as well.
        near = (np.abs(shifted - edge) <= found.errors[name]) & (found.errors[name] > 0) & real
        reached |= near.reshape(count, -1).any(axis=1)
    return reached
