"""Give channels that are multiplied by zero a step of their own: zero integers instead of a zero step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from snnc.ir import (
    AI_SNNC,
    DataType,
    Graph,
    Model,
    Node,
    constant,
    consumers_of,
    drop_if_unused,
    initializer,
    insert_node,
    make_node,
)
from snnc.passes.analysis import Constant, Membrane, TypeAnalysis, as_membrane
from snnc.pipeline.contract import PassResult, Rewrite, Semantics

__all__ = ["SilenceChannels"]


@dataclass(frozen=True)
class SilenceChannels:
    """Split a factor that is zero in some channels: the integers there become zero, the factor one.

    Batch normalisation of a dead channel leaves such factors. A membrane with a step of zero can be read by a
    neuron, but it cannot be joined with another one.

    Matches: Mul of a value that carries integers by a constant with zeros.
    Leaves alone: products that only neurons read; constants that enlarge the value.
    Keeps: names, shapes, all values.
    """

    name: ClassVar[str] = "silence-channels"
    requires: ClassVar[frozenset[str]] = frozenset()
    establishes: ClassVar[frozenset[str]] = frozenset()
    invalidates: ClassVar[frozenset[str]] = frozenset()
    semantics: ClassVar[Semantics] = "exact"

    def run(self, model: Model) -> PassResult:
        """Insert ``Rescale`` nodes by zero and one."""
        result = PassResult()
        nodes = {id(node) for node in model.graph if _may_silence(node)}
        if not nodes:
            return result
        analysis = TypeAnalysis(model)
        for node in list(model.graph):
            if id(node) in nodes:
                self._split(model.graph, node, analysis, result)
            analysis.visit(node)
        return result

    @staticmethod
    def _split(graph: Graph, node: Node, analysis: TypeAnalysis, result: PassResult) -> None:
        kinds = [analysis.kind(value) for value in node.inputs]
        place = 0 if isinstance(kinds[0], Constant) else 1
        factor, kind = kinds[place], as_membrane(kinds[1 - place])
        source, old = node.inputs[1 - place], node.inputs[place]
        if not isinstance(factor, Constant) or not isinstance(kind, Membrane) or source is None:
            return
        silent = factor.array == 0
        if not bool(silent.any()) or bool(np.any(kind.step == 0)):
            return
        if analysis.shape(source) != analysis.shape(node.outputs[0]):
            return
        readers = consumers_of(node.outputs[0])
        if readers and all(reader.op_type == "Quantise" for reader in readers):
            return
        stem = f"{node.name}_silent"
        step = kind.step.astype(np.float64)
        made = make_node(
            graph,
            "Rescale",
            [
                source,
                initializer(graph, f"{stem}_multiplier", (~silent).astype(np.int32)),
                initializer(graph, f"{stem}_step", step),
                initializer(graph, f"{stem}_source_step", step),
            ],
            domain=AI_SNNC,
            name=stem,
            dtype=DataType.FLOAT,
            shape=source.shape,
            source=node,
        )
        shape = analysis.shape(source)
        node.replace_input_with(1 - place, insert_node(graph, node, made))
        held = np.where(silent, np.ones_like(factor.array), factor.array)
        node.replace_input_with(place, initializer(graph, f"{node.name}_factor", held))
        drop_if_unused(graph, old)
        analysis.adopt(made, shape)
        result.rewrites.append(Rewrite("silence channels", (), (made.name or "",)))


def _may_silence(node: Node) -> bool:
    """Whether a node multiplies by a constant that is zero somewhere."""
    if node.op_type != "Mul" or node.domain:
        return False
    factors = [constant(value) for value in node.inputs]
    return any(factor is not None and bool((factor == 0).any()) for factor in factors)
