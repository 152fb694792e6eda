"""Arrays of exact rational numbers that broadcast against a tensor.

A step or a bias is one number per tensor, per channel, or per position. It is kept as an object array of
``fractions.Fraction`` with as many axes as the tensor, of size 1 along every axis on which it does not
depend, so that numpy's broadcasting is the rule for combining them.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from fractions import Fraction
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from snnc.passes.analysis.rational import Rational, rationals

__all__ = [
    "ExactArray",
    "NotFiniteError",
    "as_exact",
    "collapse",
    "distinct",
    "exact",
    "floats",
    "rounded_quotients",
    "same",
    "shift_factors",
    "through_layout",
    "uniform_along",
]

ExactArray = npt.NDArray[np.object_]

# Numbers in a constant that is remembered when it has been converted.
_REMEMBERED = 1 << 13
# A float64 quotient this close to an integer (relative to its size) is computed again exactly.
_DOUBT = 2.0**-48
_FAR = 2.0**62


_FLOAT64 = 8
#: The floats nearest to exact arrays, and whether these are equal, for as long as the arrays live, by the
#: number of the array.
_FLOATS: dict[int, tuple[weakref.ref[Any], npt.NDArray[np.float64], bool]] = {}
#: Numbers from which on an array is remembered: a bias of all positions, which several passes round.
_MANY = 1 << 10


class NotFiniteError(ValueError):
    """A constant is infinite or NaN, so it is no rational number."""


def exact(value: Fraction | int | float, rank: int = 0) -> ExactArray:
    """Return one rational number as an array of ``rank`` axes of size 1."""
    result = np.empty((1,) * rank, dtype=object)
    result[...] = Rational.of(value)
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
    wide = (1,) * ((rank or 0) - source.ndim) + source.shape
    if source.dtype != object and source.size <= _REMEMBERED:
        content = np.ascontiguousarray(source)
        return _remembered(content.tobytes(), content.dtype.str, wide)
    return _convert(source.reshape(wide))


@lru_cache(maxsize=2048)
def _remembered(content: bytes, dtype: str, shape: tuple[int, ...]) -> ExactArray:
    """Convert a small constant once: every pass that types the graph asks for it again."""
    source = np.frombuffer(content, dtype=dtype).reshape(shape)
    result = _convert(source)
    result.flags.writeable = False
    if source.dtype.kind == "f" and source.dtype.itemsize <= _FLOAT64:
        # There is one zero.
        _keep_floats(result, np.asarray(collapse(source).astype(np.float64) + 0.0), equal=True)
    return result


def _keep_floats(array: ExactArray, near: npt.NDArray[np.float64], *, equal: bool) -> None:
    """Remember the floats nearest to all entries of an array, in their order."""
    owner, key = _owner(array), id(_owner(array))
    near.flags.writeable = False
    _FLOATS[key] = weakref.ref(owner, lambda _: _FLOATS.pop(key, None)), near, equal


def _owner(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return array if array.base is None else array.base


def _convert(source: npt.NDArray[Any]) -> ExactArray:
    # Equal entries along an axis become one before anything is converted.
    source = collapse(source)
    if source.dtype.kind == "f" and not np.isfinite(source).all():
        raise NotFiniteError
    line = np.empty(source.size, dtype=object)
    line[:] = rationals(source.reshape(-1).tolist())
    return line.reshape(source.shape)


def distinct(*arrays: npt.NDArray[Any]) -> tuple[list[tuple[Any, ...]], npt.NDArray[np.int32]]:
    """Return the distinct combinations of entries of arrays, in order, and which of them stands where.

    Args:
        arrays: Exact numbers, or other hashable objects, that broadcast to each other.
    """
    shape = np.broadcast_shapes(*(array.shape for array in arrays))
    # Entries of each array get numbers of their own first, as few as it has entries.
    joint = np.zeros(shape, dtype=np.int64)
    for array in arrays:
        number: dict[Any, int] = {}
        own = [number.setdefault(key, len(number)) for key in _keys(array)]
        if len(number) > 1:
            joint = np.unique(joint, return_inverse=True)[1].reshape(shape)
            joint = joint * len(number) + np.asarray(own, dtype=np.int64).reshape(array.shape)
    _, first, label = np.unique(joint, return_index=True, return_inverse=True)
    # In the order in which they come.
    order = np.argsort(first)
    rank = np.empty(len(order), dtype=np.int32)
    rank[order] = np.arange(len(order), dtype=np.int32)
    places = first[order]
    columns = [np.broadcast_to(array, shape).reshape(-1)[places].tolist() for array in arrays]
    return list(zip(*columns, strict=True)), rank[label].reshape(shape)


def _keys(array: npt.NDArray[Any]) -> list[Any]:
    """Return what tells the entries of an array apart."""
    line = array.reshape(-1).tolist()
    try:
        # The hash of a Fraction takes far longer than those of its parts, and a property than a slot.
        return [(item._numerator, item._denominator) for item in line]
    except AttributeError:
        return [item.as_integer_ratio() if isinstance(item, Fraction) else item for item in line]


def floats(array: ExactArray) -> tuple[npt.NDArray[np.float64], bool]:
    """Return exact numbers as float64, and whether none of them was rounded."""
    owner = _owner(array)
    # A view of all entries in their order is known, others are converted.
    whole = owner.size == array.size and owner.flags.c_contiguous and array.flags.c_contiguous
    reference, known, equal = _FLOATS.get(id(owner), (None, None, False))
    if whole and known is not None and reference is not None and reference() is owner:
        return known.reshape(array.shape), equal
    line = array.reshape(-1).tolist()
    try:
        ratios = [(item._numerator, item._denominator) for item in line]
    except AttributeError:
        ratios = [item.as_integer_ratio() for item in line]
    try:
        near = np.array([top / bottom for top, bottom in ratios], dtype=np.float64)
    except OverflowError:
        return np.full(array.shape, np.inf), False
    equal = [number.as_integer_ratio() for number in near.tolist()] == ratios
    if whole and array.size >= _MANY:
        _keep_floats(array, near, equal=equal)
    return near.reshape(array.shape), equal


def rounded_quotients(
    numbers: npt.NDArray[Any], steps: ExactArray, shift: Fraction
) -> npt.NDArray[np.int64] | None:
    """Return ⌊numbers / steps + shift⌋, which float64 finds wherever that is certain, rationals elsewhere.

    Args:
        numbers: Exact numbers, or finite floats.
        steps: Exact numbers that are not zero, broadcastable to them.
        shift: A multiple of one half.

    Returns:
        Integers; None if one of them does not fit 61 bits.
    """
    divisors, certain = floats(steps)
    exactly = numbers.dtype != object
    dividends = numbers.astype(np.float64) if exactly else floats(numbers)[0]
    with np.errstate(over="ignore", invalid="ignore"):
        twice = 2 * (dividends / divisors)
    if not np.isfinite(twice).all() or bool((np.abs(twice) >= _FAR).any()):
        return None
    # A float divided by a power of two keeps all of its bits.
    certain = certain and exactly and bool((np.abs(np.frexp(divisors)[0]) == 0.5).all())
    below = np.floor(twice)
    if not certain:
        doubt = np.abs(twice - np.rint(twice)) <= _DOUBT * (np.abs(twice) + 1)
        doubt &= np.broadcast_to(_not_zero(numbers, dividends), twice.shape)
        wide = np.broadcast_to(steps, twice.shape)
        # Of numpy's floats, Fraction takes only float64.
        line = np.broadcast_to(dividends if exactly else numbers, twice.shape)
        for index in zip(*np.nonzero(doubt), strict=True):
            # numpy's float32 is no Rational, as its float64 is; both are floats exactly.
            number = float(line[index]) if exactly else line[index]
            ratio = 2 * Fraction(number) / wide[index]
            below[index] = ratio.numerator // ratio.denominator
    return (below.astype(np.int64) + int(2 * shift)) >> 1


def _not_zero(numbers: npt.NDArray[Any], near: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """Return which numbers are not zero, given the floats nearest to them."""
    found: npt.NDArray[np.bool_] = np.asarray(near != 0)
    if numbers.dtype == object and not found.all():
        # What is too small for a float is not zero.
        found[~found] = [bool(item) for item in numbers[~found]]
    return found


def collapse(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Reduce to size 1 every axis along which all entries are equal."""
    for axis in range(array.ndim):
        if array.shape[axis] > 1:
            first = array.take([0], axis=axis)
            # Two entries tell most arrays that vary from those that do not.
            if bool(np.all(array.take([-1], axis=axis) == first)) and bool(np.all(array == first)):
                array = first
    return array


def shift_factors(
    one: npt.NDArray[np.float64], two: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.float64], tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]] | None:
    """Return the finer of two steps, and which multiple of it each of them is, for powers of two.

    Args:
        one: Steps of one side.
        two: Steps of the other, broadcastable to them.

    Returns:
        Steps and integer factors; None where some steps are zero, not a power of two apart, or too far apart.
    """
    mantissas = [np.abs(np.frexp(side)[0]) for side in (one, two)]
    if not bool(((mantissas[0] == mantissas[1]) & (mantissas[0] != 0)).all()):
        return None
    step = np.minimum(np.abs(one), np.abs(two))
    ratios = (one / step, two / step)
    if max(float(np.abs(ratio).max()) for ratio in ratios) >= _FAR:
        return None
    first, second = (collapse(ratio.astype(np.int64)) for ratio in ratios)
    return step, (first, second)


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
    if array.dtype != object:
        return collapse(np.asarray(layout(np.broadcast_to(array, shape))))
    # Numbers of places are moved instead of the entries: axes along which these do not vary go first.
    places = np.arange(array.size, dtype=np.int32).reshape(array.shape)
    moved = collapse(np.asarray(layout(np.broadcast_to(places, shape))))
    return collapse(np.asarray(array.reshape(-1)[moved], dtype=array.dtype).reshape(moved.shape))
