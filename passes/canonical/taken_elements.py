"""GatherElements whose places are the same for every sample: elements taken by constant places."""

from __future__ import annotations

from math import prod

import numpy as np

from snnc.ir import Node, attributes
from snnc.passes.canonical.chain import Chain, static_rest
from snnc.passes.canonical.repeated_fill import repeated_fill
from snnc.passes.editing import Array, Editor

__all__ = ["take_elements"]


def take_elements(editor: Editor, node: Node) -> str | None:
    """Write a GatherElements as a Gather of the axes along which its places differ, joined to one.

    Args:
        editor: Editor of the model.
        node: A GatherElements whose data have static sizes behind the batch.

    Returns:
        Why it stays, None if it was written out.
    """
    source, out = node.inputs[0], node.outputs[0]
    wanted, rest = static_rest(out), static_rest(source)
    places = repeated_fill(node.inputs[1])
    if source is None or wanted is None or rest is None or places is None:
        return "its places are not constant"
    axis = int(attributes(node).get("axis", 0)) % (len(rest) + 1)
    for number in range(places.ndim):
        if places.shape[number] > 1 and bool((places == places.take([0], axis=number)).all()):
            places = places.take([0], axis=number)
    if places.shape[0] != 1 or axis == 0:
        return "its places differ from sample to sample"
    places = np.where(places < 0, places + rest[axis - 1], places)
    if bool(((places < 0) | (places >= rest[axis - 1])).any()):
        return "its places lie outside"
    places = np.broadcast_to(places[0], _shape(places, wanted))
    # Axes in front of the first one that places depend on stay as they are.
    first = min([axis - 1, *(n for n, size in enumerate(places.shape) if size > 1)])
    if wanted[:first] != rest[:first]:
        return "it leaves places out"
    chosen = np.broadcast_to(places.reshape(places.shape[first:]), wanted[first:])
    grid = list(np.indices(wanted[first:]))
    grid[axis - 1 - first] = chosen
    flat: Array = np.ravel_multi_index(tuple(grid), tuple(rest[first:])).reshape(-1)
    chain = Chain(editor, node, source)
    chain.reshape([*rest[:first], prod(rest[first:])])
    chain.gather(first + 1, flat.tolist()).reshape(wanted)
    chain.finish("elements taken by constant places")
    return None


def _shape(places: Array, wanted: list[int]) -> list[int]:
    """Return the sizes of places of one sample, 1 along axes that they do not depend on."""
    return [size if size == 1 else full for size, full in zip(places.shape[1:], wanted, strict=True)]
