"""Whole-model clean-up that onnx_ir does for us: inlining, sorting, dead code, default values of inputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import onnx_ir as ir
from onnx_ir.passes import common

from snnc.errors import InputError
from snnc.ir.edit import as_attribute
from snnc.ir.hosting import declared, seal, unseal
from snnc.ir.shapes import infer_shapes

__all__ = [
    "as_attribute",
    "drop_unused",
    "has_subgraph",
    "infer_with_stand_ins",
    "inline_functions",
    "set_attribute",
    "sort_graph",
]


def inline_functions(model: ir.Model, keep_domain: str) -> None:
    """Replace calls of model-local functions by their bodies and drop the functions.

    Args:
        model: Changed in place.
        keep_domain: Functions of this domain stay as they are.

    Raises:
        InputError: SNN320, functions call each other in a circle or disagree with the model's opsets.
    """
    try:
        common.InlinePass(criteria=lambda function: function.domain != keep_domain)(model)
    except Exception as error:
        cause = error.__cause__ or error
        first = str(cause).strip().splitlines()[0] if str(cause).strip() else type(cause).__name__
        raise InputError("SNN320", f"functions of the file cannot be inlined: {first}") from error


def sort_graph(model: ir.Model) -> bool:
    """Sort the nodes topologically, keeping the order of the file where it is one already.

    Args:
        model: Changed in place.

    Returns:
        Whether the order changed.

    Raises:
        InputError: SNN321, the graph has a cycle.
    """
    before = [id(node) for node in model.graph]
    try:
        model.graph.sort()
    except ValueError as error:
        raise InputError("SNN321", "the graph has a cycle") from error
    return before != [id(node) for node in model.graph]


def drop_unused(model: ir.Model) -> None:
    """Remove nodes, initializers, functions and opset imports that reach no output, in place."""
    common.RemoveUnusedNodesPass()(model)
    common.RemoveUnusedFunctionsPass()(model)  # type: ignore[no-untyped-call]
    common.RemoveUnusedOpsetsPass()(model)


def has_subgraph(node: ir.Node) -> bool:
    """Return whether a node holds graphs (If, Loop, Scan)."""
    return any(
        attr.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS) for attr in node.attributes.values()
    )


def set_attribute(node: ir.Node, name: str, value: Any) -> None:
    """Set an attribute of a node from a plain Python value (int, float, str, or a list of one of them)."""
    node.attributes[name] = as_attribute(name, value)


def infer_with_stand_ins(
    model: ir.Model, stand_in: Callable[[ir.Node], tuple[str, Mapping[str, Any]] | None]
) -> None:
    """Infer types and shapes while nodes that ONNX does not know stand as standard ops of one input.

    Args:
        model: Types and shapes are filled in; the nodes are as before afterwards.
        stand_in: Op type and attributes of a standard op that has the output type and shape of a node when
            applied to its first input; None where the node stays.
    """
    swapped: list[tuple[ir.Node, str, str, dict[str, ir.Attr], list[ir.Value | None]]] = []
    hosted = [(node, declared(node)["asked"]) for node in unseal(model.graph)]
    try:
        for node in model.graph:
            chosen = stand_in(node)
            if chosen is None:
                continue
            op_type, attrs = chosen
            swapped.append((node, node.op_type, node.domain, dict(node.attributes), list(node.inputs)))
            node.op_type, node.domain = op_type, ""
            node.attributes.clear()
            for name, value in attrs.items():
                set_attribute(node, name, value)
            node.resize_inputs(1)
        infer_shapes(model)
    finally:
        for node, asked in hosted:
            seal(node, asked)
        for node, op_type, domain, old, inputs in swapped:
            node.op_type, node.domain = op_type, domain
            node.attributes.clear()
            node.attributes.update(old)
            node.resize_inputs(len(inputs))
            for index, value in enumerate(inputs):
                node.replace_input_with(index, value)
