"""What the tensors of a model file must hold: sizes, payloads and numbers, checked without allocating."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto

from snnc.errors import InputError, Where

__all__ = [
    "check_constant",
    "check_finite",
    "check_sparse",
    "check_tensor",
    "element_name",
    "holds_text",
    "make_dense",
]

_MOST_ELEMENTS = 2**40
#: Elements of a sparse tensor, written out.
_MOST_DENSE, _MOST_DENSE_TOGETHER = 2**26, 2**28
#: Attributes of Constant, of which one gives its value.
_VALUES = frozenset(
    {"value", "sparse_value"}
    | {f"value_{kind}{many}" for kind in ("float", "int", "string") for many in ("", "s")}
)
#: numpy has no more.
_MOST_AXES = 32
#: Numbers looked at in one go.
_CHUNK = 1 << 20
#: The field for the numbers of each type, and how many an element takes; raw bytes are always allowed.
_PAYLOADS: dict[str, dict[int, int]] = {
    "float_data": {TensorProto.FLOAT: 1, TensorProto.COMPLEX64: 2},
    "double_data": {TensorProto.DOUBLE: 1, TensorProto.COMPLEX128: 2},
    "int64_data": {TensorProto.INT64: 1},
    "uint64_data": {TensorProto.UINT32: 1, TensorProto.UINT64: 1},
    "string_data": {TensorProto.STRING: 1},
    "int32_data": {},
}
_HALF: dict[int, tuple[int, int]] = {
    TensorProto.FLOAT16: (0x7C00, 0x03FF),
    TensorProto.BFLOAT16: (0x7F80, 0x007F),
}
_WIDE: dict[int, str] = {TensorProto.FLOAT: "<f4", TensorProto.DOUBLE: "<f8"}


def element_name(data_type: int) -> str:
    """Return the name of an ONNX element type in small letters."""
    return str(TensorProto.DataType.Name(data_type)).lower()


def check_tensor(tensor: onnx.TensorProto, file: str, weights: Collection[str] = ()) -> None:
    """Check one tensor of a file; data kept elsewhere is checked where it is read.

    Args:
        tensor: Any tensor of a model.
        file: Name for messages.
        weights: Names of tensors that must be finite; others may hold minus infinity, as masks do.

    Raises:
        InputError: SNN303, type, shape and payload contradict each other; SNN323, numbers are not finite.
    """
    where = Where(file=file, tensor=tensor.name or None)
    try:
        dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type))
    except (KeyError, TypeError, ValueError):
        raise _refused(f"has the element type {tensor.data_type}, which does not exist", where) from None
    if element_name(tensor.data_type).startswith("float6"):
        raise _refused(f"is of {element_name(tensor.data_type)}, which is not read", where)
    _check_shape(list(tensor.dims), where)
    elements = prod(tensor.dims)
    if not elements and tensor.name in weights:
        raise _refused(f"is a weight without elements: {list(tensor.dims)}", where)
    if tensor.data_location == TensorProto.EXTERNAL:
        return
    payloads = [name for name in _PAYLOADS if len(getattr(tensor, name))]
    if tensor.HasField("raw_data"):
        payloads.append("raw_data")
    if len(payloads) > 1:
        raise _refused(f"holds its values twice: {' and '.join(payloads)}", where)
    if not payloads:
        if elements:
            raise _refused(f"has no data for its {elements:,} elements", where)
        return
    bits = _bits(tensor.data_type, dtype)
    if payloads == ["raw_data"]:
        expected, found, unit = (elements * bits + 7) // 8, len(tensor.raw_data), "bytes of data"
        if tensor.data_type == TensorProto.STRING:
            raise _refused("keeps text as raw bytes", where)
    else:
        found, unit = len(getattr(tensor, payloads[0])), f"numbers in {payloads[0]}"
        expected = _numbers(tensor.data_type, payloads[0], elements, bits, where)
    if found != expected:
        raise _refused(f"has {found} {unit}, its shape {list(tensor.dims)} needs {expected}", where)
    check_finite(_floats(tensor), list(tensor.dims), where, infinite=tensor.name not in weights)


def _numbers(data_type: int, payload: str, elements: int, bits: int, where: Where) -> int:
    known = _PAYLOADS[payload]
    others = {kind for name, kinds in _PAYLOADS.items() if name != "int32_data" for kind in kinds}
    if data_type in known:
        return elements * known[data_type]
    if payload != "int32_data" or data_type in others:
        raise _refused(f"is of {element_name(data_type)} and keeps its values in {payload}", where)
    return (elements * bits + 7) // 8 if bits < 8 else elements


def check_sparse(sparse: onnx.SparseTensorProto, file: str) -> None:
    """Check shape and indices of a sparse tensor; its parts are checked as tensors.

    Raises:
        InputError: SNN303, an index lies outside, or the whole has more elements than exist.
    """
    where = Where(file=file, tensor=sparse.values.name or None)
    dims = list(sparse.dims)
    _check_shape(dims, where)
    for part in (sparse.values, sparse.indices):
        if part.data_location == TensorProto.EXTERNAL:
            return
        check_tensor(part, file)
    if sparse.indices.data_type != TensorProto.INT64 or len(sparse.indices.dims) not in (1, 2):
        raise _refused("is sparse and has no indices", where)
    found = onnx.numpy_helper.to_array(sparse.indices)
    count = sparse.values.dims[0] if sparse.values.dims else 0
    if found.shape not in ((count,), (count, len(dims))):
        raise _refused(f"is sparse and has indices of shape {list(found.shape)} for {count} values", where)
    limit = np.array([prod(dims)] if found.ndim == 1 else dims)
    if found.size and (found.min() < 0 or bool(np.any(found.reshape(count, -1) >= limit))):
        raise _refused(f"is sparse and has an index outside of its shape {dims}", where)


def check_constant(node: onnx.NodeProto, where: Where) -> None:
    """Refuse a Constant that has no value, or several.

    Raises:
        InputError: SNN303.
    """
    if not _is_constant(node):
        return
    values = sorted(attribute.name for attribute in node.attribute if attribute.name in _VALUES)
    if len(values) != 1:
        found = f"holds several values: {', '.join(values)}" if values else "holds no value"
        raise _refused(f"is a Constant and {found}", where)


def holds_text(node: onnx.NodeProto) -> bool:
    """Whether a Constant holds text; an initializer may, which a Cast perhaps turns into numbers."""
    return _is_constant(node) and any(
        attribute.name in ("value_string", "value_strings")
        or (attribute.HasField("t") and attribute.t.data_type == TensorProto.STRING)
        for attribute in node.attribute
    )


def _is_constant(node: onnx.NodeProto) -> bool:
    return node.op_type == "Constant" and node.domain in ("", "ai.onnx")


def make_dense(proto: onnx.ModelProto, file: str, nodes: Iterable[onnx.NodeProto] = ()) -> None:
    """Turn sparse initializers of the main graph and sparse Constants into dense ones, in place.

    Args:
        proto: A model whose sparse tensors were checked and whose external data was read.
        file: Name for messages.
        nodes: Nodes whose Constants are looked at.

    Raises:
        InputError: SNN303, an index lies outside, or dense tensors would be too large.
    """
    held = [
        attribute
        for node in nodes
        if _is_constant(node)
        for attribute in node.attribute
        if attribute.name == "sparse_value" and attribute.HasField("sparse_tensor")
    ]
    together = 0
    for sparse in (*proto.graph.sparse_initializer, *(attribute.sparse_tensor for attribute in held)):
        check_sparse(sparse, file)
        elements = prod(sparse.dims)
        together += elements
        if elements > _MOST_DENSE or together > _MOST_DENSE_TOGETHER:
            what = f"is sparse and would have {elements:,} elements: {list(sparse.dims)}"
            more = "" if elements > _MOST_DENSE else f"; with those before it {together:,}"
            raise _refused(what + more, Where(file=file, tensor=sparse.values.name or None))
    proto.graph.initializer.extend(_dense(sparse) for sparse in proto.graph.sparse_initializer)
    del proto.graph.sparse_initializer[:]
    for attribute in held:
        dense = _dense(attribute.sparse_tensor)
        attribute.CopyFrom(onnx.helper.make_attribute("value", dense))


def _dense(sparse: onnx.SparseTensorProto) -> onnx.TensorProto:
    values, indices = (onnx.numpy_helper.to_array(part) for part in (sparse.values, sparse.indices))
    dims = tuple(sparse.dims)
    dense = np.zeros(dims, values.dtype)
    if indices.ndim == 1:
        dense.reshape(-1)[indices] = values
    else:
        dense[tuple(indices.T)] = values
    return onnx.numpy_helper.from_array(dense, sparse.values.name)


def check_finite(values: npt.NDArray[Any] | None, dims: list[int], where: Where, *, infinite: bool) -> None:
    """Refuse NaN, and infinite values unless they are allowed.

    Args:
        values: Floats, flat or not, or the bits of 16-bit floats with their masks applied; None: no floats.
        dims: Shape, for the message.
        where: Place, for the message.
        infinite: Whether infinite values may be there.

    Raises:
        InputError: SNN323, with their number and the place of the first.
    """
    if values is None:
        return
    flat = values.reshape(-1)
    count, first = 0, -1
    for start in range(0, flat.size, _CHUNK):
        part = flat[start : start + _CHUNK]
        wrong = np.isnan(part) if infinite else ~np.isfinite(part)
        found = int(np.count_nonzero(wrong))
        if found and first < 0:
            first = start + int(np.argmax(wrong))
        count += found
    if count:
        place = [int(axis) for axis in np.unravel_index(first, dims)] if dims else []
        what = "1 value that is" if count == 1 else f"{count} values that are"
        raise InputError("SNN323", f"has {what} not finite, the first at {place}", where=where)


def _floats(tensor: onnx.TensorProto) -> npt.NDArray[Any] | None:
    """Return the numbers of a tensor of floats, widened where numpy has no such type."""
    if tensor.data_type in _WIDE:
        if tensor.HasField("raw_data"):
            return np.frombuffer(tensor.raw_data, _WIDE[tensor.data_type])
        kept = tensor.float_data if tensor.data_type == TensorProto.FLOAT else tensor.double_data
        return np.asarray(kept, np.float64)
    if tensor.data_type not in _HALF:
        return None
    raw = tensor.HasField("raw_data")
    bits = np.frombuffer(tensor.raw_data, "<u2") if raw else np.asarray(tensor.int32_data).astype(np.uint16)
    exponent, fraction = _HALF[tensor.data_type]
    special = (bits & exponent) == exponent
    return np.where(special, np.where(bits & fraction, np.nan, np.inf), 0).astype(np.float32)


def _check_shape(dims: list[int], where: Where) -> None:
    if any(dim < 0 for dim in dims):
        raise _refused(f"has a negative dimension: {dims}", where)
    if len(dims) > _MOST_AXES:
        raise _refused(f"has {len(dims)} dimensions", where)
    # A dimension of 0 must not hide the others.
    elements = prod(dim for dim in dims if dim)
    if elements > _MOST_ELEMENTS:
        raise _refused(f"claims {elements:,} elements: {dims}"[:300], where)


def _bits(data_type: int, dtype: np.dtype[Any]) -> int:
    name = TensorProto.DataType.Name(data_type)
    for bits in (2, 4):
        if name in (f"INT{bits}", f"UINT{bits}") or name.startswith(f"FLOAT{bits}"):
            return bits
    return 8 * dtype.itemsize


def _refused(message: str, where: Where) -> InputError:
    return InputError("SNN303", message, where=where, hint="export or download the model again")
