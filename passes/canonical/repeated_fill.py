"""Values that are constants repeated along open dimensions."""

from __future__ import annotations

import numpy as np

from snnc.ir import Value, attributes, constant
from snnc.passes.editing import Array, is_standard

__all__ = ["repeated_fill"]


def repeated_fill(value: Value | None) -> Array | None:
    """Return what a value holds, with extent 1 where it is repeated an unknown number of times.

    Args:
        value: Any value.

    Returns:
        The constant; None if the value is none, or is made by other means than Expand, Identity, and Slice,
        Gather and Split along known dimensions.
    """
    held = constant(value)
    node = value.producer() if value is not None else None
    if held is not None or value is None or node is None:
        return held
    if is_standard(node, "Identity"):
        return repeated_fill(node.inputs[0])
    dims = list(value.shape) if value.shape is not None else None
    source = repeated_fill(node.inputs[0]) if node.inputs and node.inputs[0] is not None else None
    if source is None or dims is None:
        return None
    if is_standard(node, "Expand"):
        extents = [1] * (len(dims) - source.ndim) + list(source.shape)
        wanted = [
            size if isinstance(size, int) else extent for size, extent in zip(dims, extents, strict=True)
        ]
        if any(extent not in (1, size) for size, extent in zip(wanted, extents, strict=True)):
            return None
        return np.broadcast_to(source, wanted)
    axis = _cut_axis(value)
    return _cut(value, source, axis) if axis is not None and 0 <= axis < source.ndim else None


def _cut_axis(value: Value) -> int | None:
    """Return the only axis that a Slice, Gather or Split takes parts of."""
    node = value.producer()
    if node is None:
        return None
    if is_standard(node, "Gather", "Split"):
        return int(attributes(node).get("axis", 0))
    if is_standard(node, "Slice"):
        axes = constant(node.inputs[3]) if len(node.inputs) > 3 else None
        return int(axes[0]) if axes is not None and axes.size == 1 else None
    return None


def _cut(value: Value, source: Array, axis: int) -> Array | None:
    node = value.producer()
    assert node is not None
    whole = node.inputs[0]
    if whole is None or whole.shape is None or not isinstance(whole.shape[axis], int):
        return None
    if is_standard(node, "Gather"):
        places = constant(node.inputs[1])
        return None if places is None else np.take(source, places, axis=axis)
    if is_standard(node, "Split"):
        sizes = constant(node.inputs[1]) if len(node.inputs) > 1 else None
        count = len(node.outputs)
        bounds = (
            np.cumsum(sizes)[:-1] if sizes is not None else count if source.shape[axis] % count == 0 else None
        )
        if bounds is None:
            return None
        parts = np.split(source, bounds, axis=axis)
        return parts[next(place for place, out in enumerate(node.outputs) if out is value)]
    numbers = [constant(entry) for entry in node.inputs[1:3]]
    step = constant(node.inputs[4]) if len(node.inputs) > 4 else np.array([1])
    if numbers[0] is None or numbers[1] is None or step is None:
        return None
    index = [slice(None)] * source.ndim
    index[axis] = slice(int(numbers[0][0]), int(numbers[1][0]), int(step[0]))
    return source[tuple(index)]
