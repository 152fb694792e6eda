"""A line that counts samples, on terminals."""

from __future__ import annotations

from typing import TextIO

__all__ = ["SampleCounter"]


class SampleCounter:
    """Shows how many samples are done: on a terminal one line that is cleared at the end, elsewhere nothing.

    Args:
        stream: Where to write.
        what: What is done to the samples, such as ``calibrating``.
    """

    def __init__(self, stream: TextIO, what: str) -> None:
        self._stream = stream
        self._what = what
        self._live = stream.isatty()
        self._width = 0

    def __call__(self, done: int, count: int | None) -> None:
        """Show a number of samples, of so many in all if that is known."""
        if not self._live:
            return
        text = (
            f"{self._what}: {done} of {count} samples"
            if count is not None
            else f"{self._what}: {done} samples"
        )
        if done == count:
            text = ""
        self._stream.write("\r" + text.ljust(self._width) + ("" if text else "\r"))
        self._stream.flush()
        self._width = max(self._width, len(text))
