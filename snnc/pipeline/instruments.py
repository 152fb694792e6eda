"""Observers of a pipeline: run times and progress."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from typing import TextIO

from snnc.ir import Model, clone
from snnc.pipeline.contract import Pass
from snnc.pipeline.digest import node_count
from snnc.pipeline.manager import Instrument, PassRecord

__all__ = ["Before", "Progress", "Timing"]


class Timing(Instrument):
    """Collects the run time of every pass.

    Attributes:
        seconds: ``(pass name, seconds)`` in running order; checks and dumps are not included.
    """

    def __init__(self) -> None:
        self.seconds: list[tuple[str, float]] = []

    def after(self, index: int, record: PassRecord, model: Model) -> None:
        """Note the time of one pass."""
        self.seconds.append((record.name, record.seconds))

    def total(self) -> float:
        """Return the sum of all passes, in seconds."""
        return sum(seconds for _, seconds in self.seconds)


class Before(Instrument):
    """Keeps the model as it was before the pass that failed; weights are shared, so the copy is small.

    Attributes:
        failed: The pass that failed, None if none did.
        model: The model before it.
    """

    def __init__(self) -> None:
        self.failed: Pass | None = None
        self.model: Model | None = None
        self._outdated = True

    def before(self, index: int, step: Pass, model: Model) -> None:
        """Copy the model, unless the passes since the last copy changed nothing."""
        if self._outdated:
            self.model = clone(model)
            self._outdated = False

    def after(self, index: int, record: PassRecord, model: Model) -> None:
        """Note whether the copy is still the model."""
        self._outdated |= record.changed

    def fail(self, index: int, step: Pass, model: Model, error: BaseException) -> None:
        """Remember which pass failed."""
        self.failed = step


class Progress(Instrument):
    """Says on a stream (stderr, by rule) which pass is running: one line a pass.

    On a terminal the line appears when the pass starts and is completed when it ends; elsewhere only the
    completed line is written, so that a log has one line a pass. No escape sequences are used.

    Args:
        stream: Where to write.
        live: Whether the stream is a terminal; default: asked from the stream.
    """

    def __init__(self, stream: TextIO, *, live: bool | None = None) -> None:
        self._stream = stream
        self._live = stream.isatty() if live is None else live
        self._total = 0
        self._pending = ""

    def begin(self, model: Model, steps: Sequence[Pass]) -> None:
        """Learn how many passes there are."""
        self._total = len(steps)

    def before(self, index: int, step: Pass, model: Model) -> None:
        """Show the pass that starts."""
        if self._live:
            self._pending = self._cut(f"{self._head(index)} {step.name} ...")
            self._write(self._pending)

    def after(self, index: int, record: PassRecord, model: Model) -> None:
        """Complete the line of the pass."""
        count = len(record.rewrites)
        nodes = (
            f"{record.nodes_before} -> {record.nodes_after} nodes"
            if record.nodes_before != record.nodes_after
            else f"{record.nodes_after} nodes"
        )
        text = f"{count} rewrite{'' if count == 1 else 's'}" if count else "no change"
        self._finish(f"{self._head(index)} {record.name}: {text}, {nodes}, {record.seconds:.2f} s")

    def fail(self, index: int, step: Pass, model: Model, error: BaseException) -> None:
        """Complete the line of the pass that failed."""
        nodes = node_count(model)
        self._finish(f"{self._head(index)} {step.name}: FAILED at {nodes} nodes")

    def _head(self, index: int) -> str:
        return f"[{index + 1:>{len(str(self._total))}}/{self._total}]"

    def _finish(self, line: str) -> None:
        line = self._cut(line)
        if self._live:
            # Carriage return and blanks clear the unfinished line on every terminal.
            line = "\r" + line.ljust(len(self._pending))
            self._pending = ""
        self._write(line + "\n")

    def _cut(self, line: str) -> str:
        if not self._live:
            return line
        width = shutil.get_terminal_size((80, 24)).columns
        return line if len(line) < width else line[: max(width - 2, 1)] + "~"

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()
