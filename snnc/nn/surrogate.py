"""Firing as a step function with a gradient to train through."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

__all__ = ["fire"]


class _ArcTangent(torch.autograd.Function):
    """1 from 1 on; backward the derivative of ``atan(pi alpha (u - 1) / 2) / pi + 1 / 2``."""

    @staticmethod
    def forward(ctx: Any, u: Tensor, alpha: float) -> Tensor:
        ctx.save_for_backward(u)
        ctx.alpha = alpha
        return (u >= 1).to(u.dtype)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (u,) = ctx.saved_tensors
        slope = ctx.alpha / 2 / (1 + (math.pi / 2 * ctx.alpha * (u - 1)).square())
        return gradient * slope, None


def fire(u: Tensor, alpha: float = 2.0, *, most: int = 1) -> Tensor:
    """Return ``clip(floor(u), 0, most)``: the spikes of a potential given in units of its threshold.

    Args:
        u: Potential over threshold, float.
        alpha: Steepness of the surrogate gradient, at each of the thresholds 1 to ``most``:
            ``alpha / (2 (1 + (pi alpha (u - k) / 2)^2))`` (arc tangent).
        most: Spikes at most.

    Returns:
        Whole numbers 0 to ``most``, of the shape and dtype of ``u``.
    """
    if torch.onnx.is_in_onnx_export():
        return torch.clamp(torch.floor(u), 0, most)
    result: Tensor = _ArcTangent.apply(u, alpha)  # type: ignore[no-untyped-call]
    for count in range(2, most + 1):
        result = result + _ArcTangent.apply(u - (count - 1), alpha)  # type: ignore[no-untyped-call]
    return result
