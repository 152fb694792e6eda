"""Making the nodes of a host segment: standard ops that are declared, and the barriers between them."""

from __future__ import annotations

import json
from collections.abc import Sequence

import onnx_ir as ir

from snnc.ir.edit import make_node, release_name, unique_name
from snnc.ir.hosting import DECLARED, declared

__all__ = ["declare_like", "put_barrier", "reopened"]


def reopened(
    graph: ir.Graph,
    sealed: ir.Node,
    inputs: Sequence[ir.Value | None],
    outputs: Sequence[tuple[str, ir.DataType, ir.Shape | None] | None],
) -> ir.Node:
    """Make the standard op that a sealed node stands for, declared, with other inputs and outputs.

    Args:
        graph: The graph that will hold it; the node is not inserted.
        sealed: The sealed node.
        inputs: Its inputs.
        outputs: Wished name, element type and shape of each output; None for one that is absent.
    """
    what = declared(sealed)
    meant = sealed.name or what["op"]
    # The sealed node goes; its name stays with the op.
    sealed.name = unique_name(graph, f"{meant} (sealed)", of_node=True)
    release_name(graph, meant, of_node=True)
    node = ir.node(
        what["op"],
        inputs,
        attributes=dict(sealed.attributes),
        num_outputs=len(outputs),
        name=unique_name(graph, meant, of_node=True),
    )
    node.metadata_props.update(sealed.metadata_props)
    for value, wanted in zip(node.outputs, outputs, strict=True):
        if wanted is None:
            value.name = ""
            continue
        name, dtype, shape = wanted
        value.name, value.type, value.shape = unique_name(graph, name), ir.TensorType(dtype), shape
    return node


def declare_like(node: ir.Node, sealed: ir.Node, op: str) -> None:
    """Declare a node, an operator ``op``, to be on the host for the same reason as another one."""
    content = {"op": op, "asked": declared(sealed)["asked"]}
    node.metadata_props[DECLARED] = json.dumps(content, sort_keys=True)


def put_barrier(graph: ir.Graph, value: ir.Value, zero: ir.Value, source: ir.Node) -> ir.Value:
    """Append a sequence of one value and the access to it, and return the same value behind them.

    Args:
        graph: The graph.
        value: A tensor of a known element type.
        zero: The constant 0, int64, a scalar.
        source: Node whose provenance both nodes inherit.
    """
    stem = value.name or "host"
    held = make_node(graph, "SequenceConstruct", [value], name=f"{stem}_held", source=source)
    kind = value.type if value.type is not None else ir.TensorType(ir.DataType.FLOAT)
    held.outputs[0].type, held.outputs[0].shape = ir.SequenceType(kind), value.shape
    taken = make_node(graph, "SequenceAt", [held.outputs[0], zero], name=f"{stem}_taken", source=source)
    taken.outputs[0].type, taken.outputs[0].shape = kind, value.shape
    graph.append(held)
    graph.append(taken)
    return taken.outputs[0]
