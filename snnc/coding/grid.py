"""The integer tables of a code book: which codes are legal and where each one sits."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, TypeVar

import numpy as np
import numpy.typing as npt

__all__ = ["Int32Array", "Partition", "Tables", "group_of_step", "magnitudes", "tables"]

Partition = Literal["interleaved", "contiguous"]
Int32Array = npt.NDArray[np.int32]

_Scalar = TypeVar("_Scalar", bound=np.generic)


@dataclass(frozen=True, eq=False)
class Tables:
    """Read-only arrays of one code book; row k of each belongs to the k-th smallest code.

    Attributes:
        codes: int32 (levels,), ascending.
        patterns: int8 (levels, T) in {-1, 0, 1}, most significant time-step first.
        spikes: uint8 (levels,), number of non-zero entries of each pattern.
        rows: int32 (largest - smallest + 1,), row of the code ``smallest + i``, or -1 where there is none.
    """

    codes: npt.NDArray[np.int32]
    patterns: npt.NDArray[np.int8]
    spikes: npt.NDArray[np.uint8]
    rows: npt.NDArray[np.int32]


def group_of_step(timesteps: int, groups: int, partition: Partition) -> tuple[int, ...]:
    """Return the group (0 .. G-1) of each time-step, most significant step first.

    Args:
        timesteps: Number of time-steps T.
        groups: Number of groups G, 1 .. T.
        partition: ``"interleaved"`` deals the steps out in turn; ``"contiguous"`` cuts them into blocks, of
            which the first ``T mod G`` are one step longer.

    Returns:
        T group numbers.

    Source:
        Semantics note 1.1 (interleaved is the arrangement of additive powers of two, APoT).
    """
    if partition == "interleaved":
        return tuple(step % groups for step in range(timesteps))
    short, longer = divmod(timesteps, groups)
    return tuple(group for group in range(groups) for _ in range(short + (group < longer)))


@lru_cache(maxsize=64)
def magnitudes(timesteps: int, groups: int, partition: Partition) -> npt.NDArray[np.int32]:
    """Return every code of at most one spike per group, ascending, starting with 0.

    Args:
        timesteps: Number of time-steps T.
        groups: Number of groups G, 1 .. T.
        partition: How the steps are dealt out to the groups.

    Returns:
        int32 array of ``prod(group size + 1)`` distinct codes, read-only.
    """
    members = group_of_step(timesteps, groups, partition)
    codes = np.zeros(1, np.int32)
    for group in range(groups):
        # A group adds nothing or one of its weights. Groups share no bit, so all sums are distinct.
        weights = [1 << (timesteps - 1 - step) for step in range(timesteps) if members[step] == group]
        codes = np.add.outer(np.array([0, *weights], np.int32), codes).reshape(-1)
    return _frozen(np.sort(codes))


@lru_cache(maxsize=64)
def tables(
    timesteps: int, groups: int, partition: Partition, *, signed: bool, smallest: int, largest: int
) -> Tables:
    """Build the tables of the codes that lie in ``smallest .. largest``.

    Args:
        timesteps: Number of time-steps T.
        groups: Number of groups G, 1 .. T.
        partition: How the steps are dealt out to the groups.
        signed: Whether the mirror image of each code is a code too.
        smallest: Smallest admitted code; must be a code.
        largest: Largest admitted code; must be a code.

    Returns:
        The tables, read-only and shared between calls.
    """
    grid = magnitudes(timesteps, groups, partition)
    if signed:
        grid = np.concatenate([-grid[:0:-1], grid])
    codes = grid[(grid >= smallest) & (grid <= largest)]
    shifts = np.arange(timesteps - 1, -1, -1, dtype=np.int32)
    bits = (np.abs(codes)[:, None] >> shifts) & 1
    rows = np.full(largest - smallest + 1, -1, np.int32)
    rows[codes - smallest] = np.arange(codes.size, dtype=np.int32)
    return Tables(
        codes=_frozen(codes),
        patterns=_frozen((bits * np.sign(codes)[:, None]).astype(np.int8)),
        spikes=_frozen(bits.sum(axis=1).astype(np.uint8)),
        rows=_frozen(rows),
    )


def _frozen(array: npt.NDArray[_Scalar]) -> npt.NDArray[_Scalar]:
    array.setflags(write=False)
    return array
