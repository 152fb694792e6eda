"""Build hook: compiles the native library where there is a C++ compiler; installation succeeds either way."""

from __future__ import annotations

import importlib.util
import os
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

HERE = Path(__file__).resolve().parent
PROBLEM = "problem.txt"


def _builder() -> Any:
    # By its path: snnc itself is not importable while it is being installed.
    spec = importlib.util.spec_from_file_location("snnc_native_build", HERE / "build.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class NativeBuildHook(BuildHookInterface):
    """Puts the library into wheels, and beside the sources for an editable installation."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile before the files are collected; without a library, leave a note with the reason."""
        if self.target_name != "wheel" or os.environ.get("SNNC_NATIVE", "").lower() == "off":
            return
        builder = _builder()
        folder = HERE if version == "editable" else Path(tempfile.mkdtemp(prefix="snnc-native-"))
        library = folder / builder.library_name()
        note = folder / PROBLEM
        problem = None
        if builder.is_current(HERE / library.name):
            library = HERE / library.name  # built before, from these sources
        else:
            problem = builder.build(library)
        if problem is not None:
            self.app.display_warning(f"no native operators: {problem}")
            library.unlink(missing_ok=True)
            note.write_text(f"{problem}\n", encoding="utf-8")
        else:
            note.unlink(missing_ok=True)
        if version == "editable":
            return
        made = note if problem is not None else library
        build_data["force_include"][str(made)] = f"snnc/runtimes/native/{made.name}"
        if problem is None:
            from packaging.tags import sys_tags

            # It does not link to Python, so one wheel of a platform serves every version.
            build_data["pure_python"] = False
            build_data["tag"] = f"py3-none-{next(sys_tags()).platform}"
