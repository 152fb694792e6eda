"""Read the network input as fixed-point integers where a weight layer would read it as floats."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from snnc.ir import AI_SNNC, DataType, Model, Value, insert_node, make_node
from snnc.passes.analysis import FloatValue, TypeAnalysis
from snnc.pipeline.contract import PassResult, Rewrite, Semantics, whole

__all__ = ["FixedPointInput"]


@dataclass(frozen=True)
class FixedPointInput:
    """Insert ``FixedPoint`` in front of every first layer that reads floats from the network input.

    The first layer stays on the host and is billed as multiply-accumulates, but it is computed in exact
    integers: float convolutions differ in the last bit between runtimes and optimisation levels, and one
    such bit would flip a code.

    Matches: Conv and MatMul whose data is the network input, changed at most elementwise or in layout.
    Leaves alone: layers that read a code.
    Keeps: names, shapes, all other values.

    Attributes:
        fraction_bits: Binary places kept of the input.
        bits: Width of the integer; values beyond ±2^(bits-1-fraction_bits) saturate.
    """

    fraction_bits: int = whole(12, 0, 62)
    bits: int = whole(24, 2, 63)

    name: ClassVar[str] = "fixed-point-input"
    requires: ClassVar[frozenset[str]] = frozenset()
    establishes: ClassVar[frozenset[str]] = frozenset()
    invalidates: ClassVar[frozenset[str]] = frozenset()
    semantics: ClassVar[Semantics] = "approximate"

    def run(self, model: Model) -> PassResult:
        """Insert the nodes; the result notes step and range."""
        graph = model.graph
        analysis = TypeAnalysis(model)
        done: dict[str, Value] = {}
        result = PassResult()
        for node in list(graph):
            data = node.inputs[0] if node.inputs else None
            kind = analysis.kind(data)
            first = isinstance(kind, FloatValue) and kind.from_input
            if node.op_type in ("Conv", "MatMul") and node.domain == "" and first and data is not None:
                name = data.name or "input"
                if name not in done:
                    fixed = make_node(
                        graph,
                        "FixedPoint",
                        [data],
                        {"fraction_bits": self.fraction_bits, "bits": self.bits},
                        domain=AI_SNNC,
                        name=f"{name}_fixed",
                        dtype=DataType.FLOAT,
                        shape=data.shape,
                        source=node,
                    )
                    done[name] = insert_node(graph, node, fixed)
                    analysis.adopt(fixed, analysis.shape(data))
                    result.rewrites.append(Rewrite("read the input as fixed point", (), (fixed.name or "",)))
                    reach = 2 ** (self.bits - 1 - self.fraction_bits)
                    result.notes.append(
                        f"input {name!r}: multiples of 2^-{self.fraction_bits}, saturates at ±{reach}"
                    )
                node.replace_input_with(0, done[name])
            analysis.visit(node)
        return result
