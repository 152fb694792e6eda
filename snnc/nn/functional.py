"""The ExpG quantiser as functions of tensors: the deployed form, the trained form and its gradients."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from snnc.coding import CodeBook

__all__ = ["expg", "quantise"]

_FEW = 64  # up to here one vectorised comparison per break point beats a binary search
_BLOCK = 32_768  # elements: a few float32 temporaries of this size fit a core's second-level cache


@lru_cache(maxsize=64)
def _positive_half(book: CodeBook) -> tuple[Tensor, Tensor]:
    """Return the codes from 0 up and the mid-points between them, float32, in units of the step."""
    codes = torch.from_numpy(book.codes[book.codes >= 0].astype("float32"))
    return codes, (codes[:-1] + codes[1:]) / 2


@lru_cache(maxsize=64)
def _half_step_table(book: CodeBook) -> Tensor:
    """Return the code of each half step: entry n holds the code of ``n/2 <= u/step < (n+1)/2``.

    Break points are multiples of half a step, so this table is complete.
    """
    codes, midpoints = _positive_half(book)
    halves = torch.arange(2 * book.magnitude + 1) / 2
    return codes[torch.bucketize(halves, midpoints, right=True)]


def quantise(u: Tensor, step: Tensor, book: CodeBook) -> Tensor:
    """Return ``step * code`` of the nearest code, ties away from zero: the deployed function.

    The comparison is ``|u| >= fl(p_k * step)`` in float32, the canonical form of semantics 1.3.

    Args:
        u: Float tensor without not-a-number, compared as float32.
        step: float32, positive; one element, or broadcastable to ``u`` along a single axis.
        book: Code book without restriction (0 is the smallest code, or the codes are symmetric).

    Returns:
        Tensor of the shape and dtype of ``u``.
    """
    codes, midpoints = (part.to(u.device) for part in _positive_half(book))
    values, step = u.detach().float(), step.detach().float()
    if book.signed:
        values = values.abs()
    if len(midpoints) > _FEW or u.device.type != "cpu":  # elsewhere one kernel beats several a block
        result = codes[_search(values, step, midpoints)] * step
    elif step.numel() == 1:
        flat = values.reshape(-1)
        limits = (step.reshape(()) * midpoints).tolist()
        parts = [codes.index_select(0, _count(part, limits)) for part in torch.split(flat, _BLOCK)]
        result = torch.cat(parts).reshape(u.shape) * step.reshape(())
    else:
        reached = _count(values, [step * midpoint for midpoint in midpoints])
        result = codes.index_select(0, reached.reshape(-1)).reshape(u.shape) * step
    return (result * u.detach().sign() if book.signed else result).to(u.dtype)


def _count(values: Tensor, limits: Sequence[Tensor | float]) -> Tensor:
    """Count how many of a few limits each value reaches: int32."""
    reached = torch.zeros(values.shape, dtype=torch.uint8, device=values.device)
    for limit in limits:
        reached.add_((values >= limit).view(torch.uint8))
    return reached.to(torch.int32)


def _search(values: Tensor, step: Tensor, midpoints: Tensor) -> Tensor:
    """Count how many of many limits each value reaches, by a binary search: int64."""
    axis = next((i - step.ndim for i, size in enumerate(step.shape) if size > 1), None)
    moved = values.reshape(1, -1) if axis is None else values.movedim(axis, 0)
    rows = moved.reshape(len(moved), -1).contiguous()
    index = torch.searchsorted(step.reshape(-1, 1) * midpoints, rows, right=True)
    return index.reshape(values.shape) if axis is None else index.reshape(moved.shape).movedim(0, axis)


def _mix(
    u: Tensor, theta: Tensor | float, alpha: float, book: CodeBook, table: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Return the mixed activation of ``u`` and its derivative by theta, both in the dtype of ``u``."""
    largest = book.magnitude
    clipped = (u.float() / theta).clamp_(-1.0 if book.signed else 0.0, 1.0)
    # Training divides by the step where deployment compares: the two differ only by rounding at a break
    # point, and the division is an order of magnitude faster.
    if table is None:
        codes = (clipped.abs() if book.signed else clipped).mul(largest).add_(0.5).floor_()
    else:
        halves = (clipped.abs() if book.signed else clipped).mul(2 * largest).to(torch.int32)
        halves.clamp_(0, 2 * largest)  # not-a-number has no integer; the gradient of theta carries it on
        codes = torch.index_select(table, 0, halves.reshape(-1)).reshape(halves.shape)
    if book.signed:
        codes.copysign_(clipped)
    rounding = torch.add(codes, clipped, alpha=-largest)
    if alpha == 1.0:
        value = codes.mul_(theta / largest)
    else:
        value = torch.add(clipped, rounding, alpha=alpha / largest).mul_(theta)
    # Truncation leaves 1 at or above theta, -1 at or below -theta; the rounding error is 0 there.
    slope = clipped.trunc_().add_(rounding, alpha=alpha / largest)
    return value.to(u.dtype), slope.to(u.dtype)


def _mix_in_blocks(
    u: Tensor, theta: float, alpha: float, book: CodeBook, table: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Do the same block by block, so that a dozen passes run in the processor's cache."""
    value, slope = torch.empty_like(u), torch.empty_like(u)
    if value.stride() != u.stride():  # not dense: empty_like keeps the strides of dense tensors only
        return _mix_in_blocks(u.contiguous(), theta, alpha, book, table)
    flat = [part.as_strided((u.numel(),), (1,)) for part in (u, value, slope)]
    for part, into, by in zip(*(torch.split(each, _BLOCK) for each in flat), strict=True):
        a, b = _mix(part, theta, alpha, book, table)
        into.copy_(a)
        by.copy_(b)
    return value, slope


class _ExpG(torch.autograd.Function):
    """Semantics 1.4: the mixed activation, its straight-through gradient and the gradient of theta."""

    @staticmethod
    def forward(ctx: Any, u: Tensor, theta: Tensor, alpha: float, book: CodeBook, scale: float) -> Tensor:
        table = None if book.is_uniform else _half_step_table(book).to(u.device)
        if u.device.type == "cpu" and theta.numel() == 1:
            value, slope = _mix_in_blocks(u, float(theta), alpha, book, table)
        else:
            value, slope = _mix(u, theta, alpha, book, table)
        ctx.save_for_backward(u, slope, theta)
        ctx.low, ctx.scale = (-1.0 if book.signed else 0.0), scale
        return value

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor | None, None, None, None]:
        u, slope, theta = ctx.saved_tensors
        if u.device.type == "cpu" and theta.numel() == 1:
            limit = float(theta)
            to_u = torch.ops.aten.hardtanh_backward(gradient, u, ctx.low * limit, limit)
        else:
            to_u = torch.ops.aten.hardtanh_backward(gradient, u.float() / theta, ctx.low, 1.0)
        to_theta = None
        if ctx.needs_input_grad[1]:
            to_theta = (gradient * slope).float().sum_to_size(theta.shape) * ctx.scale
        return to_u, to_theta, None, None, None


def expg(u: Tensor, theta: Tensor, alpha: float, book: CodeBook, *, gradient_scale: bool = False) -> Tensor:
    """Return ``(1 - alpha) clip(u) + alpha ExpG(clip(u))`` with straight-through gradients.

    Args:
        u: Float tensor.
        theta: float32, positive, shape ``()`` or broadcastable to ``u``: the value of the largest code.
        alpha: Mixing coefficient in [0, 1].
        book: Code book without restriction.
        gradient_scale: Multiply the gradient of theta by ``1/sqrt(N K)``, N elements per theta and K positive
            codes (LSQ).

    Returns:
        Tensor of the shape and dtype of ``u``. Gradients: to ``u`` inside ``0 < u < theta`` (``|u| < theta``
        if signed), to ``theta`` the term ``alpha (ExpG(u) - u) / theta`` inside, 1 above and 0 (-1 if signed)
        below.

    Source:
        Semantics note 1.4; QCFS for the mask, LSQ for the gradient of theta.
    """
    scale = 1.0
    if gradient_scale:
        scale = (u.numel() / theta.numel() * float((book.codes > 0).sum())) ** -0.5
    result: Tensor = _ExpG.apply(u, theta, alpha, book, scale)  # type: ignore[no-untyped-call]
    return result
