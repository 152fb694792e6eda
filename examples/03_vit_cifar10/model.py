"""A vision transformer as the world trains them: LayerNorm, softmax attention, GELU, all in float.

Nothing here knows of spikes. Patches of 4x4 pixels, a learned position embedding, pre-norm blocks, mean over
tokens, linear head (Dosovitskiy et al., arXiv 2010.11929, without a class token).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Attention(nn.Module):
    """Softmax attention with one projection for queries, keys and values.

    Args:
        width: Channels.
        heads: Number of heads; divides ``width``.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.size = heads, width // heads
        self.qkv = nn.Linear(width, 3 * width)
        self.project = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Map tokens ``(N, L, width)`` to tokens."""
        count, length, width = x.shape
        qkv = self.qkv(x).reshape(count, length, 3, self.heads, self.size).permute(2, 0, 3, 1, 4)
        q, k, v = qkv[0], qkv[1], qkv[2]
        scores = torch.matmul(q, k.transpose(2, 3)) * self.size**-0.5
        mixed = torch.matmul(scores.softmax(-1), v)
        tokens: Tensor = self.project(mixed.transpose(1, 2).reshape(count, length, width))
        return tokens


class Block(nn.Module):
    """Attention and a feed-forward pair, each behind a LayerNorm and added to the residual stream."""

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.norm1, self.attention = nn.LayerNorm(width), Attention(width, heads)
        self.norm2 = nn.LayerNorm(width)
        self.feed_forward = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))

    def forward(self, x: Tensor) -> Tensor:
        """Map the stream ``(N, L, width)`` to the stream."""
        x = x + self.attention(self.norm1(x))
        stream: Tensor = x + self.feed_forward(self.norm2(x))
        return stream


class VisionTransformer(nn.Module):
    """The network.

    Args:
        width: Channels.
        depth: Number of blocks.
        heads: Attention heads.
        hidden: Channels inside the feed-forward pair.
        patch: Side of a patch in pixels.
        size: Side of the image in pixels.
        classes: Number of logits.
    """

    def __init__(
        self,
        *,
        width: int = 64,
        depth: int = 4,
        heads: int = 4,
        hidden: int = 128,
        patch: int = 4,
        size: int = 32,
        classes: int = 10,
    ) -> None:
        super().__init__()
        self.embed = nn.Conv2d(3, width, patch, patch)
        self.position = nn.Parameter(0.02 * torch.randn(1, (size // patch) ** 2, width))
        self.blocks = nn.Sequential(*(Block(width, heads, hidden) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Classify.

        Args:
            x: float32 ``(N, 3, size, size)``, normalised.

        Returns:
            Logits, float32 ``(N, classes)``.
        """
        x = self.embed(x).flatten(2).transpose(1, 2) + self.position
        logits: Tensor = self.head(self.norm(self.blocks(x)).mean(1))
        return logits
