"""Firing as a step function with a gradient to train through."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

__all__ = ["divided", "fire"]


def divided(x: Tensor, by: float) -> Tensor:
    """Return ``x / by``, rounded once: ``divided(x, k) >= 1`` exactly where ``x >= k``, on every device.

    On a CUDA device torch multiplies by the reciprocal of a number, which rounds twice: a potential that is
    equal to the threshold would not fire.
    """
    return x / torch.full((), by, dtype=x.dtype, device=x.device) if x.is_cuda else x / by


class _Fire(torch.autograd.Function):
    """Whole spikes; backward the derivatives of ``atan(pi alpha (u - k) / 2) / pi``, k the thresholds."""

    @staticmethod
    def forward(ctx: Any, u: Tensor, alpha: float, most: int, signed: bool) -> Tensor:
        ctx.save_for_backward(u)
        ctx.alpha, ctx.most, ctx.signed = alpha, most, signed
        return u.trunc().clamp_(-most, most) if signed else u.floor().clamp_(0, most)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        (u,) = ctx.saved_tensors
        factor = math.pi / 2 * ctx.alpha
        scaled, one = u * factor, torch.ones((), dtype=u.dtype, device=u.device)
        places = [place for place in range(-ctx.most if ctx.signed else 1, ctx.most + 1) if place]
        slope: Tensor | None = None
        for place in places:
            distance = scaled - place * factor
            part = torch.addcmul(one, distance, distance).reciprocal_()
            slope = part if slope is None else slope.add_(part)
        assert slope is not None  # there is a threshold: most is positive
        return slope.mul_(ctx.alpha / 2).mul_(gradient), None, None, None


def fire(u: Tensor, alpha: float = 2.0, *, most: int = 1, signed: bool = False) -> Tensor:
    """Return ``clip(floor(u), 0, most)``: the spikes of a potential given in units of its threshold.

    Args:
        u: Potential over threshold, float.
        alpha: Steepness of the surrogate gradient, at each of the thresholds 1 to ``most``:
            ``alpha / (2 (1 + (pi alpha (u - k) / 2)^2))`` (arc tangent).
        most: Spikes at most.
        signed: ``fire(u) - fire(-u)`` instead, with thresholds at both signs.

    Returns:
        Whole numbers 0 to ``most``, or ``-most`` to ``most``, of the shape and dtype of ``u``.
    """
    if torch.onnx.is_in_onnx_export():
        spikes = torch.clamp(torch.floor(u), 0, most)
        return spikes - torch.clamp(torch.floor(-u), 0, most) if signed else spikes
    result: Tensor = _Fire.apply(u, alpha, most, signed)  # type: ignore[no-untyped-call]
    return result
