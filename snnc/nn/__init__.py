"""torch modules for quantisation-aware training: the ExpG quantiser and integer weights (needs torch)."""

from __future__ import annotations

try:
    import torch as torch
except ModuleNotFoundError as error:
    raise ModuleNotFoundError("snnc.nn needs torch: pip install 'snnc[torch]'", name=error.name) from error

from snnc.nn.activations import Layers, expg_activation, float_activation
from snnc.nn.attention import GroupedAttention
from snnc.nn.blocks import SFFN, ConvSFFN, EventMerge, SConv
from snnc.nn.expg import ExpG
from snnc.nn.grouping import dilated_groups, from_dilated_groups, from_window_groups, window_groups
from snnc.nn.schedule import Schedule, reestimate_batch_norm, set_progress
from snnc.nn.weights import QuantConv2d, QuantLinear, QuantWeight

__all__ = [
    "SFFN",
    "ConvSFFN",
    "EventMerge",
    "ExpG",
    "GroupedAttention",
    "Layers",
    "QuantConv2d",
    "QuantLinear",
    "QuantWeight",
    "SConv",
    "Schedule",
    "dilated_groups",
    "expg_activation",
    "float_activation",
    "from_dilated_groups",
    "from_window_groups",
    "reestimate_batch_norm",
    "set_progress",
    "window_groups",
]
