"""A first example for an empty folder: two small trained networks, samples, labels and a recipe."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from snnc.errors import EnvironmentFailure, Where
from snnc.files import atomic_writes, check_output

__all__ = ["FILES", "HELD", "write_demo"]

#: What `write_demo` writes, each with what it is.
FILES = {
    "vit.onnx": "a small vision transformer for Fashion-MNIST, trained with T = 4, G = 4",
    "cnn.onnx": "a residual network for Fashion-MNIST, trained with T = 4, G = 4",
    "calib.npz": "256 test images, 'x', float32 [256, 1, 28, 28], drawn in equal shares per class",
    "labels.npy": "their classes, int64 [256]",
    "recipe.toml": "settings of a conversion",
}
_MODELS = {"vit.onnx": "fashion_transformer_t4g4.onnx", "cnn.onnx": "fashion_cnn_t4g4.onnx"}
_SAMPLE = "fashion_sample.npz"
#: Files that the wheel holds in this package.
HELD = (*_MODELS.values(), _SAMPLE)
_RECIPE = """\
# Settings of a conversion: snnc convert vit.onnx --recipe recipe.toml
# Every key is a flag too; a flag wins. What is not said here has its default.

timesteps = 4            # T: length of the window in which one value is sent
groups = 4               # G: the most spikes that a neuron may send in it; try 2, or 1
weights = "int8"         # integers of 8 bits
calibrate = "calib.npz"  # spikes and operations are counted on these; a float network is calibrated on them
"""


def write_demo(folder: str | os.PathLike[str], *, force: bool = False) -> dict[str, int]:
    """Write a first example into a folder, which is made if need be; nothing is downloaded.

    Args:
        folder: Where the files go.
        force: Whether existing files may be replaced.

    Returns:
        Number of bytes of each file, by its name.

    Raises:
        UsageError: SNN230, a file is there already.
        EnvironmentFailure: SNN603, the folder cannot be written; SNN614, this installation lacks the files.
    """
    target = Path(folder)
    made = {name: _held(source) for name, source in _MODELS.items()}
    with np.load(io.BytesIO(_held(_SAMPLE)), allow_pickle=False) as sample:
        made["calib.npz"] = _saved(lambda stream: np.savez_compressed(stream, x=sample["x"]))
        made["labels.npy"] = _saved(lambda stream: np.save(stream, sample["labels"]))
    made["recipe.toml"] = _RECIPE.encode()
    if target.exists() and not target.is_dir():
        raise EnvironmentFailure("SNN603", "is there already and no folder", where=Where(file=str(target)))
    above = [place for place in (target, *target.parents) if not place.exists()]
    try:
        target.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = error.strerror or str(error)
        raise EnvironmentFailure(
            "SNN603", f"cannot be made: {reason}", where=Where(file=str(target))
        ) from error
    try:
        for name in FILES:
            check_output(target / name, force=force)
        atomic_writes([(target / name, _writer(made[name])) for name in FILES], force=force)
    except BaseException:
        # Folders that were made for nothing go again, the innermost first.
        for place in above:
            with contextlib.suppress(OSError):
                place.rmdir()
        raise
    return {name: len(made[name]) for name in FILES}


def _held(name: str) -> bytes:
    """Return a file that the wheel holds in this package, and a checkout in its examples."""
    here = Path(__file__).resolve().parent
    for place in (here / name, here.parents[1] / "examples" / "models" / name):
        if place.is_file():
            return place.read_bytes()
    raise EnvironmentFailure(
        "SNN614", f"this installation of snnc lacks {name}", hint="install it again: pip install snnc"
    )


def _saved(write: Callable[[Any], None]) -> bytes:
    stream = io.BytesIO()
    write(stream)
    return stream.getvalue()


def _writer(content: bytes) -> Callable[[BinaryIO], None]:
    def write(stream: BinaryIO) -> None:
        stream.write(content)

    return write
