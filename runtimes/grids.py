"""Tensors of the oracle: integers with exact rational scales and biases, and what moves all three."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Exact", "Grid", "WeightGrid", "beside", "collapsed", "fractions", "moved_labels", "wide", "zero"]

Array = npt.NDArray[Any]
Exact = npt.NDArray[np.object_]


@dataclass(frozen=True, eq=False)
class Grid:
    """A tensor of real numbers: scale · integers + bias, with exact rationals that broadcast against it."""

    integers: Array
    scale: Exact
    bias: Exact
    codes: bool = False


@dataclass(frozen=True, eq=False)
class WeightGrid:
    """Weights: integers · numerator / denominator."""

    integers: Array
    numerator: Exact
    denominator: Exact


def fractions(array: Array, rank: int) -> Exact:
    """Return numbers as exact rationals, with leading axes of size 1 up to ``rank``."""
    flat = np.empty(array.size, dtype=object)
    flat[:] = [Fraction(number) for number in array.reshape(-1).tolist()]
    return flat.reshape((1,) * (rank - array.ndim) + array.shape)


def zero(rank: int) -> Exact:
    """Return an exact zero of that many axes."""
    return fractions(np.zeros((1,) * rank), rank)


def wide(array: Exact, rank: int) -> Exact:
    """Return an array with leading axes of size 1 up to ``rank``."""
    return array.reshape((1,) * (rank - array.ndim) + array.shape)


def moved_labels(
    run: Callable[..., list[Array]],
    numbers: Exact,
    shape: tuple[int, ...],
    inputs: list[Any],
    attrs: dict[str, Any],
    count: int,
) -> list[Exact]:
    """Move scales or biases with their elements, as labels of the numbers, from one on; equal ones share one.

    A label of zero is padding: a silent element, which any scale fits; where there is a choice, the first.
    """
    known: dict[Fraction, int] = {}
    # The first label is one.
    own = [known.setdefault(number, len(known) + 1) for number in numbers.reshape(-1).tolist()]
    flat = np.empty(len(known), dtype=object)
    flat[:] = list(known)
    labels = np.broadcast_to(np.array(own, dtype=np.int32).reshape(numbers.shape), shape)
    result = []
    for moved in run([labels, *inputs[1:]], attrs, count):
        small = moved
        for axis in range(small.ndim):
            largest = small.max(axis=axis, keepdims=True)
            if bool(np.all((small == largest) | (small == 0))):
                small = largest
        result.append(np.asarray(flat[np.maximum(small, 1) - 1], dtype=object).reshape(small.shape))
    return result


def collapsed(array: Array) -> Array:
    """Keep one entry along every axis on which nothing depends."""
    for axis in range(array.ndim):
        if array.shape[axis] > 1 and bool(np.all(array == array.take([0], axis=axis))):
            array = array.take([0], axis=axis)
    return array


def beside(integers: Array, constant: Any) -> Array:
    """Repeat integers along the axes that a constant beside them enlarges."""
    return np.broadcast_to(integers, np.broadcast_shapes(integers.shape, np.shape(constant)))
