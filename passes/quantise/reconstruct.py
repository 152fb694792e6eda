"""Weights rounded for what they multiply, and biases that make up for what rounding and coding shift.

The nearest integer is best for a weight alone. For a sum over inputs that go together, an error of one weight
can be made good by those that follow: they are rounded one after the other, the error of each spread over the
rest by the second moments of the inputs (Frantar et al., arXiv 2210.17323). What is left in the mean goes
into the bias (Nagel et al., arXiv 1906.04721, section 4.2).
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from snnc import strict
from snnc.errors import InputError

__all__ = [
    "RECONSTRUCTIONS",
    "InputObserver",
    "Inputs",
    "Reconstruction",
    "Repair",
    "apart",
    "read_repairs",
    "repaired",
    "write_repairs",
]

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]
Reconstruction = Literal["none", "biases", "weights"]
RECONSTRUCTIONS: tuple[Reconstruction, ...] = ("none", "biases", "weights")

#: Part of the mean second moment that is added to each: what was not seen together is not relied on.
_DAMPING = 0.01
_BLOCK = 128


@dataclass(frozen=True, eq=False)
class Inputs:
    """What calibration saw of the inputs of a product, one row for each weight of an output channel.

    Attributes:
        mean: Mean of each input before it is coded, float64 (groups, rows).
        coded: Mean of its decoded code.
        moments: Mean products of two decoded codes, float64 (groups, rows, rows); None if not asked for.
    """

    mean: Floats
    coded: Floats
    moments: Floats | None = None


#: Runs a model on the calibration data; for products, by name, what they read, with second moments or not.
InputObserver = Callable[[Any, Sequence[str], bool], Mapping[str, Inputs]]


@dataclass(frozen=True, eq=False)
class Repair:
    """What is changed of a product besides rounding to nearest.

    Attributes:
        bias: What is added to each output channel, float32 (outputs,).
        moved: How far each integer is from the nearest one, int16, of the shape of the weights; None: at it.
    """

    bias: npt.NDArray[np.float32]
    moved: npt.NDArray[np.int16] | None = None


def apart(array: Array, groups: int, *, convolution: bool) -> Array:
    """Return weights, or what broadcasts to them, as (groups, rows, outputs of a group)."""
    if not convolution:
        return array[None]
    split = array.reshape(groups, array.shape[0] // groups, -1)
    return np.asarray(np.swapaxes(split, 1, 2))


def _together(array: Array, shape: tuple[int, ...], *, convolution: bool) -> Array:
    return np.asarray(np.swapaxes(array, 1, 2).reshape(shape)) if convolution else np.asarray(array[0])


def repaired(
    weights: Floats,
    divisor: Floats,
    nearest: npt.NDArray[np.int64],
    step: Floats,
    inputs: Inputs,
    largest: int | None,
    *,
    convolution: bool,
) -> Repair:
    """Choose integers and biases for one product.

    Args:
        weights: float64, (outputs, inputs of a group, kernel…) or (inputs, outputs).
        divisor: Step of the code that each weight multiplies, broadcastable to the weights.
        nearest: The nearest integers.
        step: Step of each output channel's integers, broadcastable to the weights.
        inputs: What calibration saw.
        largest: Largest magnitude of an integer; None leaves all where they are.
        convolution: Whether the weights are those of a Conv.
    """
    groups = len(inputs.mean)

    def split(array: Array) -> Array:
        return apart(np.broadcast_to(array, weights.shape), groups, convolution=convolution)

    float_weights, coding, steps = split(weights), split(divisor), split(step)
    integers = split(nearest)
    moved = None
    if inputs.moments is not None and largest is not None:
        chosen = np.stack(
            [
                _rounded(
                    float_weights[g] * coding[g] / steps[g],
                    integers[g],
                    inputs.moments[g] / np.outer(coding[g][:, 0], coding[g][:, 0]),
                    largest,
                )
                for g in range(groups)
            ]
        )
        moved = _together(chosen - integers, weights.shape, convolution=convolution).astype(np.int16)
        integers = chosen
    given = integers * steps / coding
    bias = np.einsum("gro,gr->go", float_weights, inputs.mean) - np.einsum("gro,gr->go", given, inputs.coded)
    return Repair(bias.reshape(-1).astype(np.float32), moved)


def _rounded(exact: Floats, nearest: Array, moments: Floats, largest: int) -> npt.NDArray[np.int64]:
    """Round weights (rows, outputs), in units of their step, so that the error of the sums is small."""
    # Of a group of equal inputs, such as a border, the inverse exists only with the damping.
    size = np.diag(moments).mean()
    if size <= 0:
        return nearest.astype(np.int64)
    order = np.argsort(-np.diag(moments), kind="stable")
    ordered = moments[np.ix_(order, order)] + _DAMPING * size * np.eye(len(order))
    spread = np.linalg.cholesky(np.linalg.inv(ordered))
    rest = exact[order].copy()
    chosen = np.empty_like(rest)
    for first in range(0, len(order), _BLOCK):
        last = min(first + _BLOCK, len(order))
        errors = np.empty((last - first, rest.shape[1]))
        for row in range(first, last):
            chosen[row] = np.clip(np.rint(rest[row]), -largest, largest)
            errors[row - first] = (rest[row] - chosen[row]) / spread[row, row]
            rest[row + 1 : last] -= np.outer(spread[row + 1 : last, row], errors[row - first])
        rest[last:] -= spread[last:, first:last] @ errors
    result = np.empty(exact.shape, dtype=np.int64)
    result[order] = chosen.astype(np.int64)
    # Clipping may spoil a column: it keeps the nearest integers where these do better.
    better = _lost(result - exact, moments) < _lost(nearest - exact, moments)
    return np.asarray(np.where(better, result, nearest), dtype=np.int64)


def _lost(error: Floats, moments: Floats) -> Floats:
    return np.asarray((error * (moments @ error)).sum(axis=0))


def write_repairs(repairs: Mapping[str, Repair]) -> str:
    """Return repairs, by product, as the text that a converted file records."""
    content: dict[str, dict[str, Any]] = {}
    for name, repair in repairs.items():
        content[name] = {"bias": _packed(repair.bias.astype("<f4"))}
        if repair.moved is not None:
            content[name]["moved"] = _packed(repair.moved.astype("<i2"))
            content[name]["shape"] = list(repair.moved.shape)
    return json.dumps(content, sort_keys=True)


def read_repairs(text: str) -> dict[str, Repair]:
    """Return what `write_repairs` wrote.

    Raises:
        InputError: SNN305, the record is damaged.
    """
    try:
        return {name: _read(entry) for name, entry in strict.loads(text).items()}
    except (ValueError, KeyError, TypeError, AttributeError, zlib.error):
        raise InputError("SNN305", "its record of weights and biases is damaged") from None


def _read(entry: Mapping[str, Any]) -> Repair:
    bias = np.frombuffer(_unpacked(entry["bias"]), dtype="<f4").astype(np.float32)
    if "moved" not in entry:
        return Repair(bias)
    moved = np.frombuffer(_unpacked(entry["moved"]), dtype="<i2").reshape(entry["shape"])
    return Repair(bias, moved.astype(np.int16))


def _packed(array: Array) -> str:
    return base64.b64encode(zlib.compress(np.ascontiguousarray(array).tobytes())).decode("ascii")


def _unpacked(text: str) -> bytes:
    return zlib.decompress(base64.b64decode(text, validate=True))
