"""BSViT's dual-channel burst self-attention (DBSSA) between neighbouring patches, and a block of it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from snnc.errors import UsageError
from snnc.nn.neurons import BurstNeuron

__all__ = ["BSViT", "BSViTBlock", "DualChannelAttention", "adjacency"]

#: A potential of unit variance lies two thresholds wide: a steeper surrogate gives most neurons no gradient.
_ALPHA = 0.5


def adjacency(height: int, width: int, window: int, *, class_token: bool = False) -> Tensor:
    """Return which tokens see each other: patches at most ``window // 2`` rows and columns apart.

    Args:
        height: Patches along the first side.
        width: Patches along the second.
        window: Side of the neighbourhood, odd.
        class_token: Token 0 is a class token, which sees all and is seen by all.

    Returns:
        Bool ``(N, N)``, N counting the class token.

    Raises:
        UsageError: SNN217 for an even window or an empty grid.

    Source:
        BSViT (arXiv 2604.23165), patch-adjacency masking; semantics note 5.1.
    """
    if window < 1 or window % 2 == 0 or height < 1 or width < 1:
        raise UsageError(
            "SNN217", f"adjacency takes an odd window and a grid, not {window}, {height}x{width}"
        )
    rows = torch.arange(height).repeat_interleave(width)
    columns = torch.arange(width).repeat(height)
    far = torch.maximum((rows[:, None] - rows).abs(), (columns[:, None] - columns).abs())
    near = far <= window // 2
    if not class_token:
        return near
    full = torch.ones(len(near) + 1, len(near) + 1, dtype=torch.bool)
    full[1:, 1:] = near
    return full


class DualChannelAttention(nn.Module):
    """Attention by additions: binary queries, burst keys, and values of two channels, one for each sign.

    ``S = M * (Q K^T); O = S V+ - S V-`` per head, without softmax; a signed burst neuron stands in front of
    the output projection, which would otherwise multiply integers by weights.

    Against the sketch that circulates: the mask covers the class token; neurons begin anew at each call;
    inhibitory spikes are reset as excitatory ones are; values may be 0; every projection gets a gradient.

    Args:
        width: Channels.
        heads: Number of heads; divides ``width``.
        grid: Patches along the two sides.
        window: Side of the neighbourhood that a patch sees; ``None``: all patches.
        class_token: Token 0 is a class token.
        bursts: B, the most spikes of a key.
        threshold: Of the neurons, in units of a normalised membrane.
        timesteps: T; the first axis of the input holds T steps one behind the other.
        alpha: Steepness of the surrogate gradient.

    Raises:
        UsageError: SNN217 if heads do not divide the width.

    Source:
        BSViT (arXiv 2604.23165), DBSSA; semantics notes 5.1 and 5.2.
    """

    mask: Tensor

    def __init__(
        self,
        width: int,
        heads: int,
        grid: tuple[int, int],
        *,
        window: int | None = 3,
        class_token: bool = True,
        bursts: int = 3,
        threshold: float = 0.5,
        timesteps: int = 1,
        alpha: float = _ALPHA,
    ) -> None:
        super().__init__()
        if heads < 1 or width % heads:
            raise UsageError("SNN217", f"{heads} heads do not divide {width} channels")
        self.heads, self.size = heads, width // heads
        self.tokens = grid[0] * grid[1] + int(class_token)
        self.project_q, self.project_k, self.project_v = (_projection(width, width) for _ in range(3))
        options = {"threshold": threshold, "timesteps": timesteps, "alpha": alpha}
        self.q = BurstNeuron(**options)  # type: ignore[arg-type]
        self.k = BurstNeuron(bursts=bursts, **options)  # type: ignore[arg-type]
        self.v = BurstNeuron(signed=True, **options)  # type: ignore[arg-type]
        self.out = BurstNeuron(signed=True, bursts=bursts, timesteps=timesteps, alpha=alpha)
        # A membrane of integers: its scale is learned, so that the neuron is neither silent nor full.
        self.gain = nn.Parameter(torch.tensor(1.0 / (self.size * bursts) ** 0.5))
        self.project = _projection(width, width)
        span = adjacency(*grid, window or 2 * max(grid) + 1, class_token=class_token)
        self.register_buffer("mask", span, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Attend.

        Args:
            x: Spikes ``(T * N, tokens, C)``.

        Returns:
            Membrane of the same shape.
        """
        if x.shape[1] != self.tokens:
            raise UsageError("SNN217", f"the mask is for {self.tokens} tokens, the input has {x.shape[1]}")
        q, k = self._split(self.q(self.project_q(x))), self._split(self.k(self.project_k(x)))
        membrane = self._split(self.project_v(x))
        scores = torch.matmul(q, k.transpose(2, 3))
        if torch.onnx.is_in_onnx_export() and self.v.timesteps == 1:
            return self._channels(scores, membrane)
        o = torch.matmul(scores * self.mask.to(x.dtype), self.v(membrane))
        result: Tensor = self.project(self.out(self._join(o) * self.gain))
        return result

    def _channels(self, scores: Tensor, membrane: Tensor) -> Tensor:
        """Do the same with two neurons for the two signs, as an exported file has it: all codes unsigned."""
        most = float(self.size * self.k.bursts)
        # Whole numbers from 0 to most either way: the clip makes a code of them, and masks.
        closed = (~self.mask).to(scores.dtype) * most
        held = torch.clamp(torch.floor(scores - closed), 0, most)
        plus, minus = self.v.channels(membrane)
        o = torch.matmul(held, plus) - torch.matmul(held, minus)
        plus, minus = self.out.channels(self._join(o) * self.gain)
        weight = self.project.get_parameter("0.weight")
        both = torch.cat([plus, minus], 2)
        result: Tensor = self.project[1](nn.functional.linear(both, torch.cat([weight, -weight], 1)))
        return result

    def _join(self, x: Tensor) -> Tensor:
        return x.transpose(1, 2).flatten(2)

    def _split(self, x: Tensor) -> Tensor:
        return x.reshape(-1, self.tokens, self.heads, self.size).transpose(1, 2)


class _TokenNorm(nn.Module):
    """BatchNorm over the channels of tokens, ``(N, tokens, C)``: folded into the layer before it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(width)

    def forward(self, x: Tensor) -> Tensor:
        if self.training:  # the same sums, along contiguous memory
            flat: Tensor = self.norm(x.flatten(0, 1))
            return flat.reshape(x.shape)
        result: Tensor = self.norm(x.transpose(1, 2)).transpose(1, 2)
        return result


def _projection(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, outputs, bias=False), _TokenNorm(outputs))


class BSViTBlock(nn.Module):
    """Attention and a feed-forward pair of burst neurons, each added to the residual stream.

    A neuron reads the stream in front of each branch: every projection reads spikes.

    Args:
        width: Channels.
        heads: Number of heads.
        grid: Patches along the two sides.
        ratio: Hidden channels of the pair, divided by ``width``.
        bursts: B of keys and of the feed-forward neurons.
        threshold: Of the neurons.
        timesteps: T.
        window: Side of the neighbourhood; ``None``: all patches.
        class_token: Token 0 is a class token.
        alpha: Steepness of the surrogate gradient.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        grid: tuple[int, int],
        *,
        ratio: float = 2,
        bursts: int = 3,
        threshold: float = 0.5,
        timesteps: int = 1,
        window: int | None = 3,
        class_token: bool = True,
        alpha: float = _ALPHA,
    ) -> None:
        super().__init__()
        hidden = round(width * ratio)
        self.attention = DualChannelAttention(
            width,
            heads,
            grid,
            window=window,
            class_token=class_token,
            bursts=bursts,
            threshold=threshold,
            timesteps=timesteps,
            alpha=alpha,
        )
        self.first, self.second, self.third = (
            BurstNeuron(timesteps, bursts=bursts, threshold=threshold, alpha=alpha) for _ in range(3)
        )
        self.up, self.down = _projection(width, hidden), _projection(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """Map the stream ``(T * N, tokens, C)`` to the stream."""
        x = x + self.attention(self.first(x))
        stream: Tensor = x + self.down(self.third(self.up(self.second(x))))
        return stream


class BSViT(nn.Module):
    """A small BSViT: patches, class token, blocks, logits from the class token.

    Args:
        side: Height and width of the image.
        patch: Side of a patch.
        channels: Of the image.
        classes: Number of logits.
        width: Channels.
        depth: Blocks.
        heads: Heads.
        bursts: B.
        window: Side of the neighbourhood; ``None``: all patches.
        alpha: Steepness of the surrogate gradient.
    """

    def __init__(
        self,
        side: int = 28,
        *,
        patch: int = 4,
        channels: int = 1,
        classes: int = 10,
        width: int = 64,
        depth: int = 2,
        heads: int = 4,
        bursts: int = 3,
        window: int | None = 3,
        alpha: float = _ALPHA,
    ) -> None:
        super().__init__()
        grid = side // patch
        self.embed = nn.Sequential(
            nn.Conv2d(channels, width, patch, patch, bias=False), nn.BatchNorm2d(width)
        )
        self.token = nn.Parameter(0.02 * torch.randn(1, 1, width))
        self.position = nn.Parameter(0.02 * torch.randn(1, grid * grid + 1, width))
        self.blocks = nn.Sequential(
            *(
                BSViTBlock(width, heads, (grid, grid), bursts=bursts, window=window, alpha=alpha)
                for _ in range(depth)
            )
        )
        self.last = BurstNeuron(bursts=bursts, threshold=0.5, alpha=alpha)
        self.head = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Classify images ``(N, channels, side, side)``; returns logits ``(N, classes)``."""
        patches = self.embed(x).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.token.expand(patches.shape[0], -1, -1), patches], 1)
        stream = self.blocks(tokens + self.position)
        logits: Tensor = self.head(self.last(stream[:, 0]))
        return logits
