"""Graphs inside of nodes: what a Loop or a Scan repeats, copied into the graph that holds it."""

from __future__ import annotations

from collections.abc import Mapping

import onnx_ir as ir

from snnc.ir.edit import initializer, insert_node, unique_name
from snnc.ir.rewrite import has_subgraph

__all__ = ["body_of", "copy_body", "lift_body_constants", "release_body"]


def body_of(node: ir.Node, name: str = "body") -> ir.Graph | None:
    """Return the graph inside of a node that has it under a name, None if it holds control flow itself."""
    attr = node.attributes.get(name)
    if attr is None or attr.type != ir.AttributeType.GRAPH:
        return None
    body = attr.as_graph()
    if any(has_subgraph(inner) for inner in body):
        return None
    body.sort()
    return body


def lift_body_constants(graph: ir.Graph, body: ir.Graph) -> dict[ir.Value, ir.Value]:
    """Copy the initializers of a body into the graph; returns the copies by what they stand for."""
    return {
        value: initializer(graph, value.name or "constant", value.const_value.numpy())
        for value in body.initializers.values()
        if value.const_value is not None
    }


def copy_body(
    graph: ir.Graph, before: ir.Node, body: ir.Graph, known: Mapping[ir.Value, ir.Value], suffix: str
) -> tuple[list[ir.Value], list[ir.Node]]:
    """Copy the nodes of a body in front of a node of the graph that holds it.

    Args:
        graph: The outer graph.
        before: Its node.
        body: A graph inside of it; values of the outer graph that it reads stay what they are.
        known: What stands for its inputs and initializers.
        suffix: Put behind the names of nodes and values.

    Returns:
        What stands for the outputs of the body, and the new nodes.
    """
    values = dict(known)
    made = []
    for node in body:
        copied = ir.Node(
            node.domain,
            node.op_type,
            [value if value is None else values.get(value, value) for value in node.inputs],
            attributes=list(node.attributes.values()),
            num_outputs=len(node.outputs),
            name=unique_name(graph, f"{node.name or node.op_type}{suffix}", of_node=True),
            metadata_props=dict(node.metadata_props),
        )
        for old, new in zip(node.outputs, copied.outputs, strict=True):
            new.name = unique_name(graph, f"{old.name}{suffix}") if old.name else ""
            new.type, new.shape = old.type, old.shape
            values[old] = new
        insert_node(graph, before, copied)
        made.append(copied)
    return [values.get(value, value) for value in body.outputs], made


def release_body(body: ir.Graph) -> None:
    """Let a body whose node goes read nothing of the graph around it any more."""
    for node in body:
        for place in range(len(node.inputs)):
            node.replace_input_with(place, None)
