"""A program in order, with its memories planned, but without addresses."""

from __future__ import annotations

from dataclasses import dataclass

from snnc.passes.lower.holdings import Holdings
from snnc.passes.lower.locals import Copies
from snnc.passes.lower.memory import Plan, Span
from snnc.passes.lower.tile import Macro

__all__ = ["DRAM", "ON_CORE", "Laid"]

ON_CORE = ("WMEM", "SMEM", "AMEM", "TMEM")
DRAM = (-1, "DRAM")
"""The memory that cores share, among memories by core and name."""


@dataclass(frozen=True)
class Laid:
    """A program in order, with its memories planned.

    Attributes:
        order: Instructions of all cores.
        inside: Buffers that live inside tiles, by identity.
        holdings: What every core made.
        copies: What every core has of buffers that lie on cores.
        spans: Lives of buffers by core and memory; core -1 is DRAM.
        plans: Their places.
    """

    order: list[Macro]
    inside: set[int]
    holdings: Holdings
    copies: Copies
    spans: dict[tuple[int, str], list[Span]]
    plans: dict[tuple[int, str], Plan]
