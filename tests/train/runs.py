"""What the tests of the command train: data, networks in a file, and its usual words."""

from __future__ import annotations

from pathlib import Path

import numpy as np

NETWORK = """
import os
from torch import nn
from snnc.nn import expg_activation

def build(classes, width=4, activation=expg_activation(4, 2), inputs=1):
    return nn.Sequential(
        nn.Conv2d(inputs, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), activation(False),
        nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4 * width, classes),
    )

def broken(classes):
    return 1 / 0

def few(classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 2))

def maps(classes):
    return nn.Conv2d(1, classes, 3)

def narrow(classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(63, classes))

class Later(nn.Module):
    def __init__(self, classes, act):
        super().__init__()
        self.linear, self.act, self.batches = nn.Linear(64, classes), act, 0

    def forward(self, x):
        self.batches += 1
        if self.batches > 2:
            self.act()
        return self.linear(x.flatten(1))

def exits(classes):
    raise SystemExit(0)

def leaves(classes):
    os._exit(0)

def exits_later(classes):
    return Later(classes, exit)

def leaves_later(classes):
    return Later(classes, lambda: os._exit(0))

def fails_later(classes):
    return Later(classes, lambda: {}["key"])

class Bare(nn.Module):
    def forward(self, x):
        return x.flatten(1)[:, :3] * 1

class Whole(Later):
    def forward(self, x):
        return self.linear(x.flatten(1)).long()

class CutOff(Later):
    def forward(self, x):
        return self.linear(x.flatten(1)).detach()

class Shrinks(Later):
    def forward(self, x):
        return self.linear(x.flatten(1))[: 1 if self.training else None]

def bare():
    return Bare()

def whole(classes):
    return Whole(classes, None)

def cut_off(classes):
    return CutOff(classes, None)

def shrinks(classes):
    return Shrinks(classes, None)
"""


def filled(tmp_path: Path) -> Path:
    """Return the folder, with images of three classes and a network in it."""
    random = np.random.default_rng(0)
    labels = np.arange(64) % 3
    images = random.integers(0, 90, (64, 1, 8, 8), dtype=np.uint8)
    for k in range(3):
        images[labels == k, :, 2 * k : 2 * k + 3] += 150
    np.savez(tmp_path / "train.npz", x=images, y=labels)
    np.savez(tmp_path / "test.npz", x=images[:32], y=labels[:32])
    (tmp_path / "net.py").write_text(NETWORK)
    return tmp_path


def words(folder: Path, out: str, *more: object) -> list[str]:
    fixed = ["--train", folder / "train.npz", "--model", f"{folder / 'net.py'}:build", "--out", folder / out]
    usual = ["--epochs", 4, "--batch", 16, "--rate", 0.05, "--exporter", "torchscript", "--quiet"]
    return [str(word) for word in (*fixed, *usual, *more)]
