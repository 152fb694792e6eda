"""Reading and writing arrays: ``.npy``, ``.npz`` and folders of ``.npy``, from files nobody vouches for.

Nothing is unpickled, no size in a header is trusted, and values that are not finite are refused.
"""

from __future__ import annotations

import contextlib
import errno
import lzma
import math
import os
import struct
import warnings
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tokenize import TokenError
from typing import IO, Any, BinaryIO

import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import NDArray

from snnc.errors import InputError, UsageError, Where
from snnc.files import OutputFile, atomic_writes, open_regular

__all__ = [
    "Array",
    "Header",
    "InputSpec",
    "arrays_output",
    "check_suffix",
    "damaged",
    "match_inputs",
    "open_archive",
    "read_array",
    "read_arrays",
    "read_header",
    "read_labels",
    "refuse_not_finite",
    "sample_count",
    "what_it_is",
    "write_arrays",
]

Array = NDArray[Any]

#: A compressed file may grow this many times; above, it is taken for a bomb (only beyond _BOMB_FLOOR bytes).
_BOMB_RATIO = 200
_BOMB_FLOOR = 64 << 20
_LARGEST = 16 << 30
_MOST_AXES = 32


@dataclass(frozen=True)
class InputSpec:
    """What a model input expects.

    Attributes:
        name: Name of the input.
        dtype: numpy data type of its elements.
        shape: Its shape, with ``None`` for a free dimension; axis 0 counts samples.
        limit: Number of rows of the table that it indexes; None if it indexes none.
    """

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int | None, ...]
    limit: int | None = field(default=None, compare=False)

    def __str__(self) -> str:
        sizes = ", ".join("?" if size is None else str(size) for size in self.shape)
        return f"{self.name}: {self.dtype}[{sizes}]"


@dataclass(frozen=True)
class Header:
    """What an array in npy form says of itself.

    Attributes:
        shape: Its shape.
        dtype: Type of its elements, in the byte order of the file.
        fortran: Whether the first axis runs fastest.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    fortran: bool

    @property
    def bytes(self) -> int:
        """Size of its elements in bytes."""
        return math.prod(self.shape) * self.dtype.itemsize


def read_arrays(path: str | os.PathLike[str], *, finite: bool = True) -> dict[str, Array]:
    """Read named arrays from an ``.npz`` file, an ``.npy`` file or a folder of ``.npy`` files.

    Args:
        path: File or folder. A single ``.npy`` gives one array under the key ``""``.
        finite: Whether NaN and infinite values are refused.

    Returns:
        Arrays by name, in the order of the file (folders: sorted by name).

    Raises:
        InputError: SNN301 missing or not a regular file; SNN331 not such a file, pickled, or
            damaged; SNN332 larger than it may be; SNN333 values that are not finite; SNN334 no arrays.
        EnvironmentFailure: SNN601, if it may not be read.
    """
    source = Path(path)
    if source.is_dir():
        files = sorted(entry for entry in source.iterdir() if entry.suffix == ".npy")
        arrays = {entry.stem: _read_npy_file(entry) for entry in files}
    else:
        with open_regular(path) as stream:
            magic = stream.read(6)
            stream.seek(0)
            if magic[:4] == b"PK\x03\x04":
                arrays = _read_npz(stream, source)
            elif magic == b"\x93NUMPY":
                arrays = {"": read_array(stream, os.fstat(stream.fileno()).st_size, source, None)}
            else:
                raise damaged(source, "neither an .npy nor an .npz file", hint=what_it_is(magic))
    if not arrays:
        raise InputError("SNN334", "holds no arrays", where=Where(file=str(source)))
    if finite:
        for name, array in arrays.items():
            refuse_not_finite(array, Where(file=str(source), tensor=name or None))
    return arrays


def read_labels(path: str) -> Array:
    """Read true classes: one integer a sample.

    Args:
        path: ``.npy``, or ``.npz`` with one array or one called ``labels``.

    Raises:
        InputError: SNN339, it holds no such array; others see `read_arrays`.
    """
    arrays = read_arrays(path)
    # A file of samples may carry its labels beside them.
    array = arrays.get("labels", next(iter(arrays.values())) if len(arrays) == 1 else None)
    if array is None:
        raise InputError(
            "SNN339", f"holds {len(arrays)} arrays, none of them called 'labels'", where=Where(file=path)
        )
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise InputError(
            "SNN339",
            f"expected one integer label a sample, found {array.dtype}{list(array.shape)}",
            where=Where(file=path),
        )
    return array


def match_inputs(
    arrays: Mapping[str, Array], inputs: Sequence[InputSpec], *, file: str | None = None
) -> dict[str, Array]:
    """Bring arrays into the form that a model's inputs expect: names, shapes, data types, equal counts.

    The first axis counts samples and may have any length. A model with one input takes the only array
    whatever its key. Integers and float64 are cast to a float input's type; no other cast happens.

    Args:
        arrays: Arrays by name.
        inputs: What the model expects, in the model's order.
        file: Name of the data file, for messages.

    Returns:
        Arrays by input name, in the model's order, each of shape ``(samples, *spec.shape[1:])``.

    Raises:
        InputError: SNN335 wrong keys; SNN336 wrong shape; SNN337 wrong data type; SNN338 counts differ
            or no samples.
    """
    expected = "expected " + "; ".join(str(spec) for spec in inputs)
    if len(inputs) == 1 and len(arrays) == 1:
        arrays = {inputs[0].name: next(iter(arrays.values()))}
    missing = [spec.name for spec in inputs if spec.name not in arrays]
    if missing:
        raise InputError(
            "SNN335",
            f"lacks {', '.join(map(repr, missing))}; it holds {', '.join(map(repr, arrays)) or 'nothing'}",
            where=Where(file=file),
            hint=expected,
        )
    matched = {spec.name: _match_one(arrays[spec.name], spec, file) for spec in inputs}
    counts = {name: len(array) for name, array in matched.items()}
    if len(set(counts.values())) > 1:
        raise InputError("SNN338", f"sample counts differ: {counts}", where=Where(file=file))
    if not all(counts.values()):
        raise InputError("SNN338", "holds no samples", where=Where(file=file))
    return matched


def sample_count(arrays: Mapping[str, Array]) -> int:
    """Return the number of samples in matched arrays (the length of their common first axis)."""
    return len(next(iter(arrays.values())))


def check_suffix(path: str | os.PathLike[str], count: int) -> None:
    """Refuse the name of an output that cannot hold some arrays, before any work is done.

    Args:
        path: Output.
        count: Number of arrays that are to go into it.

    Raises:
        UsageError: SNN233, if the suffix is neither .npy nor .npz, or several arrays are to go into one .npy.
    """
    suffix = Path(path).suffix
    where = Where(file=os.fspath(path))
    if suffix not in {".npy", ".npz"}:
        raise UsageError("SNN233", "array files end in .npy or .npz", where=where)
    if suffix == ".npy" and count != 1:
        raise UsageError(
            "SNN233", f"an .npy holds one array, but there are {count}", where=where, hint="use .npz"
        )


def write_arrays(
    path: str | os.PathLike[str],
    arrays: Mapping[str, Array],
    *,
    force: bool = False,
    inputs: Iterable[str | os.PathLike[str]] = (),
) -> None:
    """Write arrays atomically as ``.npz``, or one array as ``.npy``; equal arrays give equal bytes.

    Args:
        path: Output; its suffix chooses the format.
        arrays: Arrays by name.
        force: Whether an existing file may be replaced.
        inputs: Files that must not be replaced.

    Raises:
        UsageError: SNN230 or SNN231 (see :func:`snnc.files.check_output`); SNN233, if the suffix is
            neither or several arrays are to go into one ``.npy``.
        EnvironmentFailure: SNN603, if the place cannot be written.
    """
    atomic_writes([arrays_output(path, arrays)], force=force, inputs=inputs)


def arrays_output(path: str | os.PathLike[str], arrays: Mapping[str, Array]) -> OutputFile:
    """Return arrays as an output of `snnc.files.atomic_writes`, to be written together with others.

    Args:
        path: Output; its suffix chooses the format.
        arrays: Arrays by name.

    Raises:
        UsageError: SNN233, see `write_arrays`.
    """
    check_suffix(path, len(arrays))
    suffix = Path(path).suffix

    def write(stream: BinaryIO) -> None:
        if suffix == ".npy":
            npy_format.write_array(stream, np.asarray(next(iter(arrays.values()))), allow_pickle=False)
            return
        # numpy.savez takes names as keyword arguments, so an output called "file" would break it.
        with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
            for name, array in arrays.items():
                info = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
                with archive.open(info, "w", force_zip64=True) as member:
                    npy_format.write_array(member, np.asarray(array), allow_pickle=False)

    return path, write


def _match_one(array: Array, spec: InputSpec, file: str | None) -> Array:
    where = Where(file=file, tensor=spec.name)
    # One sample without its sample axis is a common slip with an unambiguous meaning only when it is
    # refused with the right words; guessing would hide real shape errors.
    if array.ndim != len(spec.shape) or any(
        want is not None and have != want for have, want in zip(array.shape[1:], spec.shape[1:], strict=True)
    ):
        found = ", ".join(map(str, array.shape))
        raise InputError(
            "SNN336",
            f"expected {spec} (axis 0: samples), found shape [{found}]",
            where=where,
            hint="add the sample axis: x[None]" if array.ndim == len(spec.shape) - 1 else None,
        )
    if array.dtype == spec.dtype:
        return array
    if spec.dtype.kind == "f" and array.dtype.kind in "fiu":
        with np.errstate(over="ignore"):
            cast = array.astype(spec.dtype)
        refuse_not_finite(cast, where)
        return cast
    raise InputError("SNN337", f"expected {spec.dtype}, found {array.dtype}", where=where)


def _read_npy_file(path: Path) -> Array:
    with open_regular(path) as stream:
        return read_array(stream, os.fstat(stream.fileno()).st_size, path, None)


def _read_npz(stream: BinaryIO, path: Path) -> dict[str, Array]:
    arrays: dict[str, Array] = {}
    with open_archive(stream, path) as (archive, members):
        for name, member in members.items():
            with archive.open(member) as content:
                arrays[name] = read_array(content, member.file_size, path, name)
    return arrays


@contextlib.contextmanager
def open_archive(
    stream: BinaryIO, path: Path, *, largest: int = _LARGEST
) -> Iterator[tuple[zipfile.ZipFile, dict[str, zipfile.ZipInfo]]]:
    """Open an ``.npz`` file.

    Args:
        stream: The file.
        path: Its place, for messages.
        largest: Most bytes that its members may hold together.

    Yields:
        The archive and its members by the name of the array; reading them may raise what the archive is
        damaged with, which is turned into an error of ours.

    Raises:
        InputError: SNN331 damaged, or it holds something else; SNN332 it would grow beyond all bounds.
    """
    packed = os.fstat(stream.fileno()).st_size
    try:
        with zipfile.ZipFile(stream) as archive:
            members: dict[str, zipfile.ZipInfo] = {}
            unpacked = sum(member.file_size for member in archive.infolist())
            if unpacked > largest or (unpacked > _BOMB_FLOOR and unpacked > _BOMB_RATIO * packed):
                raise InputError(
                    "SNN332",
                    f"{packed} bytes would unpack to {unpacked} bytes",
                    where=Where(file=str(path)),
                    hint="store real data, or save it uncompressed with numpy.savez",
                )
            for member in archive.infolist():
                name = member.filename.removesuffix(".npy")
                if name == member.filename or name in members or ".." in name.split("/"):
                    raise damaged(path, f"unexpected or repeated member {member.filename!r}")
                members[name] = member
            yield archive, members
    except (
        zipfile.BadZipFile,
        zlib.error,
        lzma.LZMAError,
        NotImplementedError,  # zipfile: a method of compression that it does not know
        RuntimeError,  # zipfile: encrypted
        EOFError,
        zipfile.LargeZipFile,
        struct.error,
        ValueError,
        OverflowError,
    ) as error:
        raise damaged(path, f"damaged archive: {error}") from error
    except OSError as error:
        # Places within the archive may lie before its beginning.
        if error.errno != errno.EINVAL:
            raise
        raise damaged(path, "damaged archive: it points outside of itself") from error


def read_array(stream: IO[bytes], size: int, path: Path, name: str | None) -> Array:
    """Read one array in npy form; see `read_header` for what it takes and refuses."""
    header = read_header(stream, size, path, name)
    content = stream.read(header.bytes)
    if len(content) != header.bytes:
        raise damaged(path, "ends early", name)
    array = np.frombuffer(content, dtype=header.dtype).reshape(
        header.shape, order="F" if header.fortran else "C"
    )
    return array.astype(header.dtype.newbyteorder("="), order="C", copy=False)


def read_header(stream: IO[bytes], size: int, path: Path, name: str | None) -> Header:
    """Read the header of an array in npy form; the stream then stands at the first element.

    Args:
        stream: Positioned at the beginning of the array.
        size: Bytes that the stream holds; the header must agree with it.
        path: File, for messages.
        name: Name of the array in it, for messages.

    Raises:
        InputError: SNN331 no such header, or pickled objects; SNN332 it promises another size.
    """
    try:
        version = npy_format.read_magic(stream)
        reader = {
            (1, 0): npy_format.read_array_header_1_0,
            (2, 0): npy_format.read_array_header_2_0,
        }.get(version)
        if reader is None:
            raise damaged(path, f"npy format {version} is not read", name)
        with warnings.catch_warnings():
            # A header in the style of Python 2 is as good as another.
            warnings.simplefilter("ignore")
            shape, fortran, dtype = reader(stream)
    except (ValueError, EOFError, SyntaxError, TypeError, RecursionError, MemoryError, TokenError) as error:
        # What numpy's header parser raises on text that is no header; a short message says enough.
        raise damaged(path, f"damaged npy header: {str(error)[:100]}", name) from None
    if len(shape) > _MOST_AXES or any(type(size) is not int or not 0 <= size < 2**63 for size in shape):
        raise damaged(path, "damaged npy header: no such shape", name)
    if dtype.hasobject:
        raise damaged(
            path, "holds pickled Python objects, which are never loaded", name, hint="save plain numbers"
        )
    if dtype.kind not in "biufc" or dtype.itemsize == 0:
        raise damaged(path, f"holds {dtype}, expected numbers", name)
    header = Header(tuple(shape), dtype, bool(fortran))
    begin = stream.tell()
    if begin + header.bytes != size:
        raise InputError(
            "SNN332",
            f"the header promises {header.bytes} bytes, the file has {max(size - begin, 0)}",
            where=Where(file=str(path), tensor=name),
        )
    return header


def refuse_not_finite(array: Array, where: Where) -> None:
    """Refuse infinite values and NaN.

    Raises:
        InputError: SNN333, with their number and the place of the first.
    """
    if array.dtype.kind not in "fc":
        return
    wrong = ~np.isfinite(array)
    count = int(np.count_nonzero(wrong))
    if count:
        first = np.unravel_index(int(np.argmax(wrong)), array.shape)
        position = ", ".join(str(int(axis)) for axis in first)
        raise InputError("SNN333", f"{count} values are not finite, the first at [{position}]", where=where)


def damaged(path: Path, message: str, name: str | None = None, hint: str | None = None) -> InputError:
    """Return the error for a file that is not what it should be."""
    return InputError("SNN331", message, where=Where(file=str(path), tensor=name), hint=hint)


def what_it_is(magic: bytes) -> str:
    """Return a hint about a file that holds no arrays, from its first bytes."""
    known = {b"\x80": "a Python pickle; save with numpy.savez", b"\x1f\x8b": "a gzip file; unpack it first"}
    for start, text in known.items():
        if magic.startswith(start):
            return f"this looks like {text}"
    return "save the samples with numpy.savez(path, INPUT_NAME=array)"
