"""Integer weights for quantisation-aware training: a grid of 2^bits - 1 levels per output channel."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from snnc.errors import UsageError
from snnc.nn.surrogate import divided
from snnc.nn.symbolic import one_node

__all__ = ["QuantConv2d", "QuantLinear", "QuantWeight"]


class QuantWeight(nn.Module):
    """Fake quantisation of a weight to a symmetric integer grid per output channel.

    ``w`` becomes ``s_o round(w / s_o)`` with ``s_o = max|w_o| / (2^(bits-1) - 1)``, ties to even; the
    gradient passes straight through. A channel of zeros gets the scale 1.

    Args:
        bits: Width of the signed integers, 2 to 8.

    Raises:
        UsageError: SNN210 if ``bits`` is out of range.
    """

    def __init__(self, bits: int = 8) -> None:
        super().__init__()
        if not 2 <= bits <= 8:
            raise UsageError("SNN210", f"bits must lie in 2..8, not {bits}")
        self.bits = bits

    @torch.no_grad()
    def integers(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Return the integers and their scales.

        Args:
            weight: float32, axis 0 is the output channel.

        Returns:
            int8 of the shape of ``weight``, and float32 ``(channels,)``.
        """
        largest = 2 ** (self.bits - 1) - 1
        values = weight.detach().float()
        scale = divided(values.reshape(len(values), -1).abs().amax(1), largest)
        scale = torch.where(scale > 0, scale, torch.ones_like(scale))
        shape = (-1,) + (1,) * (weight.ndim - 1)
        whole = (values / scale.reshape(shape)).round().clamp_(-largest, largest)
        return whole.to(torch.int8), scale

    def forward(self, weight: Tensor) -> Tensor:
        """Return the weight on its grid, same shape and dtype; the gradient is the identity."""
        whole, scale = self.integers(weight)
        on_grid = _dequantise(whole, scale).to(weight.dtype)
        return on_grid + (weight - weight.detach())

    def extra_repr(self) -> str:
        """Describe the grid for ``print(module)``."""
        return f"bits={self.bits}"


def _dequantise(whole: Tensor, scale: Tensor) -> Tensor:
    if torch.onnx.is_in_onnx_export():
        return one_node("DequantizeLinear", (whole, scale), {"axis": 0}, dtype=torch.float32)
    return whole.float() * scale.reshape((-1,) + (1,) * (whole.ndim - 1))


class _Frozen(nn.Module):
    """Integers and scales as constants."""

    integers: Tensor
    scale: Tensor

    def __init__(self, whole: Tensor, scale: Tensor) -> None:
        super().__init__()
        self.register_buffer("integers", whole)
        self.register_buffer("scale", scale)

    def forward(self, weight: Tensor) -> Tensor:
        """Return the float32 weight; the argument is not read."""
        return _dequantise(self.integers, self.scale)


class QuantConv2d(nn.Conv2d):
    """A Conv2d whose weight lies on an integer grid per output channel.

    Args:
        *arguments: As for ``torch.nn.Conv2d``.
        weight_bits: Width of the integers, 2 to 8.
        **options: As for ``torch.nn.Conv2d``.
    """

    def __init__(self, *arguments: Any, weight_bits: int = 8, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.grid: nn.Module = QuantWeight(weight_bits)

    def forward(self, input: Tensor) -> Tensor:
        """Convolve ``(N, C, H, W)`` with the weight on its grid."""
        weight: Tensor = self.grid(self.weight)
        result: Tensor = self._conv_forward(input, weight, self.bias)
        return result

    def freeze(self) -> None:
        """Fix the weight to its present integers, in place: from here on for evaluation only."""
        if isinstance(self.grid, QuantWeight):
            self.grid = _Frozen(*self.grid.integers(self.weight))


class QuantLinear(nn.Linear):
    """A Linear whose weight lies on an integer grid per output channel.

    Args:
        *arguments: As for ``torch.nn.Linear``.
        weight_bits: Width of the integers, 2 to 8.
        **options: As for ``torch.nn.Linear``.
    """

    def __init__(self, *arguments: Any, weight_bits: int = 8, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.grid: nn.Module = QuantWeight(weight_bits)

    def forward(self, input: Tensor) -> Tensor:
        """Map ``(..., in_features)`` with the weight on its grid."""
        return nn.functional.linear(input, self.grid(self.weight), self.bias)

    def freeze(self) -> None:
        """Fix the weight to its present integers, in place: from here on for evaluation only."""
        if isinstance(self.grid, QuantWeight):
            self.grid = _Frozen(*self.grid.integers(self.weight))
