"""Several processes that train one network together, as torchrun starts them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence

import torch
import torch.distributed as dist
from torch import Tensor, nn

from snnc.errors import EnvironmentFailure, InternalError, UsageError
from snnc.nn.expg import ExpG

__all__ = [
    "average_gradients",
    "begin",
    "end",
    "mean_of",
    "rank",
    "require_equal",
    "same_buffers",
    "same_tensors",
    "same_thresholds",
    "world",
]


def begin(name: str) -> torch.device:
    """Join the other processes if torchrun started this one.

    Args:
        name: Device asked for, ``"cpu"``, ``"cuda"``, ``"cuda:1"``...

    Returns:
        Device of this process: with several GPUs, the one of its local number.

    Raises:
        UsageError: SNN218 if this machine has no such device, or fewer than processes.
    """
    local, count = int(os.environ.get("LOCAL_WORLD_SIZE", "1")), torch.cuda.device_count()
    if name.startswith("cuda") and local > count > 0:  # in all processes alike, not in those without one
        raise UsageError(
            "SNN218",
            f"--device {name}: {local} processes are to share {count} GPU{'s' if count > 1 else ''}",
            hint=f"--nproc-per-node {count}",
        )
    try:
        device = torch.device(name)
        is_one_of_many = int(os.environ.get("WORLD_SIZE", "1")) > 1 and not dist.is_initialized()
        if is_one_of_many and device.type == "cuda":
            device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
            torch.cuda.set_device(device)
        float(torch.zeros(1, device=device))
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, AssertionError, NotImplementedError) as error:  # whichever a device has
        text = str(error).splitlines()[0] if str(error) else "it cannot be used"
        raise UsageError(
            "SNN218", f"--device {name}: {text[:200]}", hint="--device cpu works everywhere"
        ) from error
    if is_one_of_many:
        _together(lambda: dist.init_process_group("nccl" if device.type == "cuda" else "gloo"))
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


def _together(call: Callable[[], object]) -> None:
    try:
        call()
    except RuntimeError as error:
        text = str(error).splitlines()[0][:200]
        raise EnvironmentFailure(
            "SNN617",
            f"the processes that train together have lost each other: {text}",
            hint="an error above, of another process, is the cause if there is one",
        ) from error


@torch.no_grad()
def _shared(tensors: Sequence[Tensor]) -> None:
    """Give every process the values that the first one has."""
    for tensor in tensors:
        held = tensor.detach().to(torch.uint8) if tensor.dtype == torch.bool else tensor.detach().contiguous()
        _together(lambda held=held: dist.broadcast(held, 0))  # type: ignore[misc]
        tensor.copy_(held)


def same_tensors(network: nn.Module) -> None:
    """Let all processes begin with the parameters and buffers of the first."""
    if world() > 1:
        _shared([*network.parameters(), *network.buffers()])


def same_buffers(network: nn.Module) -> None:
    """Let all processes go on with the first one's running statistics, as one message."""
    found = [part for part in network.buffers() if part.is_floating_point()]
    if world() == 1 or not found:
        return
    flat = torch.cat([part.detach().reshape(-1).float() for part in found])
    _shared([flat])
    _spread(flat, found)


@torch.no_grad()
def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Replace each gradient by its mean over the processes.

    All of them travel as one vector in the order of the parameters. torch's DistributedDataParallel cuts them
    into other parts from its second step on, so that from three processes on the sums, and with them a
    resumed run, would be rounded otherwise than those of a run that was never interrupted.

    Args:
        parameters: In the same order in each process; one without a gradient counts as 0.
    """
    found = list(parameters)
    if world() == 1 or not found:
        return
    for part in found:
        if part.grad is None:
            part.grad = torch.zeros_like(part)
    gradients = [part.grad for part in found if part.grad is not None]
    flat = torch.cat([gradient.reshape(-1).float() for gradient in gradients])
    _together(lambda: dist.all_reduce(flat))
    flat /= world()
    _spread(flat, gradients)


@torch.no_grad()
def _spread(flat: Tensor, into: Sequence[Tensor]) -> None:
    parts = torch.split(flat, [part.numel() for part in into])
    for part, values in zip(into, parts, strict=True):
        part.copy_(values.reshape(part.shape))


def mean_of(values: Sequence[float], device: torch.device) -> list[float]:
    """Return the means of numbers over the processes, the same in each."""
    if world() == 1:
        return list(values)
    held = torch.tensor(values, dtype=torch.float32, device=device)
    _together(lambda: dist.all_reduce(held))
    return [float(value) for value in held / world()]


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
    sums = sums.to(next(network.parameters()).device)
    others = [torch.empty_like(sums) for _ in range(world())]
    _together(lambda: dist.all_gather(others, sums))
    if any(not torch.equal(other, sums) for other in others):
        raise InternalError("SNN120", "the processes hold different parameters after training")
