"""Encoding rule of nodes that the user lets the host compute in float: read out, compute, code again.

Behind every value stands a barrier, a sequence of one, which onnxruntime's optimiser does not look through:
no fusion and no change of layout reaches the node, so that all optimisation levels run the same kernel.
"""

from __future__ import annotations

import numpy as np

from snnc.ir import DataType, Node, Value
from snnc.ir.host_nodes import put_barrier, reopened
from snnc.ir.hosting import declared, same_form
from snnc.passes.analysis import Constant, FloatValue
from snnc.passes.spike.builder import OPSET, SpikeBuilder
from snnc.passes.spike.typed import given

__all__ = ["hosted"]


def hosted(builder: SpikeBuilder, node: Node) -> None:
    """Write a sealed node as the standard op that it is.

    Args:
        builder: The graph being built.
        node: Sealed node of the quantised graph.
    """
    inputs = [_operand(builder, node, value) for value in node.inputs]
    outputs = [
        (builder.name(value), value.dtype or DataType.FLOAT, builder.symbolic_shape(value))
        if value.name
        else None
        for value in node.outputs
    ]
    opset = builder.graph.opset_imports.get("", OPSET)
    if not same_form(declared(node)["op"], opset, OPSET):
        builder.opset = max(builder.opset, opset)
    made = reopened(builder.graph, node, inputs, outputs)
    builder.graph.append(made)
    for value, result in zip(node.outputs, made.outputs, strict=True):
        if value.name:
            builder.put(value, _behind(builder, node, result))


def _operand(builder: SpikeBuilder, node: Node, value: Value | None) -> Value | None:
    if value is None or isinstance(builder.kind(value), Constant):
        return value
    if isinstance(builder.kind(value), FloatValue):
        return builder.get(value)
    key = id(value)
    if key not in builder.read_out:
        builder.read_out[key] = _behind(builder, node, builder.readout(value, node, builder.name(value)))
    return builder.read_out[key]


def _behind(builder: SpikeBuilder, node: Node, value: Value) -> Value:
    given(value.dtype, node)
    zero = builder.constant(np.array(0, dtype=np.int64), "first")
    return put_barrier(builder.graph, value, zero, node)
