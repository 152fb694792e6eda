"""A user's command that judges a model by its exit status."""

from __future__ import annotations

import shlex
import subprocess
import tempfile
from pathlib import Path

from snnc.debug.steps import runnable
from snnc.errors import EnvironmentFailure, UsageError
from snnc.ir import Model, save

__all__ = ["Script"]

_PLACE = "{}"


class Script:
    """A command with ``{}`` where the path of the model goes; exit status 0 means that all is well.

    The command is split as a shell would, but no shell runs it.

    Args:
        text: The command.
        seconds: When to give up.

    Raises:
        UsageError: SNN295, it is empty, has an open quote, or no ``{}``.
    """

    def __init__(self, text: str, seconds: float = 600.0) -> None:
        try:
            self._words = shlex.split(text)
        except ValueError as error:
            raise UsageError("SNN295", f"the command {text!r} is malformed: {error}") from None
        if not any(_PLACE in word for word in self._words):
            raise UsageError(
                "SNN295", f"the command {text!r} does not say where the model goes", hint="write {} there"
            )
        self._seconds = seconds

    def status(self, model: Model) -> int:
        """Run the command on a model and return its exit status; a negative one is a signal.

        Raises:
            EnvironmentFailure: SNN621, it cannot be run, or takes too long.
        """
        with tempfile.TemporaryDirectory(prefix="snnc-") as folder:
            path = Path(folder) / "model.onnx"
            save(runnable(model), path)
            words = [word.replace(_PLACE, str(path)) for word in self._words]
            try:
                done = subprocess.run(
                    words, stdin=subprocess.DEVNULL, capture_output=True, timeout=self._seconds, check=False
                )
            except OSError as error:
                raise EnvironmentFailure("SNN621", f"the command cannot be run: {error}") from None
            except subprocess.TimeoutExpired:
                raise EnvironmentFailure(
                    "SNN621", f"the command took more than {self._seconds:g} s"
                ) from None
        return done.returncode
