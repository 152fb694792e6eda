"""Softmax attention in groups of tokens, as ``--attention grouped`` writes it, to fine-tune with."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from snnc.errors import UsageError

__all__ = ["grouped_softmax_attention"]


def grouped_softmax_attention(
    q: Tensor, k: Tensor, v: Tensor, *, stride: int = 2, window: int = 0, class_token: bool = False
) -> Tensor:
    """Attend in groups: half of the heads in dilated ones, half in windows, ``softmax(q k^T d^-1/2) v``.

    The same function as ``snnc convert --attention grouped`` makes of global attention: put it in the place
    of ``scaled_dot_product_attention``, fine-tune, export and convert without the flag.

    Args:
        q: Queries, ``(N, heads, tokens, d)``; tokens, or all but the first, are a square grid, row by row.
        k: Keys, the same shape.
        v: Values, the same shape.
        stride: Distance of neighbours in a dilated group; divides the side of the grid.
        window: Side of a window; 0: the side divided by ``stride``.
        class_token: Token 0 is a class token: it attends to all, and all attend to it.

    Returns:
        ``(N, heads, tokens, d)``.

    Raises:
        UsageError: SNN216 if tokens are no grid, or stride or window do not divide it.

    Source:
        Ge2mS-T (arXiv 2604.08894), GW-SSA; semantics notes 3.1 and 6.2.
    """
    heads, tokens, size = (int(part) for part in q.shape[1:])
    extra = int(class_token)
    side = math.isqrt(tokens - extra)
    cut = window or side // max(1, stride)
    if side * side != tokens - extra or stride < 1 or side % stride or not cut or side % cut:
        raise UsageError(
            "SNN216",
            f"{tokens} tokens are no square grid that stride {stride} and windows of {cut} divide",
        )
    grid = torch.arange(side * side, device=q.device).reshape(side, side)
    dilated = grid.reshape(side // stride, stride, side // stride, stride).permute(1, 3, 0, 2)
    local = grid.reshape(side // cut, cut, side // cut, cut).permute(0, 2, 1, 3)
    half = (heads + 1) // 2
    parts = []
    for first, last, groups in ((0, half, dilated.flatten(2)), (half, heads, local.flatten(2))):
        if first == last:
            continue
        queries = groups.flatten(0, 1) + extra
        keys = queries
        if class_token:
            keys = torch.cat([torch.zeros_like(queries[:, :1]), queries], 1)
        a, b, c = (
            part[:, first:last]
            .index_select(2, places.flatten())
            .reshape(-1, last - first, *places.shape, size)
            for part, places in ((q, queries), (k, keys), (v, keys))
        )
        mixed = _attend(a, b, c, size).flatten(2, 3)
        parts.append(mixed.index_select(2, torch.argsort(queries.flatten())))
    result = torch.cat(parts, 1)
    if class_token:
        result = torch.cat([_attend(q[:, :, :1], k, v, size), result], 2)
    return result


def _attend(q: Tensor, k: Tensor, v: Tensor, size: int) -> Tensor:
    return torch.matmul((torch.matmul(q, k.transpose(-1, -2)) * size**-0.5).softmax(-1), v)
