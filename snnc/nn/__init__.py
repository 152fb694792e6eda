"""torch modules for quantisation-aware training: the ExpG quantiser and integer weights (needs torch)."""

from __future__ import annotations

try:
    import torch as torch
except ModuleNotFoundError as error:
    raise ModuleNotFoundError("snnc.nn needs torch: pip install 'snnc[torch]'", name=error.name) from error

from snnc.nn.expg import ExpG
from snnc.nn.schedule import Schedule, reestimate_batch_norm, set_progress
from snnc.nn.weights import QuantConv2d, QuantLinear, QuantWeight

__all__ = [
    "ExpG",
    "QuantConv2d",
    "QuantLinear",
    "QuantWeight",
    "Schedule",
    "reestimate_batch_norm",
    "set_progress",
]
