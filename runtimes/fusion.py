"""Load-time preparation of a model for snnc's native operators.

The file does not change: this happens to the message that onnxruntime gets, and every step keeps every bit.
"""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

from snnc.runtimes.common import Array
from snnc.runtimes.fusion_attention import fuse_attention
from snnc.runtimes.fusion_convolutions import fuse_convolutions
from snnc.runtimes.fusion_moves import fuse_moves
from snnc.runtimes.fusion_parts import fuse_parts
from snnc.runtimes.fusion_products import fuse_finishes, fuse_norms, fuse_products
from snnc.runtimes.fusion_windows import fuse_windows
from snnc.runtimes.message import Message

__all__ = ["prepare"]

_DOMAIN = "ai.snnc"
_SAME = ("SpikeMaxPool", "SpikePad", "CodeSlice")


def prepare(message: Any, weights: MutableMapping[str, Array]) -> None:
    """Prepare a ModelProto for the native operators, in place.

    Args:
        message: A ModelProto.
        weights: Initializers that it names as external data; those no longer read go.
    """
    _write_types(message.graph)
    view = Message(message.graph, weights)
    if fuse_parts(view):
        view = view.afresh()
    fuse_products(view)
    fuse_convolutions(view)
    fuse_finishes(view)
    fuse_norms(view)
    fuse_attention(view)
    view = view.afresh()  # names moved behind convolutions
    fuse_windows(view)
    fuse_moves(view)
    view.drop_unread()


def _write_types(graph: Any) -> None:
    """Write down the types of codes: an attribute decides them, which onnxruntime does not ask."""
    infos = {value.name: value for value in [*graph.input, *graph.value_info, *graph.output]}
    known = {name: value.type.tensor_type.elem_type for name, value in infos.items()}
    known.update((value.name, value.data_type) for value in graph.initializer)
    for node in graph.node:
        found = None
        if node.domain == _DOMAIN:
            types = [attribute.i for attribute in node.attribute if attribute.name == "code_type"]
            found = types[0] if types else known.get(node.input[0]) if node.op_type in _SAME else None
        elif node.op_type in _MOVERS and node.input:
            found = known.get(node.input[0])
        if not found:
            continue
        for name in node.output:
            if name and not known.get(name):
                known[name] = found
                value = infos.get(name) or graph.value_info.add()
                value.name = name
                value.type.tensor_type.elem_type = found


_MOVERS = frozenset(
    {
        "Reshape",
        "Transpose",
        "Slice",
        "Split",
        "Squeeze",
        "Unsqueeze",
        "Flatten",
        "Identity",
        "Concat",
        "Expand",
        "Gather",
        "Pad",
        "DepthToSpace",
        "SpaceToDepth",
        "Tile",
        "GatherElements",
        "GatherND",
    }
)
