"""Where the command line writes: results to stdout, remarks to stderr, one JSON document on request."""

from __future__ import annotations

import io
import json
import os
import shutil
import sys
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TextIO

from snnc.errors import EnvironmentFailure, SnncError
from snnc.failures import error_block, printable, remedy

__all__ = ["SCHEMA_VERSION", "Output", "Settings", "printable", "write_error"]

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Settings:
    """The global flags.

    Attributes:
        json: Print one JSON document instead of text.
        quiet: Print nothing but results and errors.
        force: Replace existing outputs.
        no_color: Never use colours.
        debug: Show the traceback of an unexpected exception.
        allow_hardlinks: Read external weights from files that have other names.
    """

    json: bool = False
    quiet: bool = False
    force: bool = False
    no_color: bool = False
    debug: bool = False
    allow_hardlinks: bool = False


class Output:
    """The streams of one command.

    A reader that goes away (``snnc ... | head -1``) is no error: the rest is dropped and the exit code stays
    that of the command.

    Args:
        settings: The global flags.
        command: Name of the command, for the JSON document.
    """

    def __init__(self, settings: Settings, command: str) -> None:
        self.settings = settings
        self.command = command
        self.width = shutil.get_terminal_size((80, 24)).columns
        # A log file, or whoever reads a pipe, wants a sentence in one line.
        self._folds = bool(os.environ.get("COLUMNS")) or bool(sys.stdout and sys.stdout.isatty())
        self._diverted = False

    def divert(self) -> None:
        """Send result lines to stderr: stdout is for a file."""
        self._diverted = True

    def result(self, text: str = "") -> None:
        """Write a result line to stdout, unless that is a JSON document; names in it cannot do harm."""
        if self._diverted:
            self.say(text)
        elif not self.settings.json:
            _write(sys.stdout, printable(text) + "\n")

    def prose(self, text: str, indent: str = "") -> None:
        """Write a sentence to stdout; on a terminal it is wrapped, and what follows is indented."""
        for line in self._folded(text, indent):
            self.result(line)

    def _folded(self, text: str, indent: str = "") -> list[str]:
        """Return the lines of a sentence, none wider than the terminal but for words that are."""
        whole = indent + printable(text)
        if not self._folds or len(whole) <= self.width:
            return [whole]
        return textwrap.wrap(
            whole,
            max(self.width, 20),
            subsequent_indent=indent + "  ",
            break_long_words=False,
            break_on_hyphens=False,
        )

    def results(self, text: str) -> None:
        """Write several result lines."""
        for line in text.split("\n"):
            self.result(line)

    def say(self, text: str) -> None:
        """Write a remark to stderr, unless the user wants quiet; see `prose`."""
        if not self.settings.quiet:
            for line in self._folded(text):
                _write(sys.stderr, line + "\n")

    def verbatim(self, text: str) -> None:
        """Write to stderr what is to be copied, such as a command: in one line, however long."""
        if not self.settings.quiet:
            _write(sys.stderr, printable(text) + "\n")

    def document(self, content: Mapping[str, Any]) -> None:
        """Write the JSON document to stdout, if the user wants one."""
        if self.settings.json:
            whole = {"schema_version": SCHEMA_VERSION, "command": self.command, **content}
            _write(sys.stdout, json.dumps(whole, indent=2, ensure_ascii=True, allow_nan=False) + "\n")

    def complain(self, error: SnncError) -> None:
        """Write an error block to stderr without ending the command: the document tells the details."""
        write_error(error, command=self.command, as_json=False)

    def progress_stream(self) -> TextIO:
        """Return the stream for progress lines: stderr, or nowhere if the user wants quiet."""
        return io.StringIO() if self.settings.quiet else _Safe(sys.stderr)

    def table(
        self, headings: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[int] = ()
    ) -> None:
        """Write a table to stdout that keeps to the width of the terminal; long cells are folded.

        Args:
            headings: Heading of each column.
            rows: Cells.
            right: Columns that are flushed right.
        """
        if self.settings.json:
            return
        from rich.box import SIMPLE_HEAD
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        table = Table(box=SIMPLE_HEAD, pad_edge=False, safe_box=True)
        for index, heading in enumerate(headings):
            table.add_column(
                Text(heading), justify="right" if index in right else "left", overflow="fold", no_wrap=False
            )
        for row in rows:
            table.add_row(*(Text(printable(cell)) for cell in row))
        buffer = io.StringIO()
        console = Console(
            file=buffer,
            width=self.width,
            force_terminal=self.colored(),
            color_system="standard" if self.colored() else None,
            no_color=not self.colored(),
            highlight=False,
            markup=False,
            emoji=False,
            safe_box=True,
        )
        console.print(table)
        # Cells are made safe above; what is left of control characters are colours.
        lines = [line.rstrip() for line in buffer.getvalue().splitlines()]
        stream = sys.stderr if self._diverted else sys.stdout
        if not (self._diverted and self.settings.quiet):
            _write(stream, "\n".join(line for line in lines if line) + "\n")

    def colored(self) -> bool:
        """Whether stdout is a terminal that wants colours."""
        return (
            not self.settings.no_color
            and "NO_COLOR" not in os.environ
            and os.environ.get("TERM") != "dumb"
            and os.environ.get("CI", "").lower() not in ("1", "true")
            and sys.stdout is not None
            and sys.stdout.isatty()
        )


def write_error(error: SnncError, *, command: str | None, as_json: bool) -> None:
    """Write one error block to stderr and, with ``--json``, the error as a document to stdout.

    Args:
        error: What went wrong.
        command: Name of the command, if one was reached.
        as_json: Whether stdout gets a document.
    """
    _write(sys.stderr, error_block(error))
    if as_json:
        where = {
            "file": error.where.file,
            "node": error.where.node,
            "tensor": error.where.tensor,
            "pass": error.where.pass_name,
        }
        document = {
            "schema_version": SCHEMA_VERSION,
            "command": command,
            "error": {
                "code": error.code,
                "message": error.message,
                "where": where,
                "hint": remedy(error),
                "problems": [str(problem) for problem in error.problems],
                "exit_code": error.exit_code,
            },
        }
        _write(sys.stdout, json.dumps(document, indent=2, ensure_ascii=True) + "\n")


class _Safe(io.StringIO):
    """A stream that forwards to another one and survives a reader that goes away."""

    def __init__(self, target: TextIO | None) -> None:
        super().__init__()
        self._target = target

    def write(self, text: str) -> int:
        _write(self._target, text)
        return len(text)

    def isatty(self) -> bool:
        return self._target is not None and self._target.isatty()


def _write(stream: TextIO | None, text: str) -> None:
    if stream is None:
        # Python starts without a stream where the file descriptor is closed.
        raise EnvironmentFailure("SNN605", "the output stream is closed")
    try:
        try:
            stream.write(text)
        except UnicodeEncodeError:
            encoding = stream.encoding or "ascii"
            stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
        stream.flush()
    except BrokenPipeError:
        _silence(stream)
    except OSError as error:
        _silence(stream)
        raise EnvironmentFailure("SNN605", f"the output cannot be written: {error.strerror}") from error


def _silence(stream: TextIO) -> None:
    """Point a stream that nobody reads at nothing, so that the interpreter's last flush succeeds."""
    try:
        descriptor = stream.fileno()
    except (OSError, ValueError):
        return
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, descriptor)
    os.close(nothing)
