"""What benchmarks share: the machine they ran on, and sections of RESULTS.md."""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path

__all__ = ["processor", "write_section"]

_HEAD = "# Benchmark results\n\nEach section is written by the script that its command names.\n"


def write_section(path: Path, title: str, lines: list[str]) -> None:
    """Replace the section ``## title`` of a Markdown file, or append it.

    Args:
        path: The file; made if absent.
        title: Heading of the section.
        lines: Its content; no line may start with ``## ``.
    """
    text = path.read_text() if path.is_file() else _HEAD
    section = f"## {title}\n\n" + "\n".join(lines) + "\n"
    pattern = re.compile(rf"^## {re.escape(title)}\n.*?(?=^## |\Z)", re.MULTILINE | re.DOTALL)
    if pattern.search(text):
        text = pattern.sub(lambda _: f"{section}\n", text)
    else:
        text = f"{text.rstrip()}\n\n{section}"
    path.write_text(text.rstrip() + "\n")


def processor() -> str:
    """Return the name of the processor."""
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return f"{line.partition(':')[2].strip()}, {os.cpu_count()} cores"
    return f"{platform.machine()}, {os.cpu_count()} cores"
