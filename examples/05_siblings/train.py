"""Train a small BSViT or the transformer whose thresholds adapt, for a given processor time.

    python examples/05_siblings/train.py --variant bsvit --data-set fashion --minutes 8 --out runs
    python examples/05_siblings/train.py --variant adaptive --data-set fashion --minutes 8 --out runs

``RESULTS.json`` has the accuracy on the full test set; of ``adaptive`` also the firing rate of each layer on
2,000 test images, and which part of its channels lies in the band of 5 to 15 %. A run that was cut goes on
when it is started again.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch
from timed import arguments, train
from torch import nn

from snnc.nn import AdaptiveTransformer, BSViT

BAND = (0.05, 0.15)


def build(options: argparse.Namespace, shape: tuple[int, ...]) -> nn.Module:
    """Return the network for images of a shape."""
    if options.variant == "bsvit":
        return BSViT(
            shape[-1], channels=shape[0], width=options.width, depth=options.depth, window=options.window
        )
    return AdaptiveTransformer(
        shape[-1],
        channels=shape[0],
        width=options.width,
        depth=options.depth,
        timesteps=options.timesteps,
        band=BAND,
        tau=options.tau,
    )


def rates(network: AdaptiveTransformer, images: torch.Tensor) -> dict[str, object]:
    """Return the firing rate of each layer, and which part of the channels lies in the band, in percent."""
    network.eval()
    found = network.rates(images)
    channels = torch.cat(list(found.values()))
    inside = (channels >= BAND[0]) & (channels <= BAND[1])
    means = {name: round(100 * float(values.mean()), 2) for name, values in found.items()}
    return {
        "rate_of_layers": means,
        "rate_of_all": round(100 * sum(means.values()) / 100 / len(means), 2),
        "channels": len(channels),
        "channels_in_band": round(100 * float(inside.float().mean()), 1),
        "rate_images": len(images),
    }


def main() -> int:
    """Train one variant; return the exit status."""
    parser = arguments(__doc__, ("bsvit", "adaptive"), 8)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--depth", type=int, default=2)
    parser.add_argument("--window", type=int, default=3, help="of BSViT: side of the neighbourhood")
    parser.add_argument("--timesteps", type=int, default=4, help="of the other")
    parser.add_argument("--tau", type=float, default=2.0, help="time constant of its neurons, in steps")
    options = parser.parse_args()
    name = f"{options.data_set}_{options.variant}"
    done = train(options, name, build)
    if done is None:
        return 2
    network, test, _ = done
    if isinstance(network, AdaptiveTransformer):
        path = options.out / "RESULTS.json"
        results = json.loads(path.read_text())
        results[name] |= rates(network, test.batch(torch.arange(2000), None)[0])
        path.write_text(json.dumps(results, indent=1, sort_keys=True) + "\n")
        print({key: value for key, value in results[name].items() if "rate" in key or "channels" in key})
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
