"""Samples in a folder of images, decoded one by one with Pillow (an optional package)."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from snnc.arrays import InputSpec
from snnc.data.preprocess import Preprocessing, find_description
from snnc.data.source import Array, Chunk
from snnc.errors import EnvironmentFailure, InputError, Where
from snnc.files import open_regular

__all__ = ["SUFFIXES", "ImageFolder", "image_files"]

SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".pgm", ".tif", ".tiff", ".webp"})
_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
_MOST_PIXELS = 64 << 20
_AT_ONCE = 8


def image_files(folder: Path) -> list[Path]:
    """Return the images of a folder and the folders in it, in the order of their paths."""
    return sorted(
        entry for entry in folder.rglob("*") if entry.suffix.lower() in SUFFIXES and entry.is_file()
    )


class ImageFolder:
    """Images with a description of how they become the network's input.

    Args:
        folder: Holds images, perhaps in folders, and ``preprocess.json`` or ``preprocessor_config.json``.
        files: The images, in order.
    """

    def __init__(self, folder: Path, files: Sequence[Path]) -> None:
        self.name = str(folder)
        self.kind = "images"
        self.count: int | None = len(files)
        self._files = tuple(files)
        self._description = find_description(folder)
        self._pillow = _pillow()

    def chunks(self, inputs: Sequence[InputSpec]) -> Iterator[Chunk]:
        """Decode some images at a time.

        Raises:
            InputError: SNN341, an image cannot be read or is too large; SNN335, there are several inputs.
        """
        if len(inputs) != 1:
            raise InputError(
                "SNN335",
                f"images are one input, the network has {len(inputs)}",
                where=Where(file=self.name),
                hint="expected " + "; ".join(map(str, inputs)),
            )
        (spec,) = inputs
        for start in range(0, len(self._files), _AT_ONCE):
            arrays = [self._one(path, spec) for path in self._files[start : start + _AT_ONCE]]
            for path, array in zip(self._files[start:], arrays, strict=False):
                if array.shape != arrays[0].shape:
                    raise InputError(
                        "SNN336",
                        f"has shape {list(array.shape)}, the images before it {list(arrays[0].shape)}",
                        where=Where(file=str(path)),
                        hint="give a size or crop_size in the description",
                    )
            yield {spec.name: np.stack(arrays)}

    def _one(self, path: Path, spec: InputSpec) -> Array:
        pixels = _pixels(self._pillow, path, self._description).astype(np.float32)
        rule = self._description
        mean, deviation = (np.asarray(numbers, dtype=np.float64) for numbers in (rule.mean, rule.deviation))
        if pixels.shape[-1] not in (mean.size, 1) and mean.size != 1:
            raise InputError(
                "SNN340",
                f"image_mean has {mean.size} numbers for {pixels.shape[-1]} channels",
                where=Where(file=str(path)),
            )
        if pixels.shape[-1] == 1 and max(mean.size, deviation.size) > 1:
            raise InputError(
                "SNN340", "one channel needs one image_mean and one image_std", where=Where(file=str(path))
            )
        result = ((pixels * rule.factor - mean) / deviation).astype(np.float32)
        result = np.ascontiguousarray(result.transpose(2, 0, 1)) if _channels_first(rule, spec) else result
        plain = rule.factor == 1.0 and not mean.any() and bool((deviation == 1).all())
        return result.astype(spec.dtype) if plain and spec.dtype.kind in "iu" else result


def _channels_first(rule: Preprocessing, spec: InputSpec) -> bool:
    if rule.channels_first is not None:
        return rule.channels_first
    if len(spec.shape) != 4:
        return True
    first, last = spec.shape[1] in (1, 3), spec.shape[3] in (1, 3)
    return first or not last


def _pixels(pillow: Any, path: Path, rule: Preprocessing) -> Array:
    """Decode, resize and crop one image; (height, width, channels), 0 .. 255."""
    try:
        with warnings.catch_warnings(), open_regular(path) as stream:
            warnings.simplefilter("ignore")
            with pillow.open(stream, formats=_FORMATS) as image:
                if image.width * image.height > _MOST_PIXELS:
                    raise InputError(
                        "SNN341",
                        f"has {image.width} × {image.height} pixels, too many",
                        where=Where(file=str(path)),
                    )
                plain = image.convert("L" if rule.grayscale else "RGB")
    except (OSError, ValueError, SyntaxError, EOFError, pillow.DecompressionBombError) as error:
        if isinstance(error, FileNotFoundError | PermissionError):
            raise
        raise InputError(
            "SNN341", f"is no image that can be read: {error}", where=Where(file=str(path))
        ) from None
    if rule.shortest_edge is not None:
        plain = plain.resize(_in_proportion(plain.size, rule.shortest_edge), rule.resample)
    elif rule.size is not None:
        plain = plain.resize(rule.size[::-1], rule.resample)
    array = np.asarray(plain, dtype=np.uint8)
    array = array[:, :, None] if array.ndim == 2 else array
    if rule.crop is not None:
        array = _cropped(array, rule.crop)
    return array[:, :, ::-1] if rule.reversed_channels else array


def _in_proportion(size: tuple[int, int], shortest: int) -> tuple[int, int]:
    width, height = size
    if width <= height:
        return shortest, max(1, int(shortest * height / width))
    return max(1, int(shortest * width / height)), shortest


def _cropped(array: Array, crop: tuple[int, int]) -> Array:
    result = np.zeros((*crop, array.shape[2]), dtype=array.dtype)
    source, target = [], []
    for have, want in zip(array.shape, crop, strict=False):
        size = min(have, want)
        source.append(slice((have - size) // 2, (have - size) // 2 + size))
        target.append(slice((want - size) // 2, (want - size) // 2 + size))
    result[tuple(target)] = array[tuple(source)]
    return result


def _pillow() -> ModuleType:
    try:
        from PIL import Image
    except ImportError:
        raise EnvironmentFailure(
            "SNN612", "images need Pillow, which is not installed", hint="pip install 'snnc[images]'"
        ) from None
    module: ModuleType = Image
    return module
