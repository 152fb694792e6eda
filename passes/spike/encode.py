"""Quant dialect → spike dialect: every coded tensor becomes spikes, every sum an integer membrane."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from snnc.ir import DataType, Model, Value
from snnc.ir.hosting import is_sealed
from snnc.passes.analysis import analyse
from snnc.passes.analysis.memory import forget
from snnc.passes.spike.builder import SpikeBuilder
from snnc.passes.spike.rules import RULES
from snnc.pipeline.contract import PassResult, Rewrite, Semantics

__all__ = ["Encode"]


@dataclass(frozen=True)
class Encode:
    """Rewrite the whole graph into spikes, membranes and neurons, folding every threshold (semantics 1.7).

    Quantisers become ExpG-IF neurons whose integer break points absorb scale, bias, BatchNorm and 1/√d;
    products become additions of integer weights per spike; joins become membrane additions. The range of
    every accumulator is proved from worst-case codes: products whose sums would pass 2^24 are split by
    time-steps, accumulators that would leave 32 bits are refused.

    Matches: the whole graph; every tensor must carry a code, be a membrane, or lie between the network
    input and its encoder.
    Keeps: names of inputs, outputs and coded tensors.
    """

    name: ClassVar[str] = "encode"
    requires: ClassVar[frozenset[str]] = frozenset({"quant"})
    establishes: ClassVar[frozenset[str]] = frozenset({"spike"})
    invalidates: ClassVar[frozenset[str]] = frozenset({"quant"})
    semantics: ClassVar[Semantics] = "exact"

    def run(self, model: Model) -> PassResult:
        """Build the spiking graph in place."""
        analysis = analyse(model)
        old = list(model.graph)
        builder = SpikeBuilder(model, analysis)
        builder.on_demand(lambda node: RULES[node.op_type](builder, node))
        for node in old:
            if is_sealed(node) or not all(_is_integer(value) for value in node.outputs):
                RULES[node.op_type](builder, node)
        outputs = builder.readouts()
        result = PassResult(rewrites=[Rewrite("encode", (node.name or "",)) for node in old])
        builder.finish(old, outputs)
        forget(model.graph)
        result.notes.extend(builder.notes)
        return result


def _is_integer(value: Value) -> bool:
    """Whether the host computes a value in integers: what describes shapes is seldom needed again."""
    return value.dtype is not None and (value.dtype == DataType.BOOL or value.dtype.is_integer())
