"""What calibration tells about tensors, and the quantisers chosen for them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy.typing as npt

from snnc.coding import CodeBook
from snnc.ir import Model
from snnc.passes.quantise.histogram import Distribution

__all__ = ["Choice", "Observer", "Sampler", "TensorSample"]

Array = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class Choice:
    """A quantiser that was chosen for a tensor.

    Attributes:
        book: Its code.
        step: Its step, float32, of shape () or one that broadcasts to the tensor.
        offset: Value of code 0 where that is not zero (a network input), of the shape of the step.
        levels: What each level stands for to functions that jump, float32 from the smallest code to the
            largest; None if each stands for itself.
        measured: What coding costs on the calibration data: ``sqnr_db``, None where nothing is lost, and
            ``clipped``, the share of the values beyond the code; empty where nothing was measured.
    """

    book: CodeBook
    step: Array
    offset: Array | None = None
    levels: Array | None = None
    measured: Mapping[str, float | None] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class TensorSample:
    """Some of the values that calibration saw of one tensor.

    Attributes:
        values: Sample of its values, float32, shape (n, channels) with the last axis of the tensor kept.
        low: Smallest value seen.
        high: Largest value seen.
    """

    values: Array
    low: float
    high: float


#: Runs a model on the calibration data and samples tensors, by name.
Sampler = Callable[[Model, Sequence[str]], Mapping[str, TensorSample]]
#: Runs a model on the calibration data; for each tensor named, the axes along which channels are told apart.
Observer = Callable[
    [Model, Mapping[str, tuple[int, ...]], Mapping[str, tuple[tuple[int, int], ...]]],
    Mapping[str, Distribution],
]
