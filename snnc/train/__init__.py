"""Training with ExpG quantisers for one's own data: ``python -m snnc.train`` and `fit` (needs torch)."""

from __future__ import annotations

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
