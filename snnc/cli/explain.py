"""``snnc explain``: what an error code means and what to do about it."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from snnc.cli import options
from snnc.cli.output import Output

if TYPE_CHECKING:
    from snnc.explain import Page

__all__ = ["command"]


@options.command(
    "explain",
    "Explain error codes: what each means, why, what to do, an example. Without a code, list them all.",
    "snnc explain SNN261\nsnnc explain",
)
@click.argument("codes", metavar="[CODE]...", nargs=-1)
def command(output: Output, *, codes: Sequence[str]) -> None:
    """Explain error codes."""
    from snnc.explain import page, pages

    found = [page(code) for code in codes] if codes else list(pages().values())
    if codes:
        for number, each in enumerate(found):
            if number:
                output.result()
            _show(output, each)
    else:
        output.table(
            ["code", "exit", "what it means"],
            [[each.code, str(each.exit_code), each.what] for each in found],
            right=(1,),
        )
        output.prose("more about one of them: snnc explain CODE")
    output.document({"pages": [_page(each) for each in found]})


def _show(output: Output, page: Page) -> None:
    output.result(f"{page.code}, {page.family.__name__}, exit status {page.exit_code}")
    for label, text in (("", page.what), ("Why", page.why), ("What to do", page.do)):
        head = f"{label}: " if label else ""
        output.result()
        output.results("\n".join(textwrap.wrap(head + text, max(20, min(output.width, 100)))))
    output.result()
    output.result("Example:")
    for line in page.example.splitlines():
        output.prose(line, "  ")


def _page(page: Page) -> dict[str, Any]:
    return {
        "code": page.code,
        "class": page.family.__name__,
        "exit_code": page.exit_code,
        "what": page.what,
        "why": page.why,
        "do": page.do,
        "example": page.example,
    }
