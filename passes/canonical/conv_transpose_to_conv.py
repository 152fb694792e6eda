"""Pass ``conv-transpose-to-conv``: a convolution of the input set apart by zeros."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from snnc.ir import Model, Node, Value, attributes, constant
from snnc.passes.canonical.chain import Chain, leave, static_rest
from snnc.passes.editing import Array, Editor, is_standard
from snnc.pipeline.contract import PassResult, Semantics

__all__ = ["ConvTransposeToConv"]


@dataclass(frozen=True)
class ConvTransposeToConv:
    """Write ConvTranspose as zeros between the elements, then Conv with mirrored weights.

    The zeros send no spikes, so a spike meets as many synapses as it would in the transposed convolution.
    The weights are the same numbers at other places: an integer weight with its scale keeps both.

    Matches:
        ConvTranspose with constant weights, or weights that DequantizeLinear makes of constant integers, of
        any strides, dilations, groups and padding.
    Leaves alone:
        "its sizes are not static"; "its weights are not constant"; "its scale differs along other than one
        output channel"; "its output is cut by more than its padding".
    Keeps:
        The name of the result.
    """

    name: ClassVar[str] = "conv-transpose-to-conv"
    requires: ClassVar[frozenset[str]] = frozenset({"constants-folded", "unique-names"})
    establishes: ClassVar[frozenset[str]] = frozenset()
    invalidates: ClassVar[frozenset[str]] = frozenset()
    semantics: ClassVar[Semantics] = "approximate"

    def run(self, model: Model) -> PassResult:
        """Rewrite; see the class."""
        editor = Editor(model)
        for node in [entry for entry in model.graph if is_standard(entry, "ConvTranspose")]:
            reason = _rewrite(editor, node)
            if reason is not None:
                leave(editor, node, reason)
        return editor.result()


@dataclass(frozen=True)
class _Window:
    """Geometry of a transposed convolution along its spatial axes."""

    kernel: list[int]
    strides: list[int]
    dilations: list[int]
    begins: list[int]
    sizes: list[int]


def _window(node: Node, rest: list[int], out: list[Any], kernel: list[int]) -> _Window | str:
    """Read the attributes; what ``output_shape`` and ``auto_pad`` ask for is in the shape of the result."""
    attrs, spatial = attributes(node), len(rest) - 1
    strides = [int(item) for item in attrs.get("strides", [1] * spatial)]
    dilations = [int(item) for item in attrs.get("dilations", [1] * spatial)]
    extra = [int(item) for item in attrs.get("output_padding", [0] * spatial)]
    sizes = [size for size in out[2:] if isinstance(size, int)]
    if len(sizes) != spatial:
        return "its sizes are not static"
    begins = [int(item) for item in attrs.get("pads", [0] * (2 * spatial))][:spatial]
    mode = str(attrs.get("auto_pad", "NOTSET"))
    if mode != "NOTSET" or "output_shape" in attrs:
        for axis in range(spatial):
            reach = (kernel[axis] - 1) * dilations[axis] + 1
            total = strides[axis] * (rest[1 + axis] - 1) + extra[axis] + reach - sizes[axis]
            total = max(0, total)
            small = total // 2
            begins[axis] = small if mode in ("SAME_UPPER", "VALID") else total - small
            if mode == "VALID":
                begins[axis] = 0
    return _Window(kernel, strides, dilations, begins, sizes)


def _rewrite(editor: Editor, node: Node) -> str | None:
    source, out = node.inputs[0], node.outputs[0]
    rest = static_rest(source)
    if source is None or rest is None or out.shape is None:
        return "its sizes are not static"
    attrs = attributes(node)
    groups = int(attrs.get("group", 1))
    weight = _mirrored(editor, node, node.inputs[1], groups)
    if isinstance(weight, str):
        return weight
    value, kernel = weight
    window = _window(node, rest, list(out.shape), kernel)
    if isinstance(window, str):
        return window
    spatial = len(kernel)
    chain = Chain(editor, node, source)
    _set_apart(chain, window.strides)
    begins, ends = [0, 0], [0, 0]
    for axis in range(spatial):
        reach = (kernel[axis] - 1) * window.dilations[axis]
        begins.append(reach - window.begins[axis])
        ends.append(window.sizes[axis] + reach - chain.dims[2 + axis] - begins[-1])
    # A Conv pads as far as its window reaches; the rest, and cropping, is done before.
    pads = [max(0, min(width, reach_of(window, axis))) for axis, width in _spatial(begins, ends)]
    inner = [width - pads[place] for place, (_, width) in enumerate(_spatial(begins, ends))]
    chain.pad([0, 0, *inner[:spatial]], [0, 0, *inner[spatial:]])
    others: list[Any] = [value, *node.inputs[2:]]
    dims = [chain.dims[0], out.shape[1], *window.sizes]
    chain.append(
        "Conv", others, dims, kernel_shape=kernel, dilations=window.dilations, group=groups, pads=pads
    )
    chain.finish("transposed convolution")
    return None


def reach_of(window: _Window, axis: int) -> int:
    """Return how far the window reaches from its first element."""
    return (window.kernel[axis] - 1) * window.dilations[axis]


def _spatial(begins: list[int], ends: list[int]) -> list[tuple[int, int]]:
    """Return spatial axes with their widths: all beginnings, then all ends."""
    return [*enumerate(begins[2:]), *enumerate(ends[2:])]


def _set_apart(chain: Chain, strides: list[int]) -> None:
    """Put stride - 1 zeros behind every element."""
    if all(stride == 1 for stride in strides):
        return
    channels, sizes = chain.dims[1], list(chain.dims[2:])
    split = [channels]
    for size in sizes:
        split += [size, 1]
    chain.reshape(split)
    ends = [0, 0]
    for stride in strides:
        ends += [0, stride - 1]
    chain.pad([0] * len(ends), ends)
    chain.reshape([channels, *(size * stride for size, stride in zip(sizes, strides, strict=True))])


def _mirrored(editor: Editor, node: Node, value: Value | None, groups: int) -> tuple[Value, list[int]] | str:
    """Return the weights in the order of a Conv, (out, in / groups, ...), mirrored, and the kernel."""
    array = constant(value)
    if value is not None and array is not None:
        turned = _turn(array, groups)
        return editor.constant(f"{value.name}.mirrored", turned), list(turned.shape[2:])
    maker = value.producer() if value is not None else None
    if maker is None or maker.op_type != "DequantizeLinear":
        return "its weights are not constant"
    integers, scale = constant(maker.inputs[0]), constant(maker.inputs[1])
    zero = constant(maker.inputs[2]) if len(maker.inputs) > 2 else None
    if integers is None or scale is None or (len(maker.inputs) > 2 and maker.inputs[2] and zero is None):
        return "its weights are not constant"
    axis = int(attributes(maker).get("axis", 1)) % integers.ndim
    if scale.size > 1 and (axis != 1 or groups != 1):
        return "its scale differs along other than one output channel"
    turned = _turn(integers, groups)
    held = [editor.constant(f"{node.name}.weight", turned), editor.constant(f"{node.name}.scale", scale)]
    if zero is not None:
        held.append(editor.constant(f"{node.name}.zero", zero))
    made = editor.add(
        node, "DequantizeLinear", held, {"axis": 0}, name=f"{node.name}.mirrored", domain=maker.domain,
        shape=list(turned.shape),
    )  # fmt: skip
    return made, list(turned.shape[2:])


def _turn(array: Array, groups: int) -> Array:
    """Turn (in, out / groups, ...) into (out, in / groups, ...) and mirror every spatial axis."""
    inputs, outputs, *kernel = array.shape
    parts = array.reshape(groups, inputs // groups, outputs, *kernel).swapaxes(1, 2)
    flat = parts.reshape(groups * outputs, inputs // groups, *kernel)
    return np.ascontiguousarray(np.flip(flat, axis=tuple(range(2, flat.ndim))))
