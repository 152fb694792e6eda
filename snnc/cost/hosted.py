"""What a node costs that the user lets the host compute in float: multiply-accumulates, or work like one."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from snnc.cost.layer import LayerCost
from snnc.cost.rules import Seen
from snnc.ir import Node, Value, attributes, constant

__all__ = ["host_cost", "host_taps"]

#: 8-bit by 8-bit products in a product of two 32-bit numbers.
_PLANES = 16
#: Work per element, in multiply-accumulates: one for each product, quotient, exponential, root or other
#: function that an element takes part in; none for what only compares, adds or moves.
_PER_ELEMENT: Mapping[str, int] = MappingProxyType(
    {
        **dict.fromkeys(("Abs", "Add", "ArgMax", "ArgMin", "Cast", "Clip", "Greater", "Less", "Max"), 0),
        **dict.fromkeys(("MaxPool", "Min", "Neg", "ReduceMax", "ReduceMin", "ReduceSum", "Relu"), 0),
        **dict.fromkeys(("Sign", "Sub", "Sum", "TopK", "Where", "GlobalMaxPool"), 0),
        **dict.fromkeys(("Sigmoid", "Tanh", "Softmax", "LogSoftmax", "Elu", "Celu", "Selu", "Softplus"), 2),
        **dict.fromkeys(("Swish", "Gelu", "Mish"), 3),
        **dict.fromkeys(("BatchNormalization", "LpNormalization", "RMSNormalization"), 3),
        **dict.fromkeys(("LayerNormalization", "GroupNormalization", "InstanceNormalization"), 3),
        "LRN": 4,
    }
)
_GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}


def host_taps(node: Node) -> list[str]:
    """Return the names of the tensors that a runtime must hand over for a node on the host."""
    return [value.name for value in node.outputs[:1] if value.name]


def host_cost(seen: Seen) -> LayerCost:
    """Return the row of a node on the host, from the size of its result."""
    node = seen.node
    made = node.outputs[0]
    result = seen.array(made).size
    # Symbolic sizes of all tensors grow with the samples as those of the result do.
    times = result / max(1, _elements(made))
    sizes = [round(_elements(value) * times) if _varies(value) else _elements(value) for value in node.inputs]
    product = _PRODUCTS.get(node.op_type)
    if product is not None:
        macs = product(node, result, sizes)
    else:
        macs = _PER_ELEMENT.get(node.op_type, 1) * max([result, *sizes[:1]])
        if node.op_type == "Resize":
            macs = _resize(node, result)
    return seen.row("host", macs=macs, exact_macs=macs, mac_planes=_PLANES)


def _varies(value: Value | None) -> bool:
    return value is not None and constant(value) is None


def _dims(value: Value | None) -> list[int]:
    held = constant(value)
    if held is not None:
        return [*held.shape]
    shape = value.shape if value is not None else None
    return [dim if isinstance(dim, int) else 1 for dim in shape] if shape is not None else []


def _elements(value: Value | None) -> int:
    return math.prod(_dims(value)) if value is not None else 0


def _conv(node: Node, result: int, sizes: list[int]) -> int:
    return result * math.prod(_dims(node.inputs[1])[1:])


def _conv_transpose(node: Node, result: int, sizes: list[int]) -> int:
    return sizes[0] * math.prod(_dims(node.inputs[1])[1:])


def _matmul(node: Node, result: int, sizes: list[int]) -> int:
    return result * (_dims(node.inputs[0]) or [1])[-1]


def _gemm(node: Node, result: int, sizes: list[int]) -> int:
    dims = _dims(node.inputs[0]) or [1, 1]
    return result * dims[0 if attributes(node).get("transA") else -1]


def _recurrent(node: Node, result: int, sizes: list[int]) -> int:
    weights = [_dims(value) or [1] for value in node.inputs[1:3]]
    return result * _GATES[node.op_type] * sum(dims[-1] for dims in weights)


def _einsum(node: Node, result: int, sizes: list[int]) -> int:
    text = str(attributes(node).get("equation", "")).replace(" ", "")
    operands, _, kept = text.partition("->")
    extents: dict[str, int] = {}
    for letters, value in zip(operands.split(","), node.inputs, strict=False):
        extents.update(zip(letters, _dims(value), strict=False))
    return result * math.prod(size for letter, size in extents.items() if letter not in kept)


def _pool(node: Node, result: int, sizes: list[int]) -> int:
    return result


_PRODUCTS: Mapping[str, Callable[[Node, int, list[int]], int]] = MappingProxyType(
    {
        "Conv": _conv,
        "ConvTranspose": _conv_transpose,
        "MatMul": _matmul,
        "Gemm": _gemm,
        "Einsum": _einsum,
        **dict.fromkeys(_GATES, _recurrent),
        **dict.fromkeys(("AveragePool", "GlobalAveragePool", "ReduceMean", "LpPool"), _pool),
    }
)


def _resize(node: Node, result: int) -> int:
    """Each result is a sum of 2 neighbours along each axis that is resized (4 for cubic), or a copy."""
    attrs: dict[str, Any] = attributes(node)
    mode = attrs.get("mode", "nearest")
    taps = {"linear": 2, "cubic": 4}.get(mode if isinstance(mode, str) else mode.decode(), 0)
    before, after = _dims(node.inputs[0]), _dims(node.outputs[0])
    resized = sum(a != b for a, b in zip(before, after, strict=False))
    return result * taps**resized if taps else 0
