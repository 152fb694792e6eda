"""Where by a constant mask: a product with zeros and ones, and a sum."""

from __future__ import annotations

import numpy as np

from snnc.ir import Node
from snnc.passes.canonical.chain import Chain, static_rest
from snnc.passes.canonical.repeated_fill import repeated_fill
from snnc.passes.editing import Array, Editor
from snnc.passes.recognise.masks import CLOSED

__all__ = ["choose_by_constant"]


def choose_by_constant(editor: Editor, node: Node) -> str | None:
    """Write a Where whose mask is constant as a product with zeros and ones, and the addition of the rest.

    Numbers so low that they mask the scores of a softmax are left to who recognises these.

    Args:
        editor: Editor of the model.
        node: A Where.

    Returns:
        Why it stays, None if it was written out or is none of these.
    """
    out, mask = node.outputs[0], repeated_fill(node.inputs[0])
    if out.dtype is None or not out.dtype.is_floating_point() or mask is None:
        return None
    rest = static_rest(out)
    if rest is None or (mask.ndim > len(rest) and mask.shape[0] != 1):
        return "its sizes are not static"
    weights = [mask.astype(np.float32), (~mask.astype(np.bool_)).astype(np.float32)]
    fills = [repeated_fill(value) for value in node.inputs[1:3]]
    varying = [place for place, fill in enumerate(fills) if fill is None]
    whole = [place for place in varying if _has_rest(node, place + 1, rest)]
    if not whole or any(fill is not None and _masks(fill) for fill in fills):
        return None
    first = node.inputs[1 + whole[0]]
    assert first is not None
    chain = Chain(editor, node, first).scale(weights[whole[0]])
    for place in {0, 1} - {whole[0]}:
        other, fill = node.inputs[1 + place], fills[place]
        assert other is not None
        if fill is not None:
            chain.shift(np.asarray(fill * weights[place], dtype=np.float32))
        else:
            chain.append("Add", [Chain(editor, node, other).scale(weights[place]).value])
    chain.finish("choice by a constant mask")
    return None


def _has_rest(node: Node, place: int, rest: list[int]) -> bool:
    return static_rest(node.inputs[place]) == rest


def _masks(fill: Array) -> bool:
    return not bool(np.isfinite(fill).all()) or float(fill.min()) <= CLOSED
