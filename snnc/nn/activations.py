"""What stands where a network has neurons: ExpG-IF, or nothing but ReLU for a float control."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from snnc.coding import Partition
from snnc.nn.expg import ExpG
from snnc.nn.weights import QuantConv2d, QuantLinear

__all__ = ["Activation", "Layers", "expg_activation", "float_activation"]

#: Makes one activation; the argument says whether it is signed.
Activation = Callable[[bool], nn.Module]


def expg_activation(timesteps: int, groups: int, partition: Partition = "interleaved") -> Activation:
    """Return a maker of ExpG quantisers of one code.

    Args:
        timesteps: T.
        groups: G, at most T.
        partition: ``"interleaved"`` or ``"contiguous"``.

    Raises:
        UsageError: SNN201 and following for T, G or partition out of range.
    """
    ExpG(timesteps, groups, partition=partition)  # what is wrong shows here, not in the middle of a network
    return lambda signed: ExpG(timesteps, groups, partition=partition, signed=signed)


def float_activation(signed: bool) -> nn.Module:
    """Return what the float control has in place of a neuron: ReLU, or nothing where codes are signed."""
    return nn.Identity() if signed else nn.ReLU()


class Layers:
    """Makes convolutions and linear layers, with weights in float or on an integer grid.

    Args:
        weight_bits: Width of integer weights in training, 2 to 8; ``None``: float weights, which
            ``snnc convert`` turns into integers.
    """

    def __init__(self, weight_bits: int | None = None) -> None:
        self.weight_bits = weight_bits

    def convolution(
        self, inputs: int, outputs: int, kernel: int = 1, *, stride: int = 1, depthwise: bool = False
    ) -> nn.Conv2d:
        """Return a convolution without bias that keeps the size of the map (divided by ``stride``)."""
        groups = inputs if depthwise else 1
        padding = kernel // 2
        if self.weight_bits is None:
            return nn.Conv2d(inputs, outputs, kernel, stride, padding, groups=groups, bias=False)
        return QuantConv2d(
            inputs, outputs, kernel, stride, padding, groups=groups, bias=False, weight_bits=self.weight_bits
        )

    def normalised(
        self, inputs: int, outputs: int, kernel: int = 1, *, stride: int = 1, depthwise: bool = False
    ) -> nn.Sequential:
        """Return such a convolution with its BatchNorm."""
        layer = self.convolution(inputs, outputs, kernel, stride=stride, depthwise=depthwise)
        return nn.Sequential(layer, nn.BatchNorm2d(outputs))

    def linear(self, inputs: int, outputs: int) -> nn.Linear:
        """Return a linear layer with bias."""
        if self.weight_bits is None:
            return nn.Linear(inputs, outputs)
        return QuantLinear(inputs, outputs, weight_bits=self.weight_bits)
