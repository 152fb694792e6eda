"""Make the source models that libraries for spiking networks write: a loop over time, unrolled.

SpikingJelly 2.0.0 and snnTorch 0.9.4 with torch 2.13; each needs an environment of its own.

Run: python tests/sources/make_snn.py spikingjelly; python tests/sources/make_snn.py snntorch
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import onnx
import torch
from torch import nn

HERE = Path(__file__).parent
STEPS = 4


def save(name: str, network: nn.Module, *, dynamo: bool) -> None:
    """Export for any batch, without what the exporter notes of its own source code."""
    network.eval()
    for part in network.modules():
        if isinstance(part, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(part.weight, generator=torch.Generator().manual_seed(part.weight.numel()))
            part.weight.data *= 1.5
    example = (torch.rand(2, 3, 8, 8),)
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "model.onnx")
        if dynamo:
            batch = torch.export.Dim("batch", min=1, max=64)
            torch.onnx.export(
                network, example, path, dynamo=True, dynamic_shapes=({0: batch},), external_data=False
            )
        else:
            torch.onnx.export(
                network, example, path, dynamo=False, input_names=["x"], dynamic_axes={"x": {0: "batch"}}
            )
        model = onnx.load(path)
    for entry in (*model.graph.node, *model.graph.value_info, *model.graph.input, *model.graph.output):
        del entry.metadata_props[:]
        entry.doc_string = ""
    del model.graph.metadata_props[:]
    onnx.save(model, HERE / f"{name}.onnx")


def spikingjelly() -> None:
    """Write LIF neurons with both resets, step by step, and IF neurons in multi-step mode."""
    from spikingjelly.activation_based import functional, layer, neuron

    class Network(nn.Module):
        def __init__(self, mode: str, make: Any) -> None:
            super().__init__()
            self.mode = mode
            self.layers = nn.Sequential(
                layer.Conv2d(3, 6, 3, stride=2, padding=1, bias=False, step_mode=mode),
                layer.BatchNorm2d(6, step_mode=mode),
                make(step_mode=mode),
                layer.Flatten(step_mode=mode),
                layer.Linear(96, 12, step_mode=mode),
                make(step_mode=mode),
                layer.Linear(12, 4, step_mode=mode),
            )

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            functional.reset_net(self.layers)
            if self.mode == "m":
                return self.layers(x.unsqueeze(0).repeat(STEPS, 1, 1, 1, 1)).mean(0)  # type: ignore[no-any-return]
            total = self.layers(x)
            for _ in range(STEPS - 1):
                total = total + self.layers(x)
            return total / STEPS

    def lif(**options: Any) -> nn.Module:
        return neuron.LIFNode(tau=2.0, v_reset=None, **options)  # type: ignore[no-any-return]

    def integrate(**options: Any) -> nn.Module:
        return neuron.IFNode(v_reset=None, **options)  # type: ignore[no-any-return]

    def hard(**options: Any) -> nn.Module:
        return neuron.LIFNode(tau=2.0, v_reset=0.0, **options)  # type: ignore[no-any-return]

    save("spikingjelly_lif", Network("s", lif), dynamo=True)
    save("spikingjelly_if_multistep", Network("m", integrate), dynamo=True)
    save("spikingjelly_hard_reset", Network("s", hard), dynamo=True)


def snntorch() -> None:
    """Write leaky neurons with both resets, and neurons with a synaptic current."""
    import snntorch as snn

    class Network(nn.Module):
        def __init__(self, reset: str, synaptic: bool = False) -> None:
            super().__init__()
            self.synaptic = synaptic
            self.first, self.second = nn.Conv2d(3, 6, 3, stride=2, padding=1), nn.Linear(96, 4)
            make = (
                (lambda: snn.Synaptic(alpha=0.8, beta=0.9, reset_mechanism=reset))
                if synaptic
                else (lambda: snn.Leaky(beta=0.9, reset_mechanism=reset))
            )
            self.one, self.two = make(), make()

        def start(self, neuron: Any) -> list[Any]:
            return list(neuron.init_synaptic()) if self.synaptic else [neuron.init_leaky()]

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            one, two, recorded = self.start(self.one), self.start(self.two), []
            for _ in range(STEPS):
                spikes, *one = self.one(self.first(x), *one)
                spikes, *two = self.two(self.second(spikes.flatten(1)), *two)
                recorded.append(spikes)
            return torch.stack(recorded).mean(0)

    save("snntorch_leaky", Network("subtract"), dynamo=False)
    save("snntorch_synaptic", Network("subtract", synaptic=True), dynamo=True)
    save("snntorch_reset_to_zero", Network("zero"), dynamo=False)


if __name__ == "__main__":
    {"spikingjelly": spikingjelly, "snntorch": snntorch}[sys.argv[1]]()
