"""Training with ExpG quantisers for one's own data: ``python -m snnc.train`` and `fit` (needs torch)."""

from __future__ import annotations

import sys

try:
    import torch as torch
except ModuleNotFoundError as error:
    if sys.argv[:1] == ["-m"]:  # Python is looking for __main__: a command, not an import
        print("error: SNN610: snnc.train needs the package 'torch'", file=sys.stderr)
        print("  hint: pip install 'snnc[torch,train]'", file=sys.stderr)
        raise SystemExit(6) from error
    raise ModuleNotFoundError("snnc.train needs torch: pip install 'snnc[torch]'", name=error.name) from error

from snnc.train.data import Arrays, ImageFolders, TrainingData, augment, open_data
from snnc.train.loop import FitOptions, accuracy, fit
from snnc.train.metrics import Metrics

__all__ = [
    "Arrays",
    "FitOptions",
    "ImageFolders",
    "Metrics",
    "TrainingData",
    "accuracy",
    "augment",
    "fit",
    "open_data",
]
