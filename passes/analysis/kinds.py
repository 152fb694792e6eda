"""The kinds of value in a quant-dialect graph and what is known of each.

``Coded`` becomes spikes, ``Membrane`` an int32 accumulator whose step and bias only the compiler knows,
``Fixed`` the network input as fixed-point integers on the host. ``FloatValue`` says why a value has none
of these forms (yet).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from snnc.coding import CodeBook
from snnc.passes.analysis.exact import ExactArray, exact
from snnc.spool import spooled

__all__ = [
    "Activated",
    "Coded",
    "Constant",
    "Fixed",
    "FloatValue",
    "IntegerWeight",
    "Kind",
    "Membrane",
    "Merged",
    "Quotient",
    "as_membrane",
    "integer_range",
]

IntArray = npt.NDArray[np.int64]
# Integers from which on an array is kept in half its size: ranges of all positions of all values are most of
# what an analysis holds.
_MANY = 1 << 12


class _Wide:
    """A field of a frozen data class: int64 to its readers; inside int32 if it can be, spooled if large."""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, instance: object | None, owner: type | None = None) -> IntArray:
        if instance is None:
            raise AttributeError(self._name)  # no default value
        return np.asarray(instance.__dict__[self._name], dtype=np.int64)

    def __set__(self, instance: object, value: IntArray) -> None:
        kept: npt.NDArray[Any] = value
        # One number that stands for many takes no room.
        if value.size >= _MANY and value.dtype == np.int64 and 0 not in value.strides:
            info = np.iinfo(np.int32)
            if info.min <= int(value.min()) and int(value.max()) <= info.max:
                kept = spooled(value.astype(np.int32))
        instance.__dict__[self._name] = kept


@dataclass(frozen=True, eq=False)
class Coded:
    """Spikes: value = step · code.

    Attributes:
        book: The admitted codes.
        step: Exact step, broadcastable to the tensor, positive.
    """

    book: CodeBook
    step: ExactArray


@dataclass(frozen=True, eq=False)
class Merged:
    """Merged spike trains: value = step · integer, the integer a sum of codes of one book.

    A pool in front of a synapse needs no neuron: the spikes of its window arrive together.

    Attributes:
        step: Exact step, broadcastable to the tensor, positive.
        low: Smallest integer any input can cause.
        high: Largest such integer.
    """

    step: ExactArray
    low: int
    high: int


@dataclass(frozen=True, eq=False)
class Fixed:
    """The network input read as fixed point: value = step · integer, |integer| ≤ bound.

    Attributes:
        step: Exact step (one number).
        bound: Largest magnitude of the integer.
    """

    step: ExactArray
    bound: int


@dataclass(frozen=True, eq=False)
class Membrane:
    """An integer accumulator: value = step · integer + bias.

    Attributes:
        step: Exact step, broadcastable to the tensor, of either sign or zero.
        bias: Exact bias, broadcastable to the tensor.
        low: Smallest integer any input can cause, int64, broadcastable to the tensor.
        high: Largest such integer.
        host: The accumulator lies on the host (first layer in fixed point) and may need 64 bits.
        content: The integers themselves, if the value is a constant.
    """

    step: ExactArray
    bias: ExactArray
    low: _Wide = _Wide()  # no default: a descriptor, see above
    high: _Wide = _Wide()
    host: bool = False
    content: IntArray | None = None

    @property
    def bound(self) -> int:
        """Largest magnitude of the integer over all positions."""
        return max(-int(self.low.min()), int(self.high.max()), 0)


@dataclass(frozen=True, eq=False)
class Activated:
    """An activation function of a membrane: value = gain · f(membrane) + offset.

    The integers on the wire are the membrane's; the neuron that reads them holds f in its table
    (semantics 6.2).

    Attributes:
        membrane: The potential under the function.
        function: `Activation` objects, broadcastable to the tensor; most often one for all.
        gain: Exact factor behind the function, broadcastable to the tensor, of either sign or zero.
        offset: Exact summand behind it.
    """

    membrane: Membrane
    function: npt.NDArray[np.object_]
    gain: ExactArray
    offset: ExactArray


@dataclass(frozen=True, eq=False)
class Quotient:
    """A quotient of two run-time integers, rounded down, that only a neuron may read (semantics 6.2).

    value = step · ⌊2^F · v / gain⌋ + bias. On the wires are v and the gain; the neuron compares v with
    thresholds times the gain and never divides.

    Attributes:
        membrane: The rounded quotient as if it were a membrane: its step (never negative), bias and range.
    """

    membrane: Membrane


@dataclass(frozen=True, eq=False)
class IntegerWeight:
    """A weight in integer form: value = integers · numerator / denominator.

    Attributes:
        integers: The stored integers.
        numerator: Exact step of the membrane (per output channel), or plain weight scale.
        denominator: Exact step of the input code (per input channel), or one.
    """

    integers: npt.NDArray[Any]
    numerator: ExactArray
    denominator: ExactArray


@dataclass(frozen=True, eq=False)
class Constant:
    """A float constant."""

    array: npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class FloatValue:
    """A float tensor without a code.

    Attributes:
        reason: Why it has none.
        from_input: The value is the network input, changed at most elementwise or in layout: the host
            can compute it bit for bit in every runtime.
        hosted: The user lets the host compute it in float.
    """

    reason: str
    from_input: bool = False
    hosted: bool = False

    @property
    def on_host(self) -> bool:
        """Whether the host holds the value, the same bits in every runtime."""
        return self.from_input or self.hosted


Kind = Coded | Merged | Fixed | Membrane | Activated | Quotient | IntegerWeight | Constant | FloatValue


def as_membrane(kind: Kind) -> Membrane | None:
    """See a value as a membrane: a membrane itself, or spikes accumulated with weight one."""
    if isinstance(kind, Membrane):
        return kind
    if isinstance(kind, Coded | Merged):
        rank = kind.step.ndim
        low, high = (
            (kind.low, kind.high) if isinstance(kind, Merged) else (kind.book.smallest, kind.book.largest)
        )
        return Membrane(
            step=kind.step,
            bias=exact(0, rank),
            low=np.full((1,) * rank, low, dtype=np.int64),
            high=np.full((1,) * rank, high, dtype=np.int64),
        )
    return None


def integer_range(kind: Coded | Merged | Fixed) -> tuple[int, int]:
    """Return the smallest and largest integer on a wire; zero counts, because padding sends nothing."""
    if isinstance(kind, Fixed):
        return -kind.bound, kind.bound
    if isinstance(kind, Merged):
        return min(kind.low, 0), max(kind.high, 0)
    return min(int(kind.book.codes[0]), 0), max(int(kind.book.codes[-1]), 0)
