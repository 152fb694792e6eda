"""Evaluating single nodes on constants, with numpy."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
from onnx.reference import ReferenceEvaluator

__all__ = ["dequantise_linear", "evaluate", "integer_range", "quantise_linear"]

Array = npt.NDArray[Any]

#: Results that could be larger than this are not computed: a file's numbers are not trusted.
_MOST_ELEMENTS = 1 << 26
#: Ops whose results outgrow their inputs, of which `_result_size` tells the size exactly.
_GROWING = frozenset({"Concat", "ConstantOfShape", "Expand", "Range", "Tile"})
_RANGES = {
    ir.DataType.INT2: (-2, 1),
    ir.DataType.UINT2: (0, 3),
    ir.DataType.INT4: (-8, 7),
    ir.DataType.UINT4: (0, 15),
    ir.DataType.INT8: (-128, 127),
    ir.DataType.UINT8: (0, 255),
    ir.DataType.INT16: (-(2**15), 2**15 - 1),
    ir.DataType.UINT16: (0, 2**16 - 1),
    ir.DataType.INT32: (-(2**31), 2**31 - 1),
}


def integer_range(dtype: ir.DataType | None) -> tuple[int, int] | None:
    """Return the smallest and largest value of an integer type of up to 32 bits, None for other types."""
    return _RANGES.get(dtype) if dtype is not None else None


def _along(parameter: Array, rank: int, axis: int) -> Array:
    """Bring a scale or zero point into a shape that broadcasts against a tensor of that rank."""
    if parameter.ndim == 0 or parameter.size == 1:
        return parameter.reshape(())
    if parameter.ndim != 1:
        raise ValueError("blocked quantisation: the scale is neither per tensor nor per channel")
    shape = [1] * rank
    shape[axis] = parameter.size
    return parameter.reshape(shape)


def quantise_linear(x: Array, scale: Array, zero: Array, bounds: tuple[int, int], axis: int) -> Array:
    """Evaluate QuantizeLinear: ``saturate(round_half_even(x / scale) + zero)``, the division in float32.

    Args:
        x: float32 tensor.
        scale: float32, () or (channels,).
        zero: Integers, () or (channels,).
        bounds: Smallest and largest value of the integer type.
        axis: Channel axis of ``x``.

    Returns:
        int32, shape of ``x``; not yet in the narrow type.

    Raises:
        ValueError: The quantisation is blocked.
    """
    ratio = x.astype(np.float32) / _along(scale.astype(np.float32), x.ndim, axis)
    shifted = np.rint(ratio).astype(np.float64) + _along(zero.astype(np.float64), x.ndim, axis)
    return np.clip(shifted, *bounds).astype(np.int32)


def dequantise_linear(q: Array, scale: Array, zero: Array, axis: int) -> Array:
    """Evaluate DequantizeLinear: ``(q - zero) * scale``, rounded once to float32.

    Args:
        q: Integers of any width up to 32 bits.
        scale: float32, () or (channels,).
        zero: Integers, () or (channels,).
        axis: Channel axis of ``q``.

    Returns:
        float32, shape of ``q``.

    Raises:
        ValueError: The quantisation is blocked.
    """
    shifted = q.astype(np.int64) - _along(zero.astype(np.int64), q.ndim, axis)
    scales = _along(scale.astype(np.float32), q.ndim, axis)
    # As the runtimes do: the integer becomes float32 first (a rounding only above 2^24), then one product.
    return np.asarray(shifted.astype(np.float32) * scales, dtype=np.float32)


def _result_size(node: ir.Node, inputs: Sequence[Array | None]) -> float:
    """Bound the number of elements of a result from the inputs, for ops whose result can outgrow them."""
    given = [array for array in inputs if array is not None]
    sizes = [array.size for array in given]
    op = node.op_type
    if op == "Range" and sizes == [1, 1, 1]:
        start, limit, delta = (float(array.reshape(-1)[0]) for array in given)
        return abs((limit - start) / delta) if delta else np.inf
    if op == "ConstantOfShape" and given:
        return float(np.prod(given[0], dtype=np.float64))
    if op == "Expand" and len(given) == 2:
        rank = max(given[0].ndim, given[1].size)
        shapes = [np.ones(rank), np.ones(rank)]
        shapes[0][rank - given[0].ndim :] = given[0].shape
        shapes[1][rank - given[1].size :] = given[1].reshape(-1)
        return float(np.prod(np.maximum(*shapes)))
    if op == "Tile" and len(given) == 2:
        return sizes[0] * float(np.prod(np.maximum(given[1], 1), dtype=np.float64))
    if op == "Concat":
        return float(sum(sizes))
    if op == "Pad" and len(given) > 1 and given[1].dtype.kind == "i" and given[1].size == 2 * given[0].ndim:
        grown = np.abs(given[1].astype(np.float64)).reshape(2, -1).sum(axis=0) + given[0].shape
        return float(np.prod(grown))
    if op in ("Resize", "Upsample") and given:
        scales = [array for array in given[1:] if array.dtype.kind == "f" and array.size == given[0].ndim]
        wanted = [array for array in given[1:] if array.dtype.kind == "i"]
        growth = max((float(np.prod(scale, dtype=np.float64)) for scale in scales), default=1.0)
        return max(sizes[0] * growth, *(float(np.prod(w, dtype=np.float64)) for w in wanted), 0.0)
    if op == "OneHot" and len(given) > 1:
        return sizes[0] * float(np.abs(given[1].astype(np.float64)).max())
    if op in ("MatMul", "Gemm") and len(given) > 1:
        # Bounded by rows of one times columns of the other.
        return sizes[0] / max(1, given[0].shape[-1] if given[0].ndim else 1) * sizes[1]
    try:
        return float(np.prod(np.broadcast_shapes(*(array.shape for array in given)), dtype=np.float64))
    except ValueError:
        return float(max(sizes, default=0))


def _itemsize(node: ir.Node, inputs: Sequence[Array | None]) -> int:
    """Return the least number of bytes of an element of the result of a growing op."""
    if node.op_type == "ConstantOfShape" or not inputs or inputs[0] is None:
        return 1
    return int(inputs[0].dtype.itemsize)


def _gather_elements(node: ir.Node, inputs: Sequence[Array | None]) -> Array:
    """Evaluate GatherElements, which onnx's evaluator does for indices as large as the data alone."""
    data, indices = inputs
    if data is None or indices is None or data.ndim != indices.ndim:
        raise ValueError("GatherElements needs data and indices of one rank")
    axis = node.attributes["axis"].as_int() if "axis" in node.attributes else 0
    axis %= data.ndim
    part = tuple(slice(None) if place == axis else slice(size) for place, size in enumerate(indices.shape))
    try:
        return np.take_along_axis(data[part], indices.astype(np.int64), axis=axis)
    except (IndexError, ValueError) as error:
        raise ValueError(f"cannot be evaluated: {error}") from error


def evaluate(
    node: ir.Node,
    inputs: Sequence[Array | None],
    opsets: Mapping[str, int],
    *,
    most_bytes: float = math.inf,
) -> list[Array]:
    """Compute the outputs of one standard node from constant inputs, with onnx's reference evaluator.

    Args:
        node: A node without subgraphs.
        inputs: Its inputs, in order; None for an absent one.
        opsets: Opset versions of the model.
        most_bytes: Results that are known to take more are not computed.

    Returns:
        One array per output.

    Raises:
        ValueError: The evaluator cannot run this node, or its result would be huge.
    """
    elements = _result_size(node, inputs)
    if elements > _MOST_ELEMENTS:
        raise ValueError("its result is too large")
    if node.op_type in _GROWING and elements * _itemsize(node, inputs) > most_bytes:
        raise ValueError(f"the result takes more than {most_bytes:.0f} bytes")
    if node.op_type == "GatherElements":
        return [_gather_elements(node, inputs)]
    present = {
        value.name: array
        for value, array in zip(node.inputs, inputs, strict=True)
        if value is not None and value.name and array is not None
    }
    proto = ir.serde.serialize_node(node)
    infos = [
        onnx.helper.make_tensor_value_info(
            name, onnx.helper.np_dtype_to_tensor_dtype(array.dtype), array.shape
        )
        for name, array in present.items()
    ]
    outs = [onnx.helper.make_empty_tensor_value_info(value.name or "") for value in node.outputs]
    graph = onnx.helper.make_graph([proto], "node", infos, outs)
    imports = [onnx.helper.make_opsetid(domain, version) for domain, version in opsets.items()]
    model = onnx.helper.make_model(graph, opset_imports=imports, ir_version=10)
    try:
        with np.errstate(all="ignore"):
            results = ReferenceEvaluator(model).run(None, dict(present))
    except Exception as error:
        raise ValueError(f"cannot be evaluated: {type(error).__name__}") from error
    # The evaluator raises whatever numpy raises, and gives lists for sequences.
    if not isinstance(results, list) or any(isinstance(entry, list) for entry in results):
        raise ValueError("does not give tensors")
    return [np.asarray(entry) for entry in results]
