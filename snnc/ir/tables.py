"""Which inputs of a network are places in a table, and how many rows that table has."""

from __future__ import annotations

import onnx_ir as ir

from snnc.ir.edit import constant

__all__ = ["table_rows"]

_CARRIES = frozenset(
    {"Cast", "Expand", "Flatten", "Identity", "Reshape", "Slice", "Squeeze", "Transpose", "Unsqueeze"}
)


def table_rows(model: ir.Model) -> dict[str, int]:
    """Return, by name of an integer input, the rows of the smallest constant table it indexes.

    Args:
        model: Any model; inputs that are changed by arithmetic before they index a table are left out.
    """
    rows: dict[str, int] = {}
    for node in model.graph:
        if node.op_type != "Gather" or node.domain not in ("", "ai.onnx"):
            continue
        data = node.inputs[0]
        tensor = data.const_value if data is not None else None
        shape = tensor.shape.numpy() if tensor is not None else _constant_shape(data)
        name = _origin(node.inputs[1])
        if shape and name is not None:
            axis = node.attributes["axis"].as_int() if "axis" in node.attributes else 0
            rows[name] = min(rows.get(name, int(shape[axis])), int(shape[axis]))
    return rows


def _constant_shape(value: ir.Value | None) -> tuple[int, ...] | None:
    # A rounded table still stands behind its RoundMembrane node.
    producer = value.producer() if value is not None else None
    if producer is None or producer.op_type not in ("Constant", "DequantizeLinear", "RoundMembrane"):
        return None
    held = constant(producer.inputs[0]) if producer.inputs else constant(value)
    return None if held is None else held.shape


def _origin(value: ir.Value | None) -> str | None:
    """Return the name of the network input that a value is, moved at most."""
    while True:
        if value is not None and value.is_graph_input():
            return value.name
        producer = value.producer() if value is not None else None
        if producer is None or producer.op_type not in _CARRIES or not producer.inputs:
            return None
        value = producer.inputs[0]
