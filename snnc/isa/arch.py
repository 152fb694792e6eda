"""The reference machine ExpG-1: sizes and speeds, read from and written to ``arch.json``."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from snnc import strict
from snnc.errors import InputError, Where
from snnc.files import open_regular

__all__ = ["MOST_CORES", "Arch", "arch_from", "read_arch"]

_LARGEST = 1 << 36
MOST_CORES = 256
"""What the core field of a message can name."""


@dataclass(frozen=True)
class Arch:
    """One machine; estimates for a reference architecture, not for silicon.

    Attributes:
        name: Shown in reports.
        wmem: Weights of one core, bytes.
        smem: Codes of one core, bytes.
        amem: Membranes of one core, bytes.
        tmem: Threshold tables and constants of one core, bytes.
        dram: Shared memory, bytes.
        lanes: Adders of a core; a spike reaches so many membranes in a cycle.
        clock_mhz: Clock, MHz.
        dma_latency: Cycles before the first byte of a transfer.
        dma_bytes: Bytes of a transfer in a cycle.
        token_depth: Most tokens that wait on one line between two queues.
        cores: Number of cores; each has queues and memories of its own, DRAM is shared.
        inbox: Most messages that wait between two cores.
        noc_bytes: Bytes that a core sends or takes in a cycle.
        hop_cycles: Cycles from one router of the network to the next.
    """

    name: str = "ExpG-1"
    wmem: int = 256 * 1024
    smem: int = 128 * 1024
    amem: int = 128 * 1024
    tmem: int = 64 * 1024
    dram: int = 1 << 32
    lanes: int = 64
    clock_mhz: int = 500
    dma_latency: int = 20
    dma_bytes: int = 16
    token_depth: int = 15
    cores: int = 1
    inbox: int = 4
    noc_bytes: int = 8
    hop_cycles: int = 2

    def capacity(self, memory: str) -> int:
        """Return the size of a memory, in bytes.

        Args:
            memory: ``DRAM``, ``WMEM``, ``SMEM``, ``AMEM`` or ``TMEM``.
        """
        return int(getattr(self, memory.lower()))

    def to_json(self) -> str:
        """Return the content of ``arch.json``."""
        return json.dumps(asdict(self), indent=2) + "\n"


def read_arch(path: str | Path) -> Arch:
    """Read ``arch.json``; keys that are left out keep their defaults.

    Raises:
        InputError: SNN301, there is no such file; SNN364, it is not an architecture.
    """
    where = Where(file=str(path))
    with open_regular(path) as stream:
        try:
            content = strict.loads(stream.read().decode("utf-8"))
        except ValueError as error:
            raise InputError("SNN364", f"not JSON: {error}", where=where) from error
    try:
        return arch_from(content)
    except InputError as error:
        error.in_file(str(path))
        raise


def arch_from(content: Any) -> Arch:
    """Return the machine that a JSON document describes; keys that are left out keep their defaults.

    Raises:
        InputError: SNN364, it describes none.
    """
    if not isinstance(content, dict):
        raise InputError("SNN364", "an architecture is a JSON object")
    known = {item.name: item for item in fields(Arch)}
    for key, value in content.items():
        if key not in known:
            raise InputError("SNN364", f"an architecture has no '{key}'", hint=f"it has {', '.join(known)}")
        if key == "name":
            good = isinstance(value, str) and value.isprintable() and len(value) <= 80
        else:
            top = MOST_CORES if key == "cores" else _LARGEST
            good = isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= top
        if not good:
            raise InputError("SNN364", f"'{key}' cannot be {value!r}")
    return Arch(**content)
