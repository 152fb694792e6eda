"""How images become a network's input: what Hugging Face calls ``preprocessor_config.json``."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from snnc import strict
from snnc.errors import InputError, Where
from snnc.files import open_regular

__all__ = ["NAMES", "Preprocessing", "find_description", "read_description"]

#: Where the description of a folder of images is looked for.
NAMES = ("preprocess.json", "preprocessor_config.json")
_LARGEST = 1 << 20
_MOST_PIXELS = 1 << 14
#: Keys that tell what wrote the file and change no pixel.
_SILENT = frozenset(
    {
        "image_processor_type", "feature_extractor_type", "processor_class", "_valid_processor_keys",
        "return_tensors", "default_to_square", "input_data_format", "device", "disable_grouping",
    }
)  # fmt: skip
#: Steps that are not done here: a file that asks for one is refused.
_OFF = frozenset(
    {"do_pad", "do_reduce_labels", "do_flip_channel_order", "do_thumbnail", "do_align_long_axis"}
)
_EXAMPLE = '{"size": 224, "crop_size": 224, "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}'


@dataclass(frozen=True)
class Preprocessing:
    """What is done to an image, in this order.

    Attributes:
        size: (height, width) to resize to; None keeps the size.
        shortest_edge: Length the shorter side is brought to, the other in proportion; None for `size`.
        resample: Filter of the resizing, as Pillow numbers them.
        crop: (height, width) cut out of the middle, zeros where the image is smaller; None for all.
        factor: What pixels of 0 .. 255 are multiplied by.
        mean: Subtracted, one number a channel or one for all.
        deviation: Divided by, one number a channel or one for all.
        grayscale: Whether there is one channel, of the brightness.
        reversed_channels: Whether channels are in the order blue, green, red.
        channels_first: Layout of the input; None lets its shape decide.
    """

    size: tuple[int, int] | None = None
    shortest_edge: int | None = None
    resample: int = 2
    crop: tuple[int, int] | None = None
    factor: float = 1 / 255
    mean: tuple[float, ...] = (0.0,)
    deviation: tuple[float, ...] = (1.0,)
    grayscale: bool = False
    reversed_channels: bool = False
    channels_first: bool | None = None


def find_description(folder: Path) -> Preprocessing:
    """Return the description that lies in a folder of images.

    Raises:
        InputError: SNN340, there is none, or it is wrong.
    """
    for name in NAMES:
        if (folder / name).exists():
            return read_description(folder / name)
    raise InputError(
        "SNN340",
        f"holds images but no {NAMES[0]}, which says how they become the network's input",
        where=Where(file=str(folder)),
        hint=f"write one beside the images, such as {_EXAMPLE}",
    )


def read_description(path: Path) -> Preprocessing:
    """Read a description.

    Args:
        path: JSON file with the keys of Hugging Face image processors.

    Raises:
        InputError: SNN340, it is no JSON, has a key twice or an unknown one, or a value out of range.
    """
    with open_regular(path) as stream:
        content = stream.read(_LARGEST + 1)
    if len(content) > _LARGEST:
        raise _wrong(path, f"is larger than {_LARGEST} bytes")
    try:
        values = strict.loads(content)
    except ValueError as error:
        raise _wrong(path, f"is not JSON: {error}") from None
    if not isinstance(values, dict):
        raise _wrong(path, "is no JSON object")
    return _Reader(path, values).description()


class _Reader:
    """Reads the keys of one description."""

    def __init__(self, path: Path, values: Mapping[str, Any]) -> None:
        self._path = path
        self._values = dict(values)
        for key in [key for key, value in values.items() if value is None or key in _SILENT]:
            del self._values[key]

    def description(self) -> Preprocessing:
        """Return what the keys say."""
        size, edge = self._size("size") if self._flag("do_resize", "size" in self._values) else (None, None)
        crop = (
            self._size("crop_size")[0] if self._flag("do_center_crop", "crop_size" in self._values) else None
        )
        rescales = self._flag("do_rescale", True)
        factor = self._number("rescale_factor", 1 / 255)
        normalises = self._flag("do_normalize", "image_mean" in self._values)
        mean, deviation = self._numbers("image_mean", 0.0), self._numbers("image_std", 1.0)
        if any(value <= 0 for value in deviation):
            raise _wrong(self._path, f"image_std is {list(deviation)}, expected positive numbers")
        resample = self._values.pop("resample", 2)
        if not isinstance(resample, int) or isinstance(resample, bool) or not 0 <= resample <= 5:
            raise _wrong(self._path, f"resample is {resample!r}, expected one of Pillow's filters, 0 to 5")
        gray = self._flag("grayscale", False) or self._flag("do_grayscale", False)
        self._flag("do_convert_rgb", True)
        order = str(self._choice("channel_order", "rgb", ("rgb", "bgr")))
        layout = self._choice("data_format", None, ("channels_first", "channels_last"))
        for key in sorted(_OFF & set(self._values)):
            if self._flag(key, False):
                raise _wrong(self._path, f"asks for {key}, which is not done here")
        if self._values:
            known = "size, crop_size, resample, do_*, rescale_factor, image_mean, image_std, channel_order, "
            raise _wrong(
                self._path,
                f"has the unknown key {next(iter(self._values))!r}",
                hint=f"known are {known}data_format, grayscale",
            )
        return Preprocessing(
            size=size,
            shortest_edge=edge,
            resample=resample,
            crop=crop,
            factor=factor if rescales else 1.0,
            mean=mean if normalises else (0.0,),
            deviation=deviation if normalises else (1.0,),
            grayscale=gray,
            reversed_channels=order == "bgr",
            channels_first=None if layout is None else layout == "channels_first",
        )

    def _flag(self, key: str, default: bool) -> bool:
        value = self._values.pop(key, default)
        if not isinstance(value, bool):
            raise _wrong(self._path, f"{key} is {value!r}, expected true or false")
        return value

    def _number(self, key: str, default: float) -> float:
        value = self._values.pop(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise _wrong(self._path, f"{key} is {value!r}, expected a number")
        return float(value)

    def _numbers(self, key: str, default: float) -> tuple[float, ...]:
        values = self._values.pop(key, [default])
        values = values if isinstance(values, list) else [values]
        fine = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
        if len(values) not in (1, 3) or not fine or not all(math.isfinite(value) for value in values):
            raise _wrong(self._path, f"{key} is {values!r}, expected a number for each channel")
        return tuple(float(value) for value in values)

    def _choice(self, key: str, default: str | None, allowed: tuple[str, ...]) -> str | None:
        value = self._values.pop(key, default)
        text = value.lower() if isinstance(value, str) else value
        if text is not None and text not in allowed:
            raise _wrong(self._path, f"{key} is {value!r}, expected {' or '.join(allowed)}")
        return text

    def _size(self, key: str) -> tuple[tuple[int, int] | None, int | None]:
        value = self._values.pop(key, None)
        if isinstance(value, Mapping):
            if set(value) == {"height", "width"}:
                return (self._pixels(key, value["height"]), self._pixels(key, value["width"])), None
            if set(value) == {"shortest_edge"} and key == "size":
                return None, self._pixels(key, value["shortest_edge"])
            expected = "height and width, or shortest_edge" if key == "size" else "height and width"
            raise _wrong(self._path, f"{key} has {', '.join(map(repr, value))}, expected {expected}")
        pixels = self._pixels(key, value)
        return (pixels, pixels), None

    def _pixels(self, key: str, value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= _MOST_PIXELS:
            raise _wrong(self._path, f"{key} is {value!r}, expected 1 to {_MOST_PIXELS} pixels")
        return value


def _wrong(path: Path, message: str, hint: str | None = None) -> InputError:
    return InputError("SNN340", message, where=Where(file=str(path)), hint=hint)
