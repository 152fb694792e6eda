"""Step functions with a gradient to train through."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

__all__ = ["heaviside"]


class _ArcTangent(torch.autograd.Function):
    """1 from 0 on; backward the derivative of ``atan(pi alpha x / 2) / pi + 1 / 2``."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, alpha: float) -> Tensor:
        ctx.save_for_backward(x)
        ctx.alpha = alpha
        return (x >= 0).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        slope = ctx.alpha / 2 / (1 + (math.pi / 2 * ctx.alpha * x).square())
        return gradient * slope, None


def heaviside(x: Tensor, alpha: float = 2.0) -> Tensor:
    """Return 1 where ``x >= 0``, else 0.

    Args:
        x: Float tensor: potential minus threshold.
        alpha: Steepness of the surrogate gradient ``alpha / (2 (1 + (pi alpha x / 2)^2))`` (arc tangent).

    Returns:
        Tensor of the shape and dtype of ``x``.
    """
    if torch.onnx.is_in_onnx_export():
        return (x >= 0).to(x.dtype)
    result: Tensor = _ArcTangent.apply(x, alpha)  # type: ignore[no-untyped-call]
    return result
