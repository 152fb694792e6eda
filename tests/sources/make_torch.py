"""Make the source models that come straight out of torch's two exporters.

Run: python tests/sources/make_torch.py
"""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import onnx
import torch
from torch import nn
from torch.ao.quantization import FakeQuantize, MovingAverageMinMaxObserver, PerChannelMinMaxObserver

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

from networks import LearnedStep, Qcfs, QuickGelu, Residual, RoundClamp, images, seeded  # noqa: E402


def strip(path: Path) -> None:
    """Drop the metadata that holds local paths and stack traces."""
    model = onnx.load(path)
    del model.metadata_props[:]
    for node in model.graph.node:
        del node.metadata_props[:]
    for value in [*model.graph.input, *model.graph.output, *model.graph.value_info]:
        del value.metadata_props[:]
    del model.graph.metadata_props[:]
    model.doc_string = ""
    for function in model.functions:
        for node in function.node:
            del node.metadata_props[:]
    onnx.save(model, path)


def export_dynamo(network: nn.Module, name: str) -> None:
    """Export with the current exporter and a symbolic batch."""
    program = torch.onnx.export(
        network,
        (images(2),),
        dynamo=True,
        external_data=False,
        input_names=["image"],
        output_names=["logits"],
        dynamic_shapes={"x": {0: torch.export.Dim("batch", min=1, max=1024)}},
    )
    program.save(HERE / f"{name}.onnx", external_data=False)
    strip(HERE / f"{name}.onnx")


def export_torchscript(network: nn.Module, name: str) -> None:
    """Export with the deprecated TorchScript exporter, without its constant folding of weights."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network,
            (images(2),),
            str(HERE / f"{name}.onnx"),
            dynamo=False,
            opset_version=17,
            input_names=["image"],
            output_names=["logits"],
            dynamic_axes={"image": {0: "batch"}, "logits": {0: "batch"}},
        )
    strip(HERE / f"{name}.onnx")


class FakeQuantisedWeights(nn.Module):
    """A Conv2d or Linear whose weight passes through a per-channel FakeQuantize."""

    def __init__(self, layer: nn.Conv2d | nn.Linear) -> None:
        super().__init__()
        self.layer = layer
        self.fake = FakeQuantize.with_args(
            observer=PerChannelMinMaxObserver,
            quant_min=-128,
            quant_max=127,
            dtype=torch.qint8,
            qscheme=torch.per_channel_symmetric,
            ch_axis=0,
        )()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weight = self.fake(self.layer.weight)
        if isinstance(self.layer, nn.Linear):
            return nn.functional.linear(x, weight, self.layer.bias)
        return nn.functional.conv2d(
            x, weight, self.layer.bias, padding=self.layer.padding, groups=self.layer.groups
        )


def fake_quantised() -> nn.Module:
    """Eager quantisation-aware training: FakeQuantize on activations (uint8) and weights (int8)."""

    def fake() -> FakeQuantize:
        return FakeQuantize.with_args(
            observer=MovingAverageMinMaxObserver, quant_min=0, quant_max=255, dtype=torch.quint8
        )()

    activations: list[nn.Module] = [nn.Sequential(nn.ReLU(), fake()) for _ in range(4)]
    network = seeded(Residual(activations, fake()))
    for name in ("stem", "deep", "point", "head"):
        setattr(network, name, FakeQuantisedWeights(getattr(network, name)))
    network.eval()
    with torch.no_grad():
        network(images(32))
    for module in network.modules():
        if isinstance(module, FakeQuantize):
            module.disable_observer()
    return network


def main() -> None:
    """Write every model beside this script."""
    torch.manual_seed(0)
    qcfs = seeded(Residual([Qcfs(8, 1.7), Qcfs(8, 2.1), Qcfs(8, 2.9), Qcfs(4, 1.3)]))
    export_dynamo(qcfs, "qcfs_dynamo")
    export_torchscript(qcfs, "qcfs_torchscript")
    clamp = seeded(
        Residual(
            [
                RoundClamp(0.11, 0, 0, 15),
                RoundClamp(0.13, 3, 0, 15),
                RoundClamp(0.17, 0, -8, 7, round_first=False),
                RoundClamp(0.05, 0, 0, 31, round_first=False),
            ],
            RoundClamp(1 / 255, 0, 0, 255),
        )
    )
    export_dynamo(clamp, "round_clamp_dynamo")
    export_torchscript(fake_quantised(), "fake_quantize_torchscript")
    export_dynamo(seeded(Residual([nn.GELU(), nn.ReLU(), nn.Sigmoid(), nn.ReLU()])), "float_dynamo")
    forms = seeded(Residual([nn.GELU(), nn.GELU(approximate="tanh"), QuickGelu(), nn.ReLU()]))
    export_dynamo(forms, "gelu_dynamo")
    export_torchscript(forms, "gelu_torchscript")
    learned = seeded(Residual([LearnedStep(step, 15) for step in (0.11, 0.13, 0.17, 0.05)]))
    export_torchscript(learned, "lsq_torchscript")


if __name__ == "__main__":
    main()
