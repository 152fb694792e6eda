"""Samples in files of arrays: ``.npz``, ``.npy``, folders of ``.npy``, ONNX test data; read in slices."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO

import numpy as np

from snnc.arrays import Header, InputSpec, damaged, open_archive, read_header, what_it_is
from snnc.data.source import Array, Chunk
from snnc.errors import InputError, Where
from snnc.files import open_regular
from snnc.ir import read_tensor

__all__ = ["ArrayFile", "ArrayFolder", "TestData", "is_test_data"]

_CHUNK_BYTES = 4 << 20
_SET = "test_data_set_"


class ArrayFile:
    """An ``.npz`` keyed by input name, or an ``.npy`` for a network with one input.

    Args:
        path: The file; it is read once for every pass over the samples and never as a whole, except for
            arrays in Fortran order, which have no rows to read.
    """

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        self._path = path
        with open_regular(path) as stream:
            magic = stream.read(6)
            if magic[:4] != b"PK\x03\x04" and magic != b"\x93NUMPY":
                raise damaged(path, "neither an .npy nor an .npz file", hint=what_it_is(magic))
            self._archive = magic[:4] == b"PK\x03\x04"
        self.kind = "npz" if self._archive else "npy"
        self.count: int | None = None

    def chunks(self, inputs: Sequence[InputSpec]) -> Iterator[Chunk]:
        """Read the arrays that the network wants; others of the file are left alone."""
        with contextlib.ExitStack() as stack:
            stream = stack.enter_context(open_regular(self._path))
            readers: dict[str, _Rows]
            if self._archive:
                archive, members = stack.enter_context(open_archive(stream, self._path))
                wanted = {spec.name for spec in inputs}
                if len(inputs) == len(members) == 1:
                    wanted = set(members)
                readers = {
                    name: _Rows(stack.enter_context(archive.open(member)), member.file_size, self._path, name)
                    for name, member in members.items()
                    if name in wanted
                }
                _refuse_missing(inputs, members, self._path, whole=len(inputs) == 1 == len(members))
            else:
                size = os.fstat(stream.fileno()).st_size
                readers = {"": _Rows(stream, size, self._path, None)}
                if len(inputs) > 1:
                    _refuse_missing(inputs, {}, self._path, whole=False)
            self.count = _common_count(readers, self.name)
            yield from _side_by_side(readers, self.count)


class ArrayFolder:
    """A folder of ``.npy`` files: one for each input, named like it, or one after the other for one input.

    Args:
        path: The folder.
        files: Its ``.npy`` files, in order.
    """

    def __init__(self, path: Path, files: Sequence[Path]) -> None:
        self.name = str(path)
        self.kind = "npy-folder"
        self.count: int | None = None
        self._files = {file.stem: file for file in files}

    def chunks(self, inputs: Sequence[InputSpec]) -> Iterator[Chunk]:
        """Read the file of each input; or, for a single input, all files in the order of their names."""
        if all(spec.name in self._files for spec in inputs):
            yield from self._one_each([spec.name for spec in inputs])
            return
        if len(inputs) > 1:
            _refuse_missing(inputs, self._files, Path(self.name), whole=False)
        for file in self._files.values():
            yield from ArrayFile(file).chunks(inputs)

    def _one_each(self, names: Sequence[str]) -> Iterator[Chunk]:
        with contextlib.ExitStack() as stack:
            readers = {}
            for name in names:
                file = self._files[name]
                stream = stack.enter_context(open_regular(file))
                readers[name] = _Rows(stream, os.fstat(stream.fileno()).st_size, file, None)
            self.count = _common_count(readers, self.name)
            yield from _side_by_side(readers, self.count)


class TestData:
    """ONNX test data: folders ``test_data_set_*`` with ``input_0.pb``, ``input_1.pb`` and so on.

    Args:
        path: A folder with such folders, or one of them.
    """

    __test__ = False

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        self.kind = "onnx-test-data"
        self.count: int | None = None
        self._folders = _sets(path) or [path]

    def chunks(self, inputs: Sequence[InputSpec]) -> Iterator[Chunk]:
        """Read one folder after the other; inputs go by the name in the file, or else by their number."""
        for folder in self._folders:
            files = [folder / f"input_{index}.pb" for index in range(len(inputs))]
            arrays: dict[str, Array] = {}
            for spec, file in zip(inputs, files, strict=True):
                named, array = read_tensor(file)
                known = named in {entry.name for entry in inputs}
                arrays[named if known else spec.name] = array
            _refuse_missing(inputs, arrays, folder, whole=False)
            yield arrays


def is_test_data(path: Path) -> bool:
    """Whether a folder holds ONNX test data."""
    return (path / "input_0.pb").is_file() or bool(_sets(path))


def _sets(path: Path) -> list[Path]:
    found = [entry for entry in path.iterdir() if entry.name.startswith(_SET) and entry.is_dir()]
    return sorted(found, key=lambda entry: (len(entry.name), entry.name))


class _Rows:
    """Reads an array in npy form some rows at a time.

    Args:
        stream: Stands at the beginning of the array.
        size: Bytes that the stream holds.
        path: File, for messages.
        name: Name of the array in the file, for messages.
    """

    def __init__(self, stream: IO[bytes], size: int, path: Path, name: str | None) -> None:
        self._stream = stream
        self._path = path
        self._name = name
        self._header: Header = read_header(stream, size, path, name)
        if not self._header.shape:
            raise InputError(
                "SNN336",
                "is a single number; axis 0 counts samples",
                where=Where(file=str(path), tensor=name),
            )
        self.count = self._header.shape[0]
        row = math.prod(self._header.shape[1:]) * self._header.dtype.itemsize
        whole = self._header.fortran and len(self._header.shape) > 1
        self.at_once = max(1, self.count) if whole else max(1, _CHUNK_BYTES // max(1, row))

    def read(self, rows: int) -> Array:
        """Return the next rows, in the byte order of this machine.

        Raises:
            InputError: SNN331, the stream ends before.
        """
        shape = (rows, *self._header.shape[1:])
        wanted = math.prod(shape) * self._header.dtype.itemsize
        content = self._stream.read(wanted)
        if len(content) != wanted:
            raise damaged(self._path, "ends early", self._name)
        array = np.frombuffer(content, dtype=self._header.dtype)
        array = array.reshape(shape, order="F" if self._header.fortran else "C")
        return array.astype(self._header.dtype.newbyteorder("="), order="C", copy=False)


def _common_count(readers: Mapping[str, _Rows], file: str) -> int:
    counts = {name: reader.count for name, reader in readers.items()}
    if len(set(counts.values())) > 1:
        raise InputError("SNN338", f"sample counts differ: {counts}", where=Where(file=file))
    return next(iter(counts.values()))


def _side_by_side(readers: Mapping[str, _Rows], count: int) -> Iterator[Chunk]:
    rows = min(reader.at_once for reader in readers.values())
    # A file without samples still shows the shape of its arrays, which may be wrong.
    for start in range(0, max(count, 1), rows):
        size = min(rows, count - start)
        yield {name: reader.read(size) for name, reader in readers.items()}


def _refuse_missing(
    inputs: Sequence[InputSpec], found: Mapping[str, object], path: Path, *, whole: bool
) -> None:
    missing = [spec.name for spec in inputs if spec.name not in found]
    if missing and not whole:
        raise InputError(
            "SNN335",
            f"lacks {', '.join(map(repr, missing))}; it holds {', '.join(map(repr, found)) or 'no names'}",
            where=Where(file=str(path)),
            hint="expected " + "; ".join(map(str, inputs)),
        )
