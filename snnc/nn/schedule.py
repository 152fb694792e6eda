"""What happens around training: the ClipReLU to ExpG schedule and the re-estimation of BatchNorm."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from snnc.errors import UsageError
from snnc.nn.expg import ExpG

__all__ = ["Schedule", "reestimate_batch_norm", "set_progress"]


def set_progress(module: nn.Module, alpha: float) -> None:
    """Set the mixing coefficient of every ExpG inside ``module``.

    Args:
        module: Network.
        alpha: 0 is the clipped ReLU (or the clip, if signed), 1 the deployed quantiser.

    Raises:
        UsageError: SNN212 if ``alpha`` is outside [0, 1].
    """
    if not 0.0 <= alpha <= 1.0:
        raise UsageError("SNN212", f"alpha must lie in [0, 1], not {alpha}")
    for part in module.modules():
        if isinstance(part, ExpG):
            part.alpha = alpha


class Schedule:
    """The mixing coefficient over training: ``alpha = min(1, e / (rho E))``.

    The paper's ``e / E`` never reaches 1 during training, so that the network would never see the function
    that is deployed; ``rho < 1`` gives it the last epochs for that (semantics 1.4, derived).

    Args:
        module: Network.
        epochs: E, the number of epochs planned.
        rho: Part of training after which alpha is 1, in (0, 1].

    Raises:
        UsageError: SNN212 if ``rho`` is outside (0, 1] or ``epochs`` is negative.
    """

    def __init__(self, module: nn.Module, epochs: float, rho: float = 0.8) -> None:
        if not 0.0 < rho <= 1.0:
            raise UsageError("SNN212", f"rho must lie in (0, 1], not {rho}")
        if epochs < 0 or not math.isfinite(epochs):
            raise UsageError("SNN212", f"epochs must be a number from 0, not {epochs}")
        self.module, self.epochs, self.rho = module, epochs, rho

    def alpha(self, epoch: float) -> float:
        """Return alpha at ``epoch`` (a fraction is allowed), 0 at the first."""
        if self.epochs == 0:
            return 1.0
        return min(1.0, max(0.0, epoch / (self.rho * self.epochs)))

    def set(self, epoch: float) -> None:
        """Set alpha of every ExpG of the network to its value at ``epoch``."""
        set_progress(self.module, self.alpha(epoch))


@torch.no_grad()
def reestimate_batch_norm(module: nn.Module, batches: Iterable[Tensor]) -> None:
    """Measure the statistics of every BatchNorm again with the deployed quantisers (alpha = 1).

    The running averages of training mix statistics of older weights and of smaller alpha. Means and variances
    are averaged with equal weight over all batches. On return alpha is 1 and ``module.training`` as before.

    Args:
        module: Network; only running statistics change.
        batches: Inputs of the network, float32, of training images.

    Raises:
        UsageError: SNN212 if the network has BatchNorm layers and there is no batch.
    """
    norms = [part for part in module.modules() if isinstance(part, nn.modules.batchnorm._BatchNorm)]
    set_progress(module, 1.0)
    if not norms:
        return
    before = {part: part.training for part in module.modules()}
    momenta = [norm.momentum for norm in norms]
    module.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # torch: cumulative average with equal weights
        norm.train()
    try:
        count = 0
        for batch in batches:
            module(batch)
            count += 1
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        for part, training in before.items():
            part.training = training
    if not count:
        raise UsageError("SNN212", "no batch was given to re-estimate BatchNorm with")
