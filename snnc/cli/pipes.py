"""``-`` in place of a file: a model from standard input, a result to standard output."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from snnc.cli.output import Output
from snnc.errors import EnvironmentFailure, InputError, SnncError, UsageError, Where

__all__ = ["STREAM", "Piped", "piped"]

STREAM = "-"
_CHUNK = 1 << 20
#: A message of protobuf holds no more.
_LARGEST = 2**31


@dataclass(frozen=True)
class Piped:
    """Where a command reads and writes.

    Attributes:
        source: File to read; a private copy of standard input.
        target: File to write; a private one that goes to standard output at the end. None: not chosen.
        shown: Name of the source for messages.
        written: Name of the target for messages.
        streams: Whether either is a stream.
    """

    source: str
    target: str | None
    shown: str
    written: str | None
    streams: bool


@contextmanager
def piped(output: Output, source: str, target: str | None) -> Iterator[Piped]:
    """Let ``-`` stand for standard input and output; what a command says goes to stderr then.

    Args:
        output: Streams of the command.
        source: Model to read; ``-`` is standard input.
        target: Where the result goes; ``-``, or nothing behind a source of ``-``, is standard output.

    Raises:
        UsageError: SNN257, standard output is wanted for two things, or is a terminal.
        InputError: SNN302, standard input has too many bytes for a model.
    """
    out = target == STREAM or (source == STREAM and target is None)
    if source != STREAM and not out:
        yield Piped(source, target, source, target, streams=False)
        return
    if out and output.settings.json:
        raise UsageError("SNN257", "model and JSON would both go to stdout", hint="name an output: -o FILE")
    if out and sys.stdout is not None and sys.stdout.isatty():
        raise UsageError("SNN257", "the model would go to a terminal", hint="name an output: -o FILE")
    with tempfile.TemporaryDirectory(prefix="snnc-") as folder:
        given = str(Path(folder) / "stdin.onnx") if source == STREAM else source
        made = str(Path(folder) / "stdout.onnx") if out else target
        if out:
            output.divert()
        try:
            if source == STREAM:
                _keep(sys.stdin.buffer, Path(given))
            yield Piped(given, made, source, STREAM if out else target, streams=True)
        except SnncError as error:
            if error.where.file in (given, made):
                error.where = replace(error.where, file=STREAM)
            raise
        if out and made is not None:
            _send(Path(made))


def _keep(stream: BinaryIO, place: Path) -> None:
    """Copy a stream into a file, a piece at a time."""
    size = 0
    with place.open("xb") as copy:
        while piece := stream.read(_CHUNK):
            size += len(piece)
            if size > _LARGEST:
                raise InputError(
                    "SNN302", f"has more than {_LARGEST} bytes, no ONNX model has", where=Where(file=STREAM)
                )
            copy.write(piece)


def _send(place: Path) -> None:
    if Path(f"{place}.data").exists():
        raise UsageError("SNN257", "two files do not go through one stream", hint="name an output: -o FILE")
    try:
        with place.open("rb") as stream:
            shutil.copyfileobj(stream, sys.stdout.buffer)
        sys.stdout.buffer.flush()
    except BrokenPipeError as error:
        raise EnvironmentFailure("SNN605", "nobody reads the output") from error
