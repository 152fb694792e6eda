"""Paths through a graph, on networkx."""

from __future__ import annotations

from collections.abc import Callable

import networkx
import onnx_ir as ir

__all__ = ["longest_path"]


def longest_path(model: ir.Model, weight: Callable[[ir.Node], int]) -> int:
    """Return the largest sum of node weights along any path from an input to an output.

    Args:
        model: A model without cycles.
        weight: Weight of a node, not negative.
    """
    graph = networkx.DiGraph()
    for position, node in enumerate(model.graph):
        graph.add_node(position, weight=weight(node))
    position_of = {id(node): position for position, node in enumerate(model.graph)}
    for position, node in enumerate(model.graph):
        for value in node.inputs:
            producer = value.producer() if value is not None else None
            if producer is not None and id(producer) in position_of:
                graph.add_edge(position_of[id(producer)], position)
    reached: dict[int, int] = {}
    for position in networkx.lexicographical_topological_sort(graph):
        before = max((reached[source] for source in graph.predecessors(position)), default=0)
        reached[position] = before + int(graph.nodes[position]["weight"])
    return max(reached.values(), default=0)
