"""Train the spiking transformer on Fashion-MNIST, in float or with ExpG quantisers, and export it.

First ``python examples/02_spiking_transformer/train.py --float --out runs``, then, for each number of groups,
the same with ``--groups 4 --epochs 4 --init runs/fashion_transformer_float.pt --out runs``.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import model
from training import Recipe, main

RECIPE = Recipe(
    name="fashion_transformer",
    float_network=model.float_network,
    spiking_network=model.spiking_network,
    example_input=model.example_input,
    float_rate=4e-3,
    fine_tune_rate=1.5e-3,
)

if __name__ == "__main__":
    raise SystemExit(main(RECIPE))
