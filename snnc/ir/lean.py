"""Model files without their large weights: what a library parses is small, and a weight is copied once.

Protobuf copies every weight out of the file, and once more whenever Python asks for its bytes. So a weight of
the plain kind, which nearly all are, is taken out of the message before that is parsed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from google.protobuf.message import DecodeError

from snnc.cores import over_cores
from snnc.ir.weights import Array, numpy_type, varint
from snnc.spool import spooled

__all__ = ["take_out"]

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_WIDTHS = {_FIXED64: 8, _FIXED32: 4}
_GRAPH = 7  # of a ModelProto
_INITIALIZER = 5  # of a GraphProto
_DIMS, _TYPE, _NAME, _RAW_DATA, _DOC_STRING = 1, 2, 8, 9, 12  # of a TensorProto
#: What a plain tensor consists of; one that has anything else stays in the message, for others to judge.
_PLAIN = frozenset({_DIMS, _TYPE, _NAME, _RAW_DATA, _DOC_STRING})
#: TensorProto.data_location = EXTERNAL: the content is elsewhere.
_ELSEWHERE = b"\x70\x01"
#: Weights of fewer bytes stay in the message.
_LARGE = 1 << 16


@dataclass(frozen=True)
class _Field:
    """One field of a message.

    Attributes:
        number: Its number.
        kind: Its wire type.
        begin: Where its tag stands.
        content: Where its content begins.
        end: Where it ends.
    """

    number: int
    kind: int
    begin: int
    content: int
    end: int


def take_out(data: memoryview) -> tuple[bytes | memoryview, dict[int, Array]]:
    """Take the large weights of the main graph out of a model.

    Args:
        data: A ModelProto whose frames were followed, see `check_frames`.

    Returns:
        The message, in which the initializers concerned have type, shape and name, and say that their content
        is external; and these contents by position of the initializer, copied into memory of their own.
    """
    graphs = [field for field in _fields(data, 0, len(data)) if field.number == _GRAPH]
    if len(graphs) != 1 or graphs[0].kind != _BYTES:
        return data, {}  # parts of a message that comes in several are merged, which a parser knows how to do
    graph = graphs[0]
    pieces: list[bytes | memoryview] = []
    found: dict[int, tuple[memoryview, onnx.TensorProto]] = {}
    done, position = graph.content, 0
    for field in _fields(data, graph.content, graph.end):
        if field.number != _INITIALIZER:
            continue
        plain = _plain(data, field) if field.end - field.content >= _LARGE else None
        if plain is not None:
            header, raw = plain
            pieces += [data[done : field.begin], _framed(_INITIALIZER, header)]
            found[position] = raw, onnx.TensorProto.FromString(header)
            done = field.end
        position += 1
    if not found:
        return data, {}
    inside = b"".join((*pieces, data[done : graph.end]))
    message = b"".join((data[: graph.begin], _framed(_GRAPH, inside), data[graph.end :]))
    return message, _copied(found)


def _copied(found: Mapping[int, tuple[memoryview, onnx.TensorProto]]) -> dict[int, Array]:
    """Copy contents, each to an aligned place; large ones into files, see `spooled`."""

    def copy(position: int) -> Array:
        raw, header = found[position]
        content = np.frombuffer(raw, np.uint8)
        held = spooled(content)
        held = held.copy() if held is content else held
        array: Array = held.view(numpy_type(header.data_type) or np.uint8).reshape(tuple(header.dims))
        array.flags.writeable = False
        return array

    return dict(zip(found, over_cores(copy, list(found)), strict=True))


def _plain(data: memoryview, field: _Field) -> tuple[bytes, memoryview] | None:
    """Return a tensor without its content, and that content, if nothing about the tensor is unusual."""
    fields = list(_fields(data, field.content, field.end))
    contents = [entry for entry in fields if entry.number == _RAW_DATA]
    if not {entry.number for entry in fields} <= _PLAIN or len(contents) != 1 or contents[0].kind != _BYTES:
        return None
    (held,) = contents
    header = b"".join((data[field.content : held.begin], data[held.end : field.end], _ELSEWHERE))
    try:
        tensor = onnx.TensorProto.FromString(header)
    except DecodeError:
        return None
    dtype = numpy_type(tensor.data_type)
    if dtype is None or any(size < 1 for size in tensor.dims):
        return None
    raw = data[held.content : held.end]
    return (header, raw) if math.prod(tensor.dims) * dtype.itemsize == len(raw) else None


def _fields(data: memoryview, place: int, end: int) -> Iterator[_Field]:
    """Yield the fields of a message whose frames are known to be sound."""
    while place < end:
        begin = place
        tag, place = _number(data, place)
        kind = tag & 7
        if kind == _BYTES:
            length, place = _number(data, place)
            yield _Field(tag >> 3, kind, begin, place, place + length)
            place += length
        else:
            content = place
            place = _number(data, place)[1] if kind == _VARINT else place + _WIDTHS[kind]
            yield _Field(tag >> 3, kind, begin, content, place)


def _number(data: memoryview, place: int) -> tuple[int, int]:
    """Return the number at a place and where it ends."""
    number = shift = 0
    while True:
        byte = data[place]
        place += 1
        number |= (byte & 127) << shift
        if byte < 128:
            return number, place
        shift += 7


def _framed(number: int, content: bytes) -> bytes:
    return b"".join((varint(number << 3 | _BYTES), varint(len(content)), content))
