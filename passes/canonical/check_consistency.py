"""Pass ``check-consistency``: what contradicts the definitions of the operators ends the conversion."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import prod
from typing import ClassVar

import numpy as np

from snnc.errors import InputError, Problem, Where
from snnc.ir import Model, Node, attributes, constant, contradiction, static_shape
from snnc.pipeline.contract import PassResult, Rewrite, Semantics

__all__ = ["CheckConsistency"]

#: A tensor of 32 GiB in float32: nothing that is run has one.
_MOST_ELEMENTS = 1 << 33
_LONGEST_RANGE = 1 << 24
#: Arrays of no library that runs networks have more.
_MOST_AXES = 32
_POOLS = ("MaxPool", "AveragePool", "LpPool")
_LINEAR = ("QuantizeLinear", "DequantizeLinear")
_PADDING = ("NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID", "")
#: Words that attributes may be, where ONNX's own inference takes any.
_WORDS: dict[str, dict[str, tuple[str, ...]]] = {
    **{key: {"auto_pad": _PADDING} for key in ("Conv", "ConvTranspose", *_POOLS)},
    "Pad": {"mode": ("constant", "reflect", "edge", "wrap")},
    "Resize": {"mode": ("nearest", "linear", "cubic")},
    "Upsample": {"mode": ("nearest", "linear", "bilinear")},
    "DepthToSpace": {"mode": ("DCR", "CRD")},
    "Gelu": {"approximate": ("none", "tanh")},
    "BitShift": {"direction": ("LEFT", "RIGHT")},
}


@dataclass(frozen=True)
class CheckConsistency:
    """Refuse element types, axes, attributes and constants that no operator's definition allows.

    The ONNX checker accepts most of them; later passes would fail with a worse message, or not at all.

    Shapes and types that a file declares for what its nodes give are not believed where they are not what
    the operators give: they are dropped, to be inferred, and noted.

    Matches:
        Declared shapes and types that are untrue.
    Leaves alone:
        Every model that ONNX's strict inference accepts and whose convolutions, pools, normalisations and
        quantisers have the sizes and parameters their definitions ask for.
    Keeps:
        Everything else.

    Raises:
        InputError: SNN303, naming every such node, with what was expected and found.
    """

    name: ClassVar[str] = "check-consistency"
    requires: ClassVar[frozenset[str]] = frozenset({"sorted", "no-functions"})
    establishes: ClassVar[frozenset[str]] = frozenset()
    invalidates: ClassVar[frozenset[str]] = frozenset()
    semantics: ClassVar[Semantics] = "exact"

    def run(self, model: Model) -> PassResult:
        """Check; see the class."""
        problems = [
            Problem(what, Where(node=node.name))
            for node in model.graph
            for what in (*_CHECKS.get(node.op_type, _nothing)(node), *_words(node), *_size(node))
        ]
        untrue: dict[str, str] = {}
        found = contradiction(model, untrue) if not problems else None
        if found is not None:
            problems.append(Problem(found[1], Where(node=found[0])))
        if problems:
            raise InputError(
                "SNN303",
                f"{len(problems)} node(s) contradict the definition of their operator",
                where=Where(pass_name=self.name),
                problems=problems,
            )
        for value in (output for node in model.graph for output in node.outputs):
            if value.name in untrue:
                value.shape, value.type = None, None
        rewrites = [Rewrite("drop a declaration", (), (), text) for text in untrue.values()]
        return PassResult(rewrites, notes=list(untrue.values()))


def _size(node: Node) -> Iterator[str]:
    for value in node.outputs:
        dims = [dim for dim in value.shape or () if isinstance(dim, int)]
        if (elements := prod(dims)) > _MOST_ELEMENTS:
            yield f"{node.op_type} makes {elements:,} elements: {dims}"
        if len(value.shape or ()) > _MOST_AXES:
            yield f"{node.op_type} makes a tensor of {len(value.shape or ())} axes; {_MOST_AXES} are the most"


def _nothing(_: Node) -> Iterator[str]:
    yield from ()


def _shape(node: Node, index: int) -> tuple[int | None, ...] | None:
    """Return the shape of an input, None for open dimensions; None if nothing is known."""
    value = node.inputs[index] if index < len(node.inputs) else None
    if value is None or value.shape is None:
        return None
    return tuple(dim if isinstance(dim, int) else None for dim in value.shape)


def _conv(node: Node) -> Iterator[str]:
    weight = node.inputs[1] if len(node.inputs) > 1 else None
    sizes = static_shape(weight) if weight is not None else None
    if sizes is None or len(sizes) < 3:
        return
    attrs = attributes(node)
    group = int(attrs.get("group", 1))
    data = _shape(node, 0)
    channels = data[1] if data is not None and len(data) > 1 else None
    transposed = node.op_type == "ConvTranspose"
    if group < 1:
        yield f"{node.op_type} has {group} groups"
        return
    wanted = sizes[0] if transposed else sizes[1] * group
    if channels is not None and channels != wanted:
        yield (
            f"{node.op_type} expects {wanted} input channels (weights {list(sizes)}, {group} groups), "
            f"found {channels}"
        )
    if sizes[0] % group:
        yield f"{node.op_type} cannot share {sizes[0]} channels among {group} groups"
    kernel = attrs.get("kernel_shape")
    if kernel is not None and [int(size) for size in kernel] != list(sizes[2:]):
        yield f"kernel_shape is {[int(size) for size in kernel]}, the weights have {list(sizes[2:])}"
    elif not transposed:
        yield from _window(node, list(sizes[2:]), data)


def _pool(node: Node) -> Iterator[str]:
    kernel = [int(size) for size in attributes(node).get("kernel_shape", ())]
    if any(size < 1 for size in kernel):
        yield f"kernel_shape is {kernel}"
    else:
        yield from _window(node, kernel, _shape(node, 0))


def _window(node: Node, kernel: list[int], data: tuple[int | None, ...] | None) -> Iterator[str]:
    """A window must fit at least once into the padded input."""
    attrs = attributes(node)
    if (
        data is None
        or len(data) != len(kernel) + 2
        or attrs.get("auto_pad", "NOTSET") not in ("NOTSET", "VALID")
    ):
        return
    pads = [int(pad) for pad in attrs.get("pads", [0] * 2 * len(kernel))]
    dilations = [int(step) for step in attrs.get("dilations", [1] * len(kernel))]
    if len(pads) != 2 * len(kernel) or len(dilations) != len(kernel):
        return
    for axis, size in enumerate(kernel):
        extent = (size - 1) * dilations[axis] + 1
        length = data[2 + axis]
        if length is not None and length + pads[axis] + pads[axis + len(kernel)] < extent:
            yield f"a window of {extent} does not fit into the {length} elements of axis {2 + axis}, padded"


def _batch_norm(node: Node) -> Iterator[str]:
    variance = constant(node.inputs[4]) if len(node.inputs) > 4 else None
    if variance is None:
        return
    epsilon = float(attributes(node).get("epsilon", 1e-5))
    wrong = ~(np.asarray(variance, dtype=np.float64) + epsilon > 0)
    if wrong.any():
        index = int(np.argmax(wrong))
        yield f"the variance of channel {index} is {variance.reshape(-1)[index]:g}"


def _scale(node: Node) -> Iterator[str]:
    scale = constant(node.inputs[1]) if len(node.inputs) > 1 else None
    if scale is None:
        return
    values = np.asarray(scale, dtype=np.float64).reshape(-1)
    # A channel of zeros behind DequantizeLinear may have a scale of zero; a division by it means nothing.
    legal = np.isfinite(values) & ((values > 0) if node.op_type != "DequantizeLinear" else (values >= 0))
    if not legal.all():
        yield f"its scale is {values[int(np.argmin(legal))]:g}; it must be finite and above zero"
    elif node.op_type in _LINEAR:
        yield from _spread(node, list(np.shape(scale)))


def _spread(node: Node, sizes: list[int]) -> Iterator[str]:
    """Scale and zero point belong to the tensor, to its channels along an axis, or to blocks along it."""
    attrs, data = attributes(node), _shape(node, 0)
    axis, block = int(attrs.get("axis", 1)), int(attrs.get("block_size", 0))
    zero = static_shape(node.inputs[2]) if len(node.inputs) > 2 and node.inputs[2] is not None else None
    if zero is not None and prod(zero) != prod(sizes):
        yield f"its zero point has the shape {list(zero)}, its scale {sizes}"
    if prod(sizes) == 0:
        yield f"its scale has the shape {sizes}"
    if data is None or (prod(sizes) == 1 and not block):
        return
    if not -len(data) <= axis < len(data):
        yield f"its axis is {axis}, its data have {len(data)} axes"
        return
    length = data[axis]
    if block:
        wanted = None if length is None or block < 0 else -(-length // block)
        if block < 0 or len(sizes) != len(data) or (wanted is not None and sizes[axis] != wanted):
            found = "?" if length is None else length
            yield f"blocks of {block} of the {found} elements of axis {axis} do not fit its scale {sizes}"
    elif len(sizes) != 1 or (length is not None and length != sizes[0]):
        yield f"its scale has the shape {sizes}, its data {list(data)} along axis {axis}"


def _division(node: Node) -> Iterator[str]:
    divisor = constant(node.inputs[1]) if len(node.inputs) > 1 else None
    if divisor is not None and divisor.dtype.kind in "iuf" and not np.all(divisor):
        place = [int(index) for index in np.argwhere(divisor == 0)[0]]
        yield f"{node.op_type} divides by 0, first at {place}"


def _flatten(node: Node) -> Iterator[str]:
    data, axis = _shape(node, 0), int(attributes(node).get("axis", 1))
    if data is not None and not -len(data) <= axis <= len(data):
        yield f"its axis is {axis}, its data have {len(data)} axes"


def _response(node: Node) -> Iterator[str]:
    size = int(attributes(node).get("size", 1))
    if size < 1:
        yield f"its size is {size}"


def _words(node: Node) -> Iterator[str]:
    """Attributes that are one of a few words."""
    for name, known in _WORDS.get(node.op_type, {}).items():
        word = attributes(node).get(name)
        if word is not None and word not in known:
            yield f"its {name} is {str(word)[:40]!r}, not one of {', '.join(known)}"


def _range(node: Node) -> Iterator[str]:
    """ONNX's own inference would make the whole list in memory."""
    bounds = [constant(value) if value is not None else None for value in node.inputs]
    if len(bounds) == 3 and all(bound is not None and bound.size == 1 for bound in bounds):
        start, limit, delta = (float(bound.reshape(-1)[0]) for bound in bounds if bound is not None)
        count = (limit - start) / delta if delta else np.inf
        if not count <= _LONGEST_RANGE:
            yield f"Range makes {count:.4g} elements, more than {_LONGEST_RANGE:,}"


def _gather(node: Node) -> Iterator[str]:
    data, indices = _shape(node, 0), constant(node.inputs[1]) if len(node.inputs) > 1 else None
    axis = int(attributes(node).get("axis", 0))
    size = data[axis] if data is not None and -len(data) <= axis < len(data) else None
    if size is None or indices is None or not indices.size:
        return
    low, high = int(indices.min()), int(indices.max())
    if low < -size or high >= size:
        yield f"{node.op_type} reads index {high if high >= size else low} of the {size} along axis {axis}"


_CHECKS: dict[str, Callable[[Node], Iterator[str]]] = {
    "Conv": _conv,
    "ConvTranspose": _conv,
    **dict.fromkeys(_POOLS, _pool),
    "BatchNormalization": _batch_norm,
    "Range": _range,
    "Gather": _gather,
    "Flatten": _flatten,
    "LRN": _response,
    **dict.fromkeys(("Div", "Mod"), _division),
    **dict.fromkeys(("QuantizeLinear", "DequantizeLinear", "Quant", "IntQuant"), _scale),
}
