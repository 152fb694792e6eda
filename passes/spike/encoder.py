"""Encoder thresholds in terms of the network input: preprocessing in front of them is folded in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from snnc.ir import Node, Value, constant
from snnc.passes.analysis.exact import distinct
from snnc.passes.fold.thresholds import ThresholdTable
from snnc.passes.spike.builder import SpikeBuilder

__all__ = ["fold_preprocessing"]

Array = npt.NDArray[Any]
_MOST_THRESHOLDS = 2**20
_LARGEST = np.float32(np.finfo(np.float32).max)
_RUN: dict[str, Callable[[Array, Array], Array]] = {
    "Add": np.add,
    "Sub": np.subtract,
    "Mul": np.multiply,
    "Div": np.divide,
}


def fold_preprocessing(
    builder: SpikeBuilder, source: Value, table: ThresholdTable
) -> tuple[Value, ThresholdTable]:
    """Return the value in front of elementwise preprocessing, and the thresholds that give the same codes.

    Every operation is a function of float32 that never falls. The composition f has, for each threshold t, a
    smallest float32 x with f(x) >= t; it is found by bisection, with the operations rounded as every runtime
    rounds them. So the codes are the same, bit for bit, and the host only compares.

    Args:
        builder: The graph being built.
        source: Quantised value that the encoder reads.
        table: Its thresholds for that value.
    """
    chain: list[tuple[Node, Array]] = []
    value = source
    while (found := _step(builder, value)) is not None:
        node, operand, value = found
        chain.append((node, operand))
    if not chain:
        return source, table
    rank = len(builder.shape(source))
    held = [operand.reshape((1,) * (rank - operand.ndim) + operand.shape) for _, operand in chain]
    keys, rows = distinct(table.rows.reshape((1,) * (rank - table.rows.ndim) + table.rows.shape), *held)
    thresholds = table.thresholds.astype(np.float32)
    if len(keys) * thresholds.shape[1] > _MOST_THRESHOLDS:
        return source, table
    wanted = thresholds[[int(key[0]) for key in keys]]
    operands = [np.array([key[1 + n] for key in keys], dtype=np.float32)[:, None] for n in range(len(chain))]

    def run(x: Array) -> Array:
        with np.errstate(over="ignore"):
            for (node, _), operand in zip(reversed(chain), reversed(operands), strict=True):
                x = _RUN[node.op_type](
                    *((operand, x) if constant(node.inputs[0]) is not None else (x, operand))
                )
        return x

    return value, replace(table, thresholds=_smallest(run, wanted), rows=rows)


def _step(builder: SpikeBuilder, value: Value) -> tuple[Node, Array, Value] | None:
    """Return the node that made a value, its constant, and what it reads, if it never falls."""
    node = value.producer()
    if node is None or node.domain not in ("", "ai.onnx") or node.op_type not in _RUN:
        return None
    held = [constant(item) for item in node.inputs]
    place = 0 if held[1] is not None else 1
    operand, source = held[1 - place], node.inputs[place]
    if operand is None or source is None or held[place] is not None or operand.dtype != np.float32:
        return None
    rises = node.op_type == "Add" or (node.op_type == "Sub" and place == 0)
    rises |= (node.op_type == "Mul" or (node.op_type == "Div" and place == 0)) and bool(np.all(operand > 0))
    same = builder.shape(source) == builder.shape(value) and bool(np.isfinite(operand).all())
    return (node, operand, source) if rises and same else None


def _smallest(run: Callable[[Array], Array], wanted: Array) -> Array:
    """Return for each threshold t the smallest float32 x with run(x) >= t; +inf where there is none."""
    low = np.full(wanted.shape, _key(-_LARGEST), dtype=np.int64)
    high = np.full(wanted.shape, _key(_LARGEST) + 1, dtype=np.int64)
    while bool(np.any(low < high)):
        middle = (low + high) >> 1
        reached = run(_float(middle)) >= wanted
        low, high = np.where(reached, low, middle + 1), np.where(reached, middle, high)
        high = np.maximum(high, low)
    never = np.isinf(wanted) | (low > _key(_LARGEST))
    return np.where(never, np.float32(np.inf), _float(low)).astype(np.float32)


def _key(value: np.float32) -> int:
    bits = int(np.asarray(value, dtype=np.float32).view(np.int32))
    return bits if bits >= 0 else -(bits & 0x7FFFFFFF)


def _float(keys: Array) -> Array:
    bits = np.where(keys >= 0, keys, (-keys) | (1 << 31)).astype(np.uint32)
    return bits.view(np.float32)
