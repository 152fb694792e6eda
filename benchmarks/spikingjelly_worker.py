"""The SpikingJelly side of the comparison: runs in an environment of its own, driven over stdin and stdout.

Each line of stdin is one request in JSON, each line of stdout the answer. Nothing of snnc is imported here.
"""

from __future__ import annotations

import copy
import importlib.metadata
import importlib.util
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from spikingjelly.activation_based import ann2snn, functional, neuron
from torch import Tensor, nn

BATCH = 100


def load_network(definition: Path, weights: Path) -> nn.Module:
    """Build the float network and give it weights into which BatchNorm is already folded.

    Args:
        definition: Python file with ``float_network()``.
        weights: ``.npz`` with ``<module>.weight`` and ``<module>.bias`` of each convolution and linear layer.
    """
    spec = importlib.util.spec_from_file_location("network", definition)
    if spec is None or spec.loader is None:
        raise SystemExit(f"cannot load {definition}")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    network: nn.Module = module.float_network()
    arrays = np.load(weights)
    for name, layer in list(network.named_modules()):
        if isinstance(layer, nn.BatchNorm2d):
            parent, _, leaf = name.rpartition(".")
            setattr(network.get_submodule(parent), leaf, nn.Identity())
        elif isinstance(layer, nn.Conv2d | nn.Linear):
            with torch.no_grad():
                layer.weight.copy_(torch.from_numpy(arrays[f"{name}.weight"]))
                layer.bias = nn.Parameter(torch.from_numpy(arrays[f"{name}.bias"]))
    return network.eval()


class Worker:
    """Converted networks by recipe, and the images they are judged on."""

    def __init__(self, definition: str, weights: str, data: str) -> None:
        torch.set_num_threads(1)
        arrays = np.load(data)
        self.calibration = torch.from_numpy(arrays["calibration"])
        self.images = torch.from_numpy(arrays["images"])
        self.labels = torch.from_numpy(arrays["labels"])
        self.network = load_network(Path(definition), Path(weights))
        self.converted: dict[str, nn.Module] = {}
        self.spikes = 0.0
        self.neurons = 0
        self.counting = False

    def versions(self) -> dict[str, str]:
        """Return the versions of what is measured."""
        return {name: importlib.metadata.version(name) for name in ("spikingjelly", "torch", "numpy")}

    def ann(self) -> dict[str, Any]:
        """Return the accuracy of the float network and its first logits."""
        with torch.no_grad():
            logits = torch.cat([self.network(part) for part in self.images.split(BATCH)])
        right = int((logits.argmax(1) == self.labels).sum())
        return {"accuracy": 100 * right / len(self.labels), "logits": logits[:100].tolist()}

    def convert(self, recipe: str) -> dict[str, Any]:
        """Convert with one of SpikingJelly's recipes, calibrated on training images."""
        batches = list(self.calibration.split(BATCH))
        made = {
            "rate": lambda: ann2snn.RateCodingRecipe(batches, mode="99.9%"),
            "channel-wise": lambda: ann2snn.RateCodingRecipe(
                batches, mode="99.9%", channel_wise=True, half_threshold=True
            ),
            "threshold balancing": lambda: ann2snn.LocalThresholdBalancingRecipe(batches),
        }[recipe]()
        network = ann2snn.FXConverter(made).convert(copy.deepcopy(self.network)).eval()
        nodes = [layer for layer in network.modules() if isinstance(layer, neuron.BaseNode)]
        for node in nodes:
            node.register_forward_hook(self._count)
        self.converted[recipe] = network
        self.time(recipe, 2, 1)  # the first run of either mode sets things up
        return {"spiking_layers": len(nodes)}

    def _count(self, _: nn.Module, __: Any, output: Tensor) -> None:
        if self.counting:
            self.spikes += float(torch.count_nonzero(output))
            self.neurons += output.numel()

    def evaluate(self, recipe: str, steps: list[int]) -> dict[str, Any]:
        """Simulate all images for the largest number of steps; accuracy and spikes at each wanted one."""
        network = self.converted[recipe]
        right, spikes = dict.fromkeys(steps, 0), dict.fromkeys(steps, 0.0)
        functional.set_step_mode(network, "s")
        self.counting, self.neurons, neurons = True, 0, 0
        with torch.no_grad():
            for images, labels in zip(self.images.split(BATCH), self.labels.split(BATCH), strict=True):
                functional.reset_net(network)
                self.spikes, total = 0.0, torch.zeros(())
                for step in range(1, max(steps) + 1):
                    self.neurons = 0
                    total = total + network(images)
                    if step in right:
                        right[step] += int((total.argmax(1) == labels).sum())
                        spikes[step] += self.spikes
                neurons += self.neurons
        self.counting = False
        count = len(self.labels)
        return {
            "accuracy": {step: 100 * right[step] / count for step in steps},
            "spikes_per_image": {step: spikes[step] / count for step in steps},
            "neurons": neurons / count,
        }

    def time(self, recipe: str, steps: int, batch: int) -> dict[str, float]:
        """Simulate one batch in multi-step mode and step by step; seconds per image of either."""
        network, images = self.converted[recipe], self.images[:batch]
        seconds = {}
        with torch.no_grad():
            for mode in ("m", "s"):
                functional.set_step_mode(network, mode)
                functional.reset_net(network)
                start = time.perf_counter()
                if mode == "m":
                    network(images.unsqueeze(0).expand(steps, *images.shape)).sum(0)
                else:
                    total = torch.zeros(())
                    for _ in range(steps):
                        total = total + network(images)
                seconds[mode] = (time.perf_counter() - start) / batch
        return seconds


def main() -> None:
    """Serve requests until stdin ends."""
    answers = sys.stdout
    # SpikingJelly and its calibration report progress; answers alone go to the real stdout.
    sys.stdout = sys.stderr
    worker = Worker(*sys.argv[1:4])
    for line in sys.stdin:
        request = json.loads(line)
        answer = getattr(worker, request.pop("call"))(**request)
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
