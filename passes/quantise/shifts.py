"""A membrane times a constant as the sum of shifted copies of itself: leaks that 32 bits hold."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from snnc.ir import AI_SNNC, DataType, Graph, Node, Value, initializer, insert_node, make_node
from snnc.passes.analysis import Membrane, TypeAnalysis, as_exact
from snnc.passes.analysis.exact import collapse
from snnc.pipeline.contract import PassResult, Rewrite

__all__ = ["write_shifts"]

#: Bits of the constant that are kept.
_PRECISION = 12
_MOST_SHIFT = 20
#: A copy shifted to the right by so many bits has none left.
_FARTHEST = 31


def write_shifts(
    graph: Graph,
    node: Node,
    sides: tuple[Membrane, Membrane],
    bits: int,
    analysis: TypeAnalysis,
    result: PassResult,
) -> bool:
    """Bring one side of a sum onto the other's grid by shifts, where their steps have one ratio.

    Or ratios that are powers of two apart.

    A multiplication by the rounded ratio needs the bits of the ratio on top of those of the membrane. Shifted
    copies, each rounded to the grid of the sum, need none: what a leak of 0.9 leaves of a potential is
    ``v/2 + v/4 + v/8 + v/64 + ...``, to half a step for each copy.

    Args:
        graph: Graph of the sum.
        node: Add or Sub.
        sides: Both operands, of different steps.
        bits: Bits that the sum may take.
        analysis: Types of the operands; those of the new nodes are added.
        result: Where what was done is noted.

    Returns:
        Whether it was done.
    """
    if any(side.content is not None or bool(np.any(side.step <= 0)) for side in sides):
        return False
    # The grid that stays is the one of the simpler numbers: a potential's decay adds bits to its own.
    moved = max((0, 1), key=lambda place: _size(sides[place]))
    kept = 1 - moved
    ratios = np.asarray(collapse(sides[moved].step / sides[kept].step), dtype=object)
    exponents = np.vectorize(_exponent, otypes=[np.int64])(ratios)
    factors = collapse(ratios / np.power(np.full(ratios.shape, Fraction(2), object), exponents))
    if factors.size != 1:
        return False
    factor: Fraction = factors.reshape(-1)[0]
    # Channels whose ratios are powers of two apart get grids that make them one.
    top = int(exponents.max())
    spread = top - exponents
    digits = round(factor * 2 ** (_PRECISION - 1))
    places = [top + bit - _PRECISION + 1 for bit in range(_PRECISION + 1) if digits >> bit & 1]
    room = (sides[moved].bound, _reach(sides[kept]), spread, places, bits)
    drop = next((drop for drop in range(_MOST_SHIFT) if _fits(*room, drop)), None)
    if drop is None:
        return False
    coarse = sides[kept].step * Fraction(2) ** drop
    grid = _plain(coarse / np.asarray(np.left_shift(1, spread), dtype=object))
    if grid is None:
        return False
    writer = _Writer(graph, node, analysis, result)
    source, other = node.inputs[moved], node.inputs[kept]
    assert source is not None and other is not None
    copies = [writer.copy(source, sides[moved], place - drop, grid) for place in sorted(places, reverse=True)]
    total = copies[0]
    for number, copy in enumerate(copies[1:]):
        total = writer.add(f"{source.name}_shifted_{number}", "Add", [total, copy], source)
    node.replace_input_with(moved, total)
    if drop:
        inputs = [other, writer.held(other, coarse.astype(np.float64), "coarse")]
        other = writer.add(f"{other.name}_coarse", "RoundMembrane", inputs, other)
    if bool(np.any(spread)):
        other = writer.rescale(other, np.left_shift(1, spread), grid, coarse.astype(np.float64), "spread")
    node.replace_input_with(kept, other)
    error = abs(float(Fraction(digits, 2 ** (_PRECISION - 1)) / factor - 1))
    result.rewrites.append(Rewrite("a constant by shifts", (), (node.name or "",)))
    result.notes.append(
        f"{node.name}: {source.name} is the sum of {len(places)} shifted copies, scaled by 1 ± {error:.1e}, "
        f"each rounded to multiples of {float(grid.max()):.3g} at most"
    )
    return True


def _size(side: Membrane) -> int:
    """Return the bits that it takes to write the steps of a membrane."""
    return max(
        (step.numerator * step.denominator).bit_length()
        - ((step.denominator & -step.denominator).bit_length() - 1)
        for step in map(Fraction, side.step.reshape(-1).tolist())
    )


def _exponent(ratio: Fraction) -> int:
    """Return the exponent of the largest power of two that is no larger."""
    exponent = ratio.numerator.bit_length() - ratio.denominator.bit_length()
    return exponent if Fraction(2) ** exponent <= ratio else exponent - 1


def _reach(side: Membrane) -> npt.NDArray[np.int64]:
    """Return the largest magnitude of each channel's integers."""
    return np.asarray(np.maximum(np.abs(side.low), np.abs(side.high)))


def _fits(
    moved: int,
    kept: npt.NDArray[np.int64],
    spread: npt.NDArray[np.int64],
    places: list[int],
    bits: int,
    drop: int,
) -> bool:
    """Whether copies of what is moved, and what stays on a grid coarser by ``drop`` bits, fit."""
    share = sum(Fraction(2) ** (place - drop) for place in places)
    stays = int((((kept >> drop) + 1) * np.left_shift(1, np.minimum(spread, _MOST_SHIFT))).max())
    # A copy of a large multiple is an integer of its own.
    near = max(places) - drop < _MOST_SHIFT and int(spread.max()) <= _MOST_SHIFT
    near = near and min(places) - drop > -_FARTHEST
    return near and moved * share + stays + len(places) + 1 < 2**bits


def _plain(step: npt.NDArray[Any]) -> npt.NDArray[np.float64] | None:
    """Return steps as float64, None if they are no float64."""
    plain: npt.NDArray[np.float64] = step.astype(np.float64)
    return plain if bool(np.all(as_exact(plain, plain.ndim) == step)) else None


class _Writer:
    """Writes nodes in front of a sum."""

    def __init__(self, graph: Graph, node: Node, analysis: TypeAnalysis, result: PassResult) -> None:
        self.graph, self.node, self.analysis, self.result = graph, node, analysis, result

    def held(self, like: Value, array: npt.NDArray[Any], label: str = "step") -> Value:
        """Return a constant that broadcasts against a value."""
        rank = len(self.analysis.shape(like))
        name = f"{self.node.name}_{like.name}_{label}"
        return initializer(self.graph, name, array.reshape(array.shape[max(0, array.ndim - rank) :]))

    def add(self, name: str, op: str, inputs: list[Value], like: Value) -> Value:
        """Add a node; its value has the shape of another."""
        made = make_node(
            self.graph,
            op,
            inputs,
            domain="" if op == "Add" else AI_SNNC,
            name=name,
            dtype=DataType.FLOAT,
            shape=like.shape,
            source=self.node,
        )
        value = insert_node(self.graph, self.node, made)
        self.analysis.adopt(made, self.analysis.shape(like))
        return value

    def rescale(
        self,
        source: Value,
        times: npt.NDArray[np.int64],
        step: npt.NDArray[np.float64],
        was: npt.NDArray[np.float64],
        label: str,
    ) -> Value:
        """Return a value times integers, on another grid."""
        arrays: list[tuple[str, npt.NDArray[Any]]] = [
            ("times", times.astype(np.int32)),
            ("step", step),
            ("source_step", was),
        ]
        held = [self.held(source, array, f"{label}_{what}") for what, array in arrays]
        return self.add(f"{source.name}_{label}", "Rescale", [source, *held], source)

    def copy(self, source: Value, side: Membrane, place: int, grid: npt.NDArray[np.float64]) -> Value:
        """Return a value times the factor's digit at a place, on the grid."""
        label = f"{'m' if place < 0 else 'p'}{abs(place)}"
        times = np.full((1,) * grid.ndim, 2 ** max(place, 0), np.int64)
        fine = grid * 2.0 ** min(place, 0)
        value = self.rescale(source, times, fine, side.step.astype(np.float64), label)
        if place >= 0:
            return value
        inputs = [value, self.held(source, grid, f"{label}_grid")]
        return self.add(f"{source.name}_{label}_coarse", "RoundMembrane", inputs, source)
