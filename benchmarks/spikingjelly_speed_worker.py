"""The SpikingJelly side of the comparison of speed: runs in an environment of its own.

    python spikingjelly_speed_worker.py WORK.json RECIPE

``WORK.json`` names a network and inputs as for `spikingjelly_transformers_worker.py`. Each line of stdin is a
question in JSON, each line of stdout its answer:

- ``{"answers": T}``: the logits of all images after T time-steps, and from which step on outputs are summed;
- ``{"seconds": T}``: the processor time of the first image with T time-steps;
- ``{"versions": NAMES}``: the versions of packages.

A recipe that refuses the network in every form, or makes one that does not run, answers with ``refused``, and
the process ends. Nothing of snnc is imported here.
"""

from __future__ import annotations

import copy
import importlib.metadata
import json
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from spikingjelly.activation_based import ann2snn, functional
from spikingjelly_transformers_worker import BATCH, networks, present, reason, recipe
from torch import Tensor, nn

#: How often threshold balancing sees the calibration images: it moves thresholds a little with each batch.
PASSES = 50
_ROBUST = {"channel_wise": True, "pre_spike_maxpool": True, "half_threshold": True}
#: Recipes for networks with ReLU. SpikingJelly's ImageNet example calls channel-wise at 99.9 % robust.
CONSTANT: Mapping[str, Callable[[list[Tensor]], Any]] = {
    "channel-wise, 99.9 %": lambda batches: ann2snn.RateCodingRecipe(batches, mode="99.9%", **_ROBUST),
    "channel-wise, maximum": lambda batches: ann2snn.RateCodingRecipe(batches, mode="max", **_ROBUST),
    "threshold balancing": lambda batches: ann2snn.LocalThresholdBalancingRecipe(batches * PASSES),
    "rate, 99.9 %": lambda batches: ann2snn.RateCodingRecipe(batches, mode="99.9%"),
    "rate, maximum": lambda batches: ann2snn.RateCodingRecipe(batches, mode="max"),
}


class Side(Protocol):
    """A converted network."""

    def answers(self, steps: int) -> tuple[int, Tensor]:
        """Return from which step on outputs are summed, and logits of all images, ``(N, classes)``."""

    def seconds(self, steps: int) -> float:
        """Return the processor time of the first image."""


class Refused(Exception):
    """SpikingJelly refuses a network in every form; the text says why."""


def convert(work: dict[str, Any], make: Callable[[], Any]) -> nn.Module:
    """Convert a network, in the first form that is accepted.

    Raises:
        Refused: None is accepted.
    """
    refusals = []
    for network in networks(work).values():
        try:
            converted: nn.Module = make().convert(network).eval()
        except (ValueError, TypeError, NotImplementedError) as error:
            refusals.append(reason(error))
            continue
        functional.set_step_mode(converted, "s")
        return converted
    raise Refused("; ".join(dict.fromkeys(refusals)))


class Float:
    """The network that was not converted; a step is a run of it."""

    def __init__(self, work: dict[str, Any], images: Tensor) -> None:
        self._network, self._images = next(iter(networks(work).values())), images

    @torch.no_grad()
    def answers(self, steps: int) -> tuple[int, Tensor]:
        """Return the logits of all images."""
        return 0, torch.cat([self._network(image) for image in self._images.split(1)])

    @torch.no_grad()
    def seconds(self, steps: int) -> float:
        """Return the processor time of the first image."""
        start = time.process_time()
        self._network(self._images[:1])
        return time.process_time() - start


class Repeated:
    """A recipe that presents an image at every step; any number of steps may follow."""

    def __init__(
        self, work: dict[str, Any], name: str, images: Tensor, batches: list[Tensor], batch: int
    ) -> None:
        self._network = convert(work, lambda: ann2snn.FXConverter(CONSTANT[name](batches)))
        self._parts, self._outputs, self._mode = images.split(batch), list[Tensor](), ""
        # Each part has the membranes of its own, so that the simulation goes on where it was.
        self._running = [copy.deepcopy(self._network) for _ in self._parts]
        for network in self._running:
            functional.reset_net(network)
        self._reference = Float(work, images).answers(1)[1]

    @torch.no_grad()
    def answers(self, steps: int) -> tuple[int, Tensor]:
        """Return the mean outputs from that step on which brings them nearest to the float network's.

        First steps are of membranes that are not filled yet; SpikingJelly's examples leave out some of them,
        by a given number or an estimate. The number chosen here is the best one for the images judged.
        """
        while len(self._outputs) < steps:
            pairs = zip(self._running, self._parts, strict=True)
            self._outputs.append(torch.cat([network(part) for network, part in pairs]))
        total, best = torch.zeros_like(self._reference), (torch.inf, 0, self._reference)
        for start in reversed(range(steps)):
            total = total + self._outputs[start]
            mean = total / (steps - start)
            best = min(
                best, (float((mean - self._reference).square().sum()), start, mean), key=lambda row: row[0]
            )
        return best[1:]

    @torch.no_grad()
    def seconds(self, steps: int) -> float:
        """Return the processor time of the first image in the faster one of SpikingJelly's two step modes."""
        if not self._mode:
            self._mode = min("sm", key=lambda mode: self._seconds(min(steps, 8), mode))
        return self._seconds(steps, self._mode)

    def _seconds(self, steps: int, mode: str) -> float:
        functional.set_step_mode(self._network, mode)
        functional.reset_net(self._network)
        image = self._parts[0][:1]
        start = time.process_time()
        if mode == "m":
            self._network(image.unsqueeze(0).expand(steps, *image.shape)).mean(0)
        else:
            total = torch.zeros(())
            for _ in range(steps):
                total = total + self._network(image)
        return time.process_time() - start


class Once:
    """A recipe that presents an image at the first step and nothing afterwards; each T is a conversion."""

    def __init__(self, work: dict[str, Any], name: str, images: Tensor, batches: list[Tensor]) -> None:
        self._images, self._steps, self._network = images, 0, nn.Module()
        self._make = lambda steps: convert(work, lambda: recipe(name, steps, batches))
        self._prepare(1)

    def _prepare(self, steps: int) -> None:
        if steps != self._steps:
            self._steps, self._network = steps, self._make(steps)

    def answers(self, steps: int) -> tuple[int, Tensor]:
        """Return the sum of all outputs."""
        self._prepare(steps)
        return 0, torch.cat([present(self._network, image, steps) for image in self._images.split(1)])

    def seconds(self, steps: int) -> float:
        """Return the processor time of the first image."""
        self._prepare(steps)
        start = time.process_time()
        present(self._network, self._images[:1], steps)
        return time.process_time() - start


def opened(work: dict[str, Any], name: str) -> Side:
    """Convert with one of the recipes, or take the float network for the name "float".

    Raises:
        Refused: SpikingJelly does not take the network.
    """
    data = {key: torch.from_numpy(array) for key, array in np.load(work["data"]).items()}
    images, calibration = data["images"], data["calibration"]
    if name == "float":
        return Float(work, images)
    # A file whose batch is fixed takes nothing else; balancing wants many small batches.
    fixed = work.get("batch")
    if name in CONSTANT:
        return Repeated(work, name, images, list(calibration.split(1)), fixed or BATCH)
    return Once(work, name, images, list(calibration.split(fixed or BATCH)))


def main() -> int:
    """Answer questions until there are no more."""
    torch.set_num_threads(1)
    work, name = json.loads(Path(sys.argv[1]).read_text()), sys.argv[2]
    side: Side | None = None
    for line in sys.stdin:
        asked = json.loads(line)
        if "versions" in asked:
            print(
                json.dumps({name: importlib.metadata.version(name) for name in asked["versions"]}), flush=True
            )
            continue
        try:
            side = side or opened(work, name)
        except Refused as refused:
            print(json.dumps({"refused": str(refused)}), flush=True)
            return 0
        if "seconds" in asked:
            print(json.dumps({"seconds": side.seconds(asked["seconds"])}), flush=True)
            continue
        try:
            start, logits = side.answers(asked["answers"])
        except (RuntimeError, TypeError, ValueError) as error:
            print(json.dumps({"refused": f"converted, it does not run: {reason(error)}"}), flush=True)
            return 0
        print(json.dumps({"start": start, "logits": logits.tolist()}), flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
