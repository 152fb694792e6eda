"""Reading and writing model files: checked on the way in, atomic and deterministic on the way out."""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import tempfile
from pathlib import Path

import onnx
import onnx_ir as ir
from google.protobuf.message import DecodeError

from snnc.errors import EnvironmentFailure, InputError, Where

__all__ = ["AI_SNNC", "IR_VERSION", "in_memory", "load", "model_digest", "save", "to_bytes"]

AI_SNNC = "ai.snnc"
IR_VERSION = 10
_MAX_PROTO_BYTES = 2 * 1024**3 - 1
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
        The model; weights are read when first used.

    Raises:
        InputError: SNN301 missing or not a regular file, SNN302 not an ONNX model, SNN303 invalid graph.
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
        head = _read_head(file)
    except PermissionError:
        raise EnvironmentFailure("SNN601", "no permission to read the file", where=Where(file=name)) from None
    if not head:
        raise InputError("SNN302", "is empty", where=Where(file=name))
    for magic, what in _LOOKS_LIKE:
        if head.startswith(magic):
            raise InputError("SNN302", f"is {what}", where=Where(file=name))
    try:
        proto = onnx.load(name, load_external_data=False)
    except DecodeError:
        raise InputError(
            "SNN302",
            "is not an ONNX model, or is cut short",
            where=Where(file=name),
            hint="export or download it again",
        ) from None
    if not proto.graph.node and not proto.graph.output:
        raise InputError("SNN302", "holds no graph", where=Where(file=name))
    _check(proto, name)
    try:
        model = ir.from_proto(proto)
        _anchor_external_data(model, file)
    except Exception as error:
        raise InputError(
            "SNN303", f"the graph cannot be read: {_first_line(error)}", where=Where(file=name)
        ) from error
    return model


def _read_head(file: Path) -> bytes:
    with file.open("rb") as stream:
        return stream.read(64)


def _check(proto: onnx.ModelProto, name: str) -> None:
    """Refuse what the ONNX checker refuses, except for domains it does not know."""
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
    try:
        if all(not init.external_data for init in proto.graph.initializer):
            onnx.checker.check_model(proto)
    except onnx.checker.ValidationError as error:
        raise InputError("SNN303", f"is not valid: {_first_line(error)}", where=Where(file=name)) from None
    except ValueError:
        # Larger than one protobuf message may be: the checker cannot serialise it, the parts were parsed.
        return


def _anchor_external_data(model: ir.Model, file: Path) -> None:
    for value in model.graph.initializers.values():
        tensor = value.const_value
        if isinstance(tensor, ir.ExternalTensor):
            tensor.base_dir = file.parent
            target = Path(tensor.path)
            if not target.is_file():
                raise InputError(
                    "SNN304",
                    f"external data file {tensor.location!r} is missing",
                    where=Where(file=str(file), tensor=value.name),
                    hint=f"copy {tensor.location!r} next to the model",
                )


def _first_line(error: Exception) -> str:
    text = str(error).strip().splitlines()
    return text[0] if text else type(error).__name__


def in_memory(model: ir.Model) -> ir.Model:
    """Read the external data of a model into memory, so that it can be serialised; return the model."""
    return ir.external_data.load_to_model(model)


def to_bytes(model: ir.Model) -> bytes:
    """Serialise a model deterministically: same model, same bytes.

    Raises:
        EnvironmentFailure: SNN602, larger than one protobuf message may be (2 GiB).
    """
    proto = ir.to_proto(model)
    size = sum(len(init.raw_data) for init in proto.graph.initializer)
    if size > _MAX_PROTO_BYTES - 2**20:
        raise EnvironmentFailure("SNN602", f"{size} bytes of weights exceed one ONNX file (2 GiB)")
    return bytes(proto.SerializeToString(deterministic=True))


def model_digest(model: ir.Model) -> str:
    """Return the SHA-256 of the serialised model, as hexadecimal digits."""
    return hashlib.sha256(to_bytes(model)).hexdigest()


def save(model: ir.Model, path: str | os.PathLike[str]) -> None:
    """Write a model atomically: the file appears complete or not at all.

    Args:
        model: What to write.
        path: Target; an existing file is replaced.

    Raises:
        EnvironmentFailure: SNN603, the folder cannot be written or the disk is full.
    """
    write_atomically(Path(path), to_bytes(model))


def write_atomically(path: Path, content: bytes) -> None:
    """Write bytes to a temporary file beside ``path``, flush to disk, then rename over it.

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
            stream.write(content)
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
