"""Operations that only move elements, as functions of a numpy array."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from snnc.ir import Node, attributes, constant

__all__ = ["LAYOUT_OPS", "RESHAPES", "Layout", "layout_functions", "pad_widths"]

Layout = Callable[[npt.NDArray[Any]], npt.NDArray[Any]]

RESHAPES = frozenset({"Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Dropout"})
LAYOUT_OPS = RESHAPES | {"Transpose", "Slice", "Split", "Gather", "Expand", "DepthToSpace", "SpaceToDepth"}


def layout_functions(
    node: Node, shape: tuple[int, ...], outputs: list[tuple[int, ...]]
) -> list[Layout] | str:
    """Return one function per output that does to a numpy array what a layout node does to its input.

    Args:
        node: Node whose operator is one of ``LAYOUT_OPS``.
        shape: Shape of its first input.
        outputs: Shapes of its outputs.

    Returns:
        The functions, or the reason why the node is not a fixed layout.
    """
    op, attrs = node.op_type, attributes(node)
    if op in RESHAPES:
        if math.prod(shape) != math.prod(outputs[0]):
            samples = outputs[0][0] if outputs[0] else 0
            return f"a fixed number of samples, {samples}, where inputs have any: export with an open batch"
        return [lambda array, target=outputs[0]: array.reshape(target)]  # type: ignore[misc]
    if op == "Transpose":
        perm = attrs.get("perm") or list(range(len(shape)))[::-1]
        return [lambda array: np.transpose(array, perm)]
    if op == "Expand":
        return [lambda array: np.broadcast_to(array, outputs[0])]
    if op == "Gather":
        indices = constant(node.inputs[1])
        if indices is None:
            return "its indices are not constant"
        axis = int(attrs.get("axis", 0))
        return [lambda array: np.take(array, indices, axis=axis)]
    if op == "Slice":
        return _slice(node, attrs, shape)
    if op == "Split":
        return _split(attrs, shape, outputs)
    return _blocks(op, attrs, shape)


def pad_widths(node: Node, rank: int) -> npt.NDArray[np.int64] | None:
    """Return how far a Pad node widens each axis: begins and ends, int64 (2, rank); None if not constant."""
    attrs = attributes(node)
    operands = list(node.inputs[1:]) + [None] * 3
    given = constant(operands[0]) if operands[0] is not None else attrs.get("pads")
    axes = constant(operands[2])
    if given is None or (operands[2] is not None and axes is None):
        return None
    widths = np.zeros((2, rank), dtype=np.int64)
    listed = [int(axis) % rank for axis in axes] if axes is not None else list(range(rank))
    widths[:, listed] = np.asarray(given, dtype=np.int64).reshape(2, -1)
    return widths


def _slice(node: Node, attrs: dict[str, Any], shape: tuple[int, ...]) -> list[Layout] | str:
    if "starts" in attrs:
        starts, ends = attrs["starts"], attrs["ends"]
        axes = attrs.get("axes", list(range(len(starts))))
        steps = [1] * len(starts)
    else:
        parts = [constant(value) if value is not None else None for value in node.inputs[1:]]
        parts += [None] * (4 - len(parts))
        if parts[0] is None or parts[1] is None:
            return "its bounds are not constant"
        if any(
            part is None and value is not None for part, value in zip(parts, node.inputs[1:], strict=False)
        ):
            return "its axes or steps are not constant"
        starts, ends = parts[0].tolist(), parts[1].tolist()
        axes = parts[2].tolist() if parts[2] is not None else list(range(len(starts)))
        steps = parts[3].tolist() if parts[3] is not None else [1] * len(starts)
    index = [slice(None)] * len(shape)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        low, high, stride = slice(start, end, step).indices(shape[axis])
        index[axis] = slice(low, high if high >= 0 else None, stride)
    return [lambda array: array[tuple(index)]]


def _split(attrs: dict[str, Any], shape: tuple[int, ...], outputs: list[tuple[int, ...]]) -> list[Layout]:
    axis = int(attrs.get("axis", 0)) % len(shape)
    functions: list[Layout] = []
    start = 0
    for target in outputs:
        index = [slice(None)] * len(shape)
        index[axis] = slice(start, start + target[axis])
        start += target[axis]
        functions.append(lambda array, index=tuple(index): array[index])  # type: ignore[misc]
    return functions


def _blocks(op: str, attrs: dict[str, Any], shape: tuple[int, ...]) -> list[Layout] | str:
    n, c, h, w = shape
    size = int(attrs["blocksize"])
    if op == "SpaceToDepth":
        return [
            lambda array: (
                array.reshape(n, c, h // size, size, w // size, size)
                .transpose(0, 3, 5, 1, 2, 4)
                .reshape(n, c * size * size, h // size, w // size)
            )
        ]
    if attrs.get("mode", "DCR") == "CRD":
        return [
            lambda array: (
                array.reshape(n, c // size**2, size, size, h, w)
                .transpose(0, 1, 4, 2, 5, 3)
                .reshape(n, c // size**2, h * size, w * size)
            )
        ]
    return [
        lambda array: (
            array.reshape(n, size, size, c // size**2, h, w)
            .transpose(0, 3, 4, 1, 5, 2)
            .reshape(n, c // size**2, h * size, w * size)
        )
    ]
