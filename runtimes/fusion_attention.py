"""Attention as one native operator: scores, softmax by thresholds, values."""

from __future__ import annotations

from typing import Any

from snnc.runtimes.message import Message

__all__ = ["fuse_attention"]

_CODES = (2, 3, 5)  # uint8, int8, int16
_MOST_FRACTION = 20


def fuse_attention(view: Message) -> None:
    """Replace each chain from the product of queries and keys to the neuron behind the values.

    Masks and biases between them leave a chain as it is.
    """
    for index, node in enumerate(view.graph.node):
        if node.op_type == "SpikeMatMulHeld" and node.domain == "ai.snnc":
            _fuse(view, index, node)


def _attributes(node: Any) -> dict[str, Any]:
    return {attribute.name: attribute for attribute in node.attribute}


def _pair(
    view: Message, name: str, first: str, second: str
) -> tuple[tuple[int, Any], tuple[int, Any]] | None:
    """Return the two nodes of these types that read a tensor, if nothing else does."""
    readers = view.readers.get(name, [])
    if len(readers) != 2 or view.is_output(name):
        return None
    found = {node.op_type: (index, node) for index, node in readers}
    return (found[first], found[second]) if set(found) == {first, second} else None


def _next(view: Message, name: str, op: str) -> tuple[int, Any] | None:
    found = view.only_reader(name)
    return found if found is not None and found[1].op_type == op else None


def _fuse(view: Message, index: int, product: Any) -> None:
    scores = product.output[0]
    shape = view.shape(scores)
    pair = _pair(view, scores, "MembraneMax", "MembraneAdd")
    if shape is None or len(shape) < 2 or pair is None:
        return
    (at_max, largest), (at_add, add) = pair
    last = (-1, len(shape) - 1)
    minus = _next(view, largest.output[0], "MembraneScale")
    if minus is None or _attributes(largest)["axis"].i not in last:
        return
    factor = view.constant(minus[1].input[1])
    if factor is None or factor.size != 1 or int(factor.reshape(-1)[0]) != -1:
        return
    if view.only_reader(minus[1].output[0]) != (at_add, add):
        return
    fired = _next(view, add.output[0], "ExpGIF")
    ends = _pair(view, fired[1].output[0], "SpikeSum", "SpikeMatMulHeld") if fired is not None else None
    if fired is None or ends is None:
        return
    (at_sum, total), (at_values, values) = ends
    row = view.constant(fired[1].input[2])
    summed = _attributes(total)
    if row is None or row.size != 1 or values.input[0] != fired[1].output[0]:
        return
    if list(summed["axes"].ints) not in ([last[0]], [last[1]]) or (
        "keepdims" in summed and not summed["keepdims"].i
    ):
        return
    gain, removed = total.output[0], [at_max, minus[0], at_add, fired[0], at_sum, at_values]
    charge = _next(view, gain, "Charge")
    if charge is not None:
        gain = charge[1].output[0]
        removed.append(charge[0])
    end = _next(view, values.output[0], "ExpGIFGain")
    if end is None or view.only_reader(gain) != end or list(end[1].input[:2]) != [values.output[0], gain]:
        return
    _replace(view, index, product, fired[1], values, end, int(row.reshape(-1)[0]), removed)


def _replace(
    view: Message,
    index: int,
    product: Any,
    fired: Any,
    values: Any,
    end: tuple[int, Any],
    row: int,
    removed: list[int],
) -> None:
    score, result = _attributes(fired), _attributes(end[1])
    rows = view.constant(end[1].input[3])
    tables = [fired.input[1], end[1].input[2]]
    if rows is None or not all(view.is_constant(name) for name in tables):
        return
    if (rows.ndim > 1 and rows.shape[-2] != 1) or result["fraction_bits"].i > _MOST_FRACTION:
        return
    query, key, value = product.input[0], product.input[1], values.input[1]
    kinds = [view.kind(name) for name in (query, key, value)]
    kinds += [score["code_type"].i, result["code_type"].i]
    if not all(kind in _CODES for kind in kinds):
        return
    transposed = 0
    turn = view.writers.get(key)
    rank = len(view.shape(key) or ())
    if (
        turn is not None
        and turn[1].op_type == "Transpose"
        and view.only_reader(key) is not None
        and rank >= 2
    ):
        order = [*range(rank - 2), rank - 1, rank - 2]
        if [list(a.ints) for a in turn[1].attribute] == [order]:
            key, transposed = turn[1].input[0], 1
            removed = [*removed, turn[0]]
    for at in removed:
        view.remove(at)
    view.remove(index)
    given = [result[name] for name in ("codes", "code_type", "depth", "fraction_bits")]
    made = [
        view.attribute(score["codes"], "score_codes"),
        view.attribute(score["depth"], "score_depth"),
        view.attribute(score["code_type"], "score_type"),
        view.attribute(score["depth"], "score_row", row),
        view.attribute(score["depth"], "transposed", transposed),
    ]
    inputs = [query, key, value, *tables, end[1].input[3]]
    view.replace(end[0], "NativeAttention", inputs, [end[1].output[0]], [*given, *made])
