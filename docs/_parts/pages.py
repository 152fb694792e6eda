"""Markers in pages: parts of other documents, and tables made of snnc's registries.

``<!-- all of PATH -->`` and ``<!-- section "TITLE" of PATH -->`` stand for a document or a part of one,
``<!-- made: NAME -->`` for what a function of `_parts.registry` or `_parts.commands` returns, and
``<!-- other pages -->`` in the index for every page that it does not name.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from _parts import commands, registry
from _parts.links import adapted, section

__all__ = ["MADE", "expanded", "foreign", "setup", "shown"]

ROOT = Path(__file__).resolve().parents[2]
#: Documents outside of docs/ that a page shows, and folders that one stands for.
_ELSEWHERE = {
    "README.md": "docs/readme.md",
    "CONTRIBUTING.md": "docs/contributing.md",
    "CHANGELOG.md": "docs/changelog.md",
    "LICENSE": "docs/licence.md",
    "benchmarks/RESULTS.md": "docs/results.md",
    "docs/decisions": "docs/decisions.md",
    "docs/guides": "docs/guides/timm.md",
}
MADE: dict[str, Callable[[], str]] = {
    "commands": commands.reference,
    "ops": registry.ops,
    "passes": registry.passes,
    "operators": registry.operators,
    "functions": registry.functions,
    "refused": registry.refused,
    "code books": registry.code_books,
    "licence": lambda: f"```text\n{(ROOT / 'LICENSE').read_text(encoding='utf-8')}```\n",
}
_MARKER = re.compile(r'^<!-- (all|section "(?P<title>[^"]+)") of (?P<path>\S+) -->$', re.MULTILINE)
_MADE = re.compile(r"^<!-- made: (.+?) -->$", re.MULTILINE)
_LOADS = re.compile(r'<(?:script|link|img|iframe|source)\b[^>]*\b(?:src|href)="(?:https?:)?//[^>]*>')
_OTHERS = "<!-- other pages -->"


def shown() -> dict[str, str]:
    """Return for each file and folder of the repository that the site shows the page that does."""
    inside = (path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md"))
    return {path: path for path in inside if not path.startswith("docs/_")} | _ELSEWHERE


def expanded(text: str, page: str) -> tuple[str, list[Path]]:
    """Fill in the markers of a page.

    Args:
        text: The page as it is in the repository.
        page: Its path from the root of the repository.

    Returns:
        The page as Sphinx reads it, and the files that it was made of.
    """
    pages, used = shown(), []

    def part(found: re.Match[str]) -> str:
        path = ROOT / found["path"]
        used.append(path)
        whole = path.read_text(encoding="utf-8")
        text = section(whole, found["title"]) if found["title"] else whole
        return adapted(text, found["path"], page, pages)

    text = _MARKER.sub(part, adapted(text, page, page, pages))
    text = _MADE.sub(lambda found: MADE[found[1]](), text)
    if _OTHERS in text:
        left = sorted(
            Path(path).stem
            for path in pages
            if re.fullmatch(r"docs/\w[\w-]*\.md", path)
            and not re.search(rf"\b{Path(path).stem}$", text, re.M)
        )
        text = text.replace(_OTHERS, "\n".join(name for name in left if name != "index"))
    return text, used


def _read(app: Any, name: str, content: list[str]) -> None:
    content[0], used = expanded(content[0], f"docs/{name}.md")
    for path in used:
        app.env.note_dependency(str(path))


def foreign(folder: Path) -> list[str]:
    """List what the pages of a built site load from elsewhere; empty as it works offline.

    Args:
        folder: The site.
    """
    pages = ((page, page.read_text(encoding="utf-8")) for page in sorted(folder.rglob("*.html")))
    return [f"{page.relative_to(folder)}: {tag}" for page, text in pages for tag in _LOADS.findall(text)]


def _check(app: Any, error: Exception | None) -> None:
    if error is None and (found := foreign(Path(app.outdir))):
        from sphinx.errors import ExtensionError

        raise ExtensionError("the site loads from elsewhere:\n" + "\n".join(found))


def setup(app: Any) -> dict[str, bool]:
    """Register the markers, and listings of ExpG-1 as plain text."""
    app.connect("source-read", _read)
    app.connect("build-finished", _check)
    # Here, so that pages can be filled in without Sphinx.
    from pygments.lexers.special import TextLexer

    app.add_lexer("expg1", TextLexer)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
