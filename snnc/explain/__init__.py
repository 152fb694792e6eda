"""A page for each error code: what it means, why it is an error, what to do, and an example.

The pages are data: one TOML file for each class of errors beside this module. ``snnc explain`` and
``docs/errors.md`` are made from them, and a test compares them with the codes that the source raises.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from importlib import resources

from snnc.errors import (
    EnvironmentFailure,
    InputError,
    InternalError,
    MismatchError,
    SnncError,
    UnsupportedError,
    UsageError,
)

__all__ = ["FAMILIES", "Page", "markdown", "page", "pages"]

#: The classes of errors, by the first digit of their codes.
FAMILIES: tuple[type[SnncError], ...] = (
    InternalError,
    UsageError,
    InputError,
    UnsupportedError,
    MismatchError,
    EnvironmentFailure,
)


@dataclass(frozen=True)
class Page:
    """What there is to say about one code.

    Attributes:
        code: Such as ``SNN301``.
        what: What it means, in one sentence.
        why: Why it is an error.
        do: What to do.
        example: A command or call that ends like this, or the line that it prints.
    """

    code: str
    what: str
    why: str
    do: str
    example: str

    @property
    def family(self) -> type[SnncError]:
        """The class of errors; it fixes the exit status."""
        return FAMILIES[int(self.code[3]) - 1]

    @property
    def exit_code(self) -> int:
        """Exit status of a command that ends with this code."""
        return self.family.exit_code


@cache
def pages() -> dict[str, Page]:
    """Return all pages by code, in order."""
    return {found.code: found for found in sorted(_read(), key=lambda each: each.code)}


def page(text: str) -> Page:
    """Return the page of a code; ``SNN301``, ``snn-301`` and ``301`` mean the same.

    Raises:
        UsageError: SNN294, there is no such code; the hint names the nearest.
    """
    known = pages()
    digits = re.fullmatch(r"(?:SNN)?[- ]?(\d{1,4})", text.strip(), re.IGNORECASE)
    code = f"SNN{digits[1]}" if digits else text.strip().upper()
    if code in known:
        return known[code]
    begun = [each for each in known if each.startswith(code)] if digits else []
    near = begun[:3] or get_close_matches(code, known, n=3, cutoff=0.6)
    hint = f"did you mean {' or '.join(near)}?" if near else "'snnc explain' lists all codes"
    raise UsageError("SNN294", f"there is no error code {text!r}", hint=hint)


def markdown() -> str:
    """Return ``docs/errors.md``."""
    lines = [
        "# Error codes",
        "",
        "What `snnc explain CODE` prints. The first digit fixes the exit status of the command line.",
        "This page is made by `python docs/make_errors.py`; its text is in `snnc/explain/`.",
    ]
    for number, family in enumerate(FAMILIES, 1):
        said = (family.__doc__ or "").split("\n")[0].rstrip(".")
        lines += ["", f"## SNN{number}xx: {said[0].lower()}{said[1:]} (exit status {family.exit_code})"]
        for found in pages().values():
            if found.family is family:
                lines += ["", f"### {found.code}", "", f"{found.what} {found.why}", "", f"**Do:** {found.do}"]
                lines += ["", "```text", found.example, "```"]
    return "\n".join(lines) + "\n"


def _read() -> Iterator[Page]:
    for number in range(1, len(FAMILIES) + 1):
        text = resources.files("snnc.explain").joinpath(f"snn{number}.toml").read_text(encoding="utf-8")
        for code, fields in tomllib.loads(text).items():
            yield Page(code, **fields)
