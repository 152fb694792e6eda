"""Recognising quantisers written as arithmetic: QCFS, ``round(clamp)`` and their algebraic variants.

A chain has one rounding op; before and after it stand positive factors, offsets and clips by constants. All
constants are taken as exact rationals, so every order and every way to fold them is the same pattern.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import cast

import numpy as np

from snnc.coding import Ties
from snnc.ir import Node, Value, constant
from snnc.passes.editing import is_output, only_consumer
from snnc.passes.recognise.affine import ROUNDINGS, Affine, Link, link_of
from snnc.passes.recognise.uniform import CLOSE, Match, Rationals, Uniform, rationals, uniform

__all__ = ["match_chain"]

_MOST_LINKS = 12


@dataclass(frozen=True, eq=False)
class _Candidate:
    """One way to cut a chain out of the graph, and how well it fits.

    Attributes:
        match: The quantiser.
        score: Larger is better: neutral gain, factors taken in behind the rounding (a code that is multiplied
            afterwards is a code no longer), neutral shift, number of nodes.
    """

    match: Match
    score: tuple[int, int, int, int]


def _before(rounding: Node) -> list[Link]:
    """Return the links in front of a rounding op, nearest first; each has no other reader."""
    links: list[Link] = []
    value = rounding.inputs[0]
    while value is not None and len(links) < _MOST_LINKS and only_consumer(value) is not None:
        link = link_of(value.producer())
        if link is None:
            break
        links.append(link)
        value = link.source
    return links


def _after(rounding: Node) -> list[Link]:
    """Return the links behind a rounding op, nearest first; nothing else reads what lies between them."""
    links: list[Link] = []
    value: Value = rounding.outputs[0]
    while len(links) < _MOST_LINKS:
        consumer = only_consumer(value)
        link = link_of(consumer)
        if link is None or consumer is None or link.source is not value or is_output(value):
            break
        links.append(link)
        value = consumer.outputs[0]
    return links


def _compose(links: list[Link]) -> Affine:
    affine = Affine.identity()
    for link in links:
        affine = link.step(affine)
    return affine


def _whole(number: Fraction) -> int | None:
    """Return an integer if the number is one, up to the rounding of float32 constants."""
    nearest = round(number)
    return nearest if abs(number - nearest) <= CLOSE * max(1, abs(nearest)) else None


def _same_whole(array: Rationals) -> int | None:
    numbers = {_whole(entry) for entry in array.reshape(-1)}
    return numbers.pop() if len(numbers) == 1 else None


def _rounded_bound(bound: Rationals, op_type: str) -> int | float | None:
    """Return the code that a bound in front of the rounding gives; None if it differs between channels."""
    codes: set[int | float] = set()
    for entry in bound.reshape(-1):
        if isinstance(entry, float):
            codes.add(entry)
        elif op_type == "Round":
            # Round half to even, as Fraction's round does.
            codes.add(round(entry))
        else:
            whole = _whole(entry)
            codes.add(math.floor(entry) if whole is None else whole)
    return codes.pop() if len(codes) == 1 else None


def _code_bounds(front: Affine, back: Affine, rounding: Node) -> tuple[int, int] | str:
    """Return the smallest and largest integer that the rounding's consumers can tell apart."""
    low, high = (_rounded_bound(bound, rounding.op_type) for bound in (front.low, front.high))
    # Clips behind the rounding, in the unit of its integers.
    after = [np.asarray((bound - back.b) / back.a) for bound in (back.low, back.high)]
    limits: list[int | float] = []
    for bound in after:
        first = uniform(bound)
        if first is None:
            return "its range differs between channels"
        if isinstance(first, float):
            limits.append(first)
            continue
        whole = _whole(first)
        if whole is None:
            return "it clips to a value that is not one of its levels"
        limits.append(whole)
    if low is None or high is None:
        return "its range differs between channels"
    smallest, largest = (min(max(bound, limits[0]), limits[1]) for bound in (low, high))
    if isinstance(smallest, float) or isinstance(largest, float):
        return "it has no finite lower or upper bound"
    return smallest, largest


def _candidate(rounding: Node, front_links: list[Link], back_links: list[Link]) -> _Candidate | str:
    """Read one cut of the chain; links in the order of execution."""
    kind = ROUNDINGS[rounding.op_type]
    front, back = _compose(front_links), _compose(back_links)
    # The result is back.a * q + back.b = step * (q - zero): zero must be an integer, or 0 is not a level.
    zero = _same_whole(np.asarray(-back.b / back.a))
    if zero is None:
        return "zero is not one of its levels: its zero point is not an integer"
    bounds = _code_bounds(front, back, rounding)
    if isinstance(bounds, str):
        return bounds
    smallest, largest = bounds[0] - zero, bounds[1] - zero
    if smallest == largest:
        return "it has a single level"
    if max(abs(smallest), abs(largest)) >= 2**16:
        return f"its codes {smallest} to {largest} need more than 16 time-steps"
    gain = np.asarray(front.a * back.a)
    shift = np.asarray(front.b + Fraction(kind.offset) - zero)
    mismatch = max(abs(entry - 1) for entry in gain.reshape(-1))
    notes = []
    if 0 < mismatch <= CLOSE:
        notes.append(f"its factors before and after rounding differ from inverses by {float(mismatch):.1g}")
    if mismatch <= CLOSE:
        gain = rationals(1)
    if all(abs(entry) <= CLOSE * max(1, abs(smallest), abs(largest)) for entry in shift.reshape(-1)):
        shift = rationals(0)
    if kind.ties == "even" and zero % 2:
        notes.append(
            "its zero point is odd: mid-points go to the even code here, to the odd one in the source"
        )
    quantiser = Uniform(
        step=back.a,
        smallest=smallest,
        largest=largest,
        ties=cast("Ties", kind.ties),
        gain=gain,
        shift=np.asarray(shift * back.a),
        note="; ".join(notes),
    )
    source = front_links[0].source if front_links else rounding.inputs[0]
    result = back_links[-1].node.outputs[0] if back_links else rounding.outputs[0]
    assert source is not None
    nodes = (*(link.node for link in front_links), rounding, *(link.node for link in back_links))
    factors = sum(link.node.op_type in ("Mul", "Div") for link in back_links)
    score = (int(uniform(gain) == 1), factors, int(uniform(shift) == 0), len(nodes))
    return _Candidate(Match(source, result, nodes, quantiser), score)


def _cuts(rounding: Node) -> Iterator[_Candidate | str]:
    before, after = _before(rounding), _after(rounding)
    for first in range(len(before), -1, -1):
        for last in range(len(after), -1, -1):
            yield _candidate(rounding, list(reversed(before[:first])), after[:last])


def match_chain(rounding: Node) -> Match | str:
    """Find the quantiser around a Floor or Round node.

    Args:
        rounding: The node.

    Returns:
        The largest chain whose factors before and after the rounding are inverses; else the largest with a
        factor or offset in front; else why there is none.
    """
    if constant(rounding.inputs[0]) is not None:
        return "its input is a constant"
    best: _Candidate | None = None
    reason = ""
    for cut in _cuts(rounding):
        if isinstance(cut, str):
            reason = reason or cut
        elif best is None or cut.score > best.score:
            best = cut
    return best.match if best is not None else reason
