"""How an error is said: one block of text that is safe for a terminal, and a report if it is our bug."""

from __future__ import annotations

import os
import platform
import tempfile
import traceback
import unicodedata
from collections.abc import Sequence

from snnc import __version__
from snnc.errors import InternalError, SnncError

__all__ = ["error_block", "printable", "remedy", "unexpected", "with_report"]

_ISSUES = "please report it with that file"


def printable(text: str) -> str:
    """Make text from a file safe for a terminal: control and direction characters appear as escapes.

    So do line feeds: a name that holds one must not begin a line that looks like snnc's own.
    """
    return "".join(
        letter
        if unicodedata.category(letter) not in ("Cc", "Cf", "Cs", "Co", "Zl", "Zp")
        else letter.encode("unicode_escape").decode("ascii")
        for letter in text
    )


def remedy(error: SnncError) -> str | None:
    """Return the hint of an error; one without a hint of its own has what the page of its code says to do."""
    if error.hint:
        return error.hint
    from snnc.explain import pages

    found = pages().get(error.code)
    return found.do if found is not None else None


def error_block(error: SnncError) -> str:
    """Return the lines that say an error: what, where, what to do; with the last line feed."""
    hint = remedy(error)
    text = str(error) if error.hint or not hint else f"{error}\n  hint: {hint}"
    return "error: " + "\n".join(printable(line) for line in text.split("\n")) + "\n"


def unexpected(error: Exception, arguments: Sequence[str]) -> InternalError:
    """Return the error for an exception that nobody foresaw, while it is handled; see `with_report`."""
    first = (str(error).strip().splitlines() or [""])[0][:200]
    return with_report(InternalError("SNN100", f"{type(error).__name__}: {first}"), arguments)


def with_report(error: InternalError, arguments: Sequence[str]) -> InternalError:
    """Write the crash report of the exception being handled and name it in the error.

    Args:
        error: What is said of it.
        arguments: The command line.
    """
    lines = [
        f"snnc {__version__}, Python {platform.python_version()}, {platform.system()} {platform.machine()}",
        f"arguments: {list(arguments)!r}",
        "",
        traceback.format_exc(),
    ]
    try:
        descriptor, path = tempfile.mkstemp(prefix="snnc-crash-", suffix=".txt")
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="backslashreplace") as stream:
            stream.write("\n".join(lines))
        place = f"this is a bug in snnc; details are in {path}: {_ISSUES}"
    except OSError:
        place = "this is a bug in snnc; run again with --debug and report what it prints"
    hint = f"{error.hint}; {place}" if error.hint else place
    return InternalError(error.code, error.message, where=error.where, hint=hint, problems=error.problems)
