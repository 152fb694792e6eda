"""Arrays of exact rational numbers that broadcast against a tensor.

A step or a bias is one number per tensor, per channel, or per position. It is kept as an object array of
``fractions.Fraction`` with as many axes as the tensor, of size 1 along every axis on which it does not
depend, so that numpy's broadcasting is the rule for combining them.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = [
    "ExactArray",
    "NotFiniteError",
    "as_exact",
    "collapse",
    "exact",
    "same",
    "through_layout",
    "uniform_along",
]

ExactArray = npt.NDArray[np.object_]


class NotFiniteError(ValueError):
    """A constant is infinite or NaN, so it is no rational number."""


def exact(value: Fraction | int | float, rank: int = 0) -> ExactArray:
    """Return one rational number as an array of ``rank`` axes of size 1."""
    result = np.empty((1,) * rank, dtype=object)
    result[...] = Fraction(value)
    return result


def as_exact(array: npt.ArrayLike, rank: int | None = None) -> ExactArray:
    """Convert floats or integers to exact rationals, padding leading axes of size 1 up to ``rank``.

    Args:
        array: Finite numbers of any shape.
        rank: Number of axes of the tensor it will be combined with; default its own.

    Returns:
        Object array of Fractions; axes along which all entries are equal have size 1.

    Raises:
        NotFiniteError: Some entry is infinite or NaN.
    """
    source = np.asarray(array)
    if source.dtype == object:
        flat = [Fraction(item) for item in source.reshape(-1)]
    else:
        if source.dtype.kind == "f" and not np.isfinite(source).all():
            raise NotFiniteError
        flat = [Fraction(item) for item in source.reshape(-1).tolist()]
    line = np.empty(len(flat), dtype=object)
    line[:] = flat
    result: ExactArray = line.reshape(source.shape)
    if rank is not None and rank > result.ndim:
        result = result.reshape((1,) * (rank - result.ndim) + result.shape)
    return collapse(result)


def collapse(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Reduce to size 1 every axis along which all entries are equal."""
    for axis in range(array.ndim):
        if array.shape[axis] > 1:
            first = array.take([0], axis=axis)
            if bool(np.all(array == first)):
                array = first
    return array


def same(left: ExactArray, right: ExactArray) -> bool:
    """Return whether two exact arrays are equal wherever they broadcast."""
    return bool(np.all(left == right))


def uniform_along(array: npt.NDArray[Any], axis: int) -> bool:
    """Return whether an exact array does not depend on ``axis``."""
    return bool(array.shape[axis] == 1)


def through_layout(
    array: npt.NDArray[Any],
    shape: tuple[int, ...],
    layout: Callable[[npt.NDArray[Any]], npt.NDArray[Any]],
) -> npt.NDArray[Any]:
    """Carry an array through an operation that only moves elements.

    Args:
        array: Broadcastable to ``shape``.
        shape: Shape of the tensor that the operation reads.
        layout: The operation, as a function of the whole tensor.

    Returns:
        The moved array, broadcastable to the operation's result.
    """
    if array.size == 1:
        rank = layout(np.broadcast_to(np.zeros((), dtype=np.int8), shape)).ndim
        return array.reshape((1,) * rank)
    values: list[Any] = []
    number: dict[Any, int] = {}
    labels = np.empty(array.size, dtype=np.int32)
    for position, item in enumerate(array.reshape(-1)):
        label = number.setdefault(item, len(number))
        if label == len(values):
            values.append(item)
        labels[position] = label
    moved = collapse(layout(np.broadcast_to(labels.reshape(array.shape), shape)))
    table = np.empty(len(values), dtype=array.dtype)
    table[:] = values
    return np.asarray(table[moved], dtype=array.dtype).reshape(moved.shape)
