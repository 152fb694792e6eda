"""snnc's native operators for onnxruntime: where the library is, and how a session gets it.

    import onnxruntime, snnc.runtimes.ort
    options = onnxruntime.SessionOptions()
    snnc.runtimes.ort.register(options)
    session = onnxruntime.InferenceSession("model.snn.onnx", options)

A converted file runs without the library too, through the function bodies in it; with it onnxruntime takes
the kernel of the same name instead. The results are the same, bit for bit.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from snnc.errors import EnvironmentFailure

__all__ = ["native_library", "native_problem", "register"]

OFF = "SNNC_NATIVE"
"""Environment variable: ``off`` leaves the library out, a path names another one."""

_FOLDER = Path(__file__).resolve().parent / "native"
_NAMES = {"darwin": "libsnnc_ort.dylib", "win32": "snnc_ort.dll"}
_NO_LIBRARY = "it was not built when snnc was installed"


def _wanted() -> Path | None:
    named = os.environ.get(OFF, "")
    if named.lower() == "off":
        return None
    return Path(named) if named else _FOLDER / _NAMES.get(sys.platform, "libsnnc_ort.so")


def native_library() -> Path | None:
    """Return the path of the native library, None if there is none; `native_problem` says why."""
    path = _wanted()
    return path if path is not None and path.is_file() else None


def native_problem() -> str | None:
    """Return why there is no native library, in one line; None if there is one."""
    if native_library() is not None:
        return None
    path = _wanted()
    if path is None:
        return f"the environment variable {OFF} is off"
    if path.parent != _FOLDER:
        return f"{OFF} names {path}, which does not exist"
    note = _FOLDER / "problem.txt"
    return note.read_text(encoding="utf-8").strip() if note.is_file() else _NO_LIBRARY


def register(options: Any) -> bool:
    """Make the native operators known to sessions with these options.

    Args:
        options: An ``onnxruntime.SessionOptions``.

    Returns:
        Whether there is a library. Without one nothing is changed and the function bodies run.

    Raises:
        EnvironmentFailure: SNN616, onnxruntime cannot load the library.
    """
    path = native_library()
    if path is None:
        return False
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
