"""The checks on a code book's arguments."""

from __future__ import annotations

import operator
from typing import get_args

import numpy as np

from snnc.coding import grid
from snnc.errors import UsageError

__all__ = ["MOST_TIMESTEPS", "check_bounds", "check_partition", "check_signed", "integer"]

MOST_TIMESTEPS = 16


def integer(code: str, name: str, value: object, *, least: int | None = None, most: int | None = None) -> int:
    """Return a Python integer, from anything that is one, within bounds.

    Args:
        code: Error code to raise.
        name: Name of the argument, for the message.
        value: What the caller passed; truth values are not integers here.
        least: Smallest allowed value.
        most: Largest allowed value.

    Returns:
        The integer.

    Raises:
        UsageError: ``code``, if the value is no integer or out of bounds.
    """
    if isinstance(value, bool | np.bool_) or not hasattr(value, "__index__"):
        raise UsageError(code, f"{name} must be an integer, not {value!r}")
    number = operator.index(value)
    if (least is not None and number < least) or (most is not None and number > most):
        raise UsageError(code, f"{name} must be {least} to {most}, not {number}")
    return number


def check_partition(value: object) -> None:
    """Refuse what is not a partition.

    Args:
        value: What the caller passed.

    Raises:
        UsageError: SNN203.
    """
    if value not in get_args(grid.Partition):
        raise UsageError("SNN203", f"partition must be one of {get_args(grid.Partition)}, not {value!r}")


def check_signed(value: object) -> None:
    """Refuse what is not a truth value.

    Args:
        value: What the caller passed.

    Raises:
        UsageError: SNN204.
    """
    if not isinstance(value, bool | np.bool_):
        raise UsageError("SNN204", f"signed must be True or False, not {value!r}")


def check_bounds(
    magnitudes: grid.Int32Array, signed: bool, smallest: object, largest: object
) -> tuple[int, int]:
    """Fill in and check the smallest and largest admitted code.

    Args:
        magnitudes: The unsigned codes of the grid, ascending.
        signed: Whether their negatives are codes too.
        smallest: What the caller passed, None for the least code.
        largest: What the caller passed, None for the greatest code.

    Returns:
        Both bounds.

    Raises:
        UsageError: SNN205, if a bound is not a code, or the range is empty.
    """
    most = int(magnitudes[-1])
    low = (-most if signed else 0) if smallest is None else integer("SNN205", "smallest", smallest)
    high = most if largest is None else integer("SNN205", "largest", largest)
    for name, bound in (("smallest", low), ("largest", high)):
        row = int(np.searchsorted(magnitudes, abs(bound)))
        known = row < magnitudes.size and int(magnitudes[row]) == abs(bound)
        if not known or (bound < 0 and not signed):
            kind = "signed" if signed else "unsigned"
            raise UsageError("SNN205", f"{name} must be a code of the {kind} book, which {bound} is not")
    if low > high:
        raise UsageError("SNN205", f"smallest ({low}) must not exceed largest ({high})")
    return low, high
