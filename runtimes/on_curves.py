"""What may stand between an activation function and its quantiser, for the oracle."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from snnc.coding import CodeBook
from snnc.errors import UnsupportedError, Where
from snnc.ir import Node
from snnc.ops import LAYOUT
from snnc.runtimes.curves import FUNCTIONS, Curve, codes_of
from snnc.runtimes.grids import Grid, WeightGrid, beside, fractions, moved_labels, wide, zero

__all__ = ["curve_of", "on_curve"]

Array = npt.NDArray[Any]
_ARITHMETIC = ("Add", "Sub", "Mul", "Div", "Neg")  # also among the layout ops, for shapes


def curve_of(grid: Grid, function: npt.NDArray[np.object_]) -> Curve:
    """Return a function of a grid; ``function`` as from `FUNCTIONS`."""
    rank = grid.integers.ndim
    functions = wide(np.asarray(function, dtype=object), rank)
    return Curve(
        grid.integers, grid.scale, grid.bias, functions, fractions(np.ones((1,) * rank), rank), zero(rank)
    )


def on_curve(
    node: Node, inputs: list[Any], attrs: dict[str, Any], max_pool: Callable[..., Grid]
) -> list[Grid | Curve]:
    """Evaluate a node that reads an activation function: a quantiser, or what may stand in front of it.

    Args:
        node: The node.
        inputs: Its inputs.
        attrs: Its attributes.
        max_pool: The oracle's maximum over windows of a grid.

    Raises:
        UnsupportedError: SNN448, the operator may not stand there.
    """
    op = node.op_type
    if op == "Concat":
        return [_concat_curves(inputs, attrs)]
    first = next(item for item in inputs if isinstance(item, Curve))
    rank = first.integers.ndim
    if op == "Quantise":
        steps = fractions(np.asarray(inputs[1]), rank)
        codes = codes_of(first, steps, CodeBook.from_attributes(attrs), attrs["ties"])
        return [Grid(codes, steps, zero(rank), codes=True)]
    if op in LAYOUT and op not in _ARITHMETIC:
        count = len(node.outputs)
        run, shape = LAYOUT[op].packed, first.integers.shape
        moved = run([first.integers, *inputs[1:]], attrs, count)
        numbers = (first.scale, first.bias, first.function, first.gain, first.offset)
        parts = [moved_labels(run, each, shape, inputs, attrs, count) for each in numbers]
        return [Curve(integers, *rest) for integers, *rest in zip(moved, *parts, strict=True)]
    if op == "MaxPool" and bool(np.all(first.gain > 0)) and bool(np.all(first.scale > 0)):
        # A maximum commutes with a function that never falls.
        pooled = max_pool([Grid(first.integers, first.scale, first.bias)], attrs, node)
        return [replace(first, integers=pooled.integers)]
    if op == "Neg":
        return [replace(first, gain=-first.gain, offset=-first.offset)]
    other = next((item for item in inputs if not isinstance(item, Curve)), None)
    if other is None or isinstance(other, Grid | WeightGrid) or op not in _ARITHMETIC:
        raise UnsupportedError("SNN448", f"{op} of an activation function", where=Where(node=node.name))
    number = fractions(np.asarray(other), rank)
    gain, offset = first.gain, first.offset
    if op in ("Mul", "Div"):
        factor = number if op == "Mul" else 1 / number
        gain, offset = gain * factor, offset * factor
    elif op == "Add":
        offset = offset + number
    elif inputs[0] is first:
        offset = offset - number
    else:
        gain, offset = -gain, number - offset
    return [replace(first, integers=beside(first.integers, other), gain=gain, offset=offset)]


def _concat_curves(inputs: list[Any], attrs: dict[str, Any]) -> Curve:
    unbounded = FUNCTIONS["Clip"]({}, [])
    curves = [item if isinstance(item, Curve) else curve_of(item, unbounded) for item in inputs]
    axis = int(attrs["axis"])

    def joined(name: str) -> Array:
        parts = [(getattr(curve, name), curve.integers.shape[1:]) for curve in curves]
        return np.concatenate([np.broadcast_to(part, (1, *shape)) for part, shape in parts], axis=axis)

    return Curve(
        np.concatenate([curve.integers for curve in curves], axis=axis),
        *(joined(name) for name in ("scale", "bias", "function", "gain", "offset")),
    )
