"""Membranes whose maximum is taken: one positive step, and one bias, along what is compared."""

from __future__ import annotations

import numpy as np

from snnc.ir import AI_SNNC, Graph, Node, attributes, constant
from snnc.passes.analysis import Membrane, TypeAnalysis, as_membrane
from snnc.passes.quantise.one_grid import Chain, one_grid, rescale
from snnc.pipeline.contract import PassResult, Rewrite

__all__ = ["level"]

#: Bits that a membrane is given before constants become whole steps of it.
_FINE_BITS = 24


def level(
    graph: Graph, node: Node, analysis: TypeAnalysis, result: PassResult, *, biases: bool = False
) -> None:
    """Let a maximum read integers that are in the order of the values they stand for.

    What counts in negative steps is mirrored, what counts in unlike ones is brought onto one grid.

    Args:
        graph: Graph of the node.
        node: Any node whose inputs are typed; changed if it is a maximum or masks what one reads.
        analysis: Types of its inputs.
        result: Takes the record.
        biases: Whether biases that differ between what is compared become integers: those that are left
            once constants are rounded.
    """
    axes, source = _compared(node, analysis), node.inputs[0] if node.inputs else None
    kind = as_membrane(analysis.kind(source)) if axes is not None and source is not None else None
    if axes is None or source is None or kind is None or kind.host or bool(np.any(kind.step == 0)):
        return
    chain = Chain(graph, analysis, node, source, source.shape)
    if any(kind.step.shape[axis] > 1 for axis in axes):
        one_grid(chain, 0, 1)
    elif bool(np.any(kind.step < 0)):
        rescale(chain, np.where(kind.step < 0, -1, 1).astype(object), abs(kind.step))
    if biases:
        _absorb(chain, axes)
    if chain.nodes:
        node.replace_input_with(0, chain.value)
        made = tuple(entry.name or "" for entry in chain.nodes)
        result.rewrites.append(Rewrite("level what is compared", (), made))


def _compared(node: Node, analysis: TypeAnalysis) -> list[int] | None:
    """Return the axes along which a node compares elements of its first input, None if it does not."""
    if node.domain == AI_SNNC and node.op_type == "MaskRow":
        return [int(attributes(node)["axis"])]
    if node.domain or node.op_type not in ("ReduceMax", "MaxPool"):
        return None
    if node.op_type == "MaxPool":
        # Windows over positions with unlike steps get a code where quantisers are inserted.
        return []
    given = constant(node.inputs[1]) if len(node.inputs) > 1 else None
    listed = given.tolist() if given is not None else attributes(node).get("axes", [])
    assert node.inputs[0] is not None
    rank = len(analysis.shape(node.inputs[0]))
    return [int(axis) % rank for axis in listed]


def _absorb(chain: Chain, axes: list[int]) -> None:
    """Turn a bias that differs along some axes into integers of a fine step."""
    kind = chain.membrane()
    if not isinstance(kind, Membrane) or all(kind.bias.shape[axis] == 1 for axis in axes):
        return
    steps = kind.step.astype(np.float64)
    offset = np.abs((kind.bias / kind.step).astype(np.float64)).max()
    reach = kind.bound + int(np.ceil(offset))
    room = max(0, _FINE_BITS - reach.bit_length())
    if room:
        rescale(chain, np.full((1,) * kind.step.ndim, 2**room, dtype=object), kind.step / 2**room)
    chain.step("RoundMembrane", {"step": steps / 2**room})
