"""How many outputs an input element touches: the geometry behind synaptic operations.

A synaptic operation (SOP) is one spike reaching one synapse: the sum over spikes of their fan-out. At the
border of an image a position touches fewer outputs than k*k/stride^2; here that is counted, not estimated.
Weights that are zero count like others.

Source:
    The literal definition of the synaptic operation used by the spike counters of SpikingResformer
    (arXiv 2403.14302): run the op on the 0/1 indicator of spikes with all-ones weights.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["ConvGeometry", "MatMulGeometry", "spike_counts", "touched_outputs", "zero_skipping_operations"]

Array = npt.NDArray[Any]

_POPCOUNT = np.zeros(2**16, dtype=np.uint8)
for _bit in range(16):
    _POPCOUNT += (np.arange(2**16) >> _bit & 1).astype(np.uint8)
_POPCOUNT.flags.writeable = False


def spike_counts(codes: Array) -> npt.NDArray[np.uint8]:
    """Return the number of spikes, of either sign, in the window of each code.

    Step weights are powers of two, so the pattern of a code is the binary form of its magnitude in every code
    book, and its spikes are the ones in it.

    Args:
        codes: Integer codes, any shape, magnitudes below 2^16.

    Returns:
        uint8, same shape, 0..16.
    """
    if codes.dtype.kind == "u":
        return np.asarray(_POPCOUNT[codes])
    return np.asarray(_POPCOUNT[np.abs(codes.astype(np.int32))])


def touched_outputs(
    size: int,
    kernel: int,
    *,
    stride: int = 1,
    pads: tuple[int, int] = (0, 0),
    dilation: int = 1,
    outputs: int | None = None,
) -> npt.NDArray[np.int64]:
    """Count, along one axis, the output positions that each input position contributes to.

    Args:
        size: Input positions.
        kernel: Kernel elements.
        stride: Distance of neighbouring outputs, in input positions.
        pads: Padding before and behind.
        dilation: Distance of neighbouring kernel elements, in input positions.
        outputs: Output positions; default: as many as fit (pooling with ``ceil_mode`` has more).

    Returns:
        int64 (size,). Padding positions are left out.
    """
    if outputs is None:
        outputs = (size + sum(pads) - dilation * (kernel - 1) - 1) // stride + 1
    positions = np.arange(outputs)[:, None] * stride + np.arange(kernel)[None, :] * dilation - pads[0]
    inside = positions[(positions >= 0) & (positions < size)]
    return np.bincount(inside, minlength=size).astype(np.int64)


@dataclass(frozen=True)
class ConvGeometry:
    """A convolution on (N, C, *space), any number of spatial axes.

    Attributes:
        channels: Input channels C.
        space: Input positions per spatial axis.
        kernel: Kernel elements per spatial axis.
        filters: Output channels.
        strides: Stride per spatial axis.
        pads: Padding: all begins, then all ends, as in ONNX.
        dilations: Dilation per spatial axis.
        group: Channel groups.
    """

    channels: int
    space: tuple[int, ...]
    kernel: tuple[int, ...]
    filters: int
    strides: tuple[int, ...]
    pads: tuple[int, ...]
    dilations: tuple[int, ...]
    group: int

    @classmethod
    def of(
        cls, input_shape: Sequence[int], weight_shape: Sequence[int], attrs: dict[str, Any]
    ) -> ConvGeometry:
        """Read the geometry off shapes (N, C, *space), (M, C/group, *kernel) and ONNX attributes."""
        rank = len(weight_shape) - 2
        return cls(
            channels=input_shape[1],
            space=tuple(input_shape[2:]),
            kernel=tuple(weight_shape[2:]),
            filters=weight_shape[0],
            strides=tuple(attrs.get("strides", [1] * rank)),
            pads=tuple(attrs.get("pads", [0] * 2 * rank)),
            dilations=tuple(attrs.get("dilations", [1] * rank)),
            group=int(attrs.get("group", 1)),
        )

    def touched(self) -> list[npt.NDArray[np.int64]]:
        """Return, per spatial axis, the output positions each input position touches, int64 (size,)."""
        rank = len(self.space)
        return [
            touched_outputs(
                self.space[axis],
                self.kernel[axis],
                stride=self.strides[axis],
                pads=(self.pads[axis], self.pads[rank + axis]),
                dilation=self.dilations[axis],
            )
            for axis in range(rank)
        ]

    def outputs(self) -> tuple[int, ...]:
        """Return the output positions per spatial axis."""
        rank = len(self.space)
        return tuple(
            (
                self.space[a]
                + self.pads[a]
                + self.pads[rank + a]
                - self.dilations[a] * (self.kernel[a] - 1)
                - 1
            )
            // self.strides[a]
            + 1
            for a in range(rank)
        )

    def operations(self, events: Array) -> int:
        """Return the sum over events of their fan-out.

        Args:
            events: Number of events (spikes) of each input, integers (N, C, *space).
        """
        per_position = events.sum(axis=(0, 1), dtype=np.int64)
        for fan_out in self.touched():
            per_position = np.tensordot(fan_out, per_position, axes=(0, 0))
        return int(per_position) * (self.filters // self.group)

    def exact_macs(self, samples: int) -> int:
        """Return the multiplications of real inputs, padding left out, for ``samples`` samples."""
        positions = math.prod(int(fan_out.sum()) for fan_out in self.touched())
        return samples * positions * self.channels * (self.filters // self.group)

    def dense_macs(self, samples: int) -> int:
        """Return the conventional count: outputs times weights of a filter, padding included."""
        per_filter = math.prod(self.kernel) * (self.channels // self.group)
        return samples * math.prod(self.outputs()) * self.filters * per_filter


@dataclass(frozen=True)
class MatMulGeometry:
    """A matrix product (..., M, K) x (..., K, N) by numpy's rules of broadcasting.

    Attributes:
        elements: Elements of the left operand.
        fan_out: Outputs that each of them touches.
    """

    elements: int
    fan_out: int

    @classmethod
    def of(cls, left: Sequence[int], right: Sequence[int]) -> MatMulGeometry:
        """Read the geometry off the shapes of the two operands."""
        left = tuple(left) if len(left) > 1 else (1, *left)
        right = tuple(right) if len(right) > 1 else (*right, 1)
        batch = np.broadcast_shapes(left[:-2], right[:-2])
        repeats = math.prod(batch) // math.prod(left[:-2])
        return cls(elements=math.prod(left), fan_out=repeats * right[-1])

    def operations(self, events: Array) -> int:
        """Return the sum over events of their fan-out; ``events`` has the left operand's shape."""
        return int(events.sum(dtype=np.int64)) * self.fan_out

    def macs(self) -> int:
        """Return the multiplications of the product."""
        return self.elements * self.fan_out


def zero_skipping_operations(events: Array, held: Array) -> int:
    """Count the events of a product with a held operand that meet a held value other than zero.

    Args:
        events: Number of spikes of each left element, integers (..., M, K).
        held: Decoded right operand, integers (..., K, N).

    Returns:
        The sum over i, d, j of events[i, d] * [held[d, j] != 0].
    """
    columns = events.sum(axis=-2, dtype=np.int64) if events.ndim > 1 else events.astype(np.int64)
    targets = np.count_nonzero(held, axis=-1) if held.ndim > 1 else (held != 0).astype(np.int64)
    return int((columns * targets).sum(dtype=np.int64))
