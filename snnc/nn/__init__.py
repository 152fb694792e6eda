"""torch modules of spiking networks: ExpG, integer weights, attention, stateful neurons (needs torch)."""

from __future__ import annotations

try:
    import torch as torch
except ModuleNotFoundError as error:
    raise ModuleNotFoundError("snnc.nn needs torch: pip install 'snnc[torch]'", name=error.name) from error

from snnc.nn.activations import Layers, expg_activation, float_activation
from snnc.nn.adaptive import AdaptiveLIF, AdaptiveTransformer, LatencyEncoder, SpikeAttention
from snnc.nn.attention import GroupedAttention
from snnc.nn.blocks import SFFN, ConvSFFN, EventMerge, SConv
from snnc.nn.bsvit import BSViT, BSViTBlock, DualChannelAttention, adjacency
from snnc.nn.expg import ExpG
from snnc.nn.grouping import dilated_groups, from_dilated_groups, from_window_groups, window_groups
from snnc.nn.neurons import LIF, BurstNeuron, Unrolled, lif_activation
from snnc.nn.schedule import Schedule, reestimate_batch_norm, set_progress
from snnc.nn.softmax import grouped_softmax_attention
from snnc.nn.temporal import (
    GroupedChannelAttention,
    from_temporal_groups,
    from_windows,
    temporal_groups,
    windows,
)
from snnc.nn.weights import QuantConv2d, QuantLinear, QuantWeight

__all__ = [
    "LIF",
    "SFFN",
    "AdaptiveLIF",
    "AdaptiveTransformer",
    "BSViT",
    "BSViTBlock",
    "BurstNeuron",
    "ConvSFFN",
    "DualChannelAttention",
    "EventMerge",
    "ExpG",
    "GroupedAttention",
    "GroupedChannelAttention",
    "LatencyEncoder",
    "Layers",
    "QuantConv2d",
    "QuantLinear",
    "QuantWeight",
    "SConv",
    "Schedule",
    "SpikeAttention",
    "Unrolled",
    "adjacency",
    "dilated_groups",
    "expg_activation",
    "float_activation",
    "from_dilated_groups",
    "from_temporal_groups",
    "from_window_groups",
    "from_windows",
    "grouped_softmax_attention",
    "lif_activation",
    "reestimate_batch_norm",
    "set_progress",
    "temporal_groups",
    "window_groups",
    "windows",
]
