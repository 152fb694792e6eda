"""Rescalings of membranes that have changed sign since they were written."""

from __future__ import annotations

import numpy as np

from snnc.ir import AI_SNNC, Graph, Node, constant, drop_if_unused, initializer
from snnc.passes.analysis import TypeAnalysis, as_exact, as_membrane, same
from snnc.passes.analysis.exact import ExactArray

__all__ = ["follow_sign"]


def follow_sign(graph: Graph, node: Node, analysis: TypeAnalysis) -> None:
    """Let a Rescale read integers that now count in the opposite step: value and result stay the same.

    A constant minus a membrane counts in negative steps while the constant is a bias, and in positive ones
    once the constant has become integers. What was written for the first has to follow.

    Args:
        graph: Graph of the node.
        node: Any node, all of whose inputs are typed; changed if it is such a Rescale.
        analysis: Types of its inputs.
    """
    if node.domain != AI_SNNC or node.op_type != "Rescale":
        return
    kind = as_membrane(analysis.kind(node.inputs[0]))
    multiplier, source = constant(node.inputs[1]), constant(node.inputs[3])
    assert kind is not None and multiplier is not None and source is not None
    turned = np.asarray(-kind.step, dtype=object)
    rank = kind.step.ndim
    if same(as_exact(source, rank), kind.step) or not same(as_exact(source, rank), _as_float(turned)):
        return
    for position, array in ((1, -multiplier), (3, -source)):
        old = node.inputs[position]
        node.replace_input_with(position, initializer(graph, f"{node.name}_turned_{position}", array))
        drop_if_unused(graph, old)


def _as_float(steps: ExactArray) -> ExactArray:
    """Return the exact values of the float64 nearest to steps, which is what a file holds of them."""
    return as_exact(steps.astype(np.float64), steps.ndim)
