"""Nodes that stay in float on the host by the user's leave: opaque to every pass, standard ops to executors.

A sealed node is ``ai.snnc::Host`` and keeps its inputs, outputs and attributes; what it was, and why it
stays, is in its metadata. In a converted model it is the standard op again, and the metadata declares it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir

from snnc import strict
from snnc.ir.files import AI_SNNC

__all__ = [
    "BEHIND_THE_READOUT",
    "DECLARED",
    "HOST",
    "declared",
    "is_barrier",
    "is_known_operator",
    "is_sealed",
    "one_node_model",
    "same_form",
    "seal",
    "sealed_nodes",
    "unseal",
]

#: What declares a node at the end of the network, in place of the name that a user gives.
BEHIND_THE_READOUT = "behind the readout"
#: Operator of a sealed node, in the domain of snnc.
HOST = "Host"
#: Metadata key that declares a node to be on the host: JSON with the operator and what the user asked for.
DECLARED = "snnc.host"
#: Standard ops that put a value behind a sequence of one, and take it out again.
_BARRIER = ("SequenceConstruct", "SequenceAt")


def seal(node: ir.Node, asked: str) -> None:
    """Make a node opaque.

    Args:
        node: A node of the standard domain.
        asked: The name that the user gave, of an operator or of a node.
    """
    node.metadata_props[DECLARED] = json.dumps({"op": node.op_type, "asked": asked}, sort_keys=True)
    node.op_type, node.domain = HOST, AI_SNNC
    if node.graph is not None:
        node.graph.opset_imports.setdefault(AI_SNNC, 1)


def is_sealed(node: ir.Node | None) -> bool:
    """Return whether a node is sealed."""
    return (
        node is not None
        and node.domain == AI_SNNC
        and node.op_type == HOST
        and DECLARED in node.metadata_props
    )


def sealed_nodes(nodes: Iterable[ir.Node]) -> list[ir.Node]:
    """Return the sealed nodes among some."""
    return [node for node in nodes if is_sealed(node)]


def unseal(nodes: Iterable[ir.Node]) -> list[ir.Node]:
    """Make sealed nodes standard ops again, in place; return them."""
    found = sealed_nodes(nodes)
    for node in found:
        node.op_type, node.domain = declared(node)["op"], ""
    return found


def declared(node: ir.Node) -> dict[str, str]:
    """Return operator (``op``) and the user's words (``asked``) of a declared node; empty for others."""
    text = node.metadata_props.get(DECLARED)
    if text is None:
        return {}
    try:
        content = strict.loads(text)
    except ValueError:
        return {}
    if not isinstance(content, dict) or not all(isinstance(item, str) for item in content.values()):
        return {}
    return content if {"op", "asked"} <= set(content) else {}


def is_barrier(node: ir.Node) -> bool:
    """Return whether a node only puts one value into a sequence, or takes it out."""
    return node.domain in ("", "ai.onnx") and node.op_type in _BARRIER


def is_known_operator(name: str) -> bool:
    """Return whether ONNX has an operator of this name in its standard domain."""
    return bool(onnx.defs.has(name))


def same_form(op: str, first: int, second: int) -> bool:
    """Return whether an operator is written the same way, and means the same, in two opsets.

    Only element types may differ. An operator that one of them does not have is not the same. Both opsets
    are 17 or newer: from there on no operator changed its meaning without changing its form but
    GroupNormalization, which opset 17 does not have.
    """
    try:
        one, two = (onnx.defs.get_schema(op, max_inclusive_version=opset) for opset in (first, second))
    except onnx.defs.SchemaError:
        return False
    return bool(one.since_version == two.since_version) or _form(one) == _form(two)


def _form(schema: Any) -> tuple[Any, ...]:
    attributes = sorted(
        (name, str(entry.type), entry.required, str(entry.default_value))
        for name, entry in schema.attributes.items()
    )
    values = [(entry.name, str(entry.option)) for side in (schema.inputs, schema.outputs) for entry in side]
    return (tuple(attributes), tuple(values))


def one_node_model(
    node: ir.Node, op: str, opset: int, inputs: Sequence[npt.NDArray[Any] | None], constants: Sequence[bool]
) -> bytes:
    """Serialise a model of one standard node.

    Args:
        node: The node, sealed or not; its attributes and wiring count.
        op: Operator of the standard domain.
        opset: Its version.
        inputs: Arrays of the types and ranks of its inputs, None where one is absent.
        constants: Whether each input is a constant, which the model then holds.

    Returns:
        A model with the inputs ``x0``, ``x1``… that are not constant and the outputs ``y0``, ``y1``….
    """
    proto = ir.serde.serialize_node(node)
    proto.op_type, proto.domain = op, ""
    del proto.metadata_props[:]
    names = [f"x{place}" if array is not None else "" for place, array in enumerate(inputs)]
    del proto.input[:]
    proto.input.extend(names)
    outputs = [f"y{place}" if value.name else "" for place, value in enumerate(node.outputs)]
    del proto.output[:]
    proto.output.extend(outputs)
    graph = onnx.GraphProto(name="host", node=[proto])
    for name, array, fixed in zip(names, inputs, constants, strict=True):
        if array is not None and fixed:
            graph.initializer.append(onnx.numpy_helper.from_array(np.ascontiguousarray(array), name))
        elif array is not None:
            kind = onnx.helper.np_dtype_to_tensor_dtype(array.dtype)
            dims = [f"{name}_{axis}" for axis in range(array.ndim)]
            graph.input.append(onnx.helper.make_tensor_value_info(name, kind, dims))
    graph.output.extend(onnx.ValueInfoProto(name=name) for name in outputs if name)
    model = onnx.ModelProto(ir_version=10, graph=graph)
    model.opset_import.append(onnx.OperatorSetIdProto(domain="", version=opset))
    return bytes(model.SerializeToString(deterministic=True))
