"""Labelled samples to train with: arrays in memory, or folders of images, one folder a class."""

from __future__ import annotations

import warnings
import zlib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol
from zipfile import ZipFile, ZipInfo

import numpy as np
import torch
from torch import Generator, Tensor

from snnc.arrays import open_archive, read_array
from snnc.data.images import image_files
from snnc.errors import EnvironmentFailure, InputError, UsageError, Where
from snnc.files import open_regular

__all__ = ["Arrays", "ImageFolders", "TrainingData", "augment", "open_data"]

_IMAGES = ("x", "images", "image", "data")
_LABELS = ("y", "labels", "label", "targets")
_LARGEST = 1 << 40
_LARGEST_SIDE = 1 << 16
#: A last layer for more classes is no network's; such a label is a mistake.
_MOST_CLASSES = 1 << 20
_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")


class TrainingData(Protocol):
    """Labelled samples, read by their numbers.

    Attributes:
        classes: Number of classes.
        shape: Shape of one sample as the network takes it.
    """

    classes: int
    shape: tuple[int, ...]

    def __len__(self) -> int:
        """Return the number of samples."""
        ...

    def batch(self, indices: Tensor, generator: Generator | None) -> tuple[Tensor, Tensor]:
        """Return some samples.

        Args:
            indices: Their numbers, int64 ``(N,)``.
            generator: Randomness of augmentation; ``None``: samples as they are.

        Returns:
            Inputs, float32 ``(N, *shape)``, and labels, int64 ``(N,)``.
        """
        ...


def augment(images: Tensor, generator: Generator, shift: int = 2, *, mirror: bool = True) -> Tensor:
    """Shift each image by up to ``shift`` pixels and mirror half of them.

    Args:
        images: ``(N, C, H, W)``, any dtype.
        generator: Source of randomness.
        shift: Largest shift in pixels; vacated pixels are 0.
        mirror: Mirror left and right.

    Returns:
        Tensor of the same shape and dtype.
    """
    count, _, height, width = images.shape
    padded = torch.nn.functional.pad(images, (shift, shift, shift, shift))
    rows = torch.randint(0, 2 * shift + 1, (count, 1), generator=generator) + torch.arange(height)
    columns = torch.randint(0, 2 * shift + 1, (count, 1), generator=generator) + torch.arange(width)
    if mirror:
        mirrored = torch.rand(count, 1, generator=generator) < 0.5
        columns = torch.where(mirrored, columns.flip(1), columns)
    each = torch.arange(count)[:, None, None]
    return padded[each, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def _normaliser(values: Sequence[float] | None, channels: int, default: float) -> Tensor:
    found = torch.tensor([default] if values is None else list(values), dtype=torch.float32)
    if found.numel() not in (1, channels) or not bool(torch.isfinite(found).all()):
        raise UsageError("SNN218", f"mean and deviation must be 1 or {channels} numbers, not {values}")
    if default and not bool((found > 0).all()):
        raise UsageError("SNN218", f"deviation must be positive, not {values}")
    return found.reshape(-1, 1, 1)


def _tensor(values: Any, what: str, where: Where) -> Tensor:
    if isinstance(values, Tensor):
        return values
    array = np.asarray(values)
    if array.dtype.kind not in "uifb":
        raise InputError("SNN351", f"{what} must be numbers, not {array.dtype}", where=where)
    native = array.dtype.newbyteorder("=")
    if native.kind == "f" and native.itemsize > 8:  # long double, which torch has not
        native = np.dtype(np.float64)
    if what == "labels" and array.dtype.kind in "ui":
        native = np.dtype(np.int64)
    # What is read from a file is not writable, and torch wants that.
    return torch.from_numpy(np.require(array, native, ["C", "W"]).reshape(array.shape))


class Arrays:
    """Samples in memory.

    Args:
        images: uint8, read as pixel / 255, or float; ``(N, C, H, W)``, or event frames ``(N, T, P, H, W)``.
        labels: Integers from 0, ``(N,)``.
        mean: Subtracted from each channel, after division by 255.
        deviation: Divides each channel then.
        shift: Augmentation: largest shift in pixels.
        mirror: Augmentation: mirror half of the images.
        name: What to call them in messages.

    Raises:
        InputError: SNN351 if shapes, types or labels are wrong.
        UsageError: SNN218 if mean or deviation do not fit the channels.
    """

    def __init__(
        self,
        images: Any,
        labels: Any,
        *,
        mean: Sequence[float] | None = None,
        deviation: Sequence[float] | None = None,
        shift: int = 2,
        mirror: bool = True,
        name: str = "arrays",
    ) -> None:
        where = Where(file=name)
        self.images, self.labels = _tensor(images, "images", where), _tensor(labels, "labels", where)
        if shift < 0:
            raise UsageError("SNN218", f"shift must not be negative: {shift}")
        self.shift, self.mirror = shift, mirror
        if self.images.ndim not in (4, 5) or 0 in self.images.shape:
            raise InputError(
                "SNN351", f"images must be (N, C, H, W) or (N, T, P, H, W), not {tuple(self.images.shape)}",
                where=where,
            )  # fmt: skip
        if self.images.dtype != torch.uint8 and not self.images.is_floating_point():
            raise InputError("SNN351", f"images must be uint8 or float, not {self.images.dtype}", where=where)
        if self.images.is_floating_point() and not bool(torch.isfinite(self.images).all()):
            raise InputError("SNN351", "images hold values that are not finite", where=where)
        is_whole = not self.labels.is_floating_point() and self.labels.dtype != torch.bool
        if self.labels.shape != self.images.shape[:1] or not is_whole:
            raise InputError(
                "SNN351",
                f"labels must be {len(self.images)} integers, "
                f"not {tuple(self.labels.shape)} of {self.labels.dtype}",
                where=where,
            )
        self.labels = self.labels.long()
        if int(self.labels.min()) < 0:
            raise InputError("SNN351", f"a label is {int(self.labels.min())}", where=where)
        self.classes = int(self.labels.max()) + 1
        if self.classes > _MOST_CLASSES:
            raise InputError(
                "SNN351",
                f"a label is {self.classes - 1}",
                where=where,
                hint=f"labels count classes from 0; of these there are at most {_MOST_CLASSES:,}",
            )
        self.shape: tuple[int, ...] = tuple(self.images.shape[1:])
        if shift > max(self.shape[-2:]):
            raise UsageError("SNN218", f"a shift of {shift} leaves nothing of images {self.shape[-2:]}")
        channels = self.shape[-3]
        self.mean = _normaliser(mean, channels, 0.0)
        self.deviation = _normaliser(deviation, channels, 1.0)

    @property
    def identity(self) -> dict[str, Any]:
        """What a run that is resumed must find again."""
        total = 0
        for part in (self.images, self.labels):
            total = zlib.crc32(part.contiguous().numpy().data, total)
        return {
            "data": f"{total:08x}",
            "mean": self.mean.flatten().tolist(),
            "deviation": self.deviation.flatten().tolist(),
            "shift": self.shift,
            "mirror": self.mirror,
        }

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.images)

    def batch(self, indices: Tensor, generator: Generator | None) -> tuple[Tensor, Tensor]:
        """Return some samples, see `TrainingData`."""
        chosen = self.images[indices]
        if generator is not None and (self.shift or self.mirror):
            maps = chosen.flatten(1, -3)
            chosen = augment(maps, generator, self.shift, mirror=self.mirror).reshape(chosen.shape)
        values = chosen.float() / 255 if chosen.dtype == torch.uint8 else chosen.float()
        inputs = (values - self.mean) / self.deviation
        if inputs.ndim == 4:
            inputs = inputs.contiguous(memory_format=torch.channels_last)
        return inputs, self.labels[indices]


class ImageFolders:
    """Images in folders, one folder a class, in the order of their names; decoded when they are read.

    To train, a part of each image is cut out at random and mirrored in half of the cases; otherwise it is
    scaled and its centre cut out.

    Args:
        folder: Holds one folder for each class.
        size: Height and width of a sample.
        mean: Subtracted from each colour, after division by 255.
        deviation: Divides each colour then.
        mirror: Mirror half of the images in training.
        smallest: Smallest part of an image's area to cut out in training.
        names: Names of the classes in the order of the labels, as `names` of the training data has them;
            ``None``: the folders that hold images, sorted.

    Attributes:
        names: Names of the classes in the order of the labels.

    Raises:
        InputError: SNN352 if there are fewer than two classes or others than ``names``, or an image cannot be
            read.
        UsageError: SNN218 for a size that is not positive.
        EnvironmentFailure: SNN612 without Pillow.
    """

    def __init__(
        self,
        folder: str | Path,
        size: int,
        *,
        mean: Sequence[float] | None = None,
        deviation: Sequence[float] | None = None,
        mirror: bool = True,
        smallest: float = 0.35,
        names: Sequence[str] | None = None,
    ) -> None:
        if size < 1:
            raise UsageError("SNN218", f"the size of images must be positive: {size}")
        try:
            import PIL.Image as pillow
        except ModuleNotFoundError as error:
            raise EnvironmentFailure(
                "SNN612", "folders of images need Pillow", hint="pip install 'snnc[images]'"
            ) from error
        self._pillow = pillow
        root = Path(folder)
        folders = sorted(entry.name for entry in root.iterdir() if entry.is_dir())
        found = tuple(name for name in folders if image_files(root / name))
        self.names = found if names is None else tuple(names)
        if other := [name for name in found if name not in self.names]:
            raise InputError(
                "SNN352",
                f"holds classes that the training data have not: {', '.join(other[:5])}",
                where=Where(file=str(folder)),
            )
        if not found or len(self.names) < 2:
            raise InputError(
                "SNN352",
                "holds no images" if not found else "holds images of fewer than two classes",
                where=Where(file=str(folder)),
                hint="one folder of images for each class, or an .npz file with x and y",
            )
        self._files = [
            (path, k)
            for k, name in enumerate(self.names)
            if name in found
            for path in image_files(root / name)
        ]
        self.classes, self.size = len(self.names), size
        self.shape: tuple[int, ...] = (3, size, size)
        self.mirror, self.smallest = mirror, smallest
        self.mean, self.deviation = _normaliser(mean, 3, 0.0), _normaliser(deviation, 3, 1.0)

    @property
    def identity(self) -> dict[str, Any]:
        """What a run that is resumed must find again; images are known by their names."""
        text = "\n".join(f"{label} {path.name}" for path, label in self._files)
        return {
            "data": f"{zlib.crc32(text.encode(errors='surrogateescape')):08x}",
            "classes": list(self.names),
            "mean": self.mean.flatten().tolist(),
            "deviation": self.deviation.flatten().tolist(),
            "size": self.size,
            "mirror": self.mirror,
        }

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self._files)

    def batch(self, indices: Tensor, generator: Generator | None) -> tuple[Tensor, Tensor]:
        """Return some samples, see `TrainingData`."""
        chosen = [self._files[int(index)] for index in indices]
        if generator is None:
            draws: list[list[float] | None] = [None] * len(chosen)
        else:
            draws = list(torch.rand(len(chosen), 5, generator=generator).tolist())
        with ThreadPoolExecutor(4) as pool:  # Pillow decodes outside of Python's lock
            images = list(pool.map(self._decode, [path for path, _ in chosen], draws))
        values = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 255
        inputs = ((values - self.mean) / self.deviation).contiguous(memory_format=torch.channels_last)
        return inputs, torch.tensor([label for _, label in chosen])

    def _decode(self, path: Path, draw: list[float] | None) -> Any:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                with self._pillow.open(path, formats=_FORMATS) as file:
                    image = file.convert("RGB")
        except (OSError, ValueError, self._pillow.DecompressionBombError) as error:
            raise InputError("SNN352", "cannot be read as an image", where=Where(file=str(path))) from error
        width, height = image.size
        if draw is None:
            side = min(width, height) * 0.875
            wide, high = side, side
            left, top = (width - side) / 2, (height - side) / 2
        else:
            area = (self.smallest + (1 - self.smallest) * draw[0]) * width * height
            ratio = (4 / 3) ** (2 * draw[1] - 1)
            wide, high = min(width, (area * ratio) ** 0.5), min(height, (area / ratio) ** 0.5)
            left, top = draw[2] * (width - wide), draw[3] * (height - high)
        box = (left, top, left + wide, top + high)
        cut = image.resize((self.size, self.size), self._pillow.Resampling.BILINEAR, box=box)
        array = np.asarray(cut)
        return array[:, ::-1] if draw is not None and self.mirror and draw[4] < 0.5 else array


def _member(
    archive: ZipFile, members: Mapping[str, ZipInfo], names: Sequence[str], what: str, place: str
) -> Any:
    for each in names:
        if each in members:
            with archive.open(members[each]) as content:
                return read_array(content, members[each].file_size, Path(place), each)
    raise InputError(
        "SNN351",
        f"holds no {what}: none of {', '.join(names)}, but {', '.join(members) or 'nothing'}",
        where=Where(file=place),
    )


def open_data(
    place: str | Path,
    *,
    size: int | None = None,
    mean: Sequence[float] | None = None,
    deviation: Sequence[float] | None = None,
    shift: int = 2,
    mirror: bool = True,
    limit: int | None = None,
    names: Sequence[str] | None = None,
) -> TrainingData:
    """Open labelled data by its path.

    Args:
        place: An ``.npz`` file with ``x`` and ``y`` (or images and labels), or a folder with one folder of
            images for each class.
        size: Height and width of samples from a folder.
        mean: Subtracted from each channel.
        deviation: Divides each channel.
        shift: Augmentation of arrays: largest shift in pixels.
        mirror: Augmentation: mirror half of the images.
        limit: Only the first so many samples of an array.
        names: Classes of a folder in the order of the labels, see `ImageFolders`.

    Raises:
        InputError: SNN301 if there is nothing at the place; SNN351 or SNN352 if it holds no labelled images.
        UsageError: SNN218 if a folder is given without a size, or an option is out of range.
    """
    if limit is not None and limit < 1:
        raise UsageError("SNN218", f"limit must be positive: {limit}")
    if size is not None and not 1 <= size <= _LARGEST_SIDE:
        raise UsageError("SNN218", f"the size of images must lie between 1 and {_LARGEST_SIDE:,}: {size}")
    path, name = Path(place), str(place)
    if path.is_dir():
        if size is None:
            raise UsageError("SNN218", f"{name} is a folder of images: give their size", hint="--size 224")
        return ImageFolders(path, size, mean=mean, deviation=deviation, mirror=mirror, names=names)
    if not path.is_file():
        raise InputError("SNN301", "no such file or folder", where=Where(file=name))
    try:
        with open_regular(path) as stream, open_archive(stream, path, largest=_LARGEST) as (archive, members):
            images, labels = (
                _member(archive, members, names, what, name)
                for names, what in ((_IMAGES, "images"), (_LABELS, "labels"))
            )
    except InputError as error:
        if error.code not in ("SNN331", "SNN332"):
            raise
        what = f"its {error.where.tensor}: " if error.where.tensor else ""
        raise InputError(
            "SNN351",
            f"is not an .npz file of arrays: {what}{error.message}",
            where=Where(file=name),
            hint=error.hint,
        ) from error
    images, labels = np.atleast_1d(images), np.atleast_1d(labels)
    if images.ndim == 3:
        images = images[:, None]
    elif images.ndim == 4 and images.shape[-1] in (1, 3) and images.shape[1] not in (1, 3):
        images = np.moveaxis(images, -1, 1)
    images, labels = np.ascontiguousarray(images[:limit]), labels[:limit].reshape(-1)
    return Arrays(images, labels, mean=mean, deviation=deviation, shift=shift, mirror=mirror, name=name)
