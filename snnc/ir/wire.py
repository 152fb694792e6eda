"""The bytes of a model file, walked once before any library parses them: iterative, linear, bounded.

Protobuf makes of two bytes an object of a hundred, and its messages may be nested. So the frames of a file
are followed first, without a copy: every length lies within the file, nothing is nested beyond reason, and
what parsing is going to take is added up. Contents of tensors are stepped over.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import onnx

from snnc.errors import InputError, Where

__all__ = ["LARGEST_FILE", "check_frames"]

#: One protobuf message holds less than 2 GiB.
LARGEST_FILE = 2**31 - 1
_MOST_DEPTH = 64
_MOST_MESSAGES = 1_500_000
_MOST_BYTES = 6 << 30
#: Bytes that a parsed message, text or number takes beside its content, roughly.
_MESSAGE, _TEXT, _NUMBER = 160, 24, 8

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


@dataclass(frozen=True)
class _Schema:
    """What the fields of a message are, by the tag in front of them."""

    name: str
    messages: Mapping[int, str]
    texts: frozenset[int]
    packed: frozenset[int]
    known: frozenset[int]


@cache
def _schemas() -> dict[str, _Schema]:
    found: dict[str, _Schema] = {}
    waiting: list[Any] = [onnx.ModelProto.DESCRIPTOR]
    while waiting:
        kind = waiting.pop()
        if kind.full_name in found:
            continue
        inner = {f.number << 3 | _BYTES: f.message_type for f in kind.fields if f.message_type is not None}
        waiting.extend(inner.values())
        found[kind.full_name] = _Schema(
            kind.name,
            {tag: each.full_name for tag, each in inner.items()},
            frozenset(f.number << 3 | _BYTES for f in kind.fields if f.type == f.TYPE_STRING),
            frozenset(
                f.number << 3 | _BYTES
                for f in kind.fields
                if f.type in (f.TYPE_INT32, f.TYPE_INT64, f.TYPE_UINT64)
            ),
            frozenset(f.number for f in kind.fields),
        )
    return found


def check_frames(data: memoryview, file: str) -> None:
    """Follow the frames of a model file.

    Args:
        data: The whole file; nothing of it is copied.
        file: Name for messages.

    Raises:
        InputError: SNN302, the file is cut short, holds something behind the model, or is none; SNN324, it is
            nested too deeply, has too many parts, or would take too much memory.
    """
    schemas = _schemas()
    top = onnx.ModelProto.DESCRIPTOR.full_name
    stack = [(top, 0, len(data), 1)]
    messages, weight = 0, len(data)
    while stack:
        name, place, end, depth = stack.pop()
        schema = schemas[name]
        inner, texts, packed = schema.messages, schema.texts, schema.packed
        while place < end:
            tag = data[place]
            place += 1
            if tag > 127:
                tag, place = _number(data, place - 1, end, file)
            kind = tag & 7
            if kind == _BYTES:
                if place >= end:
                    raise _cut(file, place)
                length = data[place]
                place += 1
                if length > 127:
                    length, place = _number(data, place - 1, end, file)
                begin, place = place, place + length
                if place > end:
                    raise _cut(file, begin)
                if tag in inner:
                    messages += 1
                    if messages > _MOST_MESSAGES:
                        raise _too_many(file)
                    stack.append((inner[tag], begin, place, depth + 1))
                elif tag in texts:
                    weight += _TEXT
                    _check_text(data[begin:place], schema, tag, file)
                elif tag in packed:
                    weight += _NUMBER * length
            elif kind == _VARINT:
                weight += _NUMBER
                _, place = _number(data, place, end, file)
            elif kind in (_FIXED32, _FIXED64):
                place += 4 if kind == _FIXED32 else 8
                if place > end:
                    raise _cut(file, place)
            else:
                raise _no_model(file, place)
            if tag < 8:
                raise _no_model(file, place)
            if depth == 1 and tag >> 3 not in schema.known:
                raise InputError(
                    "SNN302",
                    f"holds a field {tag >> 3} that ONNX models do not have",
                    where=Where(file=file),
                    hint="there is something behind the model, or it is of another format: download it again",
                )
        _check_budgets(depth, weight + messages * _MESSAGE, file)


def _too_many(file: str) -> InputError:
    return InputError(
        "SNN324",
        f"has more than {_MOST_MESSAGES:,} parts (nodes, attributes, tensors, types)",
        where=Where(file=file),
        hint="export the model without unrolling it",
    )


def _check_budgets(depth: int, taken: int, file: str) -> None:
    where = Where(file=file)
    if depth > _MOST_DEPTH:
        raise InputError(
            "SNN324",
            f"is nested too deep: {depth} levels or more, {_MOST_DEPTH} are read",
            where=where,
            hint="export it again without branches within branches",
        )
    if taken > _MOST_BYTES:
        raise InputError(
            "SNN324",
            f"would take more than {_MOST_BYTES >> 30} GiB of memory to read",
            where=where,
            hint="keep its weights in external data",
        )


def _check_text(text: memoryview, schema: _Schema, tag: int, file: str) -> None:
    try:
        str(text, "utf-8")
    except UnicodeDecodeError:
        raise InputError(
            "SNN302",
            f"holds a text (field {tag >> 3} of a {schema.name}) that is not UTF-8",
            where=Where(file=file),
            hint="the file is damaged: export or download it again",
        ) from None


def _number(data: memoryview, place: int, end: int, file: str) -> tuple[int, int]:
    """Return the number at a place and where it ends."""
    number = shift = 0
    while place < end and shift < 70:
        byte = data[place]
        place += 1
        number |= (byte & 127) << shift
        if byte < 128:
            return number, place
        shift += 7
    raise _cut(file, place) if place >= end else _no_model(file, place)


def _cut(file: str, place: int) -> InputError:
    return InputError(
        "SNN302",
        f"is not an ONNX model, or is cut short: what begins at byte {place:,} ends behind the file",
        where=Where(file=file),
        hint="export or download it again",
    )


def _no_model(file: str, place: int) -> InputError:
    return InputError(
        "SNN302",
        f"is not an ONNX model, or is damaged: byte {place:,} begins no field",
        where=Where(file=file),
        hint="export or download it again",
    )
