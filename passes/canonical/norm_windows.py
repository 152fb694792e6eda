"""Windows of pools of a norm: an AveragePool over them, times its kernel, adds the same numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from snnc.ir import Node, attributes
from snnc.passes.canonical.chain import Chain

__all__ = ["adding_window"]


def adding_window(node: Node, chain: Chain, out: Sequence[Any]) -> dict[str, Any] | str:
    """Return attributes of an AveragePool whose divisor is its kernel everywhere, or why there are none.

    Args:
        node: A LpPool, or a GlobalLpPool.
        chain: What it reads.
        out: Extents of its result.
    """
    attrs = attributes(node)
    if node.op_type == "GlobalLpPool":
        return {"kernel_shape": list(chain.dims[2:]), "count_include_pad": 1}
    kernel = [int(size) for size in attrs["kernel_shape"]]
    window: dict[str, Any] = {"kernel_shape": kernel, "count_include_pad": 1}
    window.update(
        (name, attrs[name]) for name in ("strides", "pads", "auto_pad", "dilations") if name in attrs
    )
    if not int(attrs.get("ceil_mode", 0)):
        return window
    if len(out) != len(kernel) + 2 or not all(isinstance(size, int) for size in out[2:]):
        return "its sizes are not static"
    # An AveragePool with ceil_mode divides by less where a window leaves the padded input: zeros do not.
    spatial = len(kernel)
    strides, gaps = (attrs.get(name, [1] * spatial) for name in ("strides", "dilations"))
    pads = [int(width) for width in attrs.get("pads", [0] * (2 * spatial))]
    for axis, size in enumerate(kernel):
        last = (int(out[2 + axis]) - 1) * int(strides[axis]) + (size - 1) * int(gaps[axis]) + 1
        pads[axis + spatial] = max(pads[axis + spatial], last - int(chain.dims[2 + axis]) - pads[axis])
    return {**window, "pads": pads}
