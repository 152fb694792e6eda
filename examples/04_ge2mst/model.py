"""Small networks for 32x32 images: a Ge2mS-T, the same in float, and a spiking transformer of LIF neurons."""

from __future__ import annotations

from typing import Any

from torch import nn

from snnc.models import Architecture, Ge2mST
from snnc.nn import float_activation
from snnc.nn.neurons import Unrolled, lif_activation

#: Groups of 16 tokens in every stage: 8x8 maps in 2x2 groups, at last a 4x4 map in one.
SMALL: dict[str, Any] = {
    "widths": (16, 16, 24, 48, 64),
    "depths": (1, 1, 1, 1),
    "heads": (2, 4, 4),
    "chunks": (2, 2, 1),
    "stem_kernel": 3,
    "stem_stride": 2,
    "strides": (2, 1, 1, 2),
}


def build(variant: str, channels: int, classes: int = 10, timesteps: int = 4, groups: int = 2) -> nn.Module:
    """Build a network.

    Args:
        variant: ``expg``; ``float``: ReLU, or nothing where codes are signed; ``lif``: LIF neurons over
            unrolled time, global attention ``LIF(q k^T v s)`` without a neuron on the attention matrix,
            trained by backpropagation through time: the form of published spiking transformers.
        channels: Of the image.
        classes: Number of logits.
        timesteps: T.
        groups: G of ExpG.
    """
    choices = {**SMALL, "channels": channels, "classes": classes, "timesteps": timesteps, "groups": groups}
    if variant == "lif":
        architecture = Architecture(**{**choices, "chunks": (1, 1, 1)})
        network = Ge2mST(architecture, activation=lif_activation(timesteps))
        for part in network.modules():
            if hasattr(part, "scores"):
                part.scores = nn.ModuleList(nn.Identity() for _ in part.parts)
        return Unrolled(network, timesteps)
    return Ge2mST(Architecture(**choices), activation=float_activation if variant == "float" else None)
