"""The golden sample of a bundle."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from snnc import strict
from snnc.emit.compiled import Compiled
from snnc.errors import InputError, MismatchError, Where
from snnc.files import open_regular

__all__ = ["compare", "golden", "read_safetensors"]

Array = npt.NDArray[Any]
_TYPES = {"I8": "<i1", "U8": "<u1", "I16": "<i2", "U16": "<u2", "I32": "<i4", "I64": "<i8"}
_TYPES |= {"F32": "<f4", "F64": "<f8", "BOOL": "?"}


def read_safetensors(path: Path) -> dict[str, Array]:
    """Read a safetensors file.

    Raises:
        InputError: SNN369, it is none.
    """
    with open_regular(path) as stream:
        data = stream.read()
    try:
        (size,) = struct.unpack_from("<Q", data)
        header = strict.loads(data[8 : 8 + size])
        found = {}
        for name, item in header.items():
            begin, end = item["data_offsets"]
            content = np.frombuffer(data[8 + size + begin : 8 + size + end], _TYPES[item["dtype"]])
            found[name] = content.reshape(item["shape"])
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, struct.error) as error:
        raise InputError("SNN369", f"is no safetensors file: {error}", where=Where(file=str(path))) from error
    return found


def golden(bundle: str, compiled: Compiled) -> tuple[dict[str, Array], dict[str, Array]]:
    """Return inputs of the golden sample, and outputs of the network and of the machine."""
    folder = Path(bundle) / "golden"
    given, wanted = read_safetensors(folder / "in.safetensors"), read_safetensors(folder / "out.safetensors")
    inputs = {name: array for name, array in given.items() if not name.startswith("port/")}
    return inputs, {name.removeprefix("port/"): array for name, array in wanted.items()}


def compare(found: Mapping[str, Array], wanted: Mapping[str, Array]) -> MismatchError | None:
    """Return what differs from the golden outputs, or None."""
    for name, array in wanted.items():
        if name not in found or found[name].tobytes() != array.tobytes():
            return MismatchError("SNN540", "is not the golden output", where=Where(tensor=name))
    return None
