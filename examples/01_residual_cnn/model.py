"""A residual CNN for 28x28 grey images whose only non-linearity is ExpG.

The residual stream is the membrane: sums of convolution outputs, never spikes. Every convolution but the
first reads spikes, because an ExpG (pre-activation) stands before it.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

Activation = Callable[[], nn.Module]


def conv_bn(inputs: int, outputs: int, size: int, *, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """A convolution with "same" padding and its BatchNorm, which the converter folds."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, size, stride, size // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
    )


class Residual(nn.Module):
    """``x + f(x)``: both summands are membranes.

    Args:
        branch: Module whose output has the shape of its input.
    """

    def __init__(self, branch: nn.Module) -> None:
        super().__init__()
        self.branch = branch

    def forward(self, x: Tensor) -> Tensor:
        """Add the branch to the stream; shapes equal."""
        total: Tensor = x + self.branch(x)
        return total


class ResidualCNN(nn.Module):
    """Stem, depthwise-separable residual block, strided convolution, residual block, linear head.

    Args:
        activation: Makes one activation module per call: an ``ExpG``, or ``nn.ReLU`` for the float network.
        classes: Number of logits.
    """

    def __init__(self, activation: Activation, classes: int = 10) -> None:
        super().__init__()
        self.stem = nn.Sequential(conv_bn(1, 16, 3), activation(), nn.AvgPool2d(2))
        self.widen = conv_bn(16, 32, 3)
        self.block1 = Residual(
            nn.Sequential(
                activation(),
                conv_bn(32, 32, 3, groups=32),
                activation(),
                conv_bn(32, 32, 1),
            )
        )
        self.down = nn.Sequential(activation(), conv_bn(32, 64, 3, stride=2))
        self.block2 = Residual(
            nn.Sequential(activation(), conv_bn(64, 64, 3), activation(), conv_bn(64, 64, 3))
        )
        self.head = nn.Sequential(activation(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, classes))

    def forward(self, x: Tensor) -> Tensor:
        """Classify.

        Args:
            x: float32 ``(N, 1, 28, 28)`` in [0, 1].

        Returns:
            Logits, float32 ``(N, classes)``.
        """
        x = self.block1(self.widen(self.stem(x)))
        logits: Tensor = self.head(self.block2(self.down(x)))
        return logits


def float_network(classes: int = 10) -> ResidualCNN:
    """The same architecture with ReLU."""
    return ResidualCNN(nn.ReLU, classes)


def spiking_network(timesteps: int, groups: int, classes: int = 10) -> ResidualCNN:
    """The architecture with ExpG quantisers of ``timesteps`` and ``groups``."""
    from snnc.nn import ExpG

    return ResidualCNN(lambda: ExpG(timesteps, groups), classes)


def example_input() -> Tensor:
    """One blank image."""
    return torch.zeros(1, 1, 28, 28)
