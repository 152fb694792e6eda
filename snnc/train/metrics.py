"""Figures of a training run: one JSON object a line, and TensorBoard's files if it is installed."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from snnc.errors import EnvironmentFailure, Where

__all__ = ["Metrics"]


class Metrics:
    """Writes figures by step.

    ``metrics.jsonl`` always; TensorBoard's event files beside it where the package ``tensorboard`` is
    installed (``pip install 'snnc[train]'``).

    Args:
        folder: Where to write; ``None``: nowhere.
        first: Step to go on from: later lines of an interrupted run are dropped.

    Attributes:
        tensorboard: Whether event files are written.

    Raises:
        EnvironmentFailure: SNN603 if the folder or a file cannot be written; so do the methods.
    """

    def __init__(self, folder: Path | None, *, first: int = 0) -> None:
        self._path = None if folder is None else folder / "metrics.jsonl"
        self._writer: Any = None
        self.tensorboard = False
        if folder is None or self._path is None:
            return
        with _writing(self._path):
            folder.mkdir(parents=True, exist_ok=True)
            lines = self._path.read_text().splitlines(keepends=True) if first and self._path.is_file() else []
            kept = [line for line in lines if _step(line) <= first]
            self._path.write_text("".join(kept))
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            return
        self._hook = threading.excepthook
        threading.excepthook = self._pass_over
        try:
            with _writing(folder):
                # Of an earlier run in this folder, TensorBoard drops what is taken again.
                self._writer = SummaryWriter(str(folder), purge_step=first + 1)
        finally:
            if self._writer is None:
                threading.excepthook = self._hook
        self.tensorboard = True

    def write(self, step: int, **values: float) -> None:
        """Write figures of one step.

        Args:
            step: Number of optimiser steps done.
            **values: Figures by name; a double underscore becomes a slash, TensorBoard's grouping.
        """
        if self._path is None:
            return
        named = {name.replace("__", "/"): round(float(value), 6) for name, value in values.items()}
        with _writing(self._path), self._path.open("a") as file:
            file.write(json.dumps({"step": step, **named}) + "\n")
        if self._writer is not None:
            with _writing(self._path.parent):
                for name, value in named.items():
                    self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        """Write what is held back."""
        if self._writer is None or self._path is None:
            return
        writer, self._writer = self._writer, None
        try:
            with _writing(self._path.parent):
                writer.close()
        finally:
            threading.excepthook = self._hook

    def _pass_over(self, fault: threading.ExceptHookArgs) -> None:
        """Say nothing of a disk that is full in TensorBoard's thread: whoever calls it next is told."""
        if not isinstance(fault.exc_value, OSError) or not _is_of_tensorboard(fault.thread):
            self._hook(fault)


def _is_of_tensorboard(thread: threading.Thread | None) -> bool:
    return type(thread).__module__.partition(".")[0] == "tensorboard"


@contextmanager
def _writing(place: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        text = f"cannot be written: {error.strerror or error}"
        raise EnvironmentFailure("SNN603", text, where=Where(file=error.filename or str(place))) from error


def _step(line: str) -> float:
    """Return the step of a line; one that a full disk or a power cut has left half written comes last."""
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return float("inf")
