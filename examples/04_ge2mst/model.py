"""Small networks for 32x32 images: a Ge2mS-T, the same in float, and a Spikformer of LIF neurons."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from snnc.models import Architecture, Ge2mST
from snnc.nn import LIF, float_activation

#: Groups of 16 tokens in every stage: 8x8 maps in 2x2 groups, at last a 4x4 map in one.
SMALL: dict[str, Any] = {
    "widths": (16, 16, 24, 48, 64),
    "depths": (1, 1, 1, 1),
    "heads": (2, 4, 4),
    "chunks": (2, 2, 1),
    "stem_kernel": 3,
    "stem_stride": 2,
    "strides": (2, 1, 1, 2),
}


#: For training in minutes: maps of 8x8, then 4x4, in 2x2 groups, at last one group; narrow hidden layers.
QUICK: dict[str, Any] = {
    **SMALL,
    "widths": (24, 24, 32, 64, 64),
    "heads": (4, 4, 4),
    "strides": (2, 1, 2, 1),
    "feed_forward_ratio": 2,
}


SIZES = {"quick": QUICK, "small": SMALL}


def build(
    variant: str,
    channels: int,
    classes: int = 10,
    timesteps: int = 4,
    groups: int = 2,
    size: str = "quick",
) -> nn.Module:
    """Build a network.

    Args:
        variant: ``expg``; ``float``: ReLU, or nothing where codes are signed; ``lif``: `Spikformer`.
        channels: Of the image.
        classes: Number of logits.
        timesteps: T.
        groups: G of ExpG.
        size: ``quick`` or ``small``, of the Ge2mS-T.
    """
    if variant == "lif":
        return Spikformer(channels, classes, timesteps)
    choices = {
        **SIZES[size],
        "channels": channels,
        "classes": classes,
        "timesteps": timesteps,
        "groups": groups,
    }
    return Ge2mST(Architecture(**choices), activation=float_activation if variant == "float" else None)


class _Node(nn.Module):
    """SpikingJelly's LIF neuron where it is installed (multi-step, torch backend), else snnc's: the same."""

    def __init__(self, timesteps: int, threshold: float = 1.0) -> None:
        super().__init__()
        self.timesteps = timesteps
        self.node: Any = None
        try:
            from spikingjelly.activation_based import neuron, surrogate

            self.node = neuron.LIFNode(
                tau=2.0,
                v_threshold=threshold,
                surrogate_function=surrogate.ATan(),
                detach_reset=True,
                step_mode="m",
            )
        except ImportError:
            self.own = LIF(timesteps, threshold=threshold)

    def forward(self, x: Tensor) -> Tensor:
        if self.node is None:
            spikes: Tensor = self.own(x)
            return spikes
        self.node.reset()
        return self.node(x.reshape(self.timesteps, -1, *x.shape[1:])).reshape(x.shape)  # type: ignore[no-any-return]


class Spikformer(nn.Module):
    """A spiking transformer of LIF neurons, trained by backpropagation through time.

    The published form: four convolutions with BatchNorm, LIF and max pooling, one more as position, then
    blocks of spiking self-attention ``LIF(q k^T v s)`` over all tokens, without softmax, and feed-forward
    pairs, everything on spikes; the mean over tokens and time is classified.

    Args:
        channels: Of the image, 32 x 32.
        classes: Number of logits.
        timesteps: T; the first convolution is computed once, its result is presented T times.
        width: Channels.
        depth: Blocks.
        heads: Heads.

    Source:
        Zhou et al., Spikformer: When Spiking Neural Network Meets Transformer, ICLR 2023.
    """

    def __init__(
        self,
        channels: int = 3,
        classes: int = 10,
        timesteps: int = 4,
        *,
        width: int = 64,
        depth: int = 2,
        heads: int = 4,
    ) -> None:
        super().__init__()
        self.timesteps, self.heads = timesteps, heads
        sizes = (width // 8, width // 4, width // 2, width)
        self.first = _convolution(channels, sizes[0])
        self.patches = nn.ModuleList(_convolution(before, after) for before, after in pairwise(sizes))
        self.nodes = nn.ModuleList(_Node(timesteps) for _ in sizes)
        self.position, self.placed = _convolution(width, width), _Node(timesteps)
        self.blocks = nn.ModuleList(_SpikingBlock(width, heads, timesteps) for _ in range(depth))
        self.head = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Classify images ``(N, channels, 32, 32)``; returns logits ``(N, classes)``."""
        once = nn.functional.max_pool2d(self.first(x), 2)
        spikes = self.nodes[0](once.repeat(self.timesteps, 1, 1, 1))
        for number, (layer, node) in enumerate(zip(self.patches, self.nodes[1:], strict=True)):
            spikes = node(layer(spikes))
            if number == 0:
                spikes = nn.functional.max_pool2d(spikes, 2)
        spikes = spikes + self.placed(self.position(spikes))
        for block in self.blocks:
            spikes = block(spikes)
        pooled = spikes.mean((2, 3)).reshape(self.timesteps, -1, spikes.shape[1]).mean(0)
        logits: Tensor = self.head(pooled)
        return logits


def _convolution(inputs: int, outputs: int, kernel: int = 3) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False), nn.BatchNorm2d(outputs)
    )


class _SpikingBlock(nn.Module):
    def __init__(self, width: int, heads: int, timesteps: int) -> None:
        super().__init__()
        self.heads = heads
        self.layers = nn.ModuleList(_convolution(width, width, 1) for _ in range(4))
        self.nodes = nn.ModuleList(_Node(timesteps) for _ in range(4))
        self.matrix = _Node(timesteps, 0.5)
        self.up, self.down = _convolution(width, 4 * width, 1), _convolution(4 * width, width, 1)
        self.hidden, self.out = _Node(timesteps), _Node(timesteps)

    def forward(self, x: Tensor) -> Tensor:
        split = (x.shape[0], self.heads, x.shape[1] // self.heads, -1)
        q, k, v = (self.nodes[place](self.layers[place](x)).reshape(split) for place in range(3))
        # Without softmax the products may be taken in either order; the cheaper one.
        mixed = torch.matmul(torch.matmul(v, k.transpose(2, 3)), q) * 0.125
        spikes = self.matrix(mixed.reshape(x.shape))
        x = x + self.nodes[3](self.layers[3](spikes))
        result: Tensor = x + self.out(self.down(self.hidden(self.up(x))))
        return result
