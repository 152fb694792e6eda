"""Room in 32 bits: how far two membranes must be rounded before they can be added to each other."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from snnc.ir import AI_SNNC, DataType, Graph, Node, initializer, insert_node, make_node
from snnc.passes.analysis import Kind, Membrane, TypeAnalysis, as_exact, same
from snnc.passes.analysis.exact import ExactArray, floats, shift_factors
from snnc.passes.analysis.sums import scaled_range
from snnc.pipeline.contract import PassResult, Rewrite

__all__ = ["Common", "extremes", "joint_bound", "make_room"]

Common = Callable[
    [ExactArray, ExactArray, int], tuple[ExactArray, tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]]
]

# Bits of the ratio of two steps that are kept before low bits of the membranes are given up.
_PRECISION = 8
_MOST = 64
#: Bits of a channel that are left when low bits of all of them are given up.
_FEWEST_BITS = 12
#: Steps that are further apart, in bits, have no common step in 64 bits.
_MOST_APART = 40
_ENDLESS = 2**200


def joint_bound(
    sides: tuple[Membrane, Membrane], factors: tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]
) -> int:
    """Return the largest magnitude of the sum of two membranes, each times its factors.

    A factor of more than 32 bits counts by itself: no multiplier holds it, whatever it multiplies.
    """
    bound = 0
    for side, factor in zip(sides, factors, strict=True):
        reach, times = np.maximum(np.abs(side.low), np.abs(side.high)), np.abs(factor)
        about = float((np.maximum(reach, times >= 2**31).astype(np.float64) * times).max())
        bound += int((reach * times).max()) if about < 2.0**31 else int(about)
    return bound


def make_room(
    graph: Graph,
    node: Node,
    sides: tuple[Membrane, Membrane],
    bits: int,
    common: Common,
    analysis: TypeAnalysis,
    result: PassResult,
) -> None:
    """Round the low bits off membranes whose sum would not fit, as few as possible.

    Args:
        graph: Graph of the sum.
        node: Add or Sub.
        sides: Both operands.
        bits: Bits that the sum may take.
        common: Chooses the common step of two steps.
        analysis: Types of the operands; those of the new nodes are added.
        result: Where what was done is noted.
    """
    movable = [_may_be_rounded(analysis.kind(value)) for value in node.inputs]
    plain = [_with_plain_steps(side) if may else side for side, may in zip(sides, movable, strict=True)]
    narrow = extremes(plain)
    near = _near(narrow)

    @cache
    def bound(left: int, right: int) -> int:
        return _bound(narrow, near, (left, right), common)

    shifts = (0, 0)
    for _ in range(_MOST):
        if bound(*shifts) < 2**bits or not any(movable):
            break
        tries = [(shifts[0] + 1, shifts[1]), (shifts[0], shifts[1] + 1)]
        allowed = [shift for shift, possible in zip(tries, movable, strict=True) if possible]
        shifts = min(allowed, key=lambda shift: bound(*shift))
    if bound(*shifts) >= 2**bits:
        return  # one of them may not be rounded, and is too large alone
    kept = [_kept(side, shift) for side, shift in zip(plain, shifts, strict=True)]
    multiplied = list(map(_multiplied, plain, kept))
    if _bound(multiplied, _near(multiplied), shifts, common) >= 2**bits:
        kept = [np.ones(side.step.shape, dtype=np.int64) for side in plain]
    for position, (side, shift, factors) in enumerate(zip(plain, shifts, kept, strict=True)):
        if not shift:
            continue
        old, new = sides[position].step, _multiplied(side, factors).step
        if not same(new, old):
            signs = np.sign(old).astype(np.int64)
            constants = {"multiplier": (factors * signs).astype(np.int32), "step": new, "source_step": old}
            _insert(graph, node, position, "Rescale", constants, analysis, result)
        coarse = new * 2**shift
        _insert(graph, node, position, "RoundMembrane", {"step": coarse}, analysis, result)
        which = "first" if position == 0 else "second"
        result.notes.append(
            f"{node.name}: its {which} operand is rounded to multiples of {float(coarse.max()):.3g} at most"
        )


def extremes(sides: Sequence[Membrane]) -> tuple[Membrane, Membrane]:
    """Return membranes with one range for all places whose steps are the same; `joint_bound` stays.

    Args:
        sides: Two membranes that are combined with each other, by factors of the shape of their steps.
    """
    rank = max(side.step.ndim for side in sides)
    steps = [side.step.reshape((1,) * (rank - side.step.ndim) + side.step.shape) for side in sides]
    varies = np.broadcast_shapes(*(step.shape for step in steps))
    found = []
    for side, step in zip(sides, steps, strict=True):
        ends = [end.reshape((1,) * (rank - end.ndim) + end.shape) for end in (side.low, side.high)]
        alike = tuple(axis for axis in range(rank) if varies[axis] == 1)
        low, high = ends[0].min(axis=alike, keepdims=True), ends[1].max(axis=alike, keepdims=True)
        found.append(Membrane(step, side.bias, low, high))
    left, right = found
    return left, right


def _with_plain_steps(side: Membrane) -> Membrane:
    """Return a membrane whose steps are positive float64: the nearest; of channels of nothing, any."""
    if not bool(np.any(side.step != 0)):
        return side
    size = as_exact(np.abs(side.step.astype(np.float64)), side.step.ndim)
    size = np.where(size == 0, min(step for step in size.reshape(-1).tolist() if step), size)
    low, high = scaled_range(side, np.sign(side.step).astype(np.int64))
    return Membrane(size, side.bias, low, high)


def _kept(side: Membrane, shift: int) -> npt.NDArray[np.int64]:
    """Return powers of two that channels of few bits are multiplied by, so that rounding leaves them some."""
    if not shift or side.step.size == 1:
        return np.ones(side.step.shape, dtype=np.int64)
    reach = np.maximum(np.abs(side.low), np.abs(side.high)).astype(np.float64)
    alike = tuple(axis for axis, size in enumerate(side.step.shape) if size == 1)
    reach = np.broadcast_to(reach, np.broadcast_shapes(reach.shape, side.step.shape))
    bits = np.frexp(reach.max(axis=alike, keepdims=True))[1]
    # The finest steps are those that are in the way.
    apart = np.floor(np.log2((side.step / min(side.step.reshape(-1).tolist())).astype(np.float64)))
    missing = np.clip(_FEWEST_BITS + shift - bits, 0, np.minimum(shift, apart)) * (bits > 0)
    return np.asarray(np.left_shift(1, missing.astype(np.int64)), dtype=np.int64)


def _multiplied(side: Membrane, factors: npt.NDArray[np.int64]) -> Membrane:
    """Return a membrane whose integers are multiplied and whose steps are divided by the same numbers."""
    if bool(np.all(factors == 1)):
        return side
    return Membrane(side.step / factors.astype(object), side.bias, side.low * factors, side.high * factors)


def _near(sides: Sequence[Membrane]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]] | None:
    """Return the steps of two membranes as float64, None if some of them are not."""
    (left, certain), (right, sure) = (floats(side.step) for side in sides)
    return (left, right) if certain and sure else None


def _bound(
    sides: Sequence[Membrane],
    near: tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]] | None,
    shifts: tuple[int, int],
    common: Common,
) -> int:
    """Return the largest magnitude of a sum of membranes that have lost some bits, on their common step.

    Args:
        sides: The membranes before.
        near: Their steps as float64, if they are.
        shifts: Bits that each of them loses.
        common: See `make_room`.
    """
    left, right = (
        Membrane(side.step, side.bias, side.low >> shift, side.high >> shift) if shift else side
        for side, shift in zip(sides, shifts, strict=True)
    )
    if near is not None:
        # Most steps are a power of two apart: that takes no exact numbers.
        one, two = (np.ldexp(steps, shift) for steps, shift in zip(near, shifts, strict=True))
        if _are_far(one, two):
            return _ENDLESS
        if bool(np.all(one == two)):
            return left.bound + right.bound
        found = shift_factors(one, two)
        if found is not None:
            return joint_bound((left, right), found[1])
    fine, coarse = (
        side.step * 2**shift if shift else side.step for side, shift in zip(sides, shifts, strict=True)
    )
    if same(fine, coarse):
        return left.bound + right.bound
    if _are_far(floats(fine)[0], floats(coarse)[0]):
        return _ENDLESS
    _, factors = common(fine, coarse, _PRECISION)
    return joint_bound((left, right), factors)


def _are_far(one: npt.NDArray[np.float64], two: npt.NDArray[np.float64]) -> bool:
    """Whether some steps have no common step in 64 bits."""
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        ratio = np.abs(one / two)
    return not bool(np.all((ratio < 2.0**_MOST_APART) & (ratio > 2.0**-_MOST_APART)))


def _may_be_rounded(kind: Kind) -> bool:
    """Whether a value is a membrane that is no constant and whose integers count something."""
    return isinstance(kind, Membrane) and kind.content is None and bool(np.any(kind.step != 0))


def _insert(
    graph: Graph,
    node: Node,
    position: int,
    op: str,
    constants: Mapping[str, npt.NDArray[Any]],
    analysis: TypeAnalysis,
    result: PassResult,
) -> None:
    """Put an op that reads an operand and constants, the exact ones as float64, in the operand's place."""
    source = node.inputs[position]
    assert source is not None
    stem = f"{source.name}_{'coarse' if op == 'RoundMembrane' else 'finer'}"
    shape = analysis.shape(source)
    held = [
        initializer(
            graph,
            f"{stem}_{label}",
            (array.astype(np.float64) if array.dtype == object else array).reshape(
                array.shape[-len(shape) :]
            ),
        )
        for label, array in constants.items()
    ]
    made = make_node(
        graph,
        op,
        [source, *held],
        domain=AI_SNNC,
        name=stem,
        dtype=DataType.FLOAT,
        shape=source.shape,
        source=node,
    )
    node.replace_input_with(position, insert_node(graph, node, made))
    analysis.adopt(made, shape)
    result.rewrites.append(Rewrite("make room", (), (made.name or "",)))
