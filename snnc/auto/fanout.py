"""How many neurons send a code, and how many synaptic operations each spike of it causes."""

from __future__ import annotations

from collections import defaultdict

from snnc.compile import Conversion
from snnc.cost import CostReport
from snnc.ir import AI_SNNC, Node, Value, constant
from snnc.passes.quantise.insert_quantisers import SITE

__all__ = ["fan_outs"]

_SOURCES = ("ExpGIF", "ExpGIFGain", "Encode")


def fan_outs(conversion: Conversion, report: CostReport) -> dict[str, tuple[float, float]]:
    """Return neurons per sample and synaptic operations per spike of every code.

    Args:
        conversion: A converted network.
        report: Its cost.

    Returns:
        By the name of the tensor that a quantiser was inserted for, or the name of the code itself.
    """
    rows = {(row.name, row.kind): row for row in report.layers}
    site = {
        node.outputs[0].name or "": node.metadata_props.get(SITE) or node.outputs[0].name or ""
        for node in conversion.quantised.graph
        if node.domain == AI_SNNC and node.op_type == "Quantise"
    }
    neurons: dict[str, float] = {}
    operations: defaultdict[str, float] = defaultdict(float)
    for node in conversion.model.graph:
        name = node.metadata_props.get("snnc.source") or node.name or ""
        if _is_source(node):
            row = rows.get((name, "neuron"))
            neurons[_code(node, site)] = row.neurons / report.images if row is not None else 0.0
        row = rows.get((name, "synapse"))
        if node.domain == AI_SNNC and row is not None and row.spikes and node.inputs:
            for source in _sources(node.inputs[0]):
                operations[_code(source, site)] += row.sops / row.spikes
    return {name: (count, operations[name]) for name, count in neurons.items()}


def _code(node: Node, site: dict[str, str]) -> str:
    tensor = node.metadata_props.get("snnc.tensor") or node.outputs[0].name or ""
    return site.get(tensor, tensor)


def _is_source(node: Node) -> bool:
    return node.domain == AI_SNNC and node.op_type in _SOURCES


def _sources(value: Value | None) -> list[Node]:
    """Return the neurons whose spikes arrive at a value."""
    found: list[Node] = []
    seen: set[int] = set()
    pending = [value]
    while pending:
        entry = pending.pop()
        node = entry.producer() if entry is not None else None
        if node is None or id(node) in seen or constant(entry) is not None:
            continue
        seen.add(id(node))
        if _is_source(node):
            found.append(node)
        else:
            pending += [source for source in node.inputs if source is not None and constant(source) is None]
    return found
