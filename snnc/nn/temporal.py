"""Groups along several dimensions: time in channels, shifted windows, attention between channels."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from snnc.errors import UsageError
from snnc.nn.activations import Activation

__all__ = [
    "GroupedChannelAttention",
    "from_temporal_groups",
    "from_windows",
    "temporal_groups",
    "windows",
]


def temporal_groups(x: Tensor, groups: int) -> Tensor:
    """Fold each run of ``groups`` time-steps into the channels.

    Args:
        x: ``(B, T, C, H, W)``; T is a multiple of ``groups``.
        groups: Time-steps in a group.

    Returns:
        ``(B, T / groups, C * groups, H, W)``; channel ``c * groups + g`` is step g of the run.

    Raises:
        UsageError: SNN217 if the steps do not divide.
    """
    _, steps, channels, height, width = x.shape
    if groups < 1 or steps % groups:
        raise UsageError("SNN217", f"{steps} time-steps do not divide into groups of {groups}")
    # -1, not the batch: some tracers would write its number into an exported file.
    runs = x.reshape(-1, steps // groups, groups, channels, height, width)
    return runs.transpose(2, 3).reshape(-1, steps // groups, channels * groups, height, width)


def from_temporal_groups(x: Tensor, groups: int) -> Tensor:
    """Undo `temporal_groups`: ``(B, T / groups, C * groups, H, W)`` to ``(B, T, C, H, W)``.

    Raises:
        UsageError: SNN217 if the channels do not divide.
    """
    _, runs, folded, height, width = x.shape
    if groups < 1 or folded % groups:
        raise UsageError("SNN217", f"{folded} channels do not divide into groups of {groups}")
    split = x.reshape(-1, runs, folded // groups, groups, height, width)
    return split.transpose(2, 3).reshape(-1, runs * groups, folded // groups, height, width)


def windows(x: Tensor, size: int, *, shift: int = 0) -> Tensor:
    """Cut a map into windows of ``size`` x ``size``, after rolling it by ``shift`` pixels.

    Args:
        x: ``(N, C, H, W)``; H and W are multiples of ``size``.
        size: Side of a window.
        shift: Pixels that the map is rolled up and left by.

    Returns:
        ``(N, windows, C, size * size)``, row by row.

    Raises:
        UsageError: SNN216 if the map does not divide.
    """
    _, channels, height, width = x.shape
    if size < 1 or height % size or width % size:
        raise UsageError("SNN216", f"a map of {height}x{width} does not divide into windows of {size}x{size}")
    rolled = torch.roll(x, (-shift, -shift), (2, 3)) if shift else x
    cut = rolled.reshape(-1, channels, height // size, size, width // size, size).permute(0, 2, 4, 1, 3, 5)
    return cut.reshape(-1, (height // size) * (width // size), channels, size * size)


def from_windows(x: Tensor, size: int, height: int, width: int, *, shift: int = 0) -> Tensor:
    """Undo `windows`: returns ``(N, C, height, width)``."""
    channels = x.shape[2]
    cut = x.reshape(-1, height // size, width // size, channels, size, size).permute(0, 3, 1, 4, 2, 5)
    joined = cut.reshape(-1, channels, height, width)
    return torch.roll(joined, (shift, shift), (2, 3)) if shift else joined


class GroupedChannelAttention(nn.Module):
    """Attention between the channels of each group, over the pixels: ``A = N(q k^T s)``, ``A v``.

    Takes time-steps folded into channels (`temporal_groups`): its norm and projections have as many channels
    as there are then.

    Args:
        channels: Channels in all, time-steps in them counted.
        groups: Groups of channels; divides ``channels``.
        activation: Makes neurons.

    Raises:
        UsageError: SNN217 if the groups do not divide the channels.
    """

    def __init__(self, channels: int, groups: int, activation: Activation) -> None:
        super().__init__()
        if groups < 1 or channels % groups:
            raise UsageError("SNN217", f"{groups} groups do not divide {channels} channels")
        self.groups = groups
        self.neurons = nn.ModuleList(activation(signed) for signed in (False, True, True, True, False, True))
        self.layers = nn.ModuleList(
            nn.Sequential(nn.Conv2d(channels, channels, 1, bias=False), nn.BatchNorm2d(channels))
            for _ in range(4)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map a stream ``(N, channels, H, W)`` to a membrane of the same shape."""
        _, channels, height, width = x.shape
        split = (-1, self.groups, channels // self.groups, height * width)
        z = self.neurons[0](x)
        q, k, v = (self.neurons[1 + place](self.layers[place](z)).reshape(split) for place in range(3))
        scores = self.neurons[4](torch.matmul(q, k.transpose(2, 3)) * (height * width) ** -0.5)
        mixed = torch.matmul(scores, v).reshape(-1, channels, height, width)
        membrane: Tensor = self.layers[3](self.neurons[5](mixed))
        return membrane
