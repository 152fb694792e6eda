"""Encoding rule of float operators in front of an encoder: they stay, in the form that opset 17 has."""

from __future__ import annotations

from typing import Any

import numpy as np

from snnc.errors import UnsupportedError, Where
from snnc.ir import DataType, Node, Value, attributes, constant
from snnc.ir.host_nodes import declare_like
from snnc.ir.hosting import is_sealed
from snnc.passes.analysis import Constant, FloatValue
from snnc.passes.analysis.layout import pad_widths
from snnc.passes.spike.builder import SpikeBuilder

__all__ = ["host"]

_REDUCTIONS = frozenset({"ReduceSum", "ReduceMax", "ReduceMin", "ReduceProd"})


def host(builder: SpikeBuilder, node: Node) -> bool:
    """Copy a node that the host computes: elementwise on floats, or on integers and truth values.

    Args:
        builder: The graph being built.
        node: Node of the quantised graph.

    Returns:
        Whether the node is one; if not, nothing was done.

    Raises:
        UnsupportedError: SNN446, a Pad whose widths are not constant.
    """
    output = node.outputs[0]
    if not isinstance(builder.kind(output), FloatValue):
        return False
    inputs: list[Value | None] = [_operand(builder, value) for value in node.inputs]
    attrs = attributes(node)
    if node.op_type == "Clip":
        inputs, attrs = [inputs[0], *_bounds(builder, inputs[1:], attrs)], {}
    elif node.op_type == "Pad":
        widths = pad_widths(node, len(builder.shape(output)))
        if widths is None:
            raise UnsupportedError(
                "SNN446", "Pad with widths that are not constant", where=Where(node=node.name)
            )
        held = inputs[2] if len(inputs) > 2 else None
        fill = held or builder.constant(np.asarray(attrs.get("value", 0.0), dtype=np.float32), "fill")
        inputs = [inputs[0], builder.constant(widths.reshape(-1), "pads"), fill]
        attrs = {"mode": attrs.get("mode", "constant")}
    elif node.op_type == "Cast":
        attrs = {"to": attrs["to"]}
    elif node.op_type in _REDUCTIONS:
        inputs, attrs = _reduction(builder, node, inputs[0], attrs)
    dtype, name = output.dtype or DataType.FLOAT, builder.name(output)
    made = builder.emit(node.op_type, inputs, attrs, name, dtype, node, like=output, domain="")
    kind = builder.kind(output)
    if isinstance(kind, FloatValue) and kind.hosted:
        _declare(builder, made, node)
    builder.put(output, made)
    return True


def _declare(builder: SpikeBuilder, made: Value, node: Node) -> None:
    """Declare arithmetic behind a node that the user lets the host compute: it belongs to that."""
    producer = made.producer()
    assert producer is not None
    declare_like(producer, _cause(builder, node), node.op_type)


def _cause(builder: SpikeBuilder, node: Node) -> Node:
    """Return a sealed node that arithmetic of the host stands behind."""
    stack = [node]
    while not is_sealed(current := stack.pop()):
        for value in current.inputs:
            kind = builder.kind(value) if value is not None else None
            source = value.producer() if value is not None else None
            if source is not None and isinstance(kind, FloatValue) and kind.hosted:
                stack.append(source)
    return current


def _reduction(
    builder: SpikeBuilder, node: Node, data: Value | None, attrs: dict[str, Any]
) -> tuple[list[Value | None], dict[str, Any]]:
    """Axes as opset 17 has them: an input of ReduceSum, an attribute of the others."""
    given = constant(node.inputs[1]) if len(node.inputs) > 1 else None
    listed = given.tolist() if given is not None else attrs.get("axes")
    keep = {"keepdims": int(attrs.get("keepdims", 1))}
    if listed is None:
        return [data], keep
    if node.op_type == "ReduceSum":
        return [data, builder.constant(np.array(listed, dtype=np.int64), "axes")], keep
    return [data], {**keep, "axes": [int(axis) for axis in listed]}


def _operand(builder: SpikeBuilder, value: Value | None) -> Value | None:
    if value is None or isinstance(builder.kind(value), Constant):
        return value
    return builder.get(value)


def _bounds(builder: SpikeBuilder, given: list[Value | None], attrs: dict[str, Any]) -> list[Value | None]:
    """Bounds of a Clip as inputs, which before opset 11 were attributes."""
    found: list[Value | None] = []
    for position, name in enumerate(("min", "max")):
        value = given[position] if position < len(given) else None
        if value is None and name in attrs:
            value = builder.constant(np.asarray(attrs[name], dtype=np.float32), name)
        found.append(value)
    return found if found[1] is not None else found[:1] if found[0] is not None else []
