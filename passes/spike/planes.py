"""Splitting weights so that exact sums of each part stay small."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["digit_planes"]


def digit_planes(
    integers: npt.NDArray[np.int64], inputs: int, room: int
) -> list[tuple[int, npt.NDArray[np.int64]]] | None:
    """Split weights into parts whose magnitudes, summed for one output, do not pass a bound.

    Args:
        integers: The weights.
        inputs: Axis of the inputs.
        room: The bound.

    Returns:
        Parts and by how many bits each is shifted, which sum to the weights: digits of as many bits as fit,
        or single bits of some of the inputs each. None where a single bit of a single input does not fit.
    """
    summed = tuple(range(1, integers.ndim)) if inputs == 1 and integers.ndim > 2 else (inputs,)
    magnitude, width = np.abs(integers), max(1, int(np.abs(integers).max()).bit_length())
    number = 1
    while True:
        blocks = np.array_split(np.arange(integers.shape[inputs]), number)
        for bits in range(width, 0, -1):
            planes = []
            for block in blocks:
                here = np.zeros(integers.shape[inputs], dtype=np.int64)
                here[block] = 1
                mask = here.reshape([-1 if axis == inputs else 1 for axis in range(integers.ndim)])
                for shift in range(0, width, bits):
                    digits = np.sign(integers) * ((magnitude >> shift) & ((1 << bits) - 1)) * mask
                    planes.append((shift, digits))
            if all(int(np.abs(digits).sum(axis=summed).max()) <= room for _, digits in planes):
                return [plane for plane in planes if plane[1].any()] or planes[:1]
        if number >= integers.shape[inputs]:
            return None
        number *= 2
