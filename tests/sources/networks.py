"""The small torch networks whose exports are the source models of the tests.

All of them read images of shape (N, 3, 8, 8) and return ten logits. Weights are random with a fixed seed:
what is under test is the form of the exported graph, not what the network has learned.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class Qcfs(nn.Module):
    """Quantisation-clip-floor-shift activation with L levels and a trainable threshold.

    Source: Bu et al., "Optimal ANN-SNN conversion for high-accuracy and ultra-low-latency spiking neural
    networks", 2022, equation 11 (quantisation shift one half).
    """

    def __init__(self, levels: int, threshold: float) -> None:
        super().__init__()
        self.levels = levels
        self.threshold = nn.Parameter(torch.tensor([threshold]))

    def forward(self, x: Tensor) -> Tensor:
        x = torch.clamp(x / self.threshold, 0, 1)
        return torch.floor(x * self.levels + 0.5) / self.levels * self.threshold


class RoundClamp(nn.Module):
    """Fake quantisation written by hand: (clamp(round(x / s + z), low, high) - z) * s."""

    def __init__(self, scale: float, zero: int, low: int, high: int, *, round_first: bool = True) -> None:
        super().__init__()
        self.zero, self.low, self.high, self.round_first = zero, low, high, round_first
        self.scale = nn.Parameter(torch.tensor(scale))

    def forward(self, x: Tensor) -> Tensor:
        x = x / self.scale + self.zero
        if self.round_first:
            x = torch.clamp(torch.round(x), self.low, self.high)
        else:
            x = torch.round(torch.clamp(x, self.low, self.high))
        return (x - self.zero) * self.scale


class LearnedStep(nn.Module):
    """Learned step size as training code writes it, straight-through estimators and all.

    Source: Esser et al., "Learned step size quantization", 2020.
    """

    def __init__(self, step: float, largest: int) -> None:
        super().__init__()
        self.largest, self.step = largest, nn.Parameter(torch.tensor(step))

    def forward(self, x: Tensor) -> Tensor:
        factor = 1 / (x[0].numel() * self.largest) ** 0.5
        step = (self.step - self.step * factor).detach() + self.step * factor
        x = torch.clamp(x / step, 0, self.largest)
        return (x + (torch.round(x) - x).detach()) * step


class QuickGelu(nn.Module):
    """x * sigmoid(1.702 x)."""

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(1.702 * x)


class Residual(nn.Module):
    """Conv, batch norm, depthwise conv, skip connection, max pooling, average pooling, linear."""

    def __init__(self, activations: list[nn.Module], quantise_input: nn.Module | None = None) -> None:
        super().__init__()
        self.quantise_input = quantise_input if quantise_input is not None else nn.Identity()
        self.stem = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.stem_norm = nn.BatchNorm2d(8)
        self.deep = nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False)
        self.deep_norm = nn.BatchNorm2d(8)
        self.point = nn.Conv2d(8, 8, 1)
        self.pool = nn.MaxPool2d(2)
        self.head = nn.Linear(8, 10)
        self.act1, self.act2, self.act3, self.act4 = activations

    def forward(self, x: Tensor) -> Tensor:
        x = self.act1(self.stem_norm(self.stem(self.quantise_input(x))))
        y = self.act2(self.deep_norm(self.deep(x)))
        x = self.act3(self.point(y) + x)
        x = self.act4(functional.adaptive_avg_pool2d(self.pool(x), 1))
        return self.head(torch.flatten(x, 1))


def seeded(network: nn.Module) -> nn.Module:
    """Give a network reproducible weights and batch-norm statistics; returns it in eval mode."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if "act" in name or "quantise_input" in name:
                continue
            if name.endswith("norm.weight"):
                parameter.copy_(torch.rand(parameter.shape, generator=generator) + 0.5)
            else:
                fan_in = parameter[0].numel() if parameter.dim() > 1 else 16
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * (2.0 / fan_in) ** 0.5)
        for name, buffer in network.named_buffers():
            if name.endswith("running_mean"):
                buffer.copy_(torch.randn(buffer.shape, generator=generator) * 0.1)
            elif name.endswith("running_var"):
                buffer.copy_(torch.rand(buffer.shape, generator=generator) + 0.5)
    return network.eval()


def images(count: int, seed: int = 11) -> Tensor:
    """Random images in [0, 1), shape (count, 3, 8, 8), float32."""
    return torch.rand((count, 3, 8, 8), generator=torch.Generator().manual_seed(seed))
