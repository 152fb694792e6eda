"""Fashion-MNIST for the examples: through torchvision where it is installed, else from idx files.

Fashion-MNIST is (c) Zalando SE, MIT licence, https://github.com/zalandoresearch/fashion-mnist.
"""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from snnc.train import augment

__all__ = ["DataError", "augment", "fashion_mnist", "read_idx"]

DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")
FILES = {
    "train": ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz", 60_000),
    "test": ("t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz", 10_000),
}
HELP = (
    "install the Debian package dataset-fashion-mnist, or torchvision (it downloads the data set), "
    "or pass --data FOLDER with the four *-ubyte.gz files of github.com/zalandoresearch/fashion-mnist"
)


class DataError(RuntimeError):
    """The data set is absent or its files are not what they should be."""


def read_idx(path: Path) -> npt.NDArray[np.uint8]:
    """Read one gzipped idx file of bytes.

    Args:
        path: A ``*-ubyte.gz`` file.

    Returns:
        Array of uint8 with the shape that the header states.

    Raises:
        DataError: If the file is not an idx file of bytes, or is cut short.
    """
    with gzip.open(path, "rb") as file:
        content = file.read()
    if len(content) < 4 or content[:3] != b"\x00\x00\x08":
        raise DataError(f"{path} is not an idx file of unsigned bytes")
    rank = content[3]
    start = 4 + 4 * rank
    shape = struct.unpack(f">{rank}I", content[4:start])
    values = np.frombuffer(content, dtype=np.uint8, offset=start)
    if values.size != int(np.prod(shape)):
        raise DataError(f"{path} holds {values.size} bytes where its header promises {shape}")
    return values.reshape(shape)


def _from_folder(folder: Path, split: str) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    images_name, labels_name, count = FILES[split]
    paths = [folder / images_name, folder / labels_name]
    for path in paths:
        if not path.is_file():
            raise DataError(f"{path} is missing: {HELP}")
    images, labels = (read_idx(path) for path in paths)
    if images.shape != (count, 28, 28) or labels.shape != (count,):
        raise DataError(
            f"{folder}: {split} holds {images.shape}, {labels.shape}, not {count} images of 28x28"
        )
    return images, labels


def _from_torchvision(folder: Path, split: str) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]] | None:
    try:
        from torchvision.datasets import FashionMNIST  # type: ignore[import-not-found,unused-ignore]
    except ImportError:
        return None
    try:
        data = FashionMNIST(str(folder), train=split == "train", download=True)
    except (OSError, RuntimeError) as error:  # without a network, or on a disk that is full
        raise DataError(f"torchvision cannot download Fashion-MNIST: {HELP}") from error
    return data.data.numpy(), data.targets.numpy().astype(np.uint8)


def fashion_mnist(folder: str | Path | None, split: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Load one split of Fashion-MNIST.

    Args:
        folder: Where the idx files are, or where torchvision may put them. ``None``: the folder of the
            Debian package if it is installed, else torchvision's download into ``~/.cache/fashion-mnist``.
        split: ``"train"`` (60,000) or ``"test"`` (10,000).

    Returns:
        Images, uint8 ``(N, 1, 28, 28)``, and labels, int64 ``(N,)``. The networks of the examples take
        ``images.float() / 255``.

    Raises:
        DataError: If the data set cannot be found, with what to do about it.
    """
    place = DEBIAN_FOLDER if folder is None else Path(folder)
    if (place / FILES[split][0]).is_file():
        images, labels = _from_folder(place, split)
    else:
        found = _from_torchvision(Path(folder or Path.home() / ".cache" / "fashion-mnist"), split)
        images, labels = found if found is not None else _from_folder(place, split)
    return torch.from_numpy(images.copy()).unsqueeze(1), torch.from_numpy(labels.astype(np.int64))
