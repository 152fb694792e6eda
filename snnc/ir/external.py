"""Weights in files of their own, beside a model: opened once, checked, and mapped into memory.

A model file names these files, so nobody vouches for the names. One is read only if it is a regular file
inside the folder of the model, without another name elsewhere in the file system, and as long as the model
says. In the cache of the Hugging Face hub model and weights are symbolic links into one folder of blobs,
which counts as the folder of the model.
"""

from __future__ import annotations

import math
import mmap
import os
import stat
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from snnc.cores import over_cores
from snnc.errors import EnvironmentFailure, InputError, Where
from snnc.ir.contents import check_finite, check_tensor
from snnc.ir.weights import numpy_type

__all__ = ["DataFiles", "hard_links_allowed"]

Array = npt.NDArray[Any]
_KEYS = frozenset({"location", "offset", "length", "checksum"})
_HARD_LINKS: ContextVar[bool] = ContextVar("snnc-hard-links", default=False)


@contextmanager
def hard_links_allowed(*, allowed: bool = True) -> Iterator[None]:
    """Within this block, data files that have other names (hard links) are read."""
    token = _HARD_LINKS.set(allowed)
    try:
        yield
    finally:
        _HARD_LINKS.reset(token)


class DataFiles:
    """The data files of one model.

    Args:
        model: Path of the model file.
    """

    def __init__(self, model: Path) -> None:
        self._model = model
        self._name = os.fspath(model)
        self._maps: dict[str, memoryview] = {}
        self.paths: list[Path] = []

    def attach(
        self,
        proto: onnx.ModelProto,
        weights: Collection[str] = (),
        held: Mapping[int, Array] | None = None,
    ) -> dict[int, Array]:
        """Check and read everything that a message keeps elsewhere.

        Args:
            proto: The message; external tensors that are no initializers of its main graph get their content.
            weights: Names of tensors that must be finite; others may hold minus infinity, as masks do.
            held: Contents that were taken out of the message, by position of the initializer.

        Returns:
            Contents of the external initializers of the main graph by position, those in files mapped,
            read-only.

        Raises:
            InputError: SNN304 a file is missing; SNN307 it may not be read; SNN308 it is too short, or offset
                or length are wrong; SNN303, SNN323 its content is not what the model says, or not finite.
        """
        found: dict[int, Array] = {}
        known = held or {}
        for position, init in enumerate(proto.graph.initializer):
            if init.data_location == onnx.TensorProto.EXTERNAL and numpy_type(init.data_type) is not None:
                found[position] = known[position] if position in known else self._array(init)

        def check(position: int) -> None:
            name, array = proto.graph.initializer[position].name, found[position]
            where = Where(file=self._name, tensor=name or None)
            floats = array if array.dtype.kind == "f" else None
            check_finite(floats, list(array.shape), where, infinite=name not in weights)

        over_cores(check, list(found))
        mapped = set(found)
        for tensor in _tensors(proto, mapped):
            if tensor.data_location == onnx.TensorProto.EXTERNAL:
                content = self._content(tensor)
                tensor.ClearField("external_data")
                tensor.ClearField("data_location")
                tensor.raw_data = bytes(content)
                check_tensor(tensor, self._name, weights)
        return found

    def _array(self, tensor: onnx.TensorProto) -> Array:
        dtype = numpy_type(tensor.data_type)
        return np.frombuffer(self._content(tensor), dtype=dtype).reshape(tuple(tensor.dims))

    def _content(self, tensor: onnx.TensorProto) -> memoryview:
        where = Where(file=self._name, tensor=tensor.name or None)
        entries = {entry.key: entry.value for entry in tensor.external_data}
        unknown = sorted(set(entries) - _KEYS)
        if unknown or len(entries) != len(tensor.external_data):
            what = f"unknown key {unknown[0]!r}" if unknown else "a repeated key"
            raise InputError("SNN307", f"describes its external data with {what}", where=where)
        if any(size < 0 for size in tensor.dims):
            raise InputError("SNN303", f"has the shape {list(tensor.dims)}", where=where)
        content = self._file(entries.get("location", ""), where)
        wanted = _size_in_bytes(tensor, where)
        offset, length = (_number(entries.get(key), key, where) for key in ("offset", "length"))
        start = offset or 0
        if length is not None and length != wanted:
            raise InputError(
                "SNN308",
                f"takes {length} bytes of external data, its shape {list(tensor.dims)} tells {wanted}",
                where=where,
            )
        if start + wanted > len(content):
            raise InputError(
                "SNN308",
                f"needs bytes {start} to {start + wanted} of {entries['location']!r}, "
                f"which has {len(content)}",
                where=where,
                hint="the data file belongs to another model, or its download was cut short",
            )
        return content[start : start + wanted]

    def _file(self, location: str, where: Where) -> memoryview:
        if location not in self._maps:
            path = self._resolve(location, where)
            self._maps[location] = self._open(path, location, where)
            self.paths.append(path)
        return self._maps[location]

    def _resolve(self, location: str, where: Where) -> Path:
        """Return the real path of a data file inside the folder of the model."""
        posix, windows = PurePosixPath(location), PureWindowsPath(location)
        if not location or "\0" in location or posix.is_absolute() or windows.drive or windows.root:
            raise InputError(
                "SNN307",
                f"keeps its data in {location!r}, which is no relative path",
                where=where,
                hint="external data lies beside its model",
            )
        path = self._model.parent / location
        try:
            real = Path(os.path.realpath(path, strict=True))
        except FileNotFoundError:
            raise InputError(
                "SNN304",
                f"external data file {location!r} is missing",
                where=where,
                hint=f"copy {location!r} next to the model",
            ) from None
        except OSError as error:
            raise InputError(
                "SNN307", f"external data file {location!r} cannot be read: {error.strerror}", where=where
            ) from None
        self._contained(real, location, where)
        return real

    def _contained(self, real: Path, location: str, where: Where) -> None:
        folders = [Path(os.path.realpath(self._model.parent))]
        if self._model.is_symlink():
            folders.append(Path(os.path.realpath(self._model)).parent)
        if not any(real.is_relative_to(folder) for folder in folders):
            raise InputError(
                "SNN307",
                f"keeps its data in {location!r}, outside the folder of the model",
                where=where,
                hint="copy the data file next to the model",
            )

    def _open(self, real: Path, location: str, where: Where) -> memoryview:
        # Nothing may be swapped between check and use: what was opened is what is checked and read.
        flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOFOLLOW", 0)
        try:
            descriptor = os.open(real, flags)
        except PermissionError:
            raise EnvironmentFailure(
                "SNN601", f"no permission to read its data file {location!r}", where=where
            ) from None
        except OSError as error:
            raise InputError(
                "SNN307", f"external data file {location!r} cannot be read: {error.strerror}", where=where
            ) from None
        try:
            status = os.fstat(descriptor)
            self._check_opened(status, real, location, where)
            if status.st_size == 0:
                return memoryview(b"")
            return memoryview(mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ))
        finally:
            os.close(descriptor)

    def _check_opened(self, status: os.stat_result, real: Path, location: str, where: Where) -> None:
        if not stat.S_ISREG(status.st_mode):
            raise InputError("SNN307", f"external data file {location!r} is no regular file", where=where)
        now = Path(os.path.realpath(self._model.parent / location))
        self._contained(now, location, where)
        again = now.stat() if now.exists() else None
        if again is None or (again.st_dev, again.st_ino) != (status.st_dev, status.st_ino):
            raise InputError(
                "SNN307", f"external data file {location!r} changed while it was opened", where=where
            )
        model = self._model.stat()
        if (model.st_dev, model.st_ino) == (status.st_dev, status.st_ino):
            raise InputError("SNN307", "names the model itself as its external data", where=where)
        if status.st_nlink != 1 and not _HARD_LINKS.get():
            raise InputError(
                "SNN307",
                f"external data file {location!r} is a hard link: it may be any file under another name",
                where=where,
                hint="if you trust the model, add --allow-hardlinks, or make a copy of the file",
            )


def _number(text: str | None, key: str, where: Where) -> int | None:
    if text is None:
        return None
    if not (text.isascii() and text.isdecimal() and len(text) < 20):
        raise InputError("SNN308", f"has the {key} {text[:40]!r} in its external data", where=where)
    return int(text)


def _size_in_bytes(tensor: onnx.TensorProto, where: Where) -> int:
    try:
        bits = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize * 8
        name = onnx.TensorProto.DataType.Name(tensor.data_type)
    except (KeyError, ValueError):
        raise InputError("SNN303", f"has the unknown element type {tensor.data_type}", where=where) from None
    if tensor.data_type == onnx.TensorProto.STRING:
        raise InputError("SNN307", "keeps strings in external data", where=where)
    if name.endswith(("INT4", "FLOAT4E2M1")):
        bits = 4
    elif name.endswith("INT2"):
        bits = 2
    return (int(math.prod(tensor.dims)) * int(bits) + 7) // 8


def _tensors(proto: onnx.ModelProto, known: set[int]) -> Iterator[onnx.TensorProto]:
    """Yield every tensor of a message, wherever it hides, but the known initializers of its main graph."""
    graph = proto.graph
    yield from (init for position, init in enumerate(graph.initializer) if position not in known)
    stack: list[Any] = [*graph.node, *graph.sparse_initializer, *proto.functions, *proto.training_info]
    while stack:
        message = stack.pop()
        for field, value in message.ListFields():
            if field.type != field.TYPE_MESSAGE:
                continue
            for item in [value] if hasattr(value, "ListFields") else value:
                if isinstance(item, onnx.TensorProto):
                    yield item
                else:
                    stack.append(item)
