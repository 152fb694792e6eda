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
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "examples"), str(ROOT / "benchmarks")]

import torch  # noqa: E402
from report import processor, write_section  # noqa: E402
from timed import arguments, command_of, train  # noqa: E402
from torch import nn  # noqa: E402

from snnc.nn import AdaptiveTransformer, BSViT  # noqa: E402

BAND = (0.05, 0.15)


def build(options: argparse.Namespace, shape: tuple[int, ...]) -> nn.Module:
    """Return the network for images of a shape."""
    if options.variant == "bsvit":
        return BSViT(
            shape[-1],
            patch=options.patch,
            channels=shape[0],
            width=options.width,
            depth=options.depth,
            window=options.window,
        )
    return AdaptiveTransformer(
        shape[-1],
        patch=options.patch,
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


def write(name: str, result: dict[str, Any]) -> None:
    """Write the firing rates of a run into benchmarks/RESULTS.md."""
    lines = ["| layer | firing rate |", "| --- | --- |"]
    lines += [f"| {layer} | {rate} % |" for layer, rate in result["rate_of_layers"].items()]
    lines += [f"| mean of the layers | {result['rate_of_all']} % |", ""]
    said = (
        f"{name}: spikes a neuron and time-step on {result['rate_images']:,} test images; "
        f"{result['channels_in_band']} % of {result['channels']} channels lie between 5 and 15 %. Trained on "
        f"{result['samples_seen']:,} samples, {result['cpu_minutes']} minutes of processor time; "
        f"{result['accuracy']} % of {result['test_images']:,} test images right. {processor()}; "
        f"`{result['command']}`."
    )
    lines.append(said)
    write_section(ROOT / "benchmarks" / "RESULTS.md", "Thresholds that adapt: firing rates", lines)


def main() -> int:
    """Train one variant; return the exit status."""
    parser = arguments(__doc__, ("bsvit", "adaptive"), 8)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--depth", type=int, default=2)
    parser.add_argument("--patch", type=int, default=4, help="side of a patch, in pixels")
    parser.add_argument("--window", type=int, default=3, help="of BSViT: side of the neighbourhood")
    parser.add_argument("--timesteps", type=int, default=4, help="of the other")
    parser.add_argument("--tau", type=float, default=2.0, help="time constant of its neurons, in steps")
    options = parser.parse_args()
    name = f"{options.data_set}_{options.variant}"
    done = train(options, name, build)
    if done is None:
        return 2
    network, test, _ = done
    path = options.out / "RESULTS.json"
    results = json.loads(path.read_text())
    results[name]["command"] = command_of(parser, options, results[name]["steps"])
    if isinstance(network, AdaptiveTransformer):
        results[name] |= rates(network, test.batch(torch.arange(2000), None)[0])
    path.write_text(json.dumps(results, indent=1, sort_keys=True) + "\n")
    if isinstance(network, AdaptiveTransformer):
        write(name, results[name])
        print({key: value for key, value in results[name].items() if "rate" in key or "channels" in key})
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
