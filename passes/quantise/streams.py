"""Residual streams: membranes that are added to each other before a neuron reads them."""

from __future__ import annotations

from snnc.ir import Value, constant, consumers_of
from snnc.passes.analysis.layout import LAYOUT_OPS

__all__ = ["merges_with_batch", "reaches_join"]

_ON_THE_WAY_TO_A_JOIN = LAYOUT_OPS | {
    "Add",
    "Sub",
    "Mul",
    "Div",
    "AveragePool",
    "GlobalAveragePool",
    "ReduceMean",
    "ReduceSum",
    "MaxPool",
    "Relu",
    "Clip",
    "Concat",
    "BatchNormalization",
}


_NORMALISATIONS = frozenset({"LayerNormalization", "RMSNormalization", "RMSNorm"})


def reaches_join(value: Value) -> bool:
    """Whether a membrane is added to another one, or its channels to each other, before a neuron reads it."""
    queue, seen = [value], {id(value)}
    while queue:
        current = queue.pop()
        for node in consumers_of(current):
            if node.op_type in _NORMALISATIONS:
                return True
            if node.op_type not in _ON_THE_WAY_TO_A_JOIN and node.op_type != "RoundMembrane":
                continue
            others = [item for item in node.inputs if item is not None and item is not current]
            if node.op_type in ("Add", "Sub") and any(constant(item) is None for item in others):
                return True
            for output in node.outputs:
                if id(output) not in seen:
                    seen.add(id(output))
                    queue.append(output)
    return False


def merges_with_batch(value: Value) -> bool:
    """Whether a Reshape behind a membrane merges further axes with the batch, which has one step."""
    queue = [value]
    while queue:
        current = queue.pop()
        for node in consumers_of(current):
            if node.op_type not in _ON_THE_WAY_TO_A_JOIN:
                continue
            out = node.outputs[0]
            if node.op_type == "Reshape" and current.shape is not None and out.shape is not None:
                if str(current.shape[0]) != str(out.shape[0]):
                    return True
                continue
            queue.extend(node.outputs)
    return False
