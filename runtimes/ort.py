"""snnc's native operators for onnxruntime: where the library is, and how a session gets it.

    import onnxruntime, snnc.runtimes.ort
    options = onnxruntime.SessionOptions()
    snnc.runtimes.ort.register(options)
    session = onnxruntime.InferenceSession("model.snn.onnx", options)

A converted file runs without the library too, through the function bodies in it; with it onnxruntime takes
the kernel of the same name instead. The results are the same, bit for bit.
"""

from __future__ import annotations

import functools
import os
import sys
import warnings
from pathlib import Path
from typing import Any

from snnc.errors import EnvironmentFailure

__all__ = ["NativeLibraryWarning", "native_library", "native_problem", "note_stale", "register"]

OFF = "SNNC_NATIVE"
"""Environment variable: ``off`` leaves the library out, a path names another one."""

_FOLDER = Path(__file__).resolve().parent / "native"
_NAMES = {"darwin": "libsnnc_ort.dylib", "win32": "snnc_ort.dll"}
_NO_LIBRARY = "it was not built when snnc was installed"
_STALE = "the native library was built from other sources than those beside it"
_REBUILD = "run `python runtimes/native/build.py`, or install snnc again"


class NativeLibraryWarning(RuntimeWarning):
    """A native library is there, but cannot be used; function bodies run in its place."""


def _wanted() -> Path | None:
    named = os.environ.get(OFF, "")
    if named.lower() == "off":
        return None
    return Path(named) if named else _FOLDER / _NAMES.get(sys.platform, "libsnnc_ort.so")


@functools.lru_cache(maxsize=4)
def _is_stale(path: Path, stamp: tuple[int, int]) -> bool:
    """Say whether a library was made of other sources; `stamp` is its time and size."""
    from snnc.runtimes.native import build

    return build.digest_in(path) != build.digest()


def _stale(path: Path) -> bool:
    status = path.stat()
    return _is_stale(path, (status.st_mtime_ns, status.st_size))


def native_library() -> Path | None:
    """Return the path of the native library, None if there is none; `native_problem` says why.

    A library beside sources of which it was not made is none: it may lack operators. One that the
    environment names is returned; `register` refuses it.
    """
    path = _wanted()
    if path is None or not path.is_file():
        return None
    return None if path.parent == _FOLDER and _stale(path) else path


def native_problem() -> str | None:
    """Return why there is no native library, in one line; None if there is one."""
    if native_library() is not None:
        return None
    path = _wanted()
    if path is None:
        return f"the environment variable {OFF} is off"
    if path.parent != _FOLDER:
        return f"{OFF} names {path}, which does not exist"
    if path.is_file():
        return f"{_STALE}; {_REBUILD}"
    note = _FOLDER / "problem.txt"
    return note.read_text(encoding="utf-8").strip() if note.is_file() else _NO_LIBRARY


@functools.cache
def _warn(text: str) -> None:
    warnings.warn(text, NativeLibraryWarning, stacklevel=3)


def note_stale() -> None:
    """Warn, once in a process, if there is a library that is left out because it is stale."""
    path = _wanted()
    if path is not None and path.is_file() and native_library() is None:
        _warn(f"{_STALE}, so function bodies run in its place: the same results, more slowly; {_REBUILD}")


def register(options: Any) -> bool:
    """Make the native operators known to sessions with these options.

    Args:
        options: An ``onnxruntime.SessionOptions``.

    Returns:
        Whether there is a library. Without one nothing is changed and the function bodies run.

    Raises:
        EnvironmentFailure: SNN616, onnxruntime cannot load the library, or the environment names one that
            was built from other sources.
    """
    path = native_library()
    if path is None:
        note_stale()
        return False
    if _stale(path):
        raise EnvironmentFailure(
            "SNN616",
            f"{path} was not built from the sources of this snnc",
            hint=f"run `python runtimes/native/build.py --output {path}`, or set {OFF}=off to run without it",
        )
    try:
        options.register_custom_ops_library(str(path))
    except Exception as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise EnvironmentFailure(
            "SNN616",
            f"onnxruntime cannot load the native library {path}: {first}",
            hint=f"install snnc again, or set {OFF}=off to run without it",
        ) from error
    return True
