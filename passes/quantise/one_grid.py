"""One step for all channels of a membrane, without a bias, as small as sums of squares allow."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from math import floor, log2
from typing import Any

import numpy as np
import numpy.typing as npt

from snnc.ir import (
    AI_SNNC,
    DataType,
    Graph,
    Node,
    Shape,
    Value,
    drop_if_unused,
    initializer,
    make_node,
    remove_node,
    replace_with,
)
from snnc.passes.analysis import Membrane, TypeAnalysis, as_membrane
from snnc.passes.analysis.exact import ExactArray, floats
from snnc.passes.analysis.rational import rationals
from snnc.passes.analysis.sums import power_of_two
from snnc.pipeline.contract import PassResult, Rewrite

__all__ = ["Chain", "one_grid", "rescale"]

_REACH = 2**31
#: Bits of the ratio of two channels' steps that are no power of two apart, and how many of them are given up
#: where they would cost the membrane its own low bits: half a bit of seven is 48 dB below a channel.
_PRECISION, _LEAST_PRECISION = 12, 7
#: The same for rows that are normalised each by itself: a factor of a row changes nothing but its epsilon.
_ROW_PRECISION = 3
_RESCALED_BITS = 29
_INTEGER_BITS = 30


class Chain:
    """Appends nodes to a value, each typed at once, to stand where an old node stood or in front of it.

    Args:
        graph: Graph of both.
        analysis: Types of its values.
        node: The old node; what is appended lies in front of it and is named for it.
        value: What is appended to.
        declared: Shape of what is appended, if it is not that of the node's result.
    """

    def __init__(
        self, graph: Graph, analysis: TypeAnalysis, node: Node, value: Value, declared: Shape | None = None
    ) -> None:
        self.graph, self.analysis, self.node, self.value = graph, analysis, node, value
        self.declared = node.outputs[0].shape if declared is None else declared
        self.shape = analysis.shape(value)
        self.nodes: list[Node] = []

    def membrane(self) -> Membrane | None:
        """Return the kind of the last value as a membrane."""
        return as_membrane(self.analysis.kind(self.value))

    def step(self, op: str, others: dict[str, npt.NDArray[Any]], attrs: dict[str, Any] | None = None) -> None:
        """Append one node that reads the last value and constants."""
        name = f"{self.node.name}_{op.lower()}"
        held = [initializer(self.graph, f"{name}_{label}", array) for label, array in others.items()]
        self.append(op, [self.value, *held], attrs, AI_SNNC if op not in ("Mul", "Add") else "")

    def append(
        self, op: str, inputs: Sequence[Value], attrs: dict[str, Any] | None = None, domain: str = AI_SNNC
    ) -> None:
        """Append one node with these inputs."""
        made = make_node(
            self.graph,
            op,
            inputs,
            attrs,
            domain=domain,
            name=f"{self.node.name}_{op.lower()}",
            dtype=DataType.FLOAT,
            shape=self.declared,
            source=self.node,
        )
        self.graph.insert_before(self.node, made)
        self.analysis.adopt(made, self.shape)
        self.nodes.append(made)
        self.value = made.outputs[0]

    def discard(self) -> None:
        """Remove what was appended: the old node stays."""
        for node in reversed(self.nodes):
            inputs = [value for value in node.inputs if value is not None]
            remove_node(self.graph, node)
            for value in inputs:
                drop_if_unused(self.graph, value)

    def finish(self, rule: str, result: PassResult) -> None:
        """Put the last value in the place of the old node's result."""
        inputs = [value for value in self.node.inputs if value is not None]
        kind = self.analysis.kind(self.value)
        replace_with(self.graph, self.node.outputs[0], self.value)
        remove_node(self.graph, self.node)
        for value in inputs:
            drop_if_unused(self.graph, value)
        self.analysis.set_kind(self.value, kind)
        self.analysis.set_shape(self.value, self.shape)
        result.rewrites.append(
            Rewrite(rule, (self.node.name or "",), tuple(node.name or "" for node in self.nodes))
        )


def one_grid(chain: Chain, first: int, count: int) -> str:
    """Bring a membrane onto one step without bias, small enough for its sums of squares.

    Channels whose steps are far apart keep what they can: low bits are dropped where steps are fine, and
    coarse steps are divided.

    Args:
        chain: Ends in the membrane; what is needed is appended.
        first: First of the axes that are normalised together.
        count: Elements that are normalised together.

    Returns:
        What was lost beyond the rounding, for the record.
    """
    kind = chain.membrane()
    if kind is None:
        return ""
    steps = np.asarray(kind.step, dtype=object)
    line = np.empty(steps.size, dtype=object)
    line[:] = rationals(np.abs(floats(steps)[0]).reshape(-1).tolist())
    held: ExactArray = line.reshape(steps.shape)
    fine: Fraction = min(held.reshape(-1).tolist())
    ratios = held / fine
    reaches = np.maximum(np.abs(kind.low), np.abs(kind.high))
    # One number stands for all places whose ratio is the same.
    alike = tuple(axis for axis, size in enumerate(ratios.shape) if size == 1)
    if reaches.ndim == ratios.ndim:
        reaches = reaches.max(axis=alike, keepdims=True)

    def surplus(bits: int) -> int:
        reach = int((reaches * _rounded(ratios, bits)).max())
        return max(0, reach.bit_length() - _RESCALED_BITS)

    lost = ""
    bits = 0
    if any(power_of_two(ratio) is None for ratio in ratios.reshape(-1).tolist()):
        rows = all(size == 1 for size in held.shape[first:])
        bits, least = (_ROW_PRECISION,) * 2 if rows else (_PRECISION, _LEAST_PRECISION)
        bits -= min(bits - least, surplus(bits))
        factors = _rounded(ratios, bits)
        error = max(abs(float(f / (r * 2**bits)) - 1) for f, r in zip(factors.flat, ratios.flat, strict=True))
        lost = f", channels scaled by 1 ± {error:.1e}" if error else ""
    early = surplus(bits)
    if bool(np.any(held != steps)):
        rescale(chain, np.where(steps < 0, -1, 1).astype(object), held)
    if early:
        held = _dropped(chain, held, early)
    if held.size > 1:
        step = fine * Fraction(2) ** (early - bits)
        rescale(chain, _rounded(held / step, 0), np.full((1,) * held.ndim, step, dtype=object))
    after = chain.membrane()
    if after is None or after.step.size != 1:
        return lost
    late = _late_shift(after, count)
    if late or bool(np.any(after.bias != 0)):
        chain.step("RoundMembrane", {"step": (after.step * 2**late).astype(np.float64)})
    return lost


def _dropped(chain: Chain, steps: ExactArray, bits: int) -> ExactArray:
    """Round low bits off all channels; coarse steps are divided first, so that their channels lose nothing.

    Returns:
        The new steps, each a power of two from what it was.
    """
    kind = chain.membrane()
    while bits and kind is not None:
        # In float64: a bit more or less of room does not matter.
        reach = np.maximum(np.abs(kind.low), np.abs(kind.high)).astype(np.float64)
        reach = reach + np.abs((kind.bias / kind.step).astype(np.float64))
        reach = np.broadcast_to(reach, np.broadcast_shapes(reach.shape, steps.shape))
        alike = tuple(axis for axis, size in enumerate(steps.shape) if size == 1)
        room = np.maximum(0, _INTEGER_BITS - np.frexp(reach.max(axis=alike, keepdims=True))[1])
        ratios = steps / min(steps.reshape(-1).tolist())
        wanted = _each(ratios, lambda ratio: floor(log2(ratio)))
        shifts = np.minimum(wanted, room)
        cut = [int(shift) for shift in shifts[wanted > room] if shift]
        drop = min([bits, *cut])
        if bool(np.any(shifts > 0)):
            factors = _each(shifts, lambda shift: 2 ** int(shift))
            steps = steps / factors
            rescale(chain, factors, steps)
        steps = steps * 2**drop
        chain.step("RoundMembrane", {"step": steps.astype(np.float64)})
        bits -= drop
        kind = chain.membrane()
    return steps


def _each(array: npt.NDArray[Any], function: Any) -> ExactArray:
    return np.asarray(np.vectorize(function, otypes=[object])(array), dtype=object)


def _rounded(ratios: ExactArray, bits: int) -> ExactArray:
    """Return positive ratios times a power of two, rounded to integers that fit 31 bits."""
    # What does not fit belongs to a channel that is always zero: all others were made to fit.
    near, certain = floats(ratios)
    scaled = np.ldexp(near, bits)
    if certain and bool((scaled < 2.0**52).all()) and bool((near > 2.0**-900).all()):
        # Both round halves to even.
        return np.asarray(np.minimum(np.rint(scaled), 2.0**31 - 1).astype(np.int64).astype(object))
    return _each(ratios, lambda ratio: min(round(ratio * 2**bits), 2**31 - 1))


def _late_shift(kind: Membrane, count: int) -> int:
    """Return how many low bits to drop so that count · |r| < 2^31, the bias included."""
    bias = max(abs(x.numerator // x.denominator) for x in (kind.bias / kind.step).reshape(-1).tolist()) + 1
    shift = 0
    while count * (((kind.bound + bias) >> shift) + 1) >= _REACH:
        shift += 1
    return shift


def rescale(chain: Chain, factors: ExactArray, steps: ExactArray) -> None:
    """Multiply a membrane by integers, which then count in new steps."""
    kind = chain.membrane()
    if kind is not None:
        chain.step(
            "Rescale",
            {
                "multiplier": factors.astype(np.int32),
                "step": steps.astype(np.float64),
                "source_step": kind.step.astype(np.float64),
            },
        )
