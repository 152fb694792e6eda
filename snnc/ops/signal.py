"""What travels on a wire: a spike train, or a held array."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from snnc.coding import CodeBook

__all__ = ["Signal", "SpikeTrain", "book_of"]

_BOOK_KEYS = ("timesteps", "groups", "partition", "signed", "smallest", "largest")


@lru_cache(maxsize=256)
def _cached_book(items: tuple[tuple[str, int | str], ...]) -> CodeBook:
    return CodeBook.from_attributes(dict(items))


def book_of(attrs: Mapping[str, Any]) -> CodeBook:
    """Return the code book that a node's attributes describe."""
    found = {key: attrs[key] for key in _BOOK_KEYS if key in attrs}
    if not all(isinstance(value, int | str) for value in found.values()):
        return CodeBook.from_attributes(found)  # which says what is wrong with them
    return _cached_book(tuple(found.items()))


@dataclass(frozen=True)
class SpikeTrain:
    """One window of T time-steps of spikes.

    Attributes:
        patterns: Spikes in {-1, 0, 1}, int8, shape ``(T, *shape)``; step 1, the most significant, first.
        book: The code that the patterns belong to.
        dtype: Element type of the packed codes.
    """

    patterns: npt.NDArray[np.int8]
    book: CodeBook
    dtype: np.dtype[Any] = field(default_factory=lambda: np.dtype(np.int32))

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the tensor of neurons, without the time axis."""
        return tuple(self.patterns.shape[1:])

    def codes(self) -> npt.NDArray[Any]:
        """Return the packed codes by Horner's rule: shape ``self.shape``, dtype ``self.dtype``."""
        held = np.zeros(self.shape, dtype=np.int32)
        for spikes in self.patterns:
            held = 2 * held + spikes
        return held.astype(self.dtype)


Signal = npt.NDArray[Any] | SpikeTrain
