"""A pass that fails leaves the model before it, and the one command that replays the failure."""

from __future__ import annotations

import contextlib
import shlex
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from snnc.cli.output import Output
from snnc.errors import SnncError

if TYPE_CHECKING:
    from snnc.pipeline import Before

__all__ = ["leaving_reproducer"]


@contextlib.contextmanager
def leaving_reproducer(output: Output, before: Before, *, refusals: bool) -> Iterator[None]:
    """Write a reproducer if a pass fails in the block, and name it on stderr.

    Args:
        output: Where to name it.
        before: The instrument that kept the model; it must watch the pipeline.
        refusals: Whether a model that a pass refuses is a failure too.
    """
    try:
        yield
    except Exception as error:
        # A machine that is too small is no fault of the pass either.
        refusal = isinstance(error, MemoryError | OSError) or (
            isinstance(error, SnncError) and error.exit_code not in (1, 5)
        )
        if before.failed is not None and before.model is not None and (refusals or not refusal):
            _write(output, before)
        raise


def _write(output: Output, before: Before) -> None:
    from snnc.pipeline import format_pass
    from snnc.pipeline.dump import save_runnable

    if before.failed is None or before.model is None:
        return
    try:
        path = Path(tempfile.mkdtemp(prefix="snnc-reproducer-")) / "reproducer.onnx"
        save_runnable(before.model, path)
        spec = format_pass(before.failed)
    except (SnncError, OSError):
        # Options that hold data have no text form; a full disk has no place. The error itself is what counts.
        return
    command = shlex.join(["snnc", "opt", str(path), "--passes", spec])
    output.say(f"the model before pass '{before.failed.name}' is kept; replay it with")
    output.verbatim(f"  {command}")
