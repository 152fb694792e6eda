"""Where a network is trained: the same bits each time, float32 that is float32, and memory that is spent."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from snnc.errors import EnvironmentFailure

__all__ = ["enough_memory", "repeatable"]


@contextmanager
def repeatable(device: torch.device) -> Iterator[None]:
    """Let equal steps on a CUDA device give equal bits, and float32 be float32; elsewhere they do and are.

    torch chooses there, unless told otherwise, algorithms that add in the order in which threads arrive, and
    convolves float32 in TF32, which has 13 bits less. What it has in no repeatable form it warns of.

    Args:
        device: Device that computes.
    """
    if device.type != "cuda":
        yield
        return
    before = torch.are_deterministic_algorithms_enabled()
    only_warns = torch.is_deterministic_algorithms_warn_only_enabled()
    # cuDNN's flags come with a context manager of their own, which would set all of them.
    tf32, benchmark = torch.backends.cudnn.allow_tf32, torch.backends.cudnn.benchmark
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.backends.cudnn.allow_tf32 = torch.backends.cudnn.benchmark = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=only_warns)
        torch.backends.cudnn.allow_tf32, torch.backends.cudnn.benchmark = tf32, benchmark


@contextmanager
def enough_memory() -> Iterator[None]:
    """Turn the ways in which torch says that memory is spent into one error.

    Raises:
        EnvironmentFailure: SNN606.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:  # the processor's allocator has no error class of its own
        is_spent = isinstance(error, MemoryError | torch.OutOfMemoryError)
        if not is_spent and "DefaultCPUAllocator" not in str(error):
            raise
        where = "of the device " if isinstance(error, torch.OutOfMemoryError) else ""
        raise EnvironmentFailure(
            "SNN606",
            f"the memory {where}is spent",
            hint="a smaller --batch, --precision bfloat16, or a smaller network",
        ) from error
