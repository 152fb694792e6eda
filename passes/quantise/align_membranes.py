"""Bring membranes that are added to each other onto one step."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import ceil
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from snnc.errors import UnsupportedError, Where
from snnc.ir import AI_SNNC, DataType, Graph, Model, Node, initializer, insert_node, make_node
from snnc.passes.analysis import Membrane, TypeAnalysis, as_membrane, same
from snnc.passes.analysis.exact import ExactArray, as_exact, collapse, distinct, floats, shift_factors
from snnc.passes.analysis.sums import power_of_two, ranked
from snnc.passes.quantise.maxima import level
from snnc.passes.quantise.mirrored import follow_sign
from snnc.passes.quantise.room import extremes, joint_bound, make_room
from snnc.passes.quantise.shifts import write_shifts
from snnc.passes.quantise.streams import reaches_join
from snnc.pipeline.contract import PassResult, Rewrite, Semantics, whole

__all__ = ["AlignMembranes"]

_Found = tuple[ExactArray, tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]]
_BITS = 30
_BITS_IN_A_STREAM = 26
_MOST = 2**62
#: Bits of a ratio of steps below which shifted copies are the better form.
_FEW = 12
#: Relative error of a scaled step that changes nothing but the last bits.
_CLOSE = 2.0**-4
#: Share of the range of a sum that may be lost of a side that is small beside the other.
_LOSS = 2.0**-8


@dataclass(frozen=True)
class AlignMembranes:
    """Multiply membranes by integer constants so that both sides of a join count in the same step.

    Where the steps are a power of two apart (the rule for weights that snnc quantised itself) this is an
    exact shift. Elsewhere, in models that came with their own scales, the ratio of the steps is rounded
    to an integer of ``precision`` bits, or as many as 32-bit membranes leave room for (26 bits where the sum
    is joined again, so that a residual stream has room to grow); the multiplication by a constant lowers to
    shift-adds. Where a ratio of 12 bits leaves no room, one side becomes a sum of shifted copies of itself
    (a leak of 0.9 is 1/2 + 1/4 + 1/8 + ...); where the ratio differs from channel to channel, low bits of the
    finer membrane are rounded off.

    A maximum reads integers in the order of the values: negative steps are mirrored, and unlike ones along
    what it compares are brought onto one.

    Matches: Add and Sub of two values that carry integers with different steps; maxima over negative or
    unlike steps.
    Leaves alone: joins whose steps agree.
    Keeps: names and shapes.

    Attributes:
        precision: Bits of the rounded ratio of two steps.
    """

    precision: int = whole(24, 4, 62)

    name: ClassVar[str] = "align-membranes"
    requires: ClassVar[frozenset[str]] = frozenset()
    establishes: ClassVar[frozenset[str]] = frozenset()
    invalidates: ClassVar[frozenset[str]] = frozenset()
    semantics: ClassVar[Semantics] = "approximate"

    def run(self, model: Model) -> PassResult:
        """Insert ``Rescale`` nodes; the result notes each ratio that was not exact."""
        analysis = TypeAnalysis(model)
        result = PassResult()
        for node in list(model.graph):
            if node.op_type in ("Add", "Sub") and node.domain == "":
                self._align(model.graph, node, analysis, result)
            follow_sign(model.graph, node, analysis)
            level(model.graph, node, analysis, result)
            analysis.visit(node)
        return result

    def _align(self, graph: Graph, node: Node, analysis: TypeAnalysis, result: PassResult) -> None:
        rank = len(analysis.shape(node.outputs[0]))
        sides = [as_membrane(ranked(analysis.kind(value), rank)) for value in node.inputs]
        left, right = sides
        if left is None or right is None or left.host or right.host:
            return
        bits = _BITS_IN_A_STREAM if reaches_join(node.outputs[0]) else _BITS
        alone = _step_of_the_other((left, right))
        if (
            alone is None
            and _is_short_of_room((left, right))
            and write_shifts(graph, node, (left, right), bits, analysis, result)
        ):
            return
        if alone is None:
            make_room(graph, node, (left, right), _BITS, _common_step, analysis, result)
        left, right = (as_membrane(ranked(analysis.kind(value), rank)) for value in node.inputs)
        if left is None or right is None or same(left.step, right.step):
            return
        found = alone or self._common((left, right), bits)
        if found is None:
            raise UnsupportedError(
                "SNN438",
                "the two membranes added here have steps so far apart that 32 bits do not hold both",
                where=Where(node=node.name, pass_name=self.name),
                hint="use fewer weight bits, or put a quantiser on one of the two branches",
            )
        step, factors = found
        for position, (side, factor) in enumerate(zip((left, right), factors, strict=True)):
            if bool(np.all(factor == 1)) and same(side.step, step):
                continue
            self._insert(graph, node, position, side, factor, step, analysis, result)

    def _common(self, sides: tuple[Membrane, Membrane], bits: int) -> _Found | None:
        """Return a common step and the factors of both sides, None if nothing fits."""
        left, right = sides
        narrow = extremes(sides)
        for precision in range(self.precision, 3, -1):
            step, factors = _common_step(left.step, right.step, precision)
            if joint_bound(narrow, factors) < 2 ** (bits if precision > 8 else _BITS):
                return step, factors
        for precision in range(self.precision, -1, -1):
            step, factors = _common_step(left.step, right.step, precision, rounds=True)
            close = _CLOSE if precision > 3 else 0.0
            if joint_bound(narrow, factors) < 2**_BITS and _lost(sides, factors, step, close) < _LOSS:
                return step, factors
        return None

    def _insert(
        self,
        graph: Graph,
        node: Node,
        position: int,
        side: Membrane,
        factor: npt.NDArray[np.int64],
        step: ExactArray,
        analysis: TypeAnalysis,
        result: PassResult,
    ) -> None:
        source = node.inputs[position]
        assert source is not None
        stem = f"{source.name}_aligned"
        made = make_node(
            graph,
            "Rescale",
            [
                source,
                initializer(graph, f"{stem}_multiplier", factor.astype(np.int32)),
                initializer(graph, f"{stem}_step", step.astype(np.float64)),
                initializer(graph, f"{stem}_source_step", side.step.astype(np.float64)),
            ],
            domain=AI_SNNC,
            name=stem,
            dtype=DataType.FLOAT,
            shape=source.shape,
            source=node,
        )
        shape = analysis.shape(source)
        node.replace_input_with(position, insert_node(graph, node, made))
        analysis.adopt(made, shape)
        result.rewrites.append(Rewrite("align a membrane", (), (made.name or "",)))
        wanted = np.where(side.step == 0, 1, side.step)
        error = np.abs(np.where(side.step == 0, 0, factor * step / wanted - 1).astype(np.float64)).max()
        if error > 0 and side.bound:
            result.notes.append(f"{node.name}: {source.name} is scaled by 1 ± {error:.1e}")


def _step_of_the_other(sides: tuple[Membrane, Membrane]) -> _Found | None:
    """Return the step of one side for both where the other is nothing but zeros, whose own says nothing."""
    for side, other in (sides, sides[::-1]):
        known = other.step.size == 1 and other.bound < 2**_BITS and bool(np.all(side.step != 0))
        if known and not side.bound and side.content is None and not bool(np.any(side.bias != 0)):
            step = as_exact(other.step.astype(np.float64), other.step.ndim)
            one = np.ones((1,) * step.ndim, dtype=np.int64)
            return (step, (one, one)) if bool(np.all(step > 0)) else None
    return None


def _is_short_of_room(sides: tuple[Membrane, Membrane]) -> bool:
    """Whether both sides times the ratio of their steps, of few bits, leave 32 bits."""
    left, right = sides
    if same(left.step, right.step) or _shift_apart(left.step, right.step) is not None:
        return False
    if bool(np.any(left.step == 0)) or bool(np.any(right.step == 0)):
        return False
    bound: int = joint_bound(sides, _common_step(left.step, right.step, _FEW)[1])
    return bool(bound >= 2**_BITS)


def _lost(
    sides: tuple[Membrane, Membrane],
    factors: tuple[npt.NDArray[np.int64], ...],
    step: ExactArray,
    close: float,
) -> float:
    """Return how far a side may be off, as a share of the larger side's range; all, where a bias changes.

    Args:
        sides: Both sides.
        factors: What each is multiplied by.
        step: The common step.
        close: Relative errors up to that one do not count.
    """
    reaches = [
        np.maximum(np.abs(side.low), np.abs(side.high)) * np.abs(side.step.astype(np.float64))
        for side in sides
    ]
    whole = np.maximum(*reaches)
    lost = 0.0
    for side, factor, reach in zip(sides, factors, reaches, strict=True):
        wanted = np.where(side.step == 0, 1, side.step)
        error = np.abs(np.where(side.step == 0, 0, factor * step / wanted - 1).astype(np.float64))
        far = error > close
        if bool(np.any(far & (side.bias != 0))):
            return 1.0
        lost = max(lost, float(np.max(np.where(far, error * reach / np.where(whole > 0, whole, 1), 0))))
    return lost


def _common_step(
    left: ExactArray, right: ExactArray, precision: int, *, rounds: bool = False
) -> tuple[ExactArray, tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]]:
    """Choose a step, and the integer multiples of it that stand for two steps.

    Args:
        left: Exact steps of one side, non-zero.
        right: Exact steps of the other.
        precision: Bits of the rounded ratio where it is not a power of two.
        rounds: Whether a step that is smaller than the other by more bits than that is rounded to a multiple.

    Returns:
        The common step (exactly representable in float64) and both integer factors.
    """
    quick = None if rounds else _shift_apart(left, right)
    if quick is not None:
        return quick
    pairs, places = distinct(left, right)
    chosen = np.empty(len(pairs), dtype=object)
    chosen[:] = [_one_step(one, two, precision, rounds=rounds) for one, two in pairs]
    factors = [
        # A side that is nothing but zeros may have any step: what 64 bits do not hold fits nowhere.
        np.array(
            [min(round(pair[side] / step), _MOST) for pair, step in zip(pairs, chosen, strict=True)],
            dtype=np.int64,
        )
        for side in range(2)
    ]
    return collapse(chosen[places]), (collapse(factors[0][places]), collapse(factors[1][places]))


def _shift_apart(
    left: ExactArray, right: ExactArray
) -> tuple[ExactArray, tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]] | None:
    """Choose the finer of two steps where all of them are float64 and a power of two apart; else None."""
    (one, certain), (two, sure) = floats(left), floats(right)
    if not (certain and sure):
        return None
    found = shift_factors(one, two)
    if found is None:
        return None
    step, factors = found
    return as_exact(step, step.ndim), factors


def _one_step(left: Fraction, right: Fraction, precision: int, *, rounds: bool) -> Fraction:
    """Choose the common step of two numbers, representable in float64."""
    fine, coarse = sorted((abs(left), abs(right)))
    if fine == 0:
        return Fraction(float(coarse)) if coarse else Fraction(1)
    room = precision + 1 - ceil(coarse / fine).bit_length()
    if rounds and room < 0:
        # Rotary positions turn by angles of a millionth: what is so small is rounded beside the other.
        return Fraction(float(coarse / 2**precision))
    if power_of_two(coarse / fine) is not None and Fraction(float(fine)) == fine:
        return fine
    return Fraction(float(fine / 2 ** max(0, room)))
