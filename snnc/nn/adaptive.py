"""Spiking attention with thresholds that adapt: latency encoder, LIF neurons of set activity."""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from torch import Tensor, nn

from snnc.errors import UsageError
from snnc.nn.neurons import _steps
from snnc.nn.surrogate import fire

__all__ = ["AdaptiveLIF", "AdaptiveTransformer", "LatencyEncoder", "SpikeAttention"]


class LatencyEncoder(nn.Module):
    """Turn intensities into the time of one spike: the brighter, the earlier; nothing below the lowest level.

    Args:
        timesteps: T.
        lowest: Intensity from which a spike is sent at all.
        time_axis: 0: time is folded into the first axis; 1: an axis of its own behind the batch.
    """

    def __init__(self, timesteps: int, *, lowest: float = 0.05, time_axis: Literal[0, 1] = 0) -> None:
        super().__init__()
        if timesteps < 1 or not 0 <= lowest < 1:
            raise UsageError("SNN217", "the encoder takes T >= 1 and a lowest intensity in [0, 1)")
        self.timesteps, self.lowest, self.time_axis = timesteps, lowest, time_axis

    def forward(self, x: Tensor) -> Tensor:
        """Encode.

        Args:
            x: Intensities ``(N, ...)``; what lies outside [0, 1] is clipped.

        Returns:
            Spikes ``(T * N, ...)`` or ``(N, T, ...)``, at most one of each pixel over time.
        """
        value = x.clamp(0, 1)
        last = self.timesteps - 1
        latency = torch.round((1 - value) * last)
        sent = (value >= max(self.lowest, 1e-12)).to(x.dtype)
        steps = [(latency == step).to(x.dtype) * sent for step in range(self.timesteps)]
        return torch.stack(steps, 1) if self.time_axis else torch.cat(steps)


class AdaptiveLIF(nn.Module):
    """LIF neurons whose thresholds follow their activity until the firing rate lies in a band.

    ``v <- decay v + x; s = [v >= theta_c]; v <- v - theta_c s``. In training, the threshold of each channel
    rises where it fires more often than ``band`` allows and falls where it fires less; in evaluation it is
    a constant. The potential begins at 0 at each call, and a spike takes away exactly one threshold.

    Args:
        channels: Number of thresholds.
        timesteps: T, in the first axis one behind the other.
        tau: Time constant: the potential decays by ``exp(-1 / tau)`` a step.
        threshold: To start from.
        band: Lowest and highest wanted firing rate (spikes a neuron and step).
        speed: Relative change of a threshold a training step, per distance from the band's inner half.
        channel_axis: Axis of the channels in the input.
        time_axis: Where time is: 0, folded into the first axis, or 1, an axis of its own behind the batch, as
            networks have it that are exported and converted.
        alpha: Steepness of the surrogate gradient.

    Attributes:
        rate: Running mean of the firing rate of each channel, as trained with.

    Raises:
        UsageError: SNN217 for values out of range.
    """

    theta: Tensor
    rate: Tensor

    def __init__(
        self,
        channels: int,
        timesteps: int,
        *,
        tau: float = 2.0,
        threshold: float = 1.0,
        band: tuple[float, float] = (0.05, 0.15),
        speed: float = 0.05,
        channel_axis: int = 1,
        time_axis: Literal[0, 1] = 0,
        alpha: float = 2.0,
    ) -> None:
        super().__init__()
        if not 0 < band[0] < band[1] < 1 or threshold <= 0 or tau <= 0:
            raise UsageError("SNN217", "the neuron takes tau > 0, threshold > 0 and 0 < lowest < highest < 1")
        self.timesteps, self.band, self.speed, self.alpha = timesteps, band, speed, alpha
        self.channel_axis, self.time_axis = channel_axis, time_axis
        self.decay = float(torch.exp(torch.tensor(-1.0 / tau)))
        self.register_buffer("theta", torch.full((channels,), threshold))
        self.register_buffer("rate", torch.full((channels,), sum(band) / 2))

    def forward(self, x: Tensor) -> Tensor:
        """Fire.

        Args:
            x: Currents ``(T * N, ...)``, step by step, or ``(N, T, ...)``; the channel axis counts from the
                first axis.

        Returns:
            Spikes, 0 or 1, of the same shape.
        """
        axis = self.channel_axis % x.ndim
        shape = [-1 if place == axis else 1 for place in range(x.ndim)]
        theta = self.theta.clone().reshape(shape[1:])
        currents = x.unbind(1) if self.time_axis else _steps(x, self.timesteps).unbind(0)
        if len(currents) != self.timesteps:
            raise UsageError("SNN217", f"{len(currents)} time-steps where {self.timesteps} are expected")
        v: Tensor | None = None
        spikes = []
        for current in currents:
            v = current if v is None else self.decay * v + current
            s = fire(v / theta, self.alpha)
            v = v - theta * s
            spikes.append(s)
        result = torch.stack(spikes, 1) if self.time_axis else torch.cat(spikes)
        if self.training:
            self._adapt(result.detach(), axis)
        return result

    @torch.no_grad()
    def _adapt(self, spikes: Tensor, axis: int) -> None:
        rate = spikes.movedim(axis, 0).flatten(1).mean(1, dtype=self.rate.dtype)
        self.rate.lerp_(rate, 0.1)
        low, high = self.band
        # Into the inner half of the band, so that other data do not leave it; rates span decades.
        margin = (high / low) ** 0.25
        found = self.rate.clamp(min=low / 100).log()
        above = (found - math.log(high / margin)).clamp(min=0)
        below = (math.log(low * margin) - found).clamp(min=0)
        self.theta.mul_(torch.exp(self.speed * (above - below)))


class _Projection(nn.Module):
    """A linear layer and BatchNorm over its channels, which evaluation and export have folded into one."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.linear, self.norm = nn.Linear(inputs, outputs, bias=False), nn.BatchNorm1d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        if self.norm.training:
            y: Tensor = self.linear(x)
            flat: Tensor = self.norm(y.flatten(0, -2))
            return flat.reshape(y.shape)
        norm = self.norm
        assert norm.running_mean is not None and norm.running_var is not None
        scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
        weight = self.linear.weight * scale.unsqueeze(1)
        return nn.functional.linear(x, weight, norm.bias - norm.running_mean * scale)


class SpikeAttention(nn.Module):
    """Attention between tokens on spikes, step by step: ``W LIF(Q K^T V)`` without softmax.

    Every token sees every other (the sketch that circulates attends between the heads of one token); nothing
    is divided by a sum, so that silent rows stay silent and nothing needs renormalising. Scores are whole
    numbers, and few of them differ from 0: spikes are sparse.

    Args:
        width: Channels.
        heads: Number of heads; divides ``width``.
        timesteps: T.
        **neuron: Arguments of `AdaptiveLIF`: ``band``, ``tau``, ``speed``...

    Raises:
        UsageError: SNN217 if heads do not divide the width.
    """

    def __init__(self, width: int, heads: int, timesteps: int, **neuron: Any) -> None:
        super().__init__()
        if heads < 1 or width % heads:
            raise UsageError("SNN217", f"{heads} heads do not divide {width} channels")
        self.heads, self.size = heads, width // heads
        self.projections = nn.ModuleList(_Projection(width, width) for _ in range(4))
        self.neurons = nn.ModuleList(AdaptiveLIF(width, timesteps, **_options(neuron)) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        """Attend.

        Args:
            x: Spikes ``(N, T, tokens, C)``.

        Returns:
            Membrane of the same shape, to be added to the stream.
        """
        q, k, v = (
            neuron(project(x)).unflatten(3, (self.heads, self.size)).transpose(2, 3)
            for project, neuron in zip(self.projections[:3], self.neurons[:3], strict=True)
        )
        scores = torch.matmul(q, k.transpose(3, 4))
        if torch.onnx.is_in_onnx_export():
            # Whole numbers from 0 to the size of a head either way: the clip makes a code of them.
            scores = torch.clamp(torch.floor(scores), 0, self.size)
        mixed = torch.matmul(scores, v).transpose(2, 3).flatten(3) * self.size**-0.5
        membrane: Tensor = self.projections[3](self.neurons[3](mixed))
        return membrane


def _options(neuron: dict[str, Any]) -> dict[str, Any]:
    return {"channel_axis": 3, "time_axis": 1, "threshold": 0.3, **neuron}


class _AdaptiveBlock(nn.Module):
    def __init__(self, width: int, heads: int, timesteps: int, ratio: float, neuron: dict[str, Any]) -> None:
        super().__init__()
        hidden = round(width * ratio)
        options = _options(neuron)
        self.attention = SpikeAttention(width, heads, timesteps, **neuron)
        self.first, self.second = (AdaptiveLIF(width, timesteps, **options) for _ in range(2))
        self.third = AdaptiveLIF(hidden, timesteps, **options)
        self.up, self.down = _Projection(width, hidden), _Projection(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.first(x))
        stream: Tensor = x + self.down(self.third(self.up(self.second(x))))
        return stream


class AdaptiveTransformer(nn.Module):
    """A small spiking transformer whose thresholds adapt: latency encoder, patches, blocks, logits.

    A neuron reads the stream in front of each branch: every layer reads spikes, the first one too.

    Args:
        side: Height and width of the image, intensities in [0, 1].
        patch: Side of a patch.
        channels: Of the image.
        classes: Number of logits.
        width: Channels.
        depth: Blocks.
        heads: Heads.
        timesteps: T.
        ratio: Hidden channels of the feed-forward pair, divided by ``width``.
        **neuron: Arguments of `AdaptiveLIF`: ``band``, ``tau``, ``speed``...
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
        timesteps: int = 4,
        ratio: float = 2,
        **neuron: Any,
    ) -> None:
        super().__init__()
        self.timesteps = timesteps
        self.encode = LatencyEncoder(timesteps, time_axis=1)
        self.embed = nn.Sequential(
            nn.Conv2d(channels, width, patch, patch, bias=False), nn.BatchNorm2d(width)
        )
        self.position = nn.Parameter(0.02 * torch.randn(1, 1, (side // patch) ** 2, width))
        blocks = (_AdaptiveBlock(width, heads, timesteps, ratio, neuron) for _ in range(depth))
        self.blocks = nn.Sequential(*blocks)
        self.last = AdaptiveLIF(width, timesteps, **_options(neuron))
        self.head = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Classify images ``(N, channels, side, side)``; returns logits ``(N, classes)``."""
        pixels = self.encode(x)
        if self.embed[1].training:  # one statistic of all steps
            folded = self.embed(pixels.flatten(0, 1)).flatten(2).transpose(1, 2)
            stream = folded.unflatten(0, pixels.shape[:2])
        else:
            steps = [self.embed(step).flatten(2).transpose(1, 2) for step in pixels.unbind(1)]
            stream = torch.stack(steps, 1)
        spikes = self.last(self.blocks(stream + self.position))
        logits: Tensor = self.head(spikes.mean((1, 2)))
        return logits

    def rates(self, x: Tensor) -> dict[str, Tensor]:
        """Return the firing rate (spikes a neuron and step) of each channel of each layer, by its name."""
        found: dict[str, Tensor] = {}
        layers = {name: part for name, part in self.named_modules() if isinstance(part, AdaptiveLIF)}
        hooks = [
            part.register_forward_hook(
                lambda module, inputs, output, name=name: found.__setitem__(
                    name, output.detach().movedim(module.channel_axis, 0).flatten(1).mean(1)
                )
            )
            for name, part in layers.items()
        ]
        try:
            with torch.no_grad():
                self(x)
        finally:
            for hook in hooks:
                hook.remove()
        return found
