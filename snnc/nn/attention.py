"""Spiking self-attention over groups of tokens (GW-SSA) and over all of them (SSA)."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor, nn

from snnc.errors import UsageError
from snnc.nn.activations import Activation, Layers
from snnc.nn.grouping import dilated_groups, from_dilated_groups, from_window_groups, window_groups

__all__ = ["GroupedAttention", "attend"]

Grouping = Literal["dilated", "window"]
ScoreScale = Literal["dimension", "tokens"]
_CUT = {"dilated": dilated_groups, "window": window_groups}
_JOIN = {"dilated": from_dilated_groups, "window": from_window_groups}


def attend(q: Tensor, k: Tensor, v: Tensor, scores: nn.Module, *, heads: int, scale: float) -> Tensor:
    """Attend within each group, with a neuron in place of softmax: ``scores(q k^T scale) v``.

    Spiking, q and the scores arrive as spikes, k and v are held as codes: T products instead of T^2, and the
    sum over the window is the same (semantics note 3.4).

    Args:
        q: Queries, ``(N, groups, C, tokens)``.
        k: Keys, the same shape.
        v: Values, the same shape.
        scores: Activation of the attention matrix ``(N, groups, heads, tokens, tokens)``.
        heads: Number of heads; divides C.
        scale: Factor of the scores, a constant.

    Returns:
        ``(N, groups, C, tokens)``.
    """
    _, groups, channels, tokens = q.shape
    split = (-1, groups, heads, channels // heads, tokens)
    queries, values = (part.reshape(split).transpose(3, 4) for part in (q, v))
    matrix = scores(torch.matmul(queries, k.reshape(split)) * scale)
    mixed = torch.matmul(matrix, values).transpose(3, 4)
    return mixed.reshape(-1, groups, channels, tokens)


class GroupedAttention(nn.Module):
    """GW-SSA: some heads attend within dilated groups, which span the map, the others within windows.

    ``z = ExpG(x); q, k, v = ExpG±(BN(W z)); A = ExpG(q k^T d^-1/2)`` within each group and head; ``O = A v +
    BN(DWConv3x3(v)); result = BN(W_o ExpG±(O))``. Groups are views and transpositions of the map: an exported
    file computes the pairs of each group and no others. With ``chunks=1`` all tokens are one group: SSA.

    Args:
        width: C, channels.
        activation: Makes neurons, see `expg_activation`.
        heads: Number of heads; divides ``width``.
        chunks: m; a map of H x W tokens has m^2 groups of ``H W / m^2`` tokens. The paper leaves open whether
            both groupings have the same m; here they do.
        dilated_heads: Heads, from the first on, with dilated groups; default half of them (the paper's ratio
            is open). Ignored if ``chunks`` is 1.
        convolution_branch: Add a depthwise 3x3 convolution of v to the result of attention (the paper's
            "backbone pathway").
        branch_norm: BatchNorm behind that convolution (open in the paper).
        signed: Signed codes of q, k, v and of the attention's result (inferred; semantics note 1.5).
        score_scale: ``"dimension"``: d^-1/2. ``"tokens"``: that divided by the tokens of a group, for
            training that diverges; the threshold of the scores takes up any constant.
        attention_activation: Makes the neurons of the attention matrix; default ``activation``.
        layers: Makes convolutions; default float weights.

    Raises:
        UsageError: SNN217 if heads and channels do not fit, or there is no such ``score_scale``.

    Source:
        Ge2mS-T (arXiv 2604.08894), Eq. 8; semantics notes 3.1 to 3.4.
    """

    def __init__(
        self,
        width: int,
        activation: Activation,
        *,
        heads: int,
        chunks: int = 1,
        dilated_heads: int | None = None,
        convolution_branch: bool = True,
        branch_norm: bool = True,
        signed: bool = True,
        score_scale: ScoreScale = "dimension",
        attention_activation: Activation | None = None,
        layers: Layers | None = None,
    ) -> None:
        super().__init__()
        if heads < 1 or width % heads:
            raise UsageError("SNN217", f"{heads} heads do not divide {width} channels")
        layers = layers or Layers()
        first = heads // 2 if dilated_heads is None else dilated_heads
        if not 0 <= first <= heads:
            raise UsageError("SNN217", f"dilated_heads must lie in 0..{heads}, not {first}")
        if score_scale not in get_args(ScoreScale):
            names = " or ".join(get_args(ScoreScale))
            raise UsageError("SNN217", f"score_scale must be {names}, not {score_scale!r}")
        self.chunks, self.size, self.score_scale = chunks, width // heads, score_scale
        parts: list[tuple[Grouping, int]] = [("dilated", first), ("window", heads - first)]
        self.parts: list[tuple[Grouping, int]] = [part for part in parts if part[1]]
        if chunks == 1:
            self.parts = [("window", heads)]
        self.z = activation(False)
        self.query, self.key, self.value = (layers.normalised(width, width) for _ in range(3))
        self.q, self.k, self.v = (activation(signed) for _ in range(3))
        self.scores = nn.ModuleList((attention_activation or activation)(False) for _ in self.parts)
        self.branch: nn.Module | None = None
        if convolution_branch:
            make = layers.normalised if branch_norm else layers.convolution
            self.branch = make(width, width, 3, depthwise=True)
        self.out = activation(signed)
        self.project = layers.normalised(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Attend.

        Args:
            x: Residual stream ``(N, C, H, W)``.

        Returns:
            Membrane of the same shape, to be added to the stream.

        Raises:
            UsageError: SNN216 if the map does not divide into ``chunks`` x ``chunks`` groups.
        """
        height, width = x.shape[2:]
        z = self.z(x)
        q, k, v = self.q(self.query(z)), self.k(self.key(z)), self.v(self.value(z))
        scale = float(self.size) ** -0.5
        if self.score_scale == "tokens":
            scale /= height * width // self.chunks**2
        mixed, start = [], 0
        for (grouping, heads), scores in zip(self.parts, self.scores, strict=True):
            stop = start + heads * self.size
            a, b, c = (_CUT[grouping](part[:, start:stop], self.chunks) for part in (q, k, v))
            found = attend(a, b, c, scores, heads=heads, scale=scale)
            mixed.append(_JOIN[grouping](found, self.chunks, height, width))
            start = stop
        o = mixed[0] if len(mixed) == 1 else torch.cat(mixed, 1)
        if self.branch is not None:
            o = o + self.branch(v)
        membrane: Tensor = self.project(self.out(o))
        return membrane
