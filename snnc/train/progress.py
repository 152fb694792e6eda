"""What a training run says while it goes on: a moving line on a terminal, one line an epoch elsewhere."""

from __future__ import annotations

import sys
import time

__all__ = ["Progress"]


class Progress:
    """Shows how far a run is, on stderr.

    Args:
        total: Number of steps.
        steps: Steps an epoch.
        batch: Samples a step.
        first: Steps done before.
        quiet: Show nothing.
    """

    def __init__(self, total: int, steps: int, batch: int, *, first: int = 0, quiet: bool = False) -> None:
        self._total, self._steps, self._batch, self._first = total, steps, batch, first
        self._quiet, self._tty = quiet, sys.stderr.isatty()
        self._start = self._shown = self._epoch_start = time.monotonic()

    @property
    def rate(self) -> float:
        """Samples a second since the start of the epoch's clock; 0 before the first step."""
        return self._rate

    _rate = 0.0

    def step(self, done: int, loss: float) -> None:
        """Show a step.

        Args:
            done: Steps done.
            loss: Mean loss of the epoch so far.
        """
        now = time.monotonic()
        elapsed = max(now - self._start, 1e-9)
        self._rate = (done - self._first) * self._batch / elapsed
        if self._quiet or not self._tty or now - self._shown < 0.5:
            return
        self._shown = now
        left = elapsed / max(1, done - self._first) * (self._total - done)
        epoch, place = divmod(done, self._steps)
        text = (
            f"epoch {epoch + 1}/{-(-self._total // self._steps)} step {place}/{self._steps} loss {loss:.4f}"
        )
        print(f"\r{text} {self._rate:.0f}/s {left:.0f} s left ", end="", file=sys.stderr, flush=True)

    def epoch(self, number: int, epochs: int, text: str) -> None:
        """Show the end of an epoch.

        Args:
            number: Epochs done.
            epochs: Epochs planned.
            text: Its figures.
        """
        now = time.monotonic()
        if not self._quiet:
            start = "\r" if self._tty else ""
            seconds = now - self._epoch_start
            line = f"{start}epoch {number}/{epochs} {text} {seconds:.0f} s"
            print(line + ("     " if self._tty else ""), file=sys.stderr, flush=True)
        self._epoch_start = now
