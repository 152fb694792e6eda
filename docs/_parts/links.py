"""Links of documents that stand elsewhere in the repository, made to fit the page that shows them."""

from __future__ import annotations

import os.path
import re
from collections.abc import Mapping
from pathlib import PurePosixPath

__all__ = ["adapted", "section"]

_FENCED = re.compile(r"(^(`{3,}|:{3,})[^\n]*\n.*?^\2[^\n]*$)", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s#]*)(#[^)\s]*)?\)")
_PICTURES = (".png", ".svg")


def section(text: str, title: str) -> str:
    """Return what stands under a heading, without it, up to the next heading of the same or a higher level.

    Raises:
        ValueError: There is no such heading.
    """
    lines, start, level, fenced = text.splitlines(), None, 0, False
    for number, line in enumerate(lines):
        fenced ^= line.startswith("```")
        found = None if fenced else re.match(r"(#+) (.*)", line)
        if found is None:
            continue
        if start is not None and len(found[1]) <= level:
            return "\n".join(lines[start:number]).strip() + "\n"
        if start is None and found[2].strip() == title:
            start, level = number + 1, len(found[1])
    if start is None:
        raise ValueError(f"there is no section {title!r}")
    return "\n".join(lines[start:]).strip() + "\n"


def adapted(text: str, origin: str, page: str, pages: Mapping[str, str]) -> str:
    """Return a text with its links adapted: to pages of the site, or to the names of files in the repository.

    Args:
        text: Markdown.
        origin: Path of the file it comes from, from the root of the repository.
        page: Path of the page that shows it, likewise.
        pages: For each file and folder of the repository that the site shows, the page that does.
    """

    def relative(path: str) -> str:
        return os.path.relpath(path, PurePosixPath(page).parent).replace(os.sep, "/")

    def link(found: re.Match[str]) -> str:
        picture, label, target, anchor = found[1], found[2], found[3], found[4] or ""
        if not target or re.match(r"[a-z]+:", target):
            return found[0]
        path = os.path.normpath(str(PurePosixPath(origin).parent / target)).replace(os.sep, "/")
        if path in pages:
            return f"[{label}]({relative(pages[path])}{anchor})"
        if picture or path.endswith(_PICTURES):
            return f"{picture}[{label}]({relative(path)})"
        # What only a checkout has is named, not linked.
        name = label.strip("`")
        return f"`{path}`" if path.endswith(name) else f"{label} (`{path}`)"

    parts = _FENCED.split(text)
    # split() gives text, block, fence; text, block, fence; ...
    return "".join(
        _LINK.sub(link, part) if place % 3 == 0 else part
        for place, part in enumerate(parts)
        if place % 3 != 2
    )
