"""The errors snnc raises: a code, where it happened, and what to do about it.

The first digit of the code fixes the exit status of the command line:
SNN1xx a bug in snnc (1), SNN2xx usage (2), SNN3xx input refused (3), SNN4xx unsupported or does not
fit (4), SNN5xx verification failed (5), SNN6xx environment (6).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

__all__ = [
    "EnvironmentFailure",
    "InputError",
    "InternalError",
    "MismatchError",
    "Problem",
    "SnncError",
    "Terminated",
    "UnsupportedError",
    "UsageError",
    "Where",
]


_LONGEST_NAME = 300


class Terminated(BaseException):
    """The process was asked to end (SIGTERM); a BaseException, so that only clean-up code sees it."""


@dataclass(frozen=True)
class Where:
    """The place an error speaks of; names are those of the user's file.

    Attributes:
        file: Path as the user wrote it.
        node: Node name.
        tensor: Tensor name.
        pass_name: Name of the pass that was running.
    """

    file: str | None = None
    node: str | None = None
    tensor: str | None = None
    pass_name: str | None = None

    def __str__(self) -> str:
        parts = [
            f"{label} {_short(value)!r}"
            for label, value in (
                ("file", self.file),
                ("pass", self.pass_name),
                ("node", self.node),
                ("tensor", self.tensor),
            )
            if value is not None
        ]
        return ", ".join(parts)


def _short(name: str) -> str:
    """Return a name as messages show it; names come from files and may be of any length."""
    return name if len(name) <= _LONGEST_NAME else f"{name[:100]}…{name[-100:]}"


@dataclass(frozen=True)
class Problem:
    """One finding of a stage that collects all of its findings before it raises."""

    message: str
    where: Where = Where()

    def __str__(self) -> str:
        place = str(self.where)
        return f"{place}: {self.message}" if place else self.message


class SnncError(Exception):
    """Base of all errors that snnc raises on purpose.

    Args:
        code: Error code such as ``"SNN401"``; see ``snnc explain``.
        message: What is wrong, in one sentence.
        where: File, node, tensor or pass concerned.
        hint: What the user can do.
        problems: All findings, in graph order, where one stage found several.
    """

    exit_code: ClassVar[int] = 1
    family: ClassVar[str] = "SNN1"

    def __init__(
        self,
        code: str,
        message: str,
        *,
        where: Where | None = None,
        hint: str | None = None,
        problems: Sequence[Problem] = (),
    ) -> None:
        if not code.startswith(self.family):
            raise ValueError(f"{type(self).__name__} takes codes {self.family}xx, not {code}")
        super().__init__(message)
        self.code = code
        self.message = message
        self.where = where or Where()
        self.hint = hint
        self.problems = tuple(problems)

    def in_file(self, file: str) -> None:
        """Say which file the error is about, unless it says so already."""
        if self.where.file is None:
            self.where = replace(self.where, file=file)

    def __str__(self) -> str:
        place = str(self.where)
        lines = [f"{self.code}: {place}: {self.message}" if place else f"{self.code}: {self.message}"]
        lines += [f"  - {problem}" for problem in self.problems]
        if self.hint:
            lines.append(f"  hint: {self.hint}")
        # A line feed in a name must not begin a line.
        return "\n".join(line.replace("\n", "\\n") for line in lines)


class InternalError(SnncError):
    """A broken contract inside snnc: our bug."""


class UsageError(SnncError):
    """Flags, options or pipeline order are wrong."""

    exit_code = 2
    family = "SNN2"


class InputError(SnncError):
    """A model or data file is refused."""

    exit_code = 3
    family = "SNN3"


class UnsupportedError(SnncError):
    """The model holds something that snnc cannot convert, or that does not fit."""

    exit_code = 4
    family = "SNN4"


class MismatchError(SnncError):
    """Two executions that must agree do not."""

    exit_code = 5
    family = "SNN5"


class EnvironmentFailure(SnncError):
    """Disk, permission, or a missing optional package."""

    exit_code = 6
    family = "SNN6"
