"""Weights as integers: what the three dialects say about a quantised constant."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from snnc.ir import Node, Value, attributes, constant
from snnc.ir.evaluate import evaluate
from snnc.ops.quantise import QUANTISE
from snnc.passes.editing import Array, only_consumer
from snnc.passes.recognise.affine import Affine, Link, link_of
from snnc.passes.recognise.linear import parameter
from snnc.passes.recognise.qonnx import quant_parameters

__all__ = [
    "Integers",
    "blocked_floats",
    "read_bipolar",
    "read_chain",
    "read_dequantised",
    "read_quant",
    "read_quantised",
]

_ROUND: dict[str, Callable[[Array], Array]] = {
    "ROUND": np.rint,
    "HALF_EVEN": np.rint,
    "CEIL": np.ceil,
    "FLOOR": np.floor,
    "DOWN": np.trunc,
    "ROUND_TO_ZERO": np.trunc,
    "UP": lambda x: np.sign(x) * np.ceil(np.abs(x)),
    "HALF_UP": lambda x: np.sign(x) * np.floor(np.abs(x) + np.float32(0.5)),
    "HALF_DOWN": lambda x: np.sign(x) * np.ceil(np.abs(x) - np.float32(0.5)),
}


@dataclass(frozen=True, eq=False)
class Integers:
    """A constant on a grid: ``value = integers * scale``.

    Attributes:
        integers: int64, any shape.
        scale: float64, positive, () or of the rank of ``integers`` and broadcastable to it.
        result: The value of the graph that holds it.
        nodes: The nodes that compute it.
        change: Largest difference to what the source computes in float32, relative to its largest value.
    """

    integers: npt.NDArray[np.int64]
    scale: npt.NDArray[np.float64]
    result: Value
    nodes: tuple[Node, ...]
    change: float = 0.0

    def positive(self) -> Integers:
        """Return the same numbers with positive scales: signs go into the integers, zeros too."""
        flipped = np.broadcast_to(np.sign(self.scale), self.integers.shape).astype(np.int64)
        scale = np.where(self.scale == 0, 1.0, np.abs(self.scale))
        return Integers(self.integers * flipped, scale, self.result, self.nodes)

    def narrow(self) -> Array:
        """Return the integers in the narrowest signed type that holds them."""
        low, high = int(self.integers.min(initial=0)), int(self.integers.max(initial=0))
        for dtype in (np.int8, np.int16, np.int32):
            info = np.iinfo(dtype)
            if info.min <= low and high <= info.max:
                return self.integers.astype(dtype)
        return self.integers

    def floats(self) -> npt.NDArray[np.float32]:
        """Return the values, rounded once to float32."""
        return np.asarray(self.integers * self.scale).astype(np.float32)


def read_dequantised(node: Node) -> Integers | str:
    """Read a DequantizeLinear of constant integers: ``(q - zero) * scale``."""
    integers = constant(node.inputs[0])
    assert integers is not None
    parts = [parameter(node, index, integers.ndim) for index in (1, 2)]
    problem = next((part for part in parts if isinstance(part, str)), None)
    if problem is not None:
        return problem
    scale, zero = (np.asarray(part) for part in parts)
    if not np.isfinite(scale).all():
        return "its scale is not finite"
    if not integers.size:
        return "it is empty"
    shifted = integers.astype(np.int64) - zero.astype(np.int64)
    return Integers(shifted, scale.astype(np.float64), node.outputs[0], (node,)).positive()


def blocked_floats(node: Node) -> npt.NDArray[np.float32] | None:
    """Evaluate a DequantizeLinear of constant integers with a scale in each block; None if it is none."""
    attrs = attributes(node)
    block, axis = int(attrs.get("block_size", 0)), int(attrs.get("axis", 1))
    held = [constant(value) for value in node.inputs]
    if not block or any(array is None for array in held):
        return None
    integers, *parts = (np.asarray(array) for array in held)
    spread = [
        np.repeat(part, block, axis=axis).take(range(integers.shape[axis]), axis=axis) for part in parts
    ]
    zero = spread[1].astype(np.int64) if len(spread) > 1 else 0
    shifted = (integers.astype(np.int64) - zero).astype(np.float32)
    return np.asarray(shifted * spread[0].astype(np.float32), dtype=np.float32)


def read_quant(node: Node) -> Integers | str:
    """Read a QONNX Quant of a constant: its integers are computed in float32, as QONNX does."""
    data, found = constant(node.inputs[0]), quant_parameters(node)
    if isinstance(found, str):
        return found
    assert data is not None
    rounding = _ROUND.get(found.mode)
    if rounding is None:
        return f"its rounding mode {found.mode} is not known"
    scale = found.scale.astype(np.float32)
    ratio = data.astype(np.float32) / scale + np.float32(found.zero)
    codes = np.clip(rounding(ratio).astype(np.float64), found.smallest, found.largest).astype(np.int64)
    shape = scale if scale.size > 1 else scale.reshape(())
    return Integers(codes - found.zero, shape.astype(np.float64), node.outputs[0], (node,)).positive()


def read_bipolar(node: Node) -> Integers | str:
    """Read a QONNX BipolarQuant of a constant: +scale where it is 0 or more, else -scale."""
    data, scale = constant(node.inputs[0]), constant(node.inputs[1])
    assert data is not None
    if scale is None:
        return "its scale is not constant"
    signs = np.where(data >= 0, 1, -1).astype(np.int64)
    shape = scale if scale.size > 1 else scale.reshape(())
    return Integers(signs, shape.astype(np.float64), node.outputs[0], (node,)).positive()


def read_quantised(node: Node) -> Integers | str:
    """Read a Quantise of a constant: its codes are those of the kernel, which compares in float32."""
    data, step = constant(node.inputs[0]), constant(node.inputs[1])
    if data is None or step is None:
        return "its input or step is not constant"
    step = step.astype(np.float32)
    levels = QUANTISE.packed([data.astype(np.float32), step], attributes(node)).astype(np.float64)
    scale = step.astype(np.float64).reshape(step.shape if step.size > 1 else ())
    return Integers(np.rint(levels / scale).astype(np.int64), scale, node.outputs[0], (node,))


def read_chain(rounding: Node, opsets: dict[str, int]) -> Integers | str:
    """Read a Round or Floor of a constant and the factors, offsets and clips that follow it."""
    data = constant(rounding.inputs[0])
    assert data is not None
    numbers = np.asarray(evaluate(rounding, [data], opsets)[0])
    value, back = rounding.outputs[0], Affine.identity()
    nodes = [rounding]
    best: Integers | None = None
    while True:
        integers = _integers(numbers, back)
        if integers is not None:
            scale = np.array([float(entry) for entry in back.a.reshape(-1)]).reshape(back.a.shape)
            found = Integers(integers, scale, value, tuple(nodes)).positive()
            largest = float(np.abs(numbers).max(initial=0.0)) or 1.0
            best = replace(found, change=float(np.abs(found.floats() - numbers).max(initial=0.0)) / largest)
        link = _next(value)
        if link is None:
            break
        arrays = [numbers if entry is value else constant(entry) for entry in link.node.inputs]
        numbers = np.asarray(evaluate(link.node, arrays, opsets)[0])
        back, value = link.step(back), link.node.outputs[0]
        nodes.append(link.node)
    return best if best is not None else "its values are not multiples of one scale"


def _next(value: Value) -> Link | None:
    consumer = only_consumer(value)
    link = link_of(consumer)
    return link if link is not None and link.source is value else None


def _integers(numbers: Array, back: Affine) -> npt.NDArray[np.int64] | None:
    """Return ``numbers / scale`` if these are integers, up to float32 rounding."""
    scale = np.array([float(entry) for entry in np.asarray(back.a, dtype=object).reshape(-1)])
    ratio = numbers.astype(np.float64) / scale.reshape(np.shape(back.a))
    nearest = np.rint(ratio)
    close = np.abs(ratio - nearest) <= 2.0**-20 * np.maximum(1.0, np.abs(nearest))
    if back.a.ndim > numbers.ndim or not close.all() or np.abs(nearest).max(initial=0) >= 2**31:
        return None
    integers: npt.NDArray[np.int64] = nearest.astype(np.int64)
    return integers
