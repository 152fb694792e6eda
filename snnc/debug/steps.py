"""States of a network between the passes: recorded during a conversion, or read from a folder of dumps."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from snnc import strict
from snnc.errors import InputError, SnncError, Where
from snnc.files import open_regular
from snnc.ir import Model, clone, load
from snnc.ops import attach_functions
from snnc.pipeline import Instrument, PassRecord, Rewrite, format_pass
from snnc.pipeline.contract import Pass

__all__ = ["Failure", "Recorder", "Step", "is_dump", "read_dump"]

_LOG = "run.json"
_LARGEST = 1 << 28


@dataclass(frozen=True, eq=False)
class Step:
    """A state after a pass; the first one is the source.

    Attributes:
        index: Number of the pass, from 1; 0 for the source.
        name: Name of the pass; ``input`` for the source.
        semantics: ``exact`` or ``approximate``.
        rewrites: What the pass did.
        spec: The pass with its options as text.
        open: Gives the model; it may be changed by nobody.
        settled: Whether no approximating pass changed anything after it.
        file: Where the model lies, None if it is only in memory.
    """

    index: int
    name: str
    semantics: str
    rewrites: tuple[Rewrite, ...]
    spec: str
    open: Callable[[], Model]
    settled: bool
    file: Path | None = None


@dataclass(frozen=True)
class Failure:
    """A pass that raised.

    Attributes:
        index: Number of the pass, from 1.
        name: Name of the pass.
        error: What it said.
        refusal: Whether it refused the model, which is no fault of the pass.
    """

    index: int
    name: str
    error: str
    refusal: bool = False


class Recorder(Instrument):
    """Keeps a copy of the model after each pass that changes it; weights are shared, so copies are small."""

    def __init__(self) -> None:
        self._models: list[Model] = []
        self._records: list[tuple[int, PassRecord | None, str]] = []
        self._specs: list[str] = []
        self.failure: Failure | None = None

    def begin(self, model: Model, steps: Sequence[Pass]) -> None:
        """Keep the source."""
        self._models, self._records = [clone(model)], [(0, None, "")]
        self._specs = [_spec(step) for step in steps]
        self.failure = None

    def after(self, index: int, record: PassRecord, model: Model) -> None:
        """Keep the model if the pass changed it."""
        if record.changed:
            self._models.append(clone(model))
            self._records.append((index + 1, record, self._specs[index]))

    def fail(self, index: int, step: Pass, model: Model, error: BaseException) -> None:
        """Remember which pass raised what."""
        refusal = isinstance(error, SnncError) and error.exit_code not in (1, 5)
        self.failure = Failure(index + 1, step.name, str(error) or type(error).__name__, refusal)

    @property
    def steps(self) -> list[Step]:
        """The states, the source first."""
        records = [record for _, record, _ in self._records]
        return [
            Step(
                index,
                record.name if record is not None else "input",
                record.semantics if record is not None else "exact",
                record.rewrites if record is not None else (),
                spec,
                partial(_same, model),
                self.failure is None
                and _settled([each.semantics for each in records[place + 1 :] if each is not None]),
            )
            for place, ((index, record, spec), model) in enumerate(
                zip(self._records, self._models, strict=True)
            )
        ]


def is_dump(path: str | Path) -> bool:
    """Whether a path is a folder of ``--dump-passes``."""
    return (Path(path) / _LOG).is_file()


def read_dump(folder: str | Path) -> tuple[list[Step], Failure | None]:
    """Read the states of a folder of dumps, and the pass that failed if one did.

    Raises:
        InputError: SNN349, it is no such folder, or a damaged one.
    """
    path = Path(folder)
    where = Where(file=str(folder))
    hint = "write it again: snnc convert MODEL.onnx --dump-passes DIR"
    if not is_dump(path):
        said = f"is no folder of --dump-passes: {_LOG} is missing"
        raise InputError("SNN349", said, where=where, hint=hint)
    try:
        with open_regular(path / _LOG) as stream:
            log: dict[str, Any] = strict.loads(stream.read(_LARGEST))
        specs = [str(each) for each in log["pipeline"]]
        changed = [(place, each) for place, each in enumerate(log["passes"], 1) if each["changed"]]
        failed = log["failed"]
        # What follows a pass that failed is not known.
        unknown = [] if failed is None else ["approximate"]
        steps = [_step(path, 0, "input", "exact", (), "", unknown)]
        for number, (place, each) in enumerate(changed):
            rewrites = tuple(
                Rewrite(str(r["rule"]), tuple(r["removed"]), tuple(r["added"]), str(r["note"]))
                for r in each["rewrites"]
            )
            later = [*(other["semantics"] for _, other in changed[number + 1 :]), *unknown]
            steps.append(
                _step(path, place, each["name"], each["semantics"], rewrites, specs[place - 1], later)
            )
        failure = None
        if failed is not None:
            said = str(failed["error"])
            refusal = said[:4] in ("SNN2", "SNN3", "SNN4", "SNN6")
            failure = Failure(int(failed["index"]), str(failed["pass"]), said, refusal)
    except (ValueError, KeyError, TypeError, IndexError, RecursionError) as error:
        said = f"{_LOG} is damaged: {type(error).__name__}"
        raise InputError("SNN349", said, where=where, hint=hint) from None
    for step in steps:
        if step.file is None or not step.file.is_file():
            missing = step.file.name if step.file is not None else "a file"
            raise InputError("SNN349", f"{missing} is missing", where=where, hint=hint)
    return steps, failure


def runnable(model: Model) -> Model:
    """Return a copy of a model that runs anywhere: with the bodies of the operators it uses."""
    copy = clone(model)
    attach_functions(copy)
    return copy


def _step(
    folder: Path,
    index: int,
    name: str,
    semantics: str,
    rewrites: tuple[Rewrite, ...],
    spec: str,
    later: Sequence[str],
) -> Step:
    # The name comes from a file that anybody may have written; it must not lead elsewhere.
    if not re.fullmatch(r"[A-Za-z0-9-]+", name) or semantics not in ("exact", "approximate"):
        raise ValueError(name)
    file = folder / f"{index:03d}-{name}.onnx"
    return Step(index, name, semantics, rewrites, spec, partial(load, file), _settled(later), file)


def _settled(later: Sequence[str]) -> bool:
    return all(semantics == "exact" for semantics in later)


def _same(model: Model) -> Model:
    return model


def _spec(step: Pass) -> str:
    try:
        return format_pass(step)
    except SnncError:
        return step.name  # its options hold data, which have no text form
