"""Constants added behind products: biases of the first layer, and corrections."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from snnc.ir import (
    AI_SNNC,
    DataType,
    Graph,
    Node,
    constant,
    consumers_of,
    drop_if_unused,
    initializer,
    make_node,
    replace_with,
    unique_name,
)
from snnc.passes.analysis import Membrane, TypeAnalysis
from snnc.pipeline.contract import PassResult, Rewrite

__all__ = ["add_bias", "round_host"]

_HOST_MEMBRANE_BITS = 26


def add_bias(
    graph: Graph, node: Node, bias: npt.NDArray[np.float32], analysis: TypeAnalysis, result: PassResult
) -> None:
    """Add a number to each output channel of a product that has been typed.

    Args:
        graph: Its graph.
        node: Conv or MatMul.
        bias: One number an output channel.
        analysis: Types; that of the sum is added.
        result: Where the rewrite is noted.
    """
    if not bias.any():
        return
    output = node.outputs[0]
    shape = analysis.shape(output)
    form = (1, -1) + (1,) * (len(shape) - 2) if node.op_type == "Conv" else (-1,)
    held = initializer(graph, f"{node.name}_correction", bias.reshape(form))
    added = make_node(
        graph,
        "Add",
        [output, held],
        name=f"{node.name}_corrected",
        dtype=output.dtype,
        shape=output.shape,
        source=node,
    )
    replace_with(graph, output, added.outputs[0])
    added.replace_input_with(0, output)
    graph.insert_after(node, added)
    for item in (node, added):
        analysis.adopt(item, shape)
    result.rewrites.append(Rewrite("correct a bias", (), (added.name or "",)))


def round_host(graph: Graph, node: Node, analysis: TypeAnalysis, result: PassResult) -> None:
    """Round the 64-bit accumulator of a first layer, its bias moved behind the rounding."""
    if node.op_type not in ("Conv", "MatMul") or node.domain != "":
        return
    output = node.outputs[0]
    kind = analysis.kind(output)
    if not isinstance(kind, Membrane) or not kind.host:
        return
    if any(reader.op_type == "RoundMembrane" for reader in consumers_of(output)):
        return
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    if bias is not None:
        node.replace_input_with(2, None)
        node.resize_inputs(2)
        analysis.visit(node)
        kind = analysis.kind(output)
        if not isinstance(kind, Membrane):
            return
    shape = analysis.shape(output)
    shift = max(0, kind.bound.bit_length() - _HOST_MEMBRANE_BITS)
    step = initializer(graph, f"{node.name}_rounding_step", kind.step.astype(np.float64) * 2.0**shift)
    rounded = make_node(
        graph,
        "RoundMembrane",
        [output, step],
        domain=AI_SNNC,
        name=f"{node.name}_rounded",
        dtype=DataType.FLOAT,
        shape=output.shape,
        source=node,
    )
    added = [rounded]
    array = constant(bias)
    if array is not None:
        form = (1, -1) + (1,) * (kind.step.ndim - 2)
        moved = initializer(graph, f"{node.name}_bias", array.reshape(form))
        added.append(
            make_node(
                graph,
                "Add",
                [rounded.outputs[0], moved],
                name=f"{node.name}_biased",
                dtype=DataType.FLOAT,
                shape=output.shape,
                source=node,
            )
        )
    replace_with(graph, output, added[-1].outputs[0])
    output.name = unique_name(graph, f"{node.name}_accumulator")
    rounded.replace_input_with(0, output)
    graph.insert_after(node, added)
    for item in (node, *added):
        analysis.adopt(item, shape)
    drop_if_unused(graph, bias)
    result.rewrites.append(
        Rewrite("round the first layer's accumulator", (), tuple(n.name or "" for n in added))
    )
