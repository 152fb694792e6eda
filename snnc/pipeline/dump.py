"""Dumps of a pipeline: numbered models and listings on change, a run log, and a reproducer on failure."""

from __future__ import annotations

import json
import platform
import re
import shlex
import shutil
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, BinaryIO

from snnc.errors import EnvironmentFailure, SnncError, UsageError, Where
from snnc.files import atomic_write
from snnc.ir import Model, save, to_text
from snnc.ops import attach_functions
from snnc.pipeline.contract import Pass, options_of
from snnc.pipeline.manager import Instrument, PassRecord
from snnc.pipeline.spec import format_pass

__all__ = ["Dump", "save_runnable", "versions"]

#: Exactly the files a dump writes. Only these are ever deleted.
_OWN = re.compile(r"(\d{3,}-[a-z0-9-]+\.(onnx|txt)|run\.json|pipeline\.txt|reproducer\.(onnx|txt))")
_SCHEMA_VERSION = 1


class Dump(Instrument):
    """Writes a folder that tells what every pass did.

    ``000-input.onnx`` is the model before the first pass; ``NNN-pass-name.onnx`` the model after pass NNN,
    only where it changed; each with a readable ``.txt``. ``run.json`` tells passes, rewrites, notes and
    versions; everything in it but the ``timing`` entry is the same in every run. ``pipeline.txt`` is the
    pipeline as text. If a pass fails, ``reproducer.onnx`` is the model just before it, and
    ``reproducer.txt`` the command that replays the failure.

    Args:
        folder: Where to write; made if missing.
        force: Whether a folder that holds foreign files may be used. Foreign files are left alone.
        replay: Command line that repeats the whole run, for ``reproducer.txt``.
    """

    def __init__(self, folder: str | Path, *, force: bool = False, replay: Sequence[str] = ()) -> None:
        self._folder = Path(folder)
        self._force = force
        self._replay = tuple(replay)
        self._steps: tuple[Pass, ...] = ()
        self._records: list[PassRecord] = []
        self._last = ""

    def prepare(self) -> None:
        """Check the folder and delete what an earlier dump left there.

        Raises:
            UsageError: SNN234, if the folder holds files that are not a dump's and ``force`` is not set.
            EnvironmentFailure: SNN603, if the folder cannot be made or cleaned.
        """
        where = Where(file=str(self._folder))
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            entries = sorted(self._folder.iterdir())
            foreign = [entry.name for entry in entries if not _is_own(entry)]
            if foreign and not self._force:
                raise UsageError(
                    "SNN234",
                    f"the dump folder holds {len(foreign)} other files, such as {foreign[0]!r}",
                    where=where,
                    hint="name an empty folder, or add --force (other files are left alone)",
                )
            for entry in entries:
                if _is_own(entry):
                    entry.unlink()
        except OSError as error:
            raise EnvironmentFailure(
                "SNN603", f"the dump folder cannot be used: {error.strerror or error}", where=where
            ) from error

    def begin(self, model: Model, steps: Sequence[Pass]) -> None:
        """Clean the folder and dump the input."""
        self.prepare()
        self._steps = tuple(steps)
        self._records = []
        self._text("pipeline.txt", ",\n".join(_spec(step) for step in steps) + "\n")
        self._model("000-input", model)

    def after(self, index: int, record: PassRecord, model: Model) -> None:
        """Dump the model if the pass changed it."""
        self._records.append(record)
        if record.changed:
            self._model(f"{index + 1:03d}-{record.name}", model)

    def fail(self, index: int, step: Pass, model: Model, error: BaseException) -> None:
        """Write the reproducer and the run log of what went before."""
        if not self._last or not isinstance(error, Exception):
            # Nothing was dumped yet, or the user interrupted: there is no failure to reproduce.
            return
        reproducer = self._folder / "reproducer.onnx"
        try:
            # The newest dump is the model just before the failing pass: unchanged states are not dumped.
            shutil.copyfile(self._folder / f"{self._last}.onnx", reproducer)
        except OSError as problem:
            raise EnvironmentFailure(
                "SNN603", f"cannot be written: {problem.strerror}", where=Where(file=str(reproducer))
            ) from error
        self._text("reproducer.txt", self._reproducer_text(step, error))
        self._log(failed={"pass": step.name, "index": index + 1, "error": _describe(error)})

    def end(self, records: Sequence[PassRecord], model: Model) -> None:
        """Write the run log."""
        self._log(failed=None)

    def _reproducer_text(self, step: Pass, error: BaseException) -> str:
        try:
            spec: str | None = format_pass(step)
        except UsageError:
            # An option that holds arrays cannot be typed: only the whole run can be repeated.
            spec = None
        lines = [f"pass '{step.name}' failed: {_describe(error)}", ""]
        if spec is not None:
            command = ["snnc", "opt", str(self._folder / "reproducer.onnx"), "--passes", spec]
            lines += ["replay the failing pass:", f"  {shlex.join(command)}"]
        if self._replay:
            lines += ["replay the whole run:", f"  {shlex.join(self._replay)}"]
        if spec is None and not self._replay:
            lines += [f"options: {json.dumps(options_of(step), sort_keys=True)}"]
        return "\n".join(lines) + "\n"

    def _model(self, stem: str, model: Model) -> None:
        save_runnable(model, self._folder / f"{stem}.onnx")
        self._text(f"{stem}.txt", to_text(model))
        self._last = stem

    def _log(self, *, failed: dict[str, Any] | None) -> None:
        document = {
            "schema_version": _SCHEMA_VERSION,
            "versions": versions(),
            "pipeline": [_spec(step) for step in self._steps],
            "passes": [record.to_json() for record in self._records],
            "failed": failed,
            "timing": {
                "unit": "s",
                "passes": [
                    {"name": record.name, "seconds": round(record.seconds, 6)} for record in self._records
                ],
            },
        }
        self._text("run.json", json.dumps(document, indent=2, ensure_ascii=True, allow_nan=False) + "\n")

    def _text(self, name: str, text: str) -> None:
        content = text.encode("utf-8", "backslashreplace")

        def write(stream: BinaryIO) -> None:
            stream.write(content)

        atomic_write(self._folder / name, write, force=True)


def versions() -> dict[str, str]:
    """Return the versions of snnc, Python and the libraries that shape a result."""
    found = {"python": platform.python_version(), "byteorder": sys.byteorder}
    for name in ("snnc", "numpy", "onnx", "onnx-ir", "onnxruntime"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def save_runnable(model: Model, path: Path) -> None:
    """Save a model with the bodies of the ``ai.snnc`` operators it uses, and leave it as it was."""
    functions, imports = dict(model.functions), dict(model.graph.opset_imports)
    try:
        attach_functions(model)
        save(model, path)
    finally:
        model.functions.clear()
        model.functions.update(functions)
        model.graph.opset_imports.clear()
        model.graph.opset_imports.update(imports)


def _is_own(entry: Path) -> bool:
    return entry.is_file() and not entry.is_symlink() and _OWN.fullmatch(entry.name) is not None


def _spec(step: Pass) -> str:
    try:
        return format_pass(step)
    except UsageError:
        return f"{step.name}{json.dumps(options_of(step), sort_keys=True)}"


def _describe(error: BaseException) -> str:
    return str(error) if isinstance(error, SnncError) else f"{type(error).__name__}: {error}"
