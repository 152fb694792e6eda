"""Reading and writing model files: checked on the way in, atomic and deterministic on the way out."""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import tempfile
from collections.abc import Iterable
from pathlib import Path

import onnx
import onnx_ir as ir
from google.protobuf.message import DecodeError

from snnc.errors import EnvironmentFailure, InputError, Where
from snnc.ir.admission import admit, foreign_to_standard
from snnc.ir.external import DataFiles
from snnc.ir.weights import data_chunks, message_chunks, skeleton, split, take_weights

__all__ = [
    "AI_SNNC",
    "IR_VERSION",
    "companion",
    "data_files",
    "load",
    "model_digest",
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
_LOOKS_LIKE = (
    (b"version https://git-lfs", "a Git LFS pointer, not the model: run 'git lfs pull'"),
    (b"\x1f\x8b", "gzip-compressed: run 'gunzip' on it first"),
    (
        b"PK\x03\x04",
        "a zip archive (perhaps a torch checkpoint): export the module with torch.onnx.export first",
    ),
    (
        b"\x80\x02",
        "a Python pickle (perhaps a torch checkpoint): export the module with torch.onnx.export first",
    ),
    (b"<!DOCTYPE", "an HTML page: download the model file itself"),
    (b"<html", "an HTML page: download the model file itself"),
)


def load(path: str | os.PathLike[str]) -> ir.Model:
    """Read an ONNX file.

    Args:
        path: Path of a regular file; external data is read from beside it.

    Returns:
        The model; weights in external data are mapped, not read.

    Raises:
        InputError: SNN301 missing or not a regular file, SNN302 not an ONNX model, SNN303 invalid graph;
            SNN304, SNN307, SNN308 its external data is missing, may not be read, or is too short.
        EnvironmentFailure: SNN601, no permission.
    """
    name = os.fspath(path)
    file = Path(path)
    try:
        mode = file.stat().st_mode
    except FileNotFoundError:
        siblings = sorted(p.name for p in file.parent.glob("*.onnx"))[:5] if file.parent.is_dir() else []
        hint = f"files there: {', '.join(siblings)}" if siblings else None
        raise InputError("SNN301", "no such file", where=Where(file=name), hint=hint) from None
    except PermissionError:
        raise EnvironmentFailure("SNN601", "no permission to read the file", where=Where(file=name)) from None
    except OSError as error:
        raise InputError("SNN301", f"cannot be read: {error.strerror}", where=Where(file=name)) from None
    if not stat.S_ISREG(mode):
        raise InputError("SNN301", "is not a regular file", where=Where(file=name))
    try:
        with file.open("rb") as stream:
            head = stream.read(64)
            if not head:
                raise InputError("SNN302", "is empty", where=Where(file=name))
            for magic, what in _LOOKS_LIKE:
                if head.startswith(magic):
                    raise InputError("SNN302", f"is {what}", where=Where(file=name))
            proto = onnx.ModelProto.FromString(head + stream.read())
    except PermissionError:
        raise EnvironmentFailure("SNN601", "no permission to read the file", where=Where(file=name)) from None
    except DecodeError:
        raise InputError(
            "SNN302",
            "is not an ONNX model, or is cut short",
            where=Where(file=name),
            hint="export or download it again",
        ) from None
    if not proto.graph.node and not proto.graph.output:
        raise InputError("SNN302", "holds no graph", where=Where(file=name))
    _check_opset(proto, name)
    admit(proto, name)
    files = DataFiles(file)
    proto, weights = take_weights(proto, files.attach(proto), name)
    _check(proto, weights, name)
    try:
        model = ir.from_proto(proto)
        for key, array in weights.items():
            held = model.graph.initializers[key]
            held.const_value = ir.Tensor(array, name=key)
    except Exception as error:
        raise InputError(
            "SNN303", f"the graph cannot be read: {_first_line(error)}", where=Where(file=name)
        ) from error
    model.meta[_FILES] = tuple(files.paths)
    return model


def data_files(model: ir.Model) -> tuple[Path, ...]:
    """Return the files beside its own that a model was read from."""
    files: tuple[Path, ...] = model.meta.get(_FILES, ())
    return files


def _check_opset(proto: onnx.ModelProto, name: str) -> None:
    versions = {entry.domain: entry.version for entry in proto.opset_import}
    default = versions.get("", versions.get("ai.onnx"))
    newest = onnx.defs.onnx_opset_version()
    if default is not None and not 7 <= default <= newest:
        raise InputError(
            "SNN303",
            f"uses opset {default}; snnc reads opsets 7 to {newest}",
            where=Where(file=name),
            hint="export it again with a supported opset_version",
        )


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
        raise InputError("SNN303", f"is not valid: {_first_line(error)}", where=Where(file=name)) from None
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
    digest = hashlib.sha256()
    for chunk in message_chunks(model):
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


def save(model: ir.Model, path: str | os.PathLike[str], *, limit: int = LARGEST_MESSAGE) -> None:
    """Write a model atomically: the file appears complete or not at all.

    Weights beyond the size of one ONNX file go into a data file beside it, which is complete before the model
    that names it appears.

    Args:
        model: What to write.
        path: Target; an existing file is replaced.
        limit: Most bytes of weights that go into the model file itself.

    Raises:
        EnvironmentFailure: SNN603, the folder cannot be written or the disk is full.
    """
    beside = companion(model, path, limit=limit)
    if beside is None:
        write_atomically(Path(path), message_chunks(model))
        return
    proto, weights = split(model)
    write_atomically(beside, data_chunks(proto, weights, beside.name))
    write_atomically(Path(path), [bytes(proto.SerializeToString(deterministic=True))])


def write_atomically(path: Path, content: Iterable[bytes | memoryview]) -> None:
    """Write pieces to a temporary file beside ``path``, flush to disk, then rename over it.

    Raises:
        EnvironmentFailure: SNN603, the folder cannot be written or the disk is full.
    """
    try:
        descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    except OSError as error:
        raise EnvironmentFailure(
            "SNN603", f"cannot write: {error.strerror}", where=Where(file=str(path))
        ) from None
    try:
        with os.fdopen(descriptor, "wb") as stream:
            for chunk in content:
                stream.write(chunk)
            stream.flush()
            os.fsync(stream.fileno())
        mask = os.umask(0)
        os.umask(mask)
        Path(temporary).chmod(0o666 & ~mask)
        Path(temporary).replace(path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            Path(temporary).unlink()
        if isinstance(error, OSError):
            raise EnvironmentFailure(
                "SNN603", f"cannot write: {error.strerror}", where=Where(file=str(path))
            ) from None
        raise
