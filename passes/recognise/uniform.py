"""The result of recognition: a uniform quantiser, and the node that stands for it."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from snnc.coding import CodeBook, Ties
from snnc.ir import AI_SNNC, Node, Value, attributes, constant, consumers_of
from snnc.passes.editing import Editor

__all__ = ["CLOSE", "Match", "Rationals", "Uniform", "build", "quantise_attributes", "rationals", "uniform"]

#: Arrays of exact rationals (numpy object arrays of Fraction; bounds may be float infinities).
Rationals = npt.NDArray[np.object_]

#: Relative difference below which two scales are the same number, each rounded to float32 once or twice.
CLOSE = Fraction(1, 2**20)


def rationals(array: npt.ArrayLike) -> Rationals:
    """Return the exact values of a numeric array, same shape."""
    held = np.asarray(array)
    result = np.empty(held.shape, dtype=object)
    result[...] = np.array([Fraction(entry) for entry in held.reshape(-1).tolist()], dtype=object).reshape(
        held.shape
    )
    return result


def uniform(array: Rationals) -> Any:
    """Return the one value that all elements have, or None if they differ."""
    first = array.reshape(-1)[0]
    return first if all(entry == first for entry in array.reshape(-1)) else None


@dataclass(frozen=True, eq=False)
class Uniform:
    """``y = step * clip(round(x / step), smallest, largest)`` with ``x = gain * u + shift``.

    Attributes:
        step: Exact positive step, broadcastable to u; in the unit of y.
        smallest: Smallest code.
        largest: Largest code.
        ties: Where mid-points go.
        gain: Exact positive factor in front, 1 almost always.
        shift: Exact offset in front, in the unit of y, 0 almost always.
        note: What is not exactly as in the source.
    """

    step: Rationals
    smallest: int
    largest: int
    ties: Ties
    gain: Rationals
    shift: Rationals
    note: str = ""


@dataclass(frozen=True, eq=False)
class Match:
    """A quantiser found in the graph.

    Attributes:
        source: Its input u.
        result: Its output y.
        nodes: The nodes it is made of.
        quantiser: What they compute.
    """

    source: Value
    result: Value
    nodes: tuple[Node, ...]
    quantiser: Uniform


def quantise_attributes(book: CodeBook, ties: Ties) -> dict[str, Any]:
    """Return all attributes of an ``ai.snnc::Quantise`` node, the derived ones included."""
    return {
        **book.to_attributes(),
        "ties": ties,
        "codes": book.codes.tolist(),
        "twice_midpoints": book.twice_midpoints.tolist(),
        "closed": book.closed(ties).astype(int).tolist(),
    }


def float32(array: Rationals) -> npt.NDArray[np.float32]:
    """Return rationals in float32, one number if all are equal."""
    same = uniform(array)
    if same is not None:
        return np.asarray(float(same), dtype=np.float32)
    floats = np.array([float(entry) for entry in array.reshape(-1)], dtype=np.float64)
    return floats.reshape(array.shape).astype(np.float32)


def build(editor: Editor, rule: str, match: Match) -> Value:
    """Put a Quantise node in the place of a match.

    Where gain or shift are not neutral a Mul or Add of a constant comes in front.

    Args:
        editor: Editor of the model.
        rule: Name of the pattern, for the record.
        match: What was found.

    Returns:
        The quantised value.
    """
    quantiser, out, source = match.quantiser, match.result, match.source
    # The result of a match is the output of its last node.
    anchor = match.nodes[-1]
    book = CodeBook.uniform(quantiser.smallest, quantiser.largest)
    attrs, step = quantise_attributes(book, quantiser.ties), float32(quantiser.step)
    twin = _twin(match, attrs, step)
    if twin is not None:
        editor.replace(f"{rule}, a second reader", out, twin, removed=match.nodes)
        return twin
    name = editor.take_name(anchor)
    if uniform(quantiser.gain) != 1:
        factor = editor.constant(f"{name}.gain", float32(quantiser.gain))
        source = editor.add(anchor, "Mul", [source, factor], name=f"{name}.gain", shape=out.shape)
    if uniform(quantiser.shift) != 0:
        offset = editor.constant(f"{name}.shift", float32(quantiser.shift))
        source = editor.add(anchor, "Add", [source, offset], name=f"{name}.shift", shape=out.shape)
    quantised = editor.add(
        anchor,
        "Quantise",
        [source, editor.constant(f"{name}.step", step)],
        attrs,
        name=name,
        domain=AI_SNNC,
        dtype=out.dtype,
        shape=out.shape,
    )
    editor.replace(rule, out, quantised, removed=match.nodes, note=quantiser.note)
    return quantised


def _twin(match: Match, attrs: dict[str, Any], step: npt.NDArray[np.float32]) -> Value | None:
    """Return an equal quantiser of the same value, as where one QuantizeLinear feeds several readers."""
    neutral = uniform(match.quantiser.gain) == 1 and uniform(match.quantiser.shift) == 0
    if not neutral or match.result.is_graph_output():
        return None
    for node in consumers_of(match.source):
        if node.domain == AI_SNNC and node.op_type == "Quantise" and node.inputs[0] is match.source:
            held = constant(node.inputs[1])
            if held is not None and np.array_equal(held, step) and attributes(node) == attrs:
                return node.outputs[0]
    return None
