"""Reading and writing model files: checked on the way in, atomic and deterministic on the way out."""

from __future__ import annotations

import hashlib
import mmap
import os
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

import onnx
import onnx_ir as ir
from google.protobuf.message import DecodeError

from snnc.cores import meanwhile
from snnc.errors import EnvironmentFailure, InputError, Where
from snnc.files import OutputFile, atomic_writes, open_regular
from snnc.ir.admission import admit, all_nodes, foreign_to_standard, weight_names
from snnc.ir.contents import make_dense
from snnc.ir.external import DataFiles
from snnc.ir.lean import take_out
from snnc.ir.quiet import silent
from snnc.ir.weights import Array, data_chunks, message_chunks, skeleton, split, take_weights
from snnc.ir.wire import LARGEST_FILE, check_frames

__all__ = [
    "AI_SNNC",
    "IR_VERSION",
    "companion",
    "data_files",
    "load",
    "model_digest",
    "model_digest_meanwhile",
    "save",
    "to_bytes",
    "weight_bytes",
]

AI_SNNC = "ai.snnc"
IR_VERSION = 10
_MAX_PROTO_BYTES = 2 * 1024**3 - 1
#: Weights of more bytes go into a data file: a message holds 2 GiB, the graph takes its part.
LARGEST_MESSAGE = 2**31 - 2**27
_FILES = "snnc.files"
_NODE = re.compile(
    r"(?:Bad node spec for node\. Name: |Node\(|attribute type in ')(?P<node>.*?)(?: OpType|\)| : )"
)
_EXPORT = "export the module with torch.onnx.export first"
#: What a file that is no model begins with, at which place; and what it is.
_LOOKS_LIKE: tuple[tuple[int, bytes, str, str], ...] = (
    (0, b"version https://git-lfs", "a Git LFS pointer, not the model", "run 'git lfs pull'"),
    (0, b"\x1f\x8b", "gzip-compressed", "run 'gunzip' on it first"),
    (0, b"BZh", "bzip2-compressed", "run 'bunzip2' on it first"),
    (0, b"\xfd7zXZ", "xz-compressed", "run 'unxz' on it first"),
    (0, b"\x28\xb5\x2f\xfd", "zstd-compressed", "run 'unzstd' on it first"),
    (0, b"PK\x03\x04", "a zip archive (perhaps a torch checkpoint)", f"unpack it, or {_EXPORT}"),
    *((0, bytes([0x80, n]), "a Python pickle (perhaps a torch checkpoint)", _EXPORT) for n in (2, 3, 4, 5)),
    (257, b"ustar", "a tar archive", "run 'tar -xf' on it first"),
    (0, b"\x93NUMPY", "a numpy array", "give a model here, and arrays as data"),
    (0, b"\x89HDF\r\n", "an HDF5 file (perhaps of Keras)", "export the network with tf2onnx or keras first"),
    (4, b"TFL3", "a TensorFlow Lite model", "convert it with tf2onnx first"),
    (4, b"ORTM", "a model in onnxruntime's own format", "give the ONNX file that it was made from"),
    (8, b"{", "a safetensors file: weights without a graph", _EXPORT),
    (0, b"\x7fELF", "a program", "give the model file itself"),
)
_TEXTS = (
    (b"<!doctype", "an HTML page"),
    (b"<html", "an HTML page"),
    (b"<?xml", "an XML page"),
    (b"<svg", "a drawing"),
    (b"{", "JSON"),
)


def load(path: str | os.PathLike[str]) -> ir.Model:
    """Read an ONNX file.

    Args:
        path: Path of a regular file; external data is read from beside it.

    Returns:
        The model; weights in external data are mapped, not read.

    Raises:
        InputError: SNN301 missing or not a regular file, SNN302 not an ONNX model, SNN303 invalid graph;
            SNN304, SNN307, SNN308 its external data is missing, may not be read, or is too short; SNN320,
            SNN321, SNN323, SNN324 its functions or nodes form circles, a tensor is not finite, or reading it
            would take too much. UnsupportedError: see `snnc.ir.admission.admit`.
        EnvironmentFailure: SNN601, no permission.
    """
    name = os.fspath(path)
    file = Path(path)
    proto, held = _parsed(path, name)
    if not proto.graph.node and not proto.graph.output:
        raise InputError(
            "SNN302", "holds no graph", where=Where(file=name), hint="export or download it again"
        )
    admit(proto, name)
    files = DataFiles(file)
    attached = files.attach(proto, weight_names(proto), held)
    make_dense(proto, name, all_nodes(proto))
    proto, weights = take_weights(proto, attached, name)
    _check(proto, weights, name)
    try:
        with silent("onnx_ir.serde", "onnx_ir._core"):
            model = ir.from_proto(proto)
        for key, array in weights.items():
            model.graph.initializers[key].const_value = ir.Tensor(array, name=key)
    except Exception as error:
        raise InputError(
            "SNN303", f"the graph cannot be read: {_first_line(error)}", where=Where(file=name)
        ) from error
    model.meta[_FILES] = tuple(files.paths)
    return model


def _parsed(path: str | os.PathLike[str], name: str) -> tuple[onnx.ModelProto, dict[int, Array]]:
    """Parse a file once its frames have been followed; large weights are taken out, see `take_out`."""
    where = Where(file=name)
    with open_regular(path) as stream:
        size = os.fstat(stream.fileno()).st_size
        if not size:
            raise InputError("SNN302", "is empty", where=where, hint="export or download it again")
        if size > LARGEST_FILE:
            raise InputError(
                "SNN302",
                f"is too large for an ONNX model: {size:,} bytes, one file holds {LARGEST_FILE:,}",
                where=where,
                hint="export it with its weights in external data",
            )
        _refuse_others(stream.read(512), where)
        # Closed with the last view of it: an error on its way up holds views.
        data = memoryview(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ))
    check_frames(data, name)
    message, held = take_out(data)
    try:
        proto = onnx.ModelProto()
        proto.ParseFromString(message)
    except DecodeError:
        raise InputError(
            "SNN302", "is not an ONNX model", where=where, hint="export or download it again"
        ) from None
    return proto, held


def _refuse_others(head: bytes, where: Where) -> None:
    """Say what a file is that is no model."""
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    found = next(((what, do) for at, magic, what, do in _LOOKS_LIKE if head[at:].startswith(magic)), None)
    page = next((what for magic, what in _TEXTS if text.startswith(magic)), None)
    if found is None and page is not None:
        found = page, "download the model file itself"
    if found is not None:
        raise InputError("SNN302", f"is {found[0]}", where=where, hint=found[1])


def data_files(model: ir.Model) -> tuple[Path, ...]:
    """Return the files beside its own that a model was read from."""
    files: tuple[Path, ...] = model.meta.get(_FILES, ())
    return files


def _check(proto: onnx.ModelProto, weights: Iterable[str], name: str) -> None:
    """Refuse what the ONNX checker refuses, except for domains it does not know."""
    # The checker demands shapes of outputs, which are inferred here anyway.
    shapeless = [
        value
        for value in proto.graph.output
        if value.type.HasField("tensor_type") and not value.type.tensor_type.HasField("shape")
    ]
    try:
        for value in shapeless:
            value.type.tensor_type.shape.SetInParent()
        copy = skeleton(proto, weights)
        foreign_to_standard(copy)
        onnx.checker.check_model(copy)
    except onnx.checker.ValidationError as error:
        found = _NODE.search(str(error))
        node = found["node"] if found is not None else None
        raise InputError(
            "SNN303", f"is not valid: {_first_line(error)}", where=Where(file=name, node=node)
        ) from None
    except ValueError:
        # Larger than one protobuf message may be: the checker cannot serialise it, the parts were parsed.
        return
    finally:
        for value in shapeless:
            value.type.tensor_type.ClearField("shape")


def _first_line(error: Exception) -> str:
    text = str(error).strip().splitlines()
    return text[0] if text else type(error).__name__


def to_bytes(model: ir.Model) -> bytes:
    """Serialise a model deterministically: same model, same bytes.

    Raises:
        EnvironmentFailure: SNN602, larger than one protobuf message may be (2 GiB).
    """
    size = weight_bytes(model)
    if size > _MAX_PROTO_BYTES - 2**20:
        raise EnvironmentFailure("SNN602", f"{size} bytes of weights exceed one ONNX file (2 GiB)")
    return b"".join(message_chunks(model))


def model_digest(model: ir.Model) -> str:
    """Return the SHA-256 of a model in hexadecimal digits; where its weights are kept does not count."""
    return _hashed(message_chunks(model))


def model_digest_meanwhile(model: ir.Model) -> Callable[[], str]:
    """Start to compute `model_digest`, and return what waits for it; the model may be changed from now on."""
    chunks = deque(message_chunks(model))
    # Each piece is let go once it was read.
    return meanwhile(lambda: _hashed(chunks.popleft() for _ in range(len(chunks))))


def _hashed(chunks: Iterable[bytes | memoryview]) -> str:
    digest = hashlib.sha256()
    for chunk in chunks:
        digest.update(chunk)
    return digest.hexdigest()


def weight_bytes(model: ir.Model) -> int:
    """Return the size of all initializers of the main graph in bytes."""
    held = (value.const_value for value in model.graph.initializers.values())
    return sum(tensor.nbytes for tensor in held if tensor is not None)


def companion(model: ir.Model, path: str | os.PathLike[str], *, limit: int = LARGEST_MESSAGE) -> Path | None:
    """Return the data file that `save` writes beside a model, or None where one file holds it all.

    Args:
        model: What is to be written.
        path: Where.
        limit: Most bytes of weights that go into the model file itself.
    """
    return Path(f"{os.fspath(path)}.data") if weight_bytes(model) > limit else None


def save(
    model: ir.Model,
    path: str | os.PathLike[str],
    *,
    limit: int = LARGEST_MESSAGE,
    also: Iterable[OutputFile] = (),
) -> None:
    """Write a model atomically: the file appears complete or not at all, and so does what belongs to it.

    Weights beyond the size of one ONNX file go into a data file beside it, which is complete before the model
    that names it appears.

    Args:
        model: What to write.
        path: Target; an existing file is replaced.
        limit: Most bytes of weights that go into the model file itself.
        also: Further files, such as a recipe; none appears unless all can be written.

    Raises:
        EnvironmentFailure: SNN603, the folder cannot be written or the disk is full.
    """
    beside = companion(model, path, limit=limit)
    if beside is None:
        files = [(path, _writer(message_chunks(model)))]
    else:
        proto, weights = split(model)
        # The message names places in the data file, which are known once that is written.
        message = _late(lambda: bytes(proto.SerializeToString(deterministic=True)))
        files = [(beside, _writer(data_chunks(proto, weights, beside.name))), (path, _writer(message))]
    atomic_writes([*also, *files], force=True)


def _late(make: Callable[[], bytes]) -> Iterator[bytes]:
    yield make()


def _writer(content: Iterable[bytes | memoryview]) -> Callable[[BinaryIO], None]:
    def write(stream: BinaryIO) -> None:
        for chunk in content:
            stream.write(chunk)

    return write
