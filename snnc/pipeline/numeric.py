"""Checking a pass by numbers: an exact one may not change a bit, an approximate one has its cost measured."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from snnc.errors import InternalError, MismatchError, Where

__all__ = ["TensorCost", "compare_bits", "first_difference", "measure_cost"]

Results = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class TensorCost:
    """What an approximate pass cost on one tensor.

    Attributes:
        tensor: Name of the tensor.
        sqnr_db: Signal power over error power, in dB; infinite if nothing changed.
        max_abs: Largest absolute difference, in the tensor's unit.
        agreement: Share of rows (last axis) whose largest entry is at the same place, 0..1.
    """

    tensor: str
    sqnr_db: float
    max_abs: float
    agreement: float


def first_difference(before: NDArray[Any], after: NDArray[Any]) -> tuple[int, ...] | None:
    """Return the first index, in C order, where two arrays of equal shape and type differ in any bit.

    Args:
        before: Reference array.
        after: Array to compare; -0.0 differs from 0.0, and NaN equals a NaN of the same bits.

    Returns:
        The index, or None if all bits are equal.
    """
    size = before.dtype.itemsize
    left = np.ascontiguousarray(before).reshape(-1).view(np.uint8).reshape(-1, size)
    right = np.ascontiguousarray(after).reshape(-1).view(np.uint8).reshape(-1, size)
    differs = (left != right).any(axis=1)
    if not differs.any():
        return None
    return tuple(int(axis) for axis in np.unravel_index(int(np.argmax(differs)), before.shape))


def compare_bits(before: Results, after: Results, *, pass_name: str, outputs: Iterable[str] = ()) -> None:
    """Refuse any difference between the results before and after an exact pass.

    Tensors that the pass removed or added inside the graph are not comparable and not compared; every
    tensor that both states have is.

    Args:
        before: Results by tensor name.
        after: Results after the pass.
        pass_name: The pass, for the message.
        outputs: Names of the graph's outputs, which both states must have.

    Raises:
        MismatchError: SNN501, names the first tensor (in the order of ``before``) and index that differ.
        InternalError: SNN104, if there is nothing to compare, or an output was not probed.
    """
    missing = [name for name in outputs if name not in before or name not in after]
    if missing:
        raise InternalError(
            "SNN104",
            f"the probe gave no result for the outputs {missing}",
            where=Where(pass_name=pass_name),
        )
    common = [name for name in before if name in after]
    if not common:
        raise InternalError(
            "SNN104",
            "the results before and after have no tensor in common, so nothing was checked",
            where=Where(pass_name=pass_name),
        )
    for name in common:
        old, new = before[name], after[name]
        where = Where(pass_name=pass_name, tensor=name)
        if old.shape != new.shape or old.dtype != new.dtype:
            raise MismatchError(
                "SNN501",
                f"an exact pass changed the form: {old.dtype}{list(old.shape)} before, "
                f"{new.dtype}{list(new.shape)} after",
                where=where,
            )
        index = first_difference(old, new)
        if index is not None:
            raise MismatchError(
                "SNN501",
                f"an exact pass changed a value: at {list(index)} it was {old[index]} and is {new[index]}",
                where=where,
                hint="this is a bug in the pass; please report it with the reproducer",
            )


def measure_cost(before: Results, after: Results) -> tuple[TensorCost, ...]:
    """Measure what an approximate pass cost, for every tensor that both states have in the same shape.

    Args:
        before: Results by tensor name.
        after: Results after the pass.

    Returns:
        One entry a tensor, in the order of ``before``.
    """
    return tuple(
        _cost(name, np.asarray(before[name], np.float64), np.asarray(after[name], np.float64))
        for name in before
        if name in after and before[name].shape == after[name].shape and before[name].size
    )


def _cost(name: str, before: NDArray[np.float64], after: NDArray[np.float64]) -> TensorCost:
    error = after - before
    noise = float(np.sum(error * error))
    signal = float(np.sum(before * before))
    ratio = signal / noise if noise > 0.0 else math.inf
    sqnr = 10.0 * math.log10(ratio) if ratio > 0.0 else -math.inf
    rows_before, rows_after = np.atleast_1d(before), np.atleast_1d(after)
    same = np.argmax(rows_before, axis=-1) == np.argmax(rows_after, axis=-1)
    return TensorCost(name, sqnr, float(np.max(np.abs(error))), float(np.mean(same)))
