"""Samples from Python: arrays, batches, calibration readers of onnxruntime, functions that make them."""

from __future__ import annotations

import contextlib
import functools
import importlib
import importlib.util
import inspect
import os
import re
import shutil
import sys
import tempfile
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy_format

from snnc.arrays import InputSpec
from snnc.data.source import Array, Chunk, misread
from snnc.errors import EnvironmentFailure, InputError, SnncError, Terminated, UsageError, Where

__all__ = ["ProcessEnd", "PythonSamples", "imported", "looks_imported", "without_ways_out"]

_WORDS = r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*"
_NAMED = re.compile(rf"(?P<module>[^:]+\.py|{_WORDS}):(?P<object>{_WORDS})")
#: A generator that never ends must end, and must not fill the disk before: it may have so many bytes, but no
#: more than half of what is free, and so many samples.
_MOST_BYTES = 64 << 30
_MOST_SAMPLES = 200_000
#: What `os` offers to end a process or to put another in its place; its other functions go through these.
_WAYS_OUT = ("_exit", "abort", "execv", "execve")
#: What `ctypes` finds for the same purpose.
_WAYS_OUT_IN_C = frozenset({"_exit", "_Exit", "exit", "quick_exit", "abort", "Py_Exit", "Py_Finalize"})


class PythonSamples:
    """Samples that Python code gives: read once, kept in a temporary file for further passes.

    Args:
        given: An array, a mapping of arrays, an iterable of batches (arrays, mappings, or tuples in the order
            of the inputs, of which labels and whatever follows are dropped), an object with ``get_next()``
            that returns None at the end, or a function or class without arguments that gives one of these.
        name: What to call it in messages.
    """

    def __init__(self, given: Any, name: str = "calibration data") -> None:
        self.name = name
        self.kind = "python"
        self.count: int | None = None
        self._given = given
        self._kept: IO[bytes] | None = None
        self._lengths: list[tuple[str, ...]] = []

    def chunks(self, inputs: Sequence[InputSpec]) -> Iterator[Chunk]:
        """Give all batches; the first time they are asked for, later they come from the temporary file.

        Raises:
            InputError: SNN343, what was given is none of the above; SNN344, the code raised something;
                SNN332, it does not end.
        """
        if self._kept is not None:
            yield from self._again()
            return
        kept = tempfile.TemporaryFile(prefix="snnc-samples-")  # noqa: SIM115 - it outlives this function
        lengths: list[tuple[str, ...]] = []
        count = 0
        most = min(_MOST_BYTES, shutil.disk_usage(tempfile.gettempdir()).free // 2)
        try:
            for batch in self._guarded(lambda: self._batches(inputs)):
                chunk = _as_chunk(batch, inputs, self.name)
                lengths.append(tuple(chunk))
                for array in chunk.values():
                    npy_format.write_array(kept, np.ascontiguousarray(array), allow_pickle=False)
                count += len(next(iter(chunk.values())))
                if kept.tell() > most:
                    raise self._endless(f"{most:,} bytes", "set TMPDIR to a folder with more room")
                if count > _MOST_SAMPLES:
                    raise self._endless(f"{_MOST_SAMPLES:,} samples")
                yield chunk
            self._kept, self._lengths, self.count = kept, lengths, count
            weakref.finalize(self, kept.close)
        finally:
            if self._kept is not kept:
                kept.close()

    def _again(self) -> Iterator[Chunk]:
        assert self._kept is not None
        self._kept.seek(0)
        for names in self._lengths:
            yield {name: npy_format.read_array(self._kept, allow_pickle=False) for name in names}

    def _endless(self, what: str, remedy: str | None = None) -> InputError:
        hint = "let it end: itertools.islice(batches, 100)" + (f", or {remedy}" if remedy else "")
        return InputError("SNN332", f"gives more than {what}", where=Where(file=self.name), hint=hint)

    def _guarded(self, make: Callable[[], Iterable[Any]]) -> Iterator[Any]:
        batches: Iterator[Any] | None = None
        while True:
            with _theirs(self.name):
                batches = iter(make()) if batches is None else batches
                try:
                    batch = next(batches)
                except StopIteration:
                    return
            yield batch

    def _batches(self, inputs: Sequence[InputSpec]) -> Iterable[Any]:
        given = self._given
        if inspect.isclass(given) or (callable(given) and not _is_data(given)):
            given = given()
        if hasattr(given, "get_next"):
            return _until_none(given.get_next)
        if isinstance(given, Mapping) or hasattr(given, "__array__") or hasattr(given, "detach"):
            return [given]
        if isinstance(given, Iterable) and not isinstance(given, str | bytes):
            return given
        raise InputError(
            "SNN343",
            f"gives a {type(given).__name__}",
            where=Where(file=self.name),
            hint="give arrays by input name, an iterable of batches, or an object with get_next()",
        )


def _until_none(get_next: Callable[[], Any]) -> Iterator[Any]:
    # iter(get_next, None) would compare arrays with None, element by element.
    while (batch := get_next()) is not None:
        yield batch


def _is_data(given: Any) -> bool:
    return isinstance(given, Mapping | np.ndarray) or hasattr(given, "get_next") or hasattr(given, "__iter__")


def _as_chunk(batch: Any, inputs: Sequence[InputSpec], name: str) -> dict[str, Array]:
    if isinstance(batch, Mapping):
        known = {spec.name for spec in inputs}
        named = {str(key): value for key, value in batch.items()}
        kept = {key: value for key, value in named.items() if key in known} or named
        return {key: _as_array(value, name) for key, value in kept.items()}
    if isinstance(batch, tuple | list) and len(batch) >= len(inputs):
        return {spec.name: _as_array(value, name) for spec, value in zip(inputs, batch, strict=False)}
    return {inputs[0].name: _as_array(batch, name)}


def _as_array(value: Any, name: str) -> Array:
    if hasattr(value, "detach"):
        value = value.detach().cpu()
    array = np.asarray(value)
    if array.dtype.kind not in "biuf":
        raise InputError(
            "SNN343", f"gives a batch of {array.dtype}, expected numbers", where=Where(file=name)
        )
    if array.ndim == 0:
        raise InputError("SNN343", "gives a single number, expected a batch", where=Where(file=name))
    return array


def looks_imported(text: str) -> bool:
    """Whether a source has the form ``file.py:name`` or ``package.module:name``."""
    return _NAMED.fullmatch(text) is not None


def imported(text: str) -> Any:
    """Return the object that ``file.py:name`` or ``package.module:name`` names; runs the user's code.

    Raises:
        UsageError: SNN238, the text has another form, or module or object are not there.
        InputError: SNN301, no such file; SNN344, the module raised something.
    """
    match = _NAMED.fullmatch(text)
    if match is None:
        raise UsageError("SNN238", f"{text!r} names no object", hint="write file.py:function or module:name")
    module = _module(match["module"])
    found: Any = module
    for part in match["object"].split("."):
        if not hasattr(found, part):
            names = ", ".join(name for name in vars(module) if not name.startswith("_"))
            raise UsageError(
                "SNN238", f"{match['module']} has no {match['object']!r}", hint=f"it has {names or 'nothing'}"
            )
        found = getattr(found, part)
    return found


def _module(name: str) -> ModuleType:
    path = Path(name)
    try:
        if path.suffix != ".py":
            with _Searched(Path.cwd()), _theirs(name, missing=True):
                return importlib.import_module(name)
        if not path.is_file():
            raise InputError("SNN301", "no such file", where=Where(file=name))
        spec = importlib.util.spec_from_file_location(f"snnc_user_{path.stem}", path)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        # Classes of the module are looked up by its name, for instance by data classes.
        sys.modules[spec.name] = module
        with _Searched(path.resolve().parent), _theirs(name, missing=True):
            spec.loader.exec_module(module)
        return module
    except ModuleNotFoundError as error:
        if (
            error.name is not None
            and name.split(".", maxsplit=1)[0] == error.name.split(".")[0]
            and path.suffix != ".py"
        ):
            raise UsageError("SNN238", f"there is no module {name!r}") from None
        raise misread(name, error) from error


@contextlib.contextmanager
def _theirs(name: str, *, missing: bool = False) -> Iterator[None]:
    """Run code of the user: it may neither end the process, nor write to our output, nor move elsewhere.

    Args:
        name: What to call it in messages.
        missing: Whether a module that is not there is the caller's to judge.

    Raises:
        InputError: SNN344, the code raised something, if only to end the process.
        EnvironmentFailure: SNN606, it ran out of memory.
    """
    passed: tuple[type[BaseException], ...] = (SnncError, KeyboardInterrupt, Terminated)
    passed += (ModuleNotFoundError,) if missing else ()
    try:
        with contextlib.chdir("."), contextlib.redirect_stdout(sys.stderr), without_ways_out():
            yield
    except passed:
        raise
    except MemoryError as error:
        raise EnvironmentFailure(
            "SNN606", "ran out of memory", where=Where(file=name), hint="give smaller batches"
        ) from error
    except BaseException as error:
        raise misread(name, error) from error


class ProcessEnd(BaseException):
    """Their code asked for the end of the process."""


@contextlib.contextmanager
def without_ways_out() -> Iterator[None]:
    """Turn calls that end this process at once, without a word and with any status, into an exception.

    Children that their code forks, such as workers of a loader, may end as they like.
    """
    process, thread = os.getpid(), threading.get_ident()
    kept = {name: getattr(os, name) for name in _WAYS_OUT}

    def guarded(name: str) -> Callable[..., None]:
        def leave(*arguments: Any) -> None:
            if os.getpid() != process:
                kept[name](*arguments)
            if threading.get_ident() == thread:
                raise ProcessEnd(f"os.{name} was called")
            # An exception would end that thread alone, and nobody would hear of it.
            os.write(2, b"error: SNN344: a thread of the given code called os.%s\n" % name.encode())
            kept["_exit"](InputError.exit_code)

        return leave

    _install_hook()
    for name in kept:
        setattr(os, name, guarded(name))
    _guarded_processes.append(process)
    try:
        yield
    finally:
        _guarded_processes.pop()
        for name, way in kept.items():
            setattr(os, name, way)


#: The process of each guard that is entered; a child finds its parent's number here, not its own.
_guarded_processes: list[int] = []


def _refuse_ways_out_in_c(event: str, arguments: tuple[Any, ...]) -> None:
    is_way_out = event == "ctypes.dlsym" and arguments[1] in _WAYS_OUT_IN_C
    if is_way_out and os.getpid() in _guarded_processes:
        raise ProcessEnd(f"{arguments[1]} was looked up in a library")


@functools.cache
def _install_hook() -> None:
    """Listen to what `ctypes` looks up; Python lets nobody take a hook away again."""
    sys.addaudithook(_refuse_ways_out_in_c)


class _Searched:
    """Lets imports find what lies in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = str(folder)

    def __enter__(self) -> None:
        sys.path.insert(0, self._folder)

    def __exit__(self, *exception: object) -> None:
        if self._folder in sys.path:
            sys.path.remove(self._folder)
