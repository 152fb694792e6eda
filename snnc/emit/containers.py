"""Containers that other tools read: ELF, $readmemh, safetensors."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["elf", "readmemh", "safetensors"]

_SAFE = {
    "int8": "I8",
    "uint8": "U8",
    "int16": "I16",
    "uint16": "U16",
    "int32": "I32",
    "int64": "I64",
    "float32": "F32",
    "float64": "F64",
    "bool": "BOOL",
}


def safetensors(tensors: Mapping[str, npt.NDArray[Any]]) -> bytes:
    """Return a safetensors file; tensors in order of name."""
    header: dict[str, Any] = {}
    data = bytearray()
    for name in sorted(tensors):
        array = np.ascontiguousarray(tensors[name])
        content = array.astype(array.dtype.newbyteorder("<")).tobytes()
        header[name] = {
            "dtype": _SAFE[array.dtype.name],
            "shape": list(tensors[name].shape),
            "data_offsets": [len(data), len(data) + len(content)],
        }
        data += content
    text = json.dumps(header, separators=(",", ":"), sort_keys=True).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + bytes(data)


def readmemh(content: bytes, width: int) -> bytes:
    """Return a memory image for ``$readmemh``: one word of ``width`` bytes a line, its last byte first."""
    padded = content + bytes(-len(content) % width)
    words = np.frombuffer(padded, np.uint8).reshape(-1, width)[:, ::-1]
    text = np.ascontiguousarray(words).tobytes().hex()
    step = 2 * width
    return "".join(text[at : at + step] + "\n" for at in range(0, len(text), step)).encode()


_NOTE = 7


def elf(sections: Sequence[tuple[str, bytes, int, int]]) -> bytes:
    """Return an ELF64 file with sections and no segments.

    Args:
        sections: Name, content, ELF section type (1 is PROGBITS, 7 is NOTE) and flags of each (2 for what a
            memory holds, 4 for instructions): objcopy extracts what a memory holds, and nothing else.
    """
    names = b"\0"
    places = []
    for name, *_ in [*sections, (".shstrtab", b"", 3, 0)]:
        places.append(len(names))
        names += name.encode() + b"\0"
    body = bytearray()
    rows = [bytes(64)]
    for (_, content, kind, flags), label in zip([*sections, ("", names, 3, 0)], places, strict=True):
        body += bytes(-(64 + len(body)) % 16)
        # Readers take the alignment of a section of notes for that of its entries.
        align = 4 if kind == _NOTE else 16
        rows.append(
            struct.pack("<IIQQQQIIQQ", label, kind, flags, 0, 64 + len(body), len(content), 0, 0, align, 0)
        )
        body += content
    body += bytes(-(64 + len(body)) % 8)
    head = b"\x7fELF" + bytes([2, 1, 1, 0]) + bytes(8)
    head += struct.pack(
        "<HHIQQQIHHHHHH", 1, 0, 1, 0, 0, 64 + len(body), 0, 64, 0, 0, 64, len(rows), len(rows) - 1
    )
    return head + bytes(body) + b"".join(rows)


def note(name: str, kind: int, content: bytes) -> bytes:
    """Return an entry of a note section."""
    label = name.encode() + b"\0"
    padded = label + bytes(-len(label) % 4)
    return struct.pack("<III", len(label), len(content), kind) + padded + content + bytes(-len(content) % 4)
