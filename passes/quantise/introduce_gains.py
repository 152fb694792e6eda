"""Pass ``introduce-gains``: normalisations and quotients in the form a neuron with a gain takes them."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import ceil, prod
from typing import ClassVar

import numpy as np

from snnc.ir import AI_SNNC, Graph, Model, Node, attributes, constant, initializer
from snnc.ir.rewrite import set_attribute
from snnc.passes.analysis import FloatValue, TypeAnalysis, as_membrane
from snnc.passes.quantise.one_grid import Chain, one_grid
from snnc.pipeline.contract import NoMatch, PassResult, Semantics, whole

__all__ = ["IntroduceGains"]

#: A quotient of fewer bits behind the point would be coarser than codes.
_FEWEST_BITS = 8
_NORMS = {"LayerNormalization": 1, "RMSNormalization": 0, "RMSNorm": 0}


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

    fraction_bits: int = whole(12, 0, 30)

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
        chain = Chain(graph, analysis, node, numerator)
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
        chain = Chain(graph, analysis, node, source)
        count = prod(chain.shape[first:])
        kind = chain.membrane()
        if kind is None or kind.host:
            return "its input carries no code: a normalisation of the network input has no form"
        if first == 0 or bool(np.any(kind.step == 0)):
            return "it normalises the batch" if first == 0 else "a channel of its input is always zero"
        error = one_grid(chain, first, count)
        kind = chain.membrane()
        if kind is None or kind.step.size != 1:
            chain.discard()
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
            chain.discard()
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
