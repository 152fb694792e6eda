"""The other parts of a Ge2mS-T: convolutional and feed-forward blocks, stem, down-sampling, head, events."""

from __future__ import annotations

from torch import Tensor, nn

from snnc.errors import UsageError
from snnc.nn.activations import Activation, Layers

__all__ = ["SConv", "SFFN", "ConvSFFN", "EventMerge", "downsampling", "head", "stem"]  # noqa: RUF022


class SConv(nn.Module):
    """Two 3x3 convolutions with a wider map between them: ``BN(W2 ExpG(BN(W1 ExpG(x))))``.

    Args:
        width: C.
        activation: Makes neurons.
        ratio: Channels between the convolutions, divided by C (open in the paper; 2 fits its parameters).
        layers: Makes convolutions; default float weights.

    Source:
        Ge2mS-T (arXiv 2604.08894), Eq. 7; semantics note 4.2.
    """

    def __init__(
        self, width: int, activation: Activation, *, ratio: float = 2, layers: Layers | None = None
    ) -> None:
        super().__init__()
        layers, hidden = layers or Layers(), round(width * ratio)
        self.first, self.second = activation(False), activation(False)
        self.up, self.down = layers.normalised(width, hidden, 3), layers.normalised(hidden, width, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Map the stream ``(N, C, H, W)`` to a membrane of the same shape, to be added to it."""
        membrane: Tensor = self.down(self.second(self.up(self.first(x))))
        return membrane


class SFFN(nn.Module):
    """A feed-forward pair of 1x1 convolutions: ``BN(W2 ExpG(BN(W1 ExpG(x))))``.

    Args:
        width: C.
        activation: Makes neurons.
        ratio: Hidden channels divided by C (4 fits the paper's parameters).
        layers: Makes convolutions; default float weights.

    Source:
        Ge2mS-T (arXiv 2604.08894); semantics note 4.2.
    """

    def __init__(
        self, width: int, activation: Activation, *, ratio: float = 4, layers: Layers | None = None
    ) -> None:
        super().__init__()
        layers, hidden = layers or Layers(), round(width * ratio)
        self.first, self.second = activation(False), activation(False)
        self.up, self.down = layers.normalised(width, hidden), layers.normalised(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """Map the stream ``(N, C, H, W)`` to a membrane of the same shape, to be added to it."""
        membrane: Tensor = self.down(self.second(self.up(self.first(x))))
        return membrane


class ConvSFFN(nn.Module):
    """A feed-forward pair with a depthwise convolution inside: ``BN(W2 ExpG(DW3x3(ExpG(BN(W1 ExpG(x))))))``.

    A neuron stands behind the depthwise convolution: the second 1x1 convolution would read real numbers
    otherwise, and cost multiplications.

    Args:
        width: C.
        activation: Makes neurons.
        ratio: Hidden channels divided by C.
        kernel: Side of the depthwise convolution.
        depthwise_norm: BatchNorm behind it (open in the paper; without it the parameters fit).
        layers: Makes convolutions; default float weights.

    Source:
        Ge2mS-T (arXiv 2604.08894), Eq. 9; semantics note 4.2.
    """

    def __init__(
        self,
        width: int,
        activation: Activation,
        *,
        ratio: float = 4,
        kernel: int = 3,
        depthwise_norm: bool = False,
        layers: Layers | None = None,
    ) -> None:
        super().__init__()
        layers, hidden = layers or Layers(), round(width * ratio)
        self.first, self.second, self.third = (activation(False) for _ in range(3))
        self.up, self.down = layers.normalised(width, hidden), layers.normalised(hidden, width)
        make = layers.normalised if depthwise_norm else layers.convolution
        self.depthwise: nn.Module = make(hidden, hidden, kernel, depthwise=True)

    def forward(self, x: Tensor) -> Tensor:
        """Map the stream ``(N, C, H, W)`` to a membrane of the same shape, to be added to it."""
        hidden = self.second(self.up(self.first(x)))
        membrane: Tensor = self.down(self.third(self.depthwise(hidden)))
        return membrane


def stem(
    inputs: int, width: int, *, kernel: int = 7, stride: int = 2, layers: Layers | None = None
) -> nn.Sequential:
    """Return the first layer: convolution and BatchNorm of the input, giving the residual stream.

    Args:
        inputs: Channels of the input.
        width: Channels of the stream.
        kernel: Side of the kernel, odd.
        stride: Stride.
        layers: Makes convolutions; default float weights.
    """
    return (layers or Layers()).normalised(inputs, width, kernel, stride=stride)


def downsampling(
    inputs: int, width: int, activation: Activation, *, stride: int = 2, layers: Layers | None = None
) -> nn.Sequential:
    """Return the step from one stage to the next: neuron, 3x3 convolution with a stride, BatchNorm.

    Args:
        inputs: Channels of the stage before.
        width: Channels of the stage behind.
        activation: Makes neurons.
        stride: 1 keeps the size of the map.
        layers: Makes convolutions; default float weights.
    """
    return nn.Sequential(activation(False), *(layers or Layers()).normalised(inputs, width, 3, stride=stride))


def head(width: int, classes: int, activation: Activation, *, layers: Layers | None = None) -> nn.Sequential:
    """Return the read-out: neuron, mean over the map, linear layer to the logits.

    Args:
        width: Channels of the last stage.
        classes: Number of logits.
        activation: Makes neurons.
        layers: Makes the linear layer; default float weights.
    """
    pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return nn.Sequential(activation(False), *pool, (layers or Layers()).linear(width, classes))


class EventMerge(nn.Module):
    """Make one map of event frames: time and polarity are channels of an external convolution.

    A neuron follows, so that the stem reads spikes.

    Args:
        frames: Number of event frames in time.
        polarities: Channels a frame.
        channels: Channels of the merged map.
        activation: Makes neurons.
        kernel: Side of the kernel, odd.
        layers: Makes convolutions; default float weights.
    """

    def __init__(
        self,
        frames: int,
        polarities: int,
        channels: int,
        activation: Activation,
        *,
        kernel: int = 3,
        layers: Layers | None = None,
    ) -> None:
        super().__init__()
        self.frames, self.polarities = frames, polarities
        self.merge = (layers or Layers()).normalised(frames * polarities, channels, kernel)
        self.neuron = activation(False)

    def forward(self, x: Tensor) -> Tensor:
        """Merge.

        Args:
            x: ``(N, frames, polarities, H, W)``.

        Returns:
            ``(N, channels, H, W)``.

        Raises:
            UsageError: SNN217 if the frames or polarities are not those promised.
        """
        if x.ndim != 5 or tuple(x.shape[1:3]) != (self.frames, self.polarities):
            raise UsageError(
                "SNN217",
                f"event frames must be (N, {self.frames}, {self.polarities}, H, W), not {tuple(x.shape)}",
            )
        spikes: Tensor = self.neuron(self.merge(x.flatten(1, 2)))
        return spikes
