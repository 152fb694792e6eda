"""Samples by what a user types or passes: a file, a folder, a Python object, or ``random:N``."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from snnc.arrays import InputSpec
from snnc.data.files import ArrayFile, ArrayFolder, TestData, is_test_data
from snnc.data.images import ImageFolder, image_files
from snnc.data.python import PythonSamples, imported, looks_imported
from snnc.data.source import Array, Chunk, Samples, first_samples
from snnc.errors import InputError, UsageError, Where

__all__ = ["RandomSamples", "load_samples", "named_samples", "open_samples", "source_files"]

_RANDOM = "random:"
_CHUNK_BYTES = 4 << 20
_LARGEST = 2 << 30


def named_samples(source: str, *, seed: int = 0) -> Samples:
    """Return the samples that a text names.

    Args:
        source: An ``.npz`` or ``.npy`` file; a folder of ``.npy``, of ONNX test data, or of images with a
            description; ``file.py:name`` or ``package.module:name`` of a Python object (see
            `snnc.data.python.PythonSamples`); or ``random:N`` for N standard-normal samples.
        seed: Seed of ``random:N``.

    Raises:
        UsageError: SNN232, ``random:N`` is malformed; SNN238, no such Python object.
        InputError: SNN301, no such file; SNN331, SNN334, SNN340, nothing in it can be read.
        EnvironmentFailure: SNN601, it may not be read; SNN612, an optional package is missing.
    """
    if source.startswith(_RANDOM):
        return RandomSamples(source, seed)
    path = Path(source)
    if not path.exists() and looks_imported(source):
        return PythonSamples(imported(source), source)
    if not path.is_dir():
        return ArrayFile(path)
    if is_test_data(path):
        return TestData(path)
    files = sorted(entry for entry in path.iterdir() if entry.suffix == ".npy")
    if files:
        return ArrayFolder(path, files)
    images = image_files(path)
    if images:
        return ImageFolder(path, images)
    raise InputError(
        "SNN334",
        "holds no samples",
        where=Where(file=source),
        hint="expected .npy files, images, or test_data_set_0/input_0.pb",
    )


def source_files(source: str) -> list[Path]:
    """Return the files that samples come from and that an output could replace.

    Args:
        source: See `named_samples`.

    Returns:
        The file, the script that makes the samples, or the arrays in a folder; nothing for random samples.
    """
    if source.startswith(_RANDOM):
        return []
    path = Path(source)
    if path.is_dir():
        return sorted(entry for entry in path.iterdir() if entry.suffix == ".npy")
    script = [Path(source.rpartition(":")[0])] if looks_imported(source) else []
    return [each for each in (path, *script) if each.is_file()]


def open_samples(source: Any, *, seed: int = 0) -> Samples:
    """Return samples of whatever the Python API takes: a text, a path, or a Python object.

    Args:
        source: See `named_samples` and `snnc.data.python.PythonSamples`; samples are returned as they are.
        seed: Seed of ``random:N``.
    """
    if isinstance(source, str | Path):
        return named_samples(str(source), seed=seed)
    if hasattr(source, "chunks"):
        samples: Samples = source
        return samples
    return PythonSamples(source)


def load_samples(
    source: str, inputs: Sequence[InputSpec], *, seed: int = 0, limit: int | None = None
) -> dict[str, Array]:
    """Load samples for a model into memory.

    Args:
        source: See `named_samples`.
        inputs: What the model expects.
        seed: Seed of ``random:N``.
        limit: Number of samples wanted at most.

    Returns:
        Arrays by input name, shape ``(samples, *spec.shape[1:])``.

    Raises:
        UsageError: SNN232, also if an input has free dimensions for random samples.
        InputError: see `named_samples` and `Batches`.
    """
    return first_samples(named_samples(source, seed=seed), inputs, limit)


class RandomSamples:
    """Standard-normal samples: they tell that a network runs, nothing of how well.

    Args:
        source: ``random:N``.
        seed: Seed; the same one gives the same samples.
    """

    def __init__(self, source: str, seed: int = 0) -> None:
        text = source.removeprefix(_RANDOM)
        # Python converts no text of more than 4,300 digits.
        if not text.isdecimal() or len(text) > 4_000 or not 0 < int(text) <= 1_000_000:
            raise UsageError("SNN232", f"expected random:N with 1 <= N <= 1000000, found {source[:40]!r}")
        self.name = source
        self.kind = f"{source} seed {seed}"
        self.count: int | None = int(text)
        self._seed = seed

    def chunks(self, inputs: Sequence[InputSpec]) -> Iterator[Chunk]:
        """Draw some samples at a time."""
        assert self.count is not None
        sizes: dict[str, tuple[int, ...]] = {}
        for spec in inputs:
            if None in spec.shape[1:]:
                raise UsageError(
                    "SNN232",
                    f"random samples need known sizes, but the input is {spec}",
                    hint="give them: --size NAME=NUMBER",
                )
            sizes[spec.name] = tuple(size for size in spec.shape[1:] if size is not None)
            if math.prod(sizes[spec.name]) * self.count * spec.dtype.itemsize > _LARGEST:
                raise UsageError("SNN232", f"{self.count} random samples of {spec} do not fit into memory")
        generators = [
            np.random.default_rng([self._seed, index] if index else self._seed)
            for index in range(len(inputs))
        ]
        row = max(math.prod(size) * 8 for size in sizes.values())
        rows = max(1, _CHUNK_BYTES // max(1, row))
        for start in range(0, self.count, rows):
            size = min(rows, self.count - start)
            yield {
                spec.name: _random(generator, spec, (size, *sizes[spec.name]))
                for spec, generator in zip(inputs, generators, strict=True)
            }


def _random(generator: np.random.Generator, spec: InputSpec, sizes: tuple[int, ...]) -> Array:
    """Draw samples: normal floats, places in a table, or a mask whose tail is zero."""
    if spec.dtype.kind == "f":
        return generator.standard_normal(sizes).astype(spec.dtype)
    if spec.limit is not None:
        return generator.integers(0, spec.limit, sizes).astype(spec.dtype)
    if spec.dtype == np.uint8:
        return generator.integers(0, 256, sizes).astype(spec.dtype)
    if len(sizes) < 2:
        return np.ones(sizes, dtype=spec.dtype)
    lengths = generator.integers(1, sizes[-1] + 1, (*sizes[:-1], 1))
    return np.asarray(np.arange(sizes[-1]) < lengths).astype(spec.dtype)
