"""Large weights apart from the graph: a small message, and arrays that are neither copied nor parsed twice.

Protobuf holds at most 2 GiB and copies every weight on the way in and out. So a model is split: the message
names its large initializers as external, and their arrays travel beside it (to a file, to onnxruntime).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir

from snnc.errors import InputError, Where

__all__ = [
    "IN_MEMORY",
    "Array",
    "data_chunks",
    "message_chunks",
    "numpy_type",
    "skeleton",
    "split",
    "take_weights",
    "varint",
]

Array = npt.NDArray[Any]

#: Initializers of fewer bytes stay in the message: shape inference reads the contents of small ones.
_LARGE = 8192
#: Location of weights that are handed over in memory; no such file is ever opened.
IN_MEMORY = "snnc-weights-in-memory"
_PAGE = 4096
_RAW_DATA_TAG = b"\x4a"  # TensorProto.raw_data = 9
_INITIALIZER_TAG = b"\x2a"  # GraphProto.initializer = 5
_GRAPH_TAG = b"\x3a"  # ModelProto.graph = 7


def numpy_type(data_type: int) -> np.dtype[Any] | None:
    """Return the little-endian numpy type of an ONNX element type; None where numpy has none of its own."""
    try:
        dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(data_type))
    except KeyError:
        return None
    whole = dtype.kind in "biufc" and dtype.isbuiltin == 1
    return dtype.newbyteorder("<") if whole else None


def split(model: ir.Model) -> tuple[onnx.ModelProto, dict[str, Array]]:
    """Split a model into a message without large weights, and those weights.

    Args:
        model: Not changed; its weights are not copied.

    Returns:
        The message, in which each large initializer of the main graph is external data at `IN_MEMORY`, and
        these initializers by name, in the order of the graph, C-contiguous and little-endian.
    """
    copy = model.clone()
    weights: dict[str, Array] = {}
    for name, value in copy.graph.initializers.items():
        tensor = value.const_value
        if tensor is None or tensor.nbytes < _LARGE or numpy_type(int(tensor.dtype)) is None:
            continue
        array = np.ascontiguousarray(tensor.numpy())
        weights[name] = array.astype(array.dtype.newbyteorder("<"), copy=False)
        value.const_value = ir.ExternalTensor(
            IN_MEMORY, 0, array.nbytes, tensor.dtype, shape=ir.Shape(array.shape), name=name
        )
    return ir.to_proto(copy), weights


def message_chunks(model: ir.Model) -> Iterator[bytes | memoryview]:
    """Serialise a model deterministically, piece by piece, so that no second copy of its weights is made.

    Yields:
        Pieces of a ModelProto. Small weights come before large ones, both by name: the order in the file that
        a model came from does not count.
    """
    proto, weights = split(model)
    weights = dict(sorted(weights.items()))
    external = {init.name: init for init in proto.graph.initializer if init.name in weights}
    small = sorted(
        (init for init in proto.graph.initializer if init.name not in weights), key=lambda init: init.name
    )
    headers = {name: _header(external[name]) for name in weights}
    del proto.graph.initializer[:]
    proto.graph.initializer.extend(small)
    graph = bytes(proto.graph.SerializeToString(deterministic=True))
    proto.ClearField("graph")
    framed = {
        name: b"".join((headers[name], _RAW_DATA_TAG, varint(array.nbytes)))
        for name, array in weights.items()
    }
    lengths = {name: len(framed[name]) + array.nbytes for name, array in weights.items()}
    size = len(graph) + sum(1 + len(varint(length)) + length for length in lengths.values())
    yield bytes(proto.SerializeToString(deterministic=True))
    yield b"".join((_GRAPH_TAG, varint(size), graph))
    for name, array in weights.items():
        yield b"".join((_INITIALIZER_TAG, varint(lengths[name]), framed[name]))
        yield array.reshape(-1).view(np.uint8).data


def data_chunks(
    proto: onnx.ModelProto, weights: Mapping[str, Array], location: str
) -> Iterator[bytes | memoryview]:
    """Lay weights out in a data file, each at the start of a page, and enter their places into the message.

    Args:
        proto: The message that `split` gave; changed while the pieces are taken.
        weights: The weights that it gave.
        location: Name of the data file beside the model.

    Yields:
        Pieces of the data file.
    """
    position = 0
    external = {init.name: init for init in proto.graph.initializer if init.name in weights}
    for name, array in weights.items():
        gap = -position % _PAGE
        yield bytes(gap)
        position += gap
        init = external[name]
        del init.external_data[:]
        for key, value in (("location", location), ("offset", position), ("length", array.nbytes)):
            init.external_data.add(key=key, value=str(value))
        yield array.reshape(-1).view(np.uint8).data
        position += array.nbytes


def _header(init: onnx.TensorProto) -> bytes:
    init.ClearField("external_data")
    init.ClearField("data_location")
    return bytes(init.SerializeToString(deterministic=True))


def varint(number: int) -> bytes:
    """Return a number as protobuf writes it: seven bits a byte, the lowest first."""
    parts = bytearray()
    while number > 0x7F:
        parts.append(number & 0x7F | 0x80)
        number >>= 7
    parts.append(number)
    return bytes(parts)


def take_weights(
    proto: onnx.ModelProto, external: Mapping[int, Array], name: str
) -> tuple[onnx.ModelProto, dict[str, Array]]:
    """Take the large weights out of a parsed message, whose memory can then be freed.

    Args:
        proto: The message.
        external: Contents of external initializers of the main graph, by their position.
        name: Name of the file, for messages.

    Returns:
        A small message in which the large initializers have types and shapes but no contents, and these by
        name.

    Raises:
        InputError: SNN303, the content of a weight does not have the size that its shape tells.
    """
    graph = proto.graph
    weights: dict[str, Array] = {}
    kept: list[onnx.TensorProto] = []
    for position, init in enumerate(graph.initializer):
        array = external.get(position)
        if array is None and math.prod(init.dims) * 8 >= _LARGE:
            array = _content(init, name)
        if array is None:
            kept.append(init)
        elif init.name in weights:
            raise InputError("SNN303", "two weights have this name", where=Where(file=name, tensor=init.name))
        else:
            weights[init.name] = array
            kept.append(onnx.TensorProto(name=init.name, dims=init.dims, data_type=init.data_type))
    if not weights:
        return proto, weights
    small = onnx.ModelProto()
    for field, value in proto.ListFields():
        if field.name != "graph":
            _set(small, field.name, value)
    for field, value in graph.ListFields():
        if field.name != "initializer":
            _set(small.graph, field.name, value)
    small.graph.initializer.extend(kept)
    return small, weights


def _set(message: Any, field: str, value: Any) -> None:
    # A model and a graph have no field but the graph itself that holds a single message.
    if isinstance(value, str | int | float | bytes):
        setattr(message, field, value)
    else:
        getattr(message, field).extend(value)


def _content(init: onnx.TensorProto, name: str) -> Array | None:
    """Return the content of an initializer as an array of its own; None for types that numpy lacks."""
    dtype = numpy_type(init.data_type)
    if dtype is None or init.data_location == onnx.TensorProto.EXTERNAL or init.HasField("segment"):
        return None
    wanted = math.prod(init.dims)
    if init.HasField("raw_data"):
        content = init.raw_data
        if len(content) != wanted * dtype.itemsize:
            raise InputError(
                "SNN303",
                f"holds {len(content)} bytes, its shape {list(init.dims)} tells {wanted * dtype.itemsize}",
                where=Where(file=name, tensor=init.name),
            )
        return np.frombuffer(content, dtype=dtype).reshape(tuple(init.dims))
    try:
        return np.asarray(onnx.numpy_helper.to_array(init))
    except (ValueError, TypeError):
        raise InputError(
            "SNN303", f"its content does not fit its shape {list(init.dims)}", where=Where(file=name)
        ) from None


def skeleton(proto: onnx.ModelProto, weights: Iterable[str]) -> onnx.ModelProto:
    """Return a copy of a message whose empty initializers are inputs, so that onnx's checker accepts it."""
    empty = set(weights)
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    inputs = {value.name for value in copy.graph.input}
    kept = [init for init in proto.graph.initializer if init.name not in empty]
    for init in proto.graph.initializer:
        if init.name in empty and init.name not in inputs:
            copy.graph.input.append(
                onnx.helper.make_tensor_value_info(init.name, init.data_type, list(init.dims))
            )
    del copy.graph.initializer[:]
    copy.graph.initializer.extend(kept)
    return copy
