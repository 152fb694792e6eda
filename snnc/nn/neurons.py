"""Stateful neurons over unrolled time: LIF and burst neurons; their state begins anew at each call."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from snnc.errors import UsageError
from snnc.nn.activations import Activation
from snnc.nn.surrogate import divided, fire

__all__ = ["LIF", "BurstNeuron", "Unrolled", "lif_activation"]


def _steps(x: Tensor, timesteps: int) -> Tensor:
    """Return ``(T, N, ...)`` from ``(T * N, ...)``."""
    if timesteps < 1 or (isinstance(x.shape[0], int) and x.shape[0] % timesteps):
        raise UsageError("SNN217", f"a first axis of {x.shape[0]} holds no {timesteps} time-steps")
    return x.reshape(timesteps, -1, *x.shape[1:])


class LIF(nn.Module):
    """Leaky integrate-and-fire over T steps, which lie one behind the other in the first axis.

    ``v <- v + (x - v) / tau; s = [v >= theta]; v <- v - theta s`` (soft reset) or ``v <- (1 - s) v`` (hard),
    from ``v = 0`` at each call. ``tau = 1`` has no memory; IF neurons have ``integrate_only``.

    Args:
        timesteps: T.
        tau: Time constant in steps, at least 1.
        threshold: Theta, positive.
        soft_reset: Subtract the threshold; otherwise set the potential to 0.
        integrate_only: ``v <- v + x``: no leak (IF).
        alpha: Steepness of the surrogate gradient.

    Raises:
        UsageError: SNN217 for values out of range.
    """

    def __init__(
        self,
        timesteps: int,
        *,
        tau: float = 2.0,
        threshold: float = 1.0,
        soft_reset: bool = False,
        integrate_only: bool = False,
        alpha: float = 2.0,
    ) -> None:
        super().__init__()
        if timesteps < 1 or tau < 1 or threshold <= 0:
            raise UsageError("SNN217", "LIF takes T >= 1, tau >= 1, threshold > 0")
        self.timesteps, self.tau, self.threshold = timesteps, tau, threshold
        self.soft_reset, self.integrate_only, self.alpha = soft_reset, integrate_only, alpha

    def forward(self, x: Tensor) -> Tensor:
        """Fire.

        Args:
            x: Currents ``(T * N, ...)``, step by step.

        Returns:
            Spikes, 0 or 1, of the same shape.
        """
        currents = _steps(x, self.timesteps)
        v: Tensor | None = None
        spikes = []
        for current in currents.unbind(0):
            share = current if self.integrate_only else divided(current, self.tau)
            kept = 1.0 if self.integrate_only else 1 - 1 / self.tau
            v = share if v is None else kept * v + share
            s = fire(divided(v, self.threshold), self.alpha)
            v = v - self.threshold * s if self.soft_reset else (1 - s) * v
            spikes.append(s)
        return torch.cat(spikes)


class BurstNeuron(nn.Module):
    """A neuron that may fire several spikes in one step, of both signs if asked.

    ``v <- decay v + x; b = clip(floor(|v| / theta), 0, B) sgn(v); v <- v - b theta``: what fires is taken
    away with its sign, so that an inhibitory spike takes its charge away as an excitatory one does. B = 1
    unsigned is the binary form, B = 1 signed the ternary one. The potential begins at 0 at each call.

    Args:
        timesteps: T, in the first axis one behind the other.
        bursts: B, the most spikes a step.
        threshold: Theta, positive.
        signed: Fire with both signs; otherwise a negative potential waits.
        decay: What is left of the potential after a step, 0 to 1.
        alpha: Steepness of the surrogate gradient at each of the B thresholds.

    Raises:
        UsageError: SNN217 for values out of range.

    Source:
        BSViT (arXiv 2604.23165), burst neuron; semantics note 5.1.
    """

    def __init__(
        self,
        timesteps: int = 1,
        *,
        bursts: int = 1,
        threshold: float = 1.0,
        signed: bool = False,
        decay: float = 1.0,
        alpha: float = 2.0,
    ) -> None:
        super().__init__()
        if timesteps < 1 or bursts < 1 or threshold <= 0 or not 0 <= decay <= 1:
            raise UsageError(
                "SNN217", "burst neurons take T >= 1, bursts >= 1, threshold > 0, decay in [0, 1]"
            )
        self.timesteps, self.bursts, self.threshold = timesteps, bursts, threshold
        self.signed, self.decay, self.alpha = signed, decay, alpha

    def channels(self, v: Tensor) -> tuple[Tensor, Tensor]:
        """Return the numbers of excitatory and of inhibitory spikes of a potential, each from 0 to B."""
        scaled = divided(v, self.threshold)
        return fire(scaled, self.alpha, most=self.bursts), fire(-scaled, self.alpha, most=self.bursts)

    def forward(self, x: Tensor) -> Tensor:
        """Fire.

        Args:
            x: Currents ``(T * N, ...)``, step by step.

        Returns:
            Numbers of spikes, 0 to B, or -B to B if signed, of the same shape.
        """
        currents = _steps(x, self.timesteps)
        v: Tensor | None = None
        spikes = []
        for current in currents.unbind(0):
            v = current if v is None else self.decay * v + current
            b = fire(divided(v, self.threshold), self.alpha, most=self.bursts, signed=self.signed)
            spikes.append(b)
            if len(spikes) < self.timesteps:
                v = v - b * self.threshold
        return torch.cat(spikes)


class Unrolled(nn.Module):
    """Run a network of stateful neurons for T steps on a constant input and average its outputs.

    Args:
        network: Network whose neurons hold T steps one behind the other in the first axis.
        timesteps: T.
    """

    def __init__(self, network: nn.Module, timesteps: int) -> None:
        super().__init__()
        self.network, self.timesteps = network, timesteps

    def forward(self, x: Tensor) -> Tensor:
        """Classify ``(N, ...)``; returns the mean of the outputs over time, ``(N, classes)``."""
        repeated = x.unsqueeze(0).expand(self.timesteps, *x.shape).flatten(0, 1)
        return _steps(self.network(repeated), self.timesteps).mean(0)


def lif_activation(timesteps: int, **options: float) -> Activation:
    """Return a maker of LIF neurons, for networks in `Unrolled`; signed ones are the same.

    Args:
        timesteps: T.
        **options: Arguments of `LIF`.
    """
    return lambda signed: LIF(timesteps, **options)  # type: ignore[arg-type]
