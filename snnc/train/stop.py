"""Ctrl-C and SIGTERM: the step is finished and the checkpoint written before a run ends."""

from __future__ import annotations

import signal
import sys
from types import FrameType, TracebackType

__all__ = ["Interrupted", "Stop"]


class Interrupted(KeyboardInterrupt):
    """A run was asked to stop, and did so behind a whole step.

    Attributes:
        steps: Steps done.
        status: Exit status that a shell expects, 128 and the number of the signal.
        is_kept: Whether a checkpoint of these steps was written.
    """

    def __init__(self, steps: int, status: int, is_kept: bool) -> None:
        super().__init__(f"interrupted after step {steps}")
        self.steps, self.status, self.is_kept = steps, status, is_kept


class Stop:
    """Notes Ctrl-C and SIGTERM while it is entered; a second Ctrl-C raises at once.

    Outside of the main thread nothing is noted: Python handles signals there only.

    Args:
        patient: Let further signals pass: torchrun sends them to its processes again.

    Attributes:
        asked: Number of the signal that asked to stop; 0: none.
    """

    def __init__(self, *, patient: bool = False) -> None:
        self.asked, self._patient = 0, patient
        self._before: dict[signal.Signals, object] = {}

    def __enter__(self) -> Stop:
        try:
            for each in (signal.SIGINT, signal.SIGTERM):
                self._before[each] = signal.signal(each, self._note)
        except ValueError:  # not the main thread
            self._before.clear()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for each, handler in self._before.items():
            if handler is not None:  # None: it was not Python that set it
                signal.signal(each, handler)  # type: ignore[arg-type]

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.asked and not self._patient:
            raise KeyboardInterrupt
        if not self.asked and sys.stderr.isatty():
            print("\nstopping behind this step; again: at once", file=sys.stderr)
        self.asked = number
