"""Pass ``introduce-gains``: normalisations and quotients in the form a neuron with a gain takes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import ceil, prod
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from snnc.ir import (
    AI_SNNC,
    DataType,
    Graph,
    Model,
    Node,
    Value,
    attributes,
    constant,
    drop_if_unused,
    initializer,
    make_node,
    replace_with,
)
from snnc.ir.rewrite import set_attribute
from snnc.passes.analysis import FloatValue, Membrane, TypeAnalysis, as_membrane
from snnc.passes.analysis.exact import ExactArray
from snnc.passes.analysis.sums import power_of_two
from snnc.pipeline.contract import NoMatch, PassResult, Rewrite, Semantics

__all__ = ["IntroduceGains"]

_REACH = 2**31
#: Bits of the ratio of two channels' steps that are no power of two apart.
_PRECISION = 12
_RESCALED_BITS = 29
#: A quotient of fewer bits behind the point would be coarser than codes.
_FEWEST_BITS = 8
_NORMS = {"LayerNormalization": 1, "RMSNormalization": 0, "RMSNorm": 0}


class _Chain:
    """Appends nodes to a value, each typed at once, to stand where an old node stood."""

    def __init__(self, graph: Graph, analysis: TypeAnalysis, node: Node, value: Value) -> None:
        self.graph, self.analysis, self.node, self.value = graph, analysis, node, value
        self.shape = analysis.shape(value)
        self.added: list[str] = []

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
            shape=self.node.outputs[0].shape,
            source=self.node,
        )
        self.graph.insert_before(self.node, made)
        self.analysis.adopt(made, self.shape)
        self.added.append(made.name or "")
        self.value = made.outputs[0]

    def finish(self, rule: str, result: PassResult) -> None:
        """Put the last value in the place of the old node's result."""
        inputs = [value for value in self.node.inputs if value is not None]
        kind = self.analysis.kind(self.value)
        replace_with(self.graph, self.node.outputs[0], self.value)
        self.graph.remove(self.node, safe=True)
        for value in inputs:
            drop_if_unused(self.graph, value)
        self.analysis.set_kind(self.value, kind)
        self.analysis.set_shape(self.value, self.shape)
        result.rewrites.append(Rewrite(rule, (self.node.name or "",), tuple(self.added)))


@dataclass(frozen=True)
class IntroduceGains:
    """Write LayerNormalization, RMSNormalization and a division by codes as integers divided by integers.

    A normalised membrane is brought onto one grid: its bias becomes integers, its channels one step, and low
    bits are dropped until sums of squares fit 62 bits in the worst case. The quotient is rounded down to
    2^-F, which is as fine as the thresholds of the neuron that reads it (semantics 6.2).

    Matches: LayerNormalization and RMSNormalization of a membrane with constant scale; Div of a membrane by a
    sum of codes.
    Leaves alone: normalisations of the network input, whose statistics are read elsewhere, or with scales
    that are not constant.
    Keeps: names and shapes.

    Attributes:
        fraction_bits: F, bits of the quotient behind the point.
    """

    fraction_bits: int = 12

    name: ClassVar[str] = "introduce-gains"
    requires: ClassVar[frozenset[str]] = frozenset()
    establishes: ClassVar[frozenset[str]] = frozenset()
    invalidates: ClassVar[frozenset[str]] = frozenset()
    semantics: ClassVar[Semantics] = "approximate"

    def run(self, model: Model) -> PassResult:
        """Rewrite; the result notes the grid of each normalisation."""
        analysis = TypeAnalysis(model)
        result = PassResult()
        for node in list(model.graph):
            reason: str | None = None
            if node.op_type in _NORMS and node.domain in ("", AI_SNNC):
                reason = self._normalise(model.graph, node, analysis, result)
            elif node.op_type == "Div" and node.domain == "" and constant(node.inputs[1]) is None:
                reason = self._divide(model.graph, node, analysis, result)
            if reason is not None:
                result.not_matched.append(NoMatch(reason, node.name or ""))
            if node.graph is not None:
                analysis.visit(node)
        return result

    def _divide(self, graph: Graph, node: Node, analysis: TypeAnalysis, result: PassResult) -> str | None:
        numerator, gain = node.inputs[0], node.inputs[1]
        kinds = [as_membrane(analysis.kind(value)) for value in (numerator, gain)]
        top, bottom = kinds
        if numerator is None or gain is None or top is None or bottom is None or top.host:
            return "it divides values without a code"
        chain = _Chain(graph, analysis, node, numerator)
        steps = [
            initializer(graph, f"{node.name}_{label}_step", np.abs(kind.step.astype(np.float64)))
            for label, kind in (("numerator", top), ("gain", bottom))
        ]
        # Where the divisor has finer steps, integers divide to less: more bits stand behind the point. Where
        # the quotient would leave 32 bits, fewer do.
        ratio = max((top.step / bottom.step.min()).reshape(-1).tolist())
        bits = self.fraction_bits + (max(0, (int(ratio) - 1).bit_length()) if ratio > 1 else 0)
        chain.append("FloorQuotient", [numerator, gain, *steps], {"fraction_bits": bits})
        made = chain.value.producer()
        while made is not None and isinstance(analysis.kind(chain.value), FloatValue) and bits > _FEWEST_BITS:
            bits -= 1
            set_attribute(made, "fraction_bits", bits)
            analysis.adopt(made, chain.shape)
        chain.finish("gain of a quotient", result)
        return None

    def _normalise(self, graph: Graph, node: Node, analysis: TypeAnalysis, result: PassResult) -> str | None:
        source = node.inputs[0]
        scale = constant(node.inputs[1]) if len(node.inputs) > 1 else None
        attrs = attributes(node)
        own = node.domain == AI_SNNC
        if own:
            attrs["epsilon"] = float(np.max(np.asarray(constant(node.inputs[2]))))
        offset = constant(node.inputs[2]) if len(node.inputs) > 2 and not own else None
        has_offset = len(node.inputs) > 2 and node.inputs[2] is not None and not own
        if source is None or scale is None or (has_offset and offset is None):
            return "its scale or bias is not constant"
        if any(value.uses() for value in node.outputs[1:]):
            return "its mean or deviation is read elsewhere"
        rank = len(analysis.shape(source))
        first = int(attrs.get("axis", -1)) % rank
        chain = _Chain(graph, analysis, node, source)
        count = prod(chain.shape[first:])
        kind = chain.membrane()
        if kind is None or kind.host:
            return "its input carries no code: a normalisation of the network input has no form"
        if first == 0 or bool(np.any(kind.step == 0)):
            return "it normalises the batch" if first == 0 else "a channel of its input is always zero"
        error = _one_grid(chain, count)
        kind = chain.membrane()
        if kind is None or kind.step.size != 1:
            return "its input cannot be brought onto one grid"
        step: Fraction = kind.step.reshape(-1)[0]
        epsilon = ceil(Fraction(float(attrs.get("epsilon", 1e-5))) * count**2 / step**2)
        sign = np.where(scale < 0, -1, 1).astype(np.int32)
        norm = {
            "axes": list(range(first, rank)),
            "centred": _NORMS[node.op_type],
            "epsilon": epsilon,
            "fraction_bits": self.fraction_bits,
        }
        if epsilon >= 2**61:
            return "its epsilon is too large for the grid of its input"
        chain.step("Normalise", {"sign": sign, "step": np.array(float(step))}, norm)
        chain.step("Mul", {"scale": np.abs(scale)})
        if offset is not None:
            chain.step("Add", {"offset": offset})
        reach = kind.bound
        result.notes.append(
            f"{node.name}: input in steps of {float(step):.2e}, at most {reach.bit_length()} bits{error}"
        )
        chain.finish("gain of a normalisation", result)
        return None


def _one_grid(chain: _Chain, count: int) -> str:
    """Bring a membrane onto one step without bias, small enough for its sums of squares.

    Returns:
        What was lost beyond the rounding, for the record.
    """
    kind = chain.membrane()
    if kind is None:
        return ""
    steps = np.asarray(kind.step, dtype=object)
    held = np.vectorize(lambda step: Fraction(float(step)), otypes=[object])(abs(steps))
    fine: Fraction = min(held.reshape(-1).tolist())
    ratios = held / fine
    lost = ""
    bits = 0
    if any(power_of_two(ratio) is None for ratio in ratios.reshape(-1).tolist()):
        bits = _PRECISION
    factors = np.vectorize(lambda ratio: round(ratio * 2**bits), otypes=[np.int64])(ratios)
    if bits:
        error = max(abs(float(f / (r * 2**bits)) - 1) for f, r in zip(factors.flat, ratios.flat, strict=True))
        lost = f", channels scaled by 1 ± {error:.1e}" if error else ""
    reach = int((np.maximum(np.abs(kind.low), np.abs(kind.high)) * factors).max())
    early = max(0, reach.bit_length() - _RESCALED_BITS)
    if bool(np.any(held != steps)):
        _rescale(chain, np.where(steps < 0, -1, 1).astype(np.int64), held)
    if early:
        chain.step("RoundMembrane", {"step": (held * 2**early).astype(np.float64)})
    if held.size > 1:
        step = np.full((1,) * held.ndim, fine * Fraction(2) ** (early - bits), dtype=object)
        _rescale(chain, factors, step)
    after = chain.membrane()
    if after is None or after.step.size != 1:
        return lost
    late = _late_shift(after, count)
    if late or bool(np.any(after.bias != 0)):
        chain.step("RoundMembrane", {"step": (after.step * 2**late).astype(np.float64)})
    return lost


def _late_shift(kind: Membrane, count: int) -> int:
    """Return how many low bits to drop so that count · |r| < 2^31, the bias included."""
    bias = max(abs(x.numerator // x.denominator) for x in (kind.bias / kind.step).reshape(-1).tolist()) + 1
    shift = 0
    while count * (((kind.bound + bias) >> shift) + 1) >= _REACH:
        shift += 1
    return shift


def _rescale(chain: _Chain, factors: npt.NDArray[np.int64], steps: ExactArray) -> None:
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
