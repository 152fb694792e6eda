"""A transformer-shaped network without softmax and LayerNorm: BatchNorm and ExpG only.

Attention is ``ExpG(q k^T / sqrt(d)) v`` with signed q, k, v: the Ge2mS-T block (arXiv 2604.08894, Eq. 8) with
one group, that is, global attention. Linear layers are 1x1 convolutions on ``(N, C, 7, 7)`` maps, so that
BatchNorm folds into them. The residual stream is the membrane, never spikes.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

Activation = Callable[[bool], nn.Module]  # argument: signed


def linear_bn(inputs: int, outputs: int) -> nn.Sequential:
    """A linear layer over channels with its BatchNorm."""
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs))


class Attention(nn.Module):
    """Attention with an elementwise activation in place of softmax.

    Args:
        width: Channels.
        heads: Number of heads; divides ``width``.
        tokens: Number of tokens, height times width of the map.
        activation: Makes activations; its argument says whether they are signed.
    """

    def __init__(self, width: int, heads: int, tokens: int, activation: Activation) -> None:
        super().__init__()
        self.heads, self.size, self.tokens = heads, width // heads, tokens
        self.scale = float(self.size) ** -0.5
        self.z = activation(False)
        self.query, self.key, self.value, self.project = (linear_bn(width, width) for _ in range(4))
        self.q, self.k, self.v = (activation(True) for _ in range(3))
        self.scores = activation(False)
        self.out = activation(True)

    def forward(self, x: Tensor) -> Tensor:
        """Attend.

        Args:
            x: Residual stream ``(N, width, H, W)``.

        Returns:
            Membrane of the same shape, to be added to the stream.
        """
        z = self.z(x)
        split = (-1, self.heads, self.size, self.tokens)
        q = self.q(self.query(z)).reshape(split).transpose(2, 3)
        k = self.k(self.key(z)).reshape(split)
        v = self.v(self.value(z)).reshape(split).transpose(2, 3)
        scores = self.scores(torch.matmul(q, k) * self.scale)
        mixed = torch.matmul(scores, v).transpose(2, 3).reshape(-1, *x.shape[1:])
        membrane: Tensor = self.project(self.out(mixed))
        return membrane


class Block(nn.Module):
    """Attention and a feed-forward pair, each added to the residual stream."""

    def __init__(self, width: int, heads: int, tokens: int, hidden: int, activation: Activation) -> None:
        super().__init__()
        self.attention = Attention(width, heads, tokens, activation)
        self.feed_forward = nn.Sequential(
            activation(False), linear_bn(width, hidden), activation(False), linear_bn(hidden, width)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map the stream ``(N, width, H, W)`` to the stream."""
        x = x + self.attention(x)
        stream: Tensor = x + self.feed_forward(x)
        return stream


class SpikingTransformer(nn.Module):
    """Convolutional patch embedding to 7x7 tokens, blocks, mean over tokens, linear head.

    Args:
        activation: Makes one activation per call; its argument says whether it is signed.
        width: Channels.
        depth: Number of blocks.
        heads: Attention heads.
        hidden: Channels inside the feed-forward pair.
        classes: Number of logits.
    """

    def __init__(
        self,
        activation: Activation,
        *,
        width: int = 64,
        depth: int = 2,
        heads: int = 2,
        hidden: int = 128,
        classes: int = 10,
    ) -> None:
        super().__init__()
        self.embed = nn.Sequential(
            nn.Conv2d(1, width // 2, 3, 2, 1, bias=False),
            nn.BatchNorm2d(width // 2),
            activation(False),
            nn.Conv2d(width // 2, width, 3, 2, 1, bias=False),
            nn.BatchNorm2d(width),
        )
        self.position = nn.Parameter(0.02 * torch.randn(1, width, 7, 7))
        self.blocks = nn.Sequential(*(Block(width, heads, 49, hidden, activation) for _ in range(depth)))
        self.last = activation(False)
        self.head = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Classify.

        Args:
            x: float32 ``(N, 1, 28, 28)`` in [0, 1].

        Returns:
            Logits, float32 ``(N, classes)``.
        """
        x = self.blocks(self.embed(x) + self.position)
        logits: Tensor = self.head(self.last(x).mean((2, 3)))
        return logits


def float_network(classes: int = 10) -> SpikingTransformer:
    """The same architecture with ReLU where ExpG is unsigned and nothing where it is signed."""
    return SpikingTransformer(lambda signed: nn.Identity() if signed else nn.ReLU(), classes=classes)


def spiking_network(timesteps: int, groups: int, classes: int = 10) -> SpikingTransformer:
    """The architecture with ExpG quantisers of ``timesteps`` and ``groups``."""
    from snnc.nn import ExpG

    return SpikingTransformer(lambda signed: ExpG(timesteps, groups, signed=signed), classes=classes)


def example_input() -> Tensor:
    """One blank image."""
    return torch.zeros(1, 1, 28, 28)
