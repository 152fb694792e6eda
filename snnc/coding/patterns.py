"""Look-ups between codes, their rows in a code book and their spike patterns."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from snnc.errors import InputError

__all__ = ["IllegalCode", "code_of", "row_of"]


class IllegalCode(InputError, ValueError):
    """Data hold a code or a spike pattern that the code book does not admit."""


def row_of(
    codes: npt.NDArray[Any], rows: npt.NDArray[np.int32], smallest: int
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.bool_]]:
    """Look up the row of each code.

    Args:
        codes: Integers of any width, any shape.
        rows: Row of the code ``smallest + i`` in element i, or -1.
        smallest: Smallest admitted code.

    Returns:
        int32 rows, 0 where the code is not admitted, and the flags of those that are not.

    Raises:
        IllegalCode: SNN310, if the codes are not of an integer type.
    """
    if codes.dtype.kind not in "iu":
        raise IllegalCode("SNN310", f"codes must be integers, not {codes.dtype}")
    # Compared before the cast: a huge uint64 would wrap around into the range.
    inside = (codes >= smallest) & (codes < smallest + rows.size)
    offset = np.where(inside, codes.astype(np.int64) - smallest, 0)
    found = np.where(inside, rows[offset], np.int32(-1))
    return np.maximum(found, 0), found < 0


def code_of(patterns: npt.NDArray[Any], timesteps: int) -> npt.NDArray[np.int32]:
    """Add up the weights of each pattern's spikes.

    Args:
        patterns: Integers in {-1, 0, 1}, shape ``(T, *shape)``, most significant step first.
        timesteps: Number of time-steps T.

    Returns:
        int32 codes of shape ``shape``, not yet checked against a book.

    Raises:
        IllegalCode: SNN311, if type, shape or values are wrong, or a pattern holds spikes of both signs.
    """
    if patterns.ndim == 0 or patterns.shape[0] != timesteps or patterns.dtype.kind not in "iu":
        raise IllegalCode(
            "SNN311",
            f"patterns must be integers with {timesteps} steps along axis 0, "
            f"not {patterns.dtype} {patterns.shape}",
        )
    if ((patterns < -1) | (patterns > 1)).any():
        raise IllegalCode("SNN311", "patterns must hold only -1, 0 and 1")
    codes = np.zeros(patterns.shape[1:], np.int32)
    magnitudes = np.zeros(patterns.shape[1:], np.int32)
    for spikes in patterns.astype(np.int32):
        codes = 2 * codes + spikes
        magnitudes = 2 * magnitudes + np.abs(spikes)
    # Spikes of both signs would alias another pattern's code.
    if (np.abs(codes) != magnitudes).any():
        raise IllegalCode("SNN311", "a pattern holds spikes of both signs")
    return codes
