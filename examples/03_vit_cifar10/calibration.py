"""Write preprocessed images for snnc: training images to calibrate on, test images to judge on.

    python examples/03_vit_cifar10/calibration.py --out runs

Writes ``calibration.npz`` and ``test.npz`` (array ``x``) and ``labels.npy``.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from cifar10 import cifar10, normalised
from data import DataError


def main() -> int:
    """Write the files; return the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="folder for downloads, or a .npz of JPEG images")
    parser.add_argument("--calibration", type=int, default=256, help="training images")
    parser.add_argument("--test", type=int, default=1000, help="test images")
    parser.add_argument("--seed", type=int, default=0, help="which training images")
    parser.add_argument("--out", type=Path, default=Path("runs"))
    options = parser.parse_args()
    try:
        images, _ = cifar10(options.data, "train")
        test, labels = cifar10(options.data, "test")
    except DataError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    generator = torch.Generator().manual_seed(options.seed)
    chosen = torch.randperm(len(images), generator=generator)[: options.calibration]
    options.out.mkdir(parents=True, exist_ok=True)
    np.savez(options.out / "calibration.npz", x=normalised(images[chosen]).numpy())
    np.savez(options.out / "test.npz", x=normalised(test[: options.test]).numpy())
    np.save(options.out / "labels.npy", labels[: options.test].numpy())
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
