"""The commands that make a converted file again."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

from snnc import strict
from snnc.compile import ConvertOptions, options_of_file
from snnc.ir import Model
from snnc.settings import SETTINGS

__all__ = ["convert_command"]


def convert_command(
    model: Model, source: str | os.PathLike[str] | None, target: str | os.PathLike[str]
) -> str:
    """Return the command that converts a source as a converted file was.

    Only what differs from the defaults is said. The file does not hold the place of calibration data, only
    their digest.

    Args:
        model: The converted model.
        source: Its source, if known.
        target: The converted file.
    """
    options, plain = options_of_file(model), ConvertOptions()
    name = Path(source).name if source is not None else "MODEL.onnx"
    words = ["snnc", "convert", name]
    for setting in SETTINGS:
        value = getattr(options, setting.name)
        if value == getattr(plain, setting.name):
            continue
        for item in value if setting.many else [value]:
            words += [setting.flag] if setting.kind == "bool" else [setting.flag, str(item)]
    comment = ""
    record = model.metadata_props.get("snnc.calibration")
    if record is not None:
        words += ["--calibrate", "DATA"]
        try:
            held = strict.loads(record)
            comment = f"  # DATA: {held['samples']} samples, sha256 {str(held['sha256'])[:16]}"
        except (ValueError, KeyError, TypeError):
            comment = ""
    return shlex.join([*words, "-o", Path(target).name]) + comment
