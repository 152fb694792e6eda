"""The grid that tokens were before they became a sequence: height, width, and what stands in front."""

from __future__ import annotations

import math
from math import prod

from snnc.ir import Node, Value, attributes
from snnc.passes.editing import is_standard

__all__ = ["grid_of"]

_MOST_EXTRA = 16
Grid = tuple[tuple[int, int], int]


def grid_of(product: Node, tokens: int) -> Grid | str:
    """Return height and width of the map that became the tokens of an attention, and the tokens in front.

    The map is the first value above the product whose two axes a Reshape merges into an axis of as many
    tokens, or fewer by what a Concat puts in front. Without one, tokens, or all but the first, are a square.

    Args:
        product: Product of queries and keys.
        tokens: Number of tokens.

    Returns:
        ``(height, width), extra``, or why there is none.
    """
    above = _above(product)
    joined = [node for node in above if is_standard(node, "Concat")]
    for node in above:
        if not is_standard(node, "Reshape") or _from_product(node.inputs[0]):
            continue
        for height, width in _merged(_sizes(node.inputs[0]), _sizes(node.outputs[0])):
            extra = tokens - height * width
            if not 0 <= extra <= _MOST_EXTRA:
                continue
            if extra:
                places = {_in_front(entry, tokens, height * width) for entry in joined} - {None}
                if places == {False}:
                    return "its class tokens are not in front of the grid"
                if not places and extra > 1:
                    continue
            return (height, width), extra
    for extra in (0, 1):
        side = math.isqrt(tokens - extra)
        if side > 1 and side * side == tokens - extra:
            return (side, side), extra
    return "its tokens are no grid"


def _above(node: Node) -> list[Node]:
    """Return the nodes above a node, as they stand in the graph."""
    seen: set[int] = set()
    pending: list[Node] = [node]
    while pending:
        for value in pending.pop().inputs:
            maker = value.producer() if value is not None else None
            if maker is not None and id(maker) not in seen:
                seen.add(id(maker))
                pending.append(maker)
    return [entry for entry in node.graph or () if id(entry) in seen]


def _sizes(value: Value | None) -> list[int | None]:
    """Return a shape with None for what is no number."""
    if value is None or value.shape is None:
        return []
    return [size if isinstance(size, int) else None for size in value.shape]


def _merged(before: list[int | None], after: list[int | None]) -> list[tuple[int, int]]:
    """Return pairs of neighbouring axes that one axis of the result is made of; the first axis stays."""
    if len(before) < 3 or before[:1] != after[:1]:
        return []
    old = [size for size in before[1:] if size is not None]
    new = [size for size in after[1:] if size is not None]
    if len(old) + 1 != len(before) or len(new) + 1 != len(after):
        return []
    return [
        (old[i], old[i + 1])
        for i in range(len(old) - 1)
        for j in range(len(new))
        if old[i] > 1 and old[i + 1] > 1 and new[j] == old[i] * old[i + 1] and prod(old[:i]) == prod(new[:j])
    ]


def _from_product(value: Value | None) -> bool:
    """Whether a value is a product of values, turned around: heads that are joined are no grid."""
    node = value.producer() if value is not None else None
    while node is not None and is_standard(node, "Transpose", "Identity"):
        source = node.inputs[0]
        node = source.producer() if source is not None else None
    return node is not None and is_standard(node, "MatMul")


def _in_front(node: Node, tokens: int, patches: int) -> bool | None:
    """Whether a Concat puts tokens in front of the patches; None if it is none of tokens."""
    sizes, axis = _sizes(node.outputs[0]), int(attributes(node).get("axis", 0))
    if not sizes or sizes[axis] != tokens:
        return None
    parts = [_sizes(value) for value in node.inputs]
    lengths = [part[axis] if part else None for part in parts]
    return lengths[-1] == patches if patches in lengths else None
