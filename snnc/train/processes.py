"""Several processes that train one network together, as torchrun starts them."""

from __future__ import annotations

import os

import torch
import torch.distributed as dist
from torch import Tensor, nn

from snnc.errors import InternalError
from snnc.nn.expg import ExpG

__all__ = ["begin", "end", "rank", "require_equal", "same_thresholds", "world"]


def begin(device: torch.device) -> torch.device:
    """Join the other processes if torchrun started this one.

    Args:
        device: Device asked for.

    Returns:
        Device of this process: with several GPUs, the one of its local number.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and not dist.is_initialized():
        if device.type == "cuda":
            device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
            torch.cuda.set_device(device)
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    return device


def end() -> None:
    """Leave the other processes."""
    if dist.is_initialized():
        dist.destroy_process_group()


def world() -> int:
    """Return the number of processes."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """Return the number of this process, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


@torch.no_grad()
def same_thresholds(network: nn.Module, inputs: Tensor) -> None:
    """Let every process set new thresholds from the same batch.

    Left to the first batch of training, each process would take them from its own part of it.

    Args:
        network: Network, in training mode.
        inputs: The same batch in each process.
    """
    if any(isinstance(part, ExpG) and not bool(part.initialised) for part in network.modules()):
        network(inputs)


def require_equal(network: nn.Module) -> None:
    """Check that all processes hold the same parameters.

    Raises:
        InternalError: SNN120 if they do not.
    """
    if world() == 1:
        return
    sums = torch.stack([part.detach().double().sum().cpu() for part in network.parameters()])
    others = [torch.empty_like(sums) for _ in range(world())]
    dist.all_gather(others, sums)
    if any(not torch.equal(other, sums) for other in others):
        raise InternalError("SNN120", "the processes hold different parameters after training")
