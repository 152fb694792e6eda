"""CIFAR-10 for the examples: through torchvision or Hugging Face datasets, else from a file of JPEG images.

CIFAR-10 is by Alex Krizhevsky, Vinod Nair and Geoffrey Hinton, https://www.cs.toronto.edu/~kriz/cifar.html.
It is used for research and not distributed with this project.

    python examples/cifar10.py --data cifar10.npz --out runs

writes ``runs/cifar10_train.npz`` and ``runs/cifar10_test.npz`` as ``python -m snnc.train`` takes them.
"""

from __future__ import annotations

import argparse
import io
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from data import DataError

COUNTS = {"train": 50_000, "test": 10_000}
MEAN = (0.4914, 0.4822, 0.4465)
DEVIATION = (0.2471, 0.2435, 0.2616)
HELP = (
    "install torchvision or datasets (they download the data set), or pass --data FILE.npz with the arrays "
    "data (uint8: JPEG files one after another), offset (image i is data[offset[i]:offset[i + 1]]), label "
    "and is_test"
)

Bytes = npt.NDArray[np.uint8]


def _from_torchvision(folder: Path, split: str) -> tuple[Bytes, Bytes] | None:
    try:
        from torchvision.datasets import CIFAR10  # type: ignore[import-not-found,unused-ignore]
    except ImportError:
        return None
    data = CIFAR10(str(folder), train=split == "train", download=True)
    return data.data.transpose(0, 3, 1, 2), np.asarray(data.targets, dtype=np.uint8)


def _from_hugging_face(folder: Path, split: str) -> tuple[Bytes, Bytes] | None:
    try:
        from datasets import load_dataset  # type: ignore[import-not-found,unused-ignore]
    except ImportError:
        return None
    data = load_dataset("uoft-cs/cifar10", split=split, cache_dir=str(folder))
    images = np.stack([np.asarray(row["img"].convert("RGB")) for row in data])
    return images.transpose(0, 3, 1, 2), np.asarray(data["label"], dtype=np.uint8)


def _from_jpeg(path: Path, split: str, limit: int | None) -> tuple[Bytes, Bytes]:
    from PIL import Image

    if not path.is_file():
        raise DataError(f"{path} is missing: {HELP}")
    with np.load(path) as archive:
        if absent := {"data", "offset", "label", "is_test"} - set(archive.files):
            raise DataError(f"{path} has no {', '.join(sorted(absent))}: {HELP}")
        data, offset = archive["data"], archive["offset"]
        labels, is_test = archive["label"], archive["is_test"].astype(bool)
    chosen = np.flatnonzero(is_test == (split == "test"))[:limit]
    images = np.empty((len(chosen), 3, 32, 32), np.uint8)
    for place, index in enumerate(chosen):
        content = data[offset[index] : offset[index + 1]].tobytes()
        with Image.open(io.BytesIO(content)) as image:
            images[place] = np.asarray(image.convert("RGB")).transpose(2, 0, 1)
    return images, labels[chosen]


def cifar10(
    place: str | Path | None, split: str, limit: int | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Load one split of CIFAR-10.

    Args:
        place: A ``.npz`` file of JPEG images, or a folder for what torchvision or datasets download.
            ``None``: ``~/.cache/cifar10``.
        split: ``"train"`` (50,000) or ``"test"`` (10,000).
        limit: Only the first so many images.

    Returns:
        Images, uint8 ``(N, 3, 32, 32)`` in RGB, and labels, int64 ``(N,)``.

    Raises:
        DataError: If the data set cannot be found, with what to do about it.
    """
    path = Path(place) if place is not None else Path.home() / ".cache" / "cifar10"
    found = None
    if path.suffix != ".npz":
        found = _from_torchvision(path, split) or _from_hugging_face(path, split)
    images, labels = found if found is not None else _from_jpeg(path, split, limit)
    if limit is None and len(images) != COUNTS[split]:
        raise DataError(f"{path}: {split} holds {len(images)} images, not {COUNTS[split]}")
    images, labels = images[:limit], labels[:limit]
    return torch.from_numpy(images.copy()), torch.from_numpy(labels.astype(np.int64))


def normalised(images: torch.Tensor) -> torch.Tensor:
    """Return the float32 input of the network: (image / 255 - mean) / deviation, per colour."""
    mean, deviation = (torch.tensor(values).view(1, 3, 1, 1) for values in (MEAN, DEVIATION))
    return (images.float() / 255 - mean) / deviation


def main() -> int:
    """Write both splits as ``python -m snnc.train`` takes them; return the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="FILE.npz, or a folder for what is downloaded")
    parser.add_argument("--out", type=Path, default=Path("runs"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    for split in COUNTS:
        try:
            images, labels = cifar10(options.data, split)
        except DataError as error:
            print(f"error: {error}", file=sys.stderr)
            return 2
        np.savez(options.out / f"cifar10_{split}.npz", x=images.numpy(), y=labels.numpy())
        print(f"written: {options.out / f'cifar10_{split}.npz'}: {len(labels)} images")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
