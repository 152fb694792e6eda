"""Where by a computed condition, between values and several numbers: two functions, and a sum."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from snnc.ir import Node, Value, constant
from snnc.passes.canonical.chain import Chain, static_rest
from snnc.passes.editing import Array, Editor
from snnc.passes.quantise.jumps import is_of_one_value, operands
from snnc.passes.recognise.masks import CLOSED

__all__ = ["choose_by_value"]


def choose_by_value(editor: Editor, node: Node, order: Mapping[int, int]) -> str | None:
    """Write ``Where(c, x, K)`` as ``Where(c, x, 0) + K · Where(c, 0, 1)``.

    If c and x are functions of one value, so are both choices, and a table of a code holds a function that is
    the same for all elements; what differs between them is a factor of one. Numbers so low that they mask the
    scores of a softmax are left to who recognises these.

    Args:
        editor: Editor of the model.
        node: A Where.
        order: Place of each node of the graph, by identity.

    Returns:
        Why it stays, None if it was written out or is none of these.
    """
    out, held = node.outputs[0], [constant(value) for value in node.inputs]
    if out.dtype is None or not out.dtype.is_floating_point() or held[0] is not None:
        return None
    apart = {place: array for place, array in enumerate(held) if array is not None and _differs(array)}
    rest, varying = static_rest(out), operands(node)
    if not apart or rest is None or any(static_rest(value) != rest for value in varying):
        return None
    if any(_masks(array) for array in apart.values()) or not is_of_one_value(varying, order):
        return None
    zero, one = (editor.constant(f"{node.name}.{number}", np.array(number, np.float32)) for number in (0, 1))

    def chosen(branches: Sequence[Value | None]) -> Chain:
        """Append a choice by the same condition."""
        name = editor.take_name(node)
        inputs = [node.inputs[0], *branches]
        made = editor.add(node, "Where", inputs, name=name, dtype=out.dtype, shape=out.shape)
        return Chain(editor, node, made)

    terms = [
        chosen([one if place == other else zero for other in (1, 2)]).scale(array)
        for place, array in apart.items()
    ]
    if len(apart) == 1:
        kept = [zero if place in apart else node.inputs[place] for place in (1, 2)]
        terms.append(chosen(kept))
    total = terms[-1]
    for term in terms[:-1]:
        total.append("Add", [term.value])
    total.finish("choice by a computed value")
    return None


def _differs(array: Array) -> bool:
    return bool((array != array.reshape(-1)[:1]).any())


def _masks(array: Array) -> bool:
    return not bool(np.isfinite(array).all()) or float(array.min()) <= CLOSED
