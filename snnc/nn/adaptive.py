"""Spiking attention with thresholds that adapt: latency encoder, LIF neurons of set activity."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from snnc.errors import UsageError
from snnc.nn.neurons import _steps
from snnc.nn.surrogate import fire

__all__ = ["AdaptiveLIF", "LatencyEncoder", "SpikeAttention"]


class LatencyEncoder(nn.Module):
    """Turn intensities into the time of one spike: the brighter, the earlier; nothing below the lowest level.

    Args:
        timesteps: T.
        lowest: Intensity from which a spike is sent at all.
    """

    def __init__(self, timesteps: int, *, lowest: float = 0.05) -> None:
        super().__init__()
        if timesteps < 1 or not 0 <= lowest < 1:
            raise UsageError("SNN217", "the encoder takes T >= 1 and a lowest intensity in [0, 1)")
        self.timesteps, self.lowest = timesteps, lowest

    def forward(self, x: Tensor) -> Tensor:
        """Encode.

        Args:
            x: Intensities ``(N, ...)``; what lies outside [0, 1] is clipped.

        Returns:
            Spikes ``(T * N, ...)``, at most one of each pixel over time.
        """
        value = x.clamp(0, 1)
        last = self.timesteps - 1
        latency = torch.round((1 - value) * last)
        sent = (value >= max(self.lowest, 1e-12)).to(x.dtype)
        steps = [(latency == step).to(x.dtype) * sent for step in range(self.timesteps)]
        return torch.cat(steps)


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
        speed: Relative change of a threshold a training step, per relative distance from the band.
        channel_axis: Axis of the channels in the input.
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
        alpha: float = 2.0,
    ) -> None:
        super().__init__()
        if not 0 < band[0] < band[1] < 1 or threshold <= 0 or tau <= 0:
            raise UsageError("SNN217", "the neuron takes tau > 0, threshold > 0 and 0 < lowest < highest < 1")
        self.timesteps, self.band, self.speed, self.alpha = timesteps, band, speed, alpha
        self.channel_axis = channel_axis
        self.decay = float(torch.exp(torch.tensor(-1.0 / tau)))
        self.register_buffer("theta", torch.full((channels,), threshold))
        self.register_buffer("rate", torch.full((channels,), sum(band) / 2))

    def forward(self, x: Tensor) -> Tensor:
        """Fire.

        Args:
            x: Currents ``(T * N, ...)``, step by step; the channel axis counts from that first axis.

        Returns:
            Spikes, 0 or 1, of the same shape.
        """
        axis = self.channel_axis % x.ndim
        shape = [-1 if place == axis else 1 for place in range(x.ndim)]
        theta = self.theta.clone().reshape(shape[1:])
        currents = _steps(x, self.timesteps)
        v: Tensor | None = None
        spikes = []
        for current in currents.unbind(0):
            v = current if v is None else self.decay * v + current
            s = fire(v / theta, self.alpha)
            v = v - theta * s
            spikes.append(s)
        result = torch.stack(spikes).reshape(x.shape)
        if self.training:
            self._adapt(result.detach(), axis)
        return result

    @torch.no_grad()
    def _adapt(self, spikes: Tensor, axis: int) -> None:
        rate = spikes.movedim(axis, 0).flatten(1).mean(1).to(self.rate.dtype)
        self.rate.lerp_(rate, 0.1)
        low, high = self.band
        # Towards the band's ends from outside, nothing inside: relative, since rates span decades.
        push = (rate / high - 1).clamp(min=0, max=5) - (1 - rate / low).clamp(min=0)
        self.theta.mul_(torch.exp(self.speed * push))


class SpikeAttention(nn.Module):
    """Attention between tokens on spikes, step by step: ``LIF(scale Q (K^T V))`` without softmax.

    Every token sees every other (the sketch that circulates attends between the heads of one token); nothing
    is divided by a sum, so that silent rows stay silent and nothing needs renormalising.

    Args:
        width: Channels.
        heads: Number of heads; divides ``width``.
        timesteps: T.
        band: Of the firing rates, see `AdaptiveLIF`.

    Raises:
        UsageError: SNN217 if heads do not divide the width.
    """

    def __init__(
        self, width: int, heads: int, timesteps: int, *, band: tuple[float, float] = (0.05, 0.15)
    ) -> None:
        super().__init__()
        if heads < 1 or width % heads:
            raise UsageError("SNN217", f"{heads} heads do not divide {width} channels")
        self.heads, self.size = heads, width // heads
        self.projections = nn.ModuleList(nn.Linear(width, width, bias=False) for _ in range(4))
        self.neurons = nn.ModuleList(
            AdaptiveLIF(width, timesteps, band=band, channel_axis=2, threshold=0.3) for _ in range(4)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Attend.

        Args:
            x: Spikes ``(T * N, tokens, C)``.

        Returns:
            Spikes of the same shape.
        """
        q, k, v = (
            neuron(project(x)).unflatten(2, (self.heads, self.size)).transpose(1, 2)
            for project, neuron in zip(self.projections[:3], self.neurons[:3], strict=True)
        )
        scores = torch.matmul(q, k.transpose(2, 3)) * self.size**-0.5
        mixed = torch.matmul(scores, v).transpose(1, 2).flatten(2)
        spikes: Tensor = self.neurons[3](self.projections[3](mixed))
        return spikes
