"""Softmax attention in groups of tokens, as ``--attention grouped`` writes it, to fine-tune with."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from snnc.errors import UsageError

__all__ = ["grouped_softmax_attention"]


def grouped_softmax_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    stride: int = 2,
    window: int = 0,
    class_token: bool | int = False,
    grid: tuple[int, int] | None = None,
    bias: Tensor | None = None,
) -> Tensor:
    """Attend in groups: half of the heads in dilated ones, half in windows, ``softmax(q k^T d^-1/2 + b) v``.

    The same function as ``snnc convert --attention grouped`` makes of global attention: put it in the place
    of ``scaled_dot_product_attention``, fine-tune, export and convert without the flag.

    Args:
        q: Queries, ``(N, heads, tokens, d)``; tokens, or all but the first, are a grid, row by row.
        k: Keys, the same shape.
        v: Values, the same shape.
        stride: Distance of neighbours in a dilated group; divides the sides of the grid.
        window: Side of a window; 0: the sides divided by ``stride``.
        class_token: Token 0 is a class token, or how many are: they attend to all, and all attend to them.
        grid: Height and width; default a square.
        bias: What is added to the scores, ``(heads or 1, tokens, tokens)``: position biases, masks of minus
            infinity. Its gradient flows.

    Returns:
        ``(N, heads, tokens, d)``.

    Raises:
        UsageError: SNN216 if tokens are no grid, or stride or window do not divide it.

    Source:
        Ge2mS-T (arXiv 2604.08894), GW-SSA; semantics notes 3.1 and 6.2.
    """
    heads, tokens, size = (int(part) for part in q.shape[1:])
    extra = int(class_token)
    height, width = grid or (math.isqrt(tokens - extra),) * 2
    cuts = [window or side // max(1, stride) for side in (height, width)]
    uneven = any(not cut or side % cut for side, cut in zip((height, width), cuts, strict=True))
    if height * width != tokens - extra or stride < 1 or height % stride or width % stride or uneven:
        raise UsageError(
            "SNN216",
            f"{tokens} tokens are no grid that stride {stride} and windows of {cuts[0]} x {cuts[1]} divide",
            hint=None if grid else "the grid is taken to be a square: grid=(height, width)",
        )
    places = torch.arange(height * width, device=q.device).reshape(height, width)
    dilated = places.reshape(height // stride, stride, width // stride, stride).permute(1, 3, 0, 2)
    local = places.reshape(height // cuts[0], cuts[0], width // cuts[1], cuts[1]).permute(0, 2, 1, 3)
    half = (heads + 1) // 2
    parts = []
    for first, last, groups in ((0, half, dilated.flatten(2)), (half, heads, local.flatten(2))):
        if first == last:
            continue
        queries = groups.flatten(0, 1) + extra
        keys = queries
        if class_token:
            front = torch.arange(extra, device=q.device).expand(len(queries), -1)
            keys = torch.cat([front, queries], 1)
        a, b, c = (
            part[:, first:last]
            .index_select(2, places.flatten())
            .reshape(-1, last - first, *places.shape, size)
            for part, places in ((q, queries), (k, keys), (v, keys))
        )
        mixed = _attend(a, b, c, size, _at(bias, first, last, queries, keys)).flatten(2, 3)
        parts.append(mixed.index_select(2, torch.argsort(queries.flatten())))
    result = torch.cat(parts, 1)
    if class_token:
        result = torch.cat(
            [_attend(q[:, :, :extra], k, v, size, None if bias is None else bias[:, :extra]), result], 2
        )
    return result


def _at(bias: Tensor | None, first: int, last: int, queries: Tensor, keys: Tensor) -> Tensor | None:
    """Return a bias ``(heads or 1, groups, n, m)`` at the pairs of some heads' groups."""
    if bias is None:
        return None
    own = bias if bias.shape[0] == 1 else bias[first:last]
    return own[:, queries[:, :, None], keys[:, None, :]]


def _attend(q: Tensor, k: Tensor, v: Tensor, size: int, bias: Tensor | None) -> Tensor:
    scores = torch.matmul(q, k.transpose(-1, -2)) * size**-0.5
    return torch.matmul((scores if bias is None else scores + bias).softmax(-1), v)
