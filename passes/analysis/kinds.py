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

__all__ = ["Coded", "Constant", "Fixed", "FloatValue", "IntegerWeight", "Kind", "Membrane", "as_membrane"]

IntArray = npt.NDArray[np.int64]


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
    low: IntArray
    high: IntArray
    host: bool = False
    content: IntArray | None = None

    @property
    def bound(self) -> int:
        """Largest magnitude of the integer over all positions."""
        return max(-int(self.low.min()), int(self.high.max()), 0)


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
    """

    reason: str
    from_input: bool = False


Kind = Coded | Fixed | Membrane | IntegerWeight | Constant | FloatValue


def as_membrane(kind: Kind) -> Membrane | None:
    """See a value as a membrane: a membrane itself, or spikes accumulated with weight one."""
    if isinstance(kind, Membrane):
        return kind
    if isinstance(kind, Coded):
        rank = kind.step.ndim
        codes = kind.book.codes
        return Membrane(
            step=kind.step,
            bias=exact(0, rank),
            low=np.full((1,) * rank, int(codes[0]), dtype=np.int64),
            high=np.full((1,) * rank, int(codes[-1]), dtype=np.int64),
        )
    return None
