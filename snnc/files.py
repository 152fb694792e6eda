"""Reading regular files and replacing output files atomically.

An output appears complete or not at all: it is written beside its final place, flushed to the disk and
renamed over the old file. Inputs are never overwritten, whatever the flags say.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shlex
import stat
import tempfile
from collections.abc import Callable, Iterable
from difflib import get_close_matches
from pathlib import Path
from typing import BinaryIO

from snnc.errors import EnvironmentFailure, InputError, UsageError, Where

__all__ = [
    "OutputFile",
    "atomic_write",
    "atomic_writes",
    "check_output",
    "open_regular",
    "place_beside",
]

#: The final place of an output, and what writes it to an open temporary file.
OutputFile = tuple[str | os.PathLike[str], Callable[[BinaryIO], None]]


def open_regular(path: str | os.PathLike[str]) -> BinaryIO:
    """Open a regular file for reading; refuse anything that could block or never end.

    Args:
        path: File to read.

    Returns:
        The open file, positioned at its start.

    Raises:
        InputError: SNN301, if the path is missing, or is a folder, pipe or device.
        EnvironmentFailure: SNN601, if the file may not be read.
    """
    name = os.fspath(path)
    try:
        # O_NONBLOCK: opening a pipe without a writer must not hang before fstat can refuse it.
        descriptor = os.open(name, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    except ValueError:
        raise InputError("SNN301", "its name holds a null byte", where=Where(file=name)) from None
    except FileNotFoundError as error:
        raise InputError(
            "SNN301", "no such file", where=Where(file=name), hint=_near_matches(Path(name))
        ) from error
    except OSError as error:
        if error.errno in {errno.EISDIR, errno.ENXIO, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG}:
            why = "its name is too long" if error.errno == errno.ENAMETOOLONG else "not a regular file"
            raise InputError("SNN301", why, where=Where(file=name)) from error
        raise EnvironmentFailure(
            "SNN601", f"cannot be read: {error.strerror}", where=Where(file=name)
        ) from error
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        kind = "a folder" if stat.S_ISDIR(mode) else "a pipe or device"
        raise InputError("SNN301", f"expected a regular file, found {kind}", where=Where(file=name))
    return os.fdopen(descriptor, "rb")


def place_beside(model: str, ending: str) -> str:
    """Return where what is made of a model goes by default: ``dir/vit.onnx`` gives ``dir/vit`` + ending."""
    path = Path(model)
    # A folder such as '.' has no name; that it is no model is said when it is read.
    return str(path.parent / ((path.name or "model").removesuffix(".onnx") + ending))


def check_output(
    path: str | os.PathLike[str], *, force: bool = False, inputs: Iterable[str | os.PathLike[str]] = ()
) -> None:
    """Refuse an output place before any work is done.

    Args:
        path: File that is going to be written.
        force: Whether an existing file may be replaced.
        inputs: Files that are read and must survive even with ``force``.

    Raises:
        UsageError: SNN231, if the output is one of the inputs (also through a link); SNN230, if it
            exists and ``force`` is not set.
        EnvironmentFailure: SNN603, if the folder does not exist or the place is not a file.
    """
    target = Path(path)
    where = Where(file=os.fspath(path))
    # A link that leads nowhere is something that is there, too.
    if target.is_symlink() and not target.exists():
        if not force:
            raise UsageError(
                "SNN230", "a link is there already", where=where, hint="add --force to replace it"
            )
    elif target.exists():
        if not target.is_file():
            raise EnvironmentFailure("SNN603", "the output is not a regular file", where=where)
        for source in inputs:
            if Path(source).exists() and target.samefile(source):
                raise UsageError(
                    "SNN231",
                    f"the output is the same file as the input {os.fspath(source)!r}",
                    where=where,
                    hint="name another output; an input is never overwritten, not even with --force",
                )
        if not force:
            raise UsageError(
                "SNN230", "the output exists already", where=where, hint="add --force to replace it"
            )
    elif not target.parent.is_dir():
        raise EnvironmentFailure(
            "SNN603",
            "the folder of the output does not exist",
            where=where,
            hint=shlex.join(["mkdir", "-p", str(target.parent)]),
        )


def atomic_write(
    path: str | os.PathLike[str],
    write: Callable[[BinaryIO], None],
    *,
    force: bool = False,
    inputs: Iterable[str | os.PathLike[str]] = (),
) -> None:
    """Write a file so that it appears complete or not at all.

    Args:
        path: Final place.
        write: Called once with the open temporary file.
        force: Whether an existing file may be replaced.
        inputs: Files that must not be replaced.

    Raises:
        UsageError: SNN230 or SNN231, see :func:`check_output`.
        EnvironmentFailure: SNN603, if the place cannot be written.
    """
    atomic_writes([(path, write)], force=force, inputs=inputs)


def atomic_writes(
    outputs: Iterable[OutputFile],
    *,
    force: bool = False,
    inputs: Iterable[str | os.PathLike[str]] = (),
) -> None:
    """Write several files so that none appears before all are complete; see `atomic_write`.

    Args:
        outputs: Final place of each, and what is called with its open temporary file, in this order.
        force: Whether existing files may be replaced.
        inputs: Files that must not be replaced.
    """
    made = [(Path(path), write) for path, write in outputs]
    kept = [*inputs]
    for target, _ in made:
        check_output(target, force=force, inputs=kept)
    waiting: list[Path] = []
    target = Path()
    try:
        for target, write in made:
            descriptor, name = tempfile.mkstemp(
                prefix=f".{target.name[:80]}.", suffix=".tmp", dir=target.parent
            )
            waiting.append(Path(name))
            with os.fdopen(descriptor, "wb") as stream:
                write(stream)
                stream.flush()
                os.fsync(stream.fileno())
            # mkstemp makes 0600; an output gets the permissions that any new file of this user would get.
            waiting[-1].chmod(0o666 & ~_umask())
        for target, _ in made:
            waiting[0].replace(target)
            del waiting[0]
            _sync_folder(target.parent)
    except OSError as error:
        raise EnvironmentFailure(
            "SNN603", f"cannot be written: {error.strerror or error}", where=Where(file=os.fspath(target))
        ) from error
    finally:
        for temporary in waiting:
            with contextlib.suppress(OSError):
                temporary.unlink()


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current


def _sync_folder(folder: Path) -> None:
    # Some file systems refuse to sync a folder; the rename itself has happened by then.
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _near_matches(path: Path) -> str | None:
    try:
        names = sorted(entry.name for entry in path.parent.iterdir() if entry.is_file())
    except OSError:
        return None
    near = get_close_matches(path.name, names, n=3)
    if near:
        return "did you mean " + " or ".join(str(path.parent / name) for name in near) + "?"
    same = [name for name in names if Path(name).suffix == path.suffix][:5]
    return f"files there: {', '.join(same)}" if same else None
