"""Train the spiking transformer on Fashion-MNIST, in float or with ExpG quantisers, and export it.

python examples/02_spiking_transformer/train.py --float --epochs 8 --out runs
python examples/02_spiking_transformer/train.py --timesteps 4 --groups 2 --epochs 5 --init runs/fashion_transformer_float.pt --out runs
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import model  # noqa: E402
from training import Recipe, main  # noqa: E402

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
